"""How a run can end."""

from enum import StrEnum


class RunStatus(StrEnum):
    """What became of a run; a member is its text in files, tables and MLflow."""

    DONE = "done"
    """Trained to its end and scored on test."""

    DIVERGED = "diverged"
    """Its loss or its probabilities are not finite: it has a result without metrics."""

    STOPPED = "stopped"
    """Stopped early by a pruner: it has metrics of val and none of test."""

    FAILED = "failed"
    """An error ended it; ``error.json`` says which."""

    TIMEOUT = "timeout"
    """It took longer than ``--run-timeout`` and was ended."""

    OUT_OF_MEMORY = "out_of_memory"
    """Its memory or that of its GPU was not enough."""

    KILLED = "killed"
    """Its process ended without a word."""

    DAMAGED = "damaged"
    """Its folder is not as it was written: nothing of it counts, and ``--retry-failed`` does it
    again."""

    INTERRUPTED = "interrupted"
    """It was told to halt, and left at most a checkpoint: it is not committed."""

    NO_SPACE = "no_space"
    """The disk is full: it is not committed."""


ENDED = frozenset({RunStatus.DONE, RunStatus.DIVERGED, RunStatus.STOPPED})
"""Of committed runs that have a result."""

FAILURES = frozenset(
    {RunStatus.FAILED, RunStatus.TIMEOUT, RunStatus.OUT_OF_MEMORY, RunStatus.KILLED}
)
"""Of committed runs that have an error and no result."""

RETRIED = FAILURES | {RunStatus.DAMAGED}
"""Of committed runs that ``--retry-failed`` does again; what diverged would do so once more."""

UNCOMMITTED = frozenset({RunStatus.INTERRUPTED, RunStatus.NO_SPACE})
"""Of attempts that are not committed: the next command goes on with them."""
