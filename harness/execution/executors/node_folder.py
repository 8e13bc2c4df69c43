"""A folder of a node for the files of one run, which outlives a killed process until the next run.

A process that is killed cleans up nothing. Each folder is locked while its process lives, and the
next run on the node deletes those that nobody holds.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock

_NEW, _HELD = "harness-new-", "harness-run-"
_LOCK, _FILES = ".lock", "run"


@contextlib.contextmanager
def node_folder() -> Iterator[Path]:
    """Yield an empty folder that is deleted afterwards, and delete what killed processes left.

    Raises:
        OSError: The folder for temporary files cannot be written.
    """
    _sweep()
    made = Path(tempfile.mkdtemp(prefix=_NEW))
    held = made.with_name(_HELD + made.name.removeprefix(_NEW))
    with filelock.FileLock(made / _LOCK):
        made.rename(held)  # whoever sees it under this name sees it locked
        try:
            (held / _FILES).mkdir()
            yield held / _FILES
        finally:
            _delete(held)


def _sweep() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{_HELD}*/{_LOCK}"):
        # a living process, or another user, is left alone
        with contextlib.suppress(OSError, filelock.Timeout), filelock.FileLock(lock, timeout=0):
            _delete(lock.parent)


def _delete(held: Path) -> None:
    shutil.rmtree(held / _FILES, ignore_errors=True)  # the lock last: what has it is found again
    shutil.rmtree(held, ignore_errors=True)
