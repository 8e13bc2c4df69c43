"""From pending runs to committed ones: pull, execute, commit, tell the listeners.

The runner knows nothing of MLflow or of the terminal. A failure stays in its run.
"""

import contextlib
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.execution.signals import interruptible
from harness.execution.store import UNWRITABLE, Store, unwritable
from harness.execution.weights import WeightKeeper
from harness.experiment.spec import RunSpec
from harness.training.run_result import outcome_of
from harness.training.run_status import UNCOMMITTED, RunStatus
from harness.training.rundir import ERROR, RESULT


@dataclass(frozen=True)
class Job:
    """One run to execute: its spec and the folder of this attempt."""

    spec: RunSpec
    attempt: Path


@dataclass(frozen=True)
class Progressed:
    """`step` of `steps` are done; `values` are those of an evaluation, or empty."""

    step: int
    steps: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The attempt ended.

    Attributes:
        status: ``done``, ``diverged``, ``stopped`` or ``failed``: its folder is whole.
            ``interrupted``: it left at most a checkpoint. ``no_space``: its disk is full.
    """

    status: str


Message = Progressed | Finished

Judge = Callable[[RunSpec, Progressed], bool]
"""Asked after each evaluation of a run whether to stop it there; the run waits for the answer."""


class Executor(Protocol):
    """Decides where and when jobs run."""

    slots: int

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs as slots become free; yield what happens; end when all have finished.

        Closing the iterator early ends the jobs that are running.
        """

    def halt(self) -> None:
        """Have what runs write a checkpoint and end as ``interrupted``, and start no more.

        Called by a signal handler: it takes note, and `execute` does it, within seconds.
        """

    def close(self) -> None:
        """Let go of whatever was started; a second call does nothing."""


class Listener(Protocol):
    """Hears of every run; what it raises is its own business and must not stop the grid."""

    def started(self, spec: RunSpec) -> None:
        """A run was handed to a slot."""

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """A run went on."""

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        """A run was committed at `path`; `status` as in `Finished`."""

    def abandoned(self, spec: RunSpec) -> None:
        """A run was interrupted and left at most a checkpoint behind."""


@dataclass
class Summary:
    """What became of the pending runs.

    Attributes:
        statuses: Status by key.
        failures: Message by key of each run that failed or diverged.
        paths: Folder by key.
        weights_dropped: Runs whose weights did not fit under the cap.
        out_of_time: Whether runs were left because the deadline was over.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    weights_dropped: int = 0
    out_of_time: bool = False


def run(
    pending: Iterable[RunSpec],
    store: Store,
    executor: Executor,
    listeners: Sequence[Listener] = (),
    keeper: WeightKeeper | None = None,
    fail_fast: bool = False,
    judge: Judge | None = None,
    max_failures: int | None = None,
    deadline: float | None = None,
) -> Summary:
    """Execute every pending run and commit it; return what became of them.

    Args:
        pending: What to run, in order; the next one is pulled when a slot is free for it.
        store: Where results go; this driver holds its lock.
        executor: Where runs execute.
        listeners: Who hears of it.
        keeper: Decides which weights stay.
        fail_fast: Stop after the first run that fails.
        judge: Stops runs early, as a pruner does.
        max_failures: Start no more after so many runs failed or diverged.
        deadline: Start no more after this time of `time.monotonic`.

    Raises:
        KeyboardInterrupt: After what ran has written a checkpoint, or at once if asked twice.
        StoreError: The results folder cannot be written; what ran is kept as far as it was saved.
    """
    summary = Summary()
    active: dict[str, Job] = {}
    most = 1 if fail_fast else max_failures

    def jobs() -> Iterator[Job]:
        for spec in pending:
            if most is not None and len(summary.failures) >= most:
                return
            if deadline is not None and time.monotonic() >= deadline:
                summary.out_of_time = True
                return
            job = Job(spec, store.begin(spec))
            active[spec.key] = job
            for listener in listeners:
                listener.started(spec)
            yield job

    messages = executor.execute(jobs(), judge)
    with interruptible(lambda: executor.halt()) as asked:
        try:
            with contextlib.closing(messages):  # type: ignore[type-var]
                for job, message in messages:
                    if isinstance(message, Progressed):
                        for listener in listeners:
                            listener.progressed(job.spec, message)
                    elif message.status not in UNCOMMITTED:
                        del active[job.spec.key]
                        _commit(job, message.status, store, listeners, keeper, summary)
                    elif message.status == RunStatus.NO_SPACE:
                        raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            if error.errno not in UNWRITABLE:
                store.check_there()
                raise
            raise unwritable(store.path, error) from error
        finally:
            for job in active.values():
                store.set_aside(job.attempt)
                for listener in listeners:
                    listener.abandoned(job.spec)
        asked.raise_if_any()
    return summary


def _commit(
    job: Job,
    status: str,
    store: Store,
    listeners: Sequence[Listener],
    keeper: WeightKeeper | None,
    summary: Summary,
) -> None:
    key = job.spec.key
    if not any((job.attempt / name).exists() for name in (RESULT, ERROR)):
        store.remake(job.spec, job.attempt)
        status = RunStatus.FAILED
    if status == RunStatus.FAILED and store.is_done(key):
        summary.statuses[key] = status
        summary.failures[key] = f"{outcome_of(job.attempt)[1]} (the finished run of before is kept)"
        store.discard(job.attempt)
        for listener in listeners:
            listener.abandoned(job.spec)
        return
    if keeper is not None and not keeper.admit(job.spec, job.attempt):
        summary.weights_dropped += 1
    path = store.commit(job.spec, job.attempt)
    summary.statuses[key] = status
    summary.paths[key] = path
    if status != RunStatus.DONE:
        count = store.attempts.count(key)
        summary.failures[key] = outcome_of(path)[1] + (f" (attempt {count})" if count > 1 else "")
    for listener in listeners:
        listener.finished(job.spec, status, path)
