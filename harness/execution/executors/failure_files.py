"""How a run ended whose process cannot say so any more."""

import contextlib
import signal
from pathlib import Path

from harness.errors import StoreError
from harness.execution.attempts import clear
from harness.execution.runner import Job
from harness.execution.store import read_json
from harness.training.rundir import CHECKPOINTS, RunDir


def whole(attempt: Path) -> str | None:
    """Return the status of a run whose last file is there, or None."""
    with contextlib.suppress(StoreError, KeyError):
        return str(read_json(attempt / "result.json")["status"])
    with contextlib.suppress(StoreError):
        read_json(attempt / "error.json")
        return "failed"
    return None


def reached(attempt: Path) -> int:
    """Return a number that changes with every checkpoint of an attempt."""
    try:
        return (attempt / CHECKPOINTS[0]).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def again(job: Job, why: str) -> None:
    """Prepare the attempt of a process that ended to be gone on with."""
    clear(job.attempt)
    RunDir(job.attempt).log(f"{why}; this attempt goes on from its last checkpoint, if any")


def write_death(job: Job, exitcode: int | None) -> None:
    """Say of a run whose process ended that it did, and how."""
    how = _how(exitcode)
    hint = "; the system may have been out of memory" if how == "SIGKILL" else ""
    _write(job, "killed", f"the process of this run ended with {how}{hint}")


def write_timeout(job: Job, timeout: float) -> None:
    """Say of a run that it took too long."""
    _write(job, "timeout", f"not done after {timeout:g} s (--run-timeout); its process was ended")


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def _write(job: Job, kind: str, message: str) -> None:
    for name in ("result.json", "error.json"):
        (job.attempt / name).unlink(missing_ok=True)
    folder = RunDir(job.attempt)
    folder.log(message)
    folder.write_error(kind, message)
