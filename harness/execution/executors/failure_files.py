"""How a run ended whose process cannot say so any more."""

import contextlib
import signal
from pathlib import Path

from harness.execution.attempts import clear
from harness.execution.runner import Job
from harness.training.run_result import DamagedRunError, read_run
from harness.training.run_status import FAILURES, RunStatus
from harness.training.rundir import CHECKPOINTS, ERROR, RESULT, RunDir


def whole(attempt: Path) -> str | None:
    """Return the status of a run whose last file is there, or None."""
    try:
        status = read_run(attempt).status
    except DamagedRunError:
        return None
    return RunStatus.FAILED if status in FAILURES else status


def reached(attempt: Path) -> int:
    """Return a number that changes with every checkpoint of an attempt."""
    try:
        return (attempt / CHECKPOINTS[0]).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def again(job: Job, why: str) -> None:
    """Prepare the attempt of a process that ended to be gone on with."""
    if not job.attempt.is_dir():
        return
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
    if not job.attempt.is_dir():  # who commits it says that it was deleted
        return
    for name in (RESULT, ERROR):
        (job.attempt / name).unlink(missing_ok=True)
    folder = RunDir(job.attempt)
    folder.log(message)
    folder.write_error(kind, message)
