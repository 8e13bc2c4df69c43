"""Folders for a while, which outlive a killed process until the next command.

A process that is killed cleans up nothing. Each folder is locked while the process that made it
lives (the system lets go of the lock however it ends, so that no other process can be mistaken for
it), and `sweep` deletes those that nobody holds.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import filelock

_NEW, _HELD = "harness-new-", "harness-run-"
_LOCK, _FILES = ".lock", "run"
_MEMORY = Path("/dev/shm")

_ours: dict[Path, "filelock.BaseFileLock"] = {}
"""Locks of the folders that this process has, by the folder of their files."""


def make(parent: Path | None = None) -> Path:
    """Return a new empty folder that is this process's until it ends, or `drop` is told.

    What killed processes left goes.

    Args:
        parent: Where; by default the system's folder for temporary files.

    Raises:
        OSError: It cannot be written.
    """
    import filelock  # only where a folder is needed: it takes as long to import as `--help`

    sweep()
    made = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    held = made.with_name(_HELD + made.name.removeprefix(_NEW))
    lock = filelock.FileLock(made / _LOCK, thread_local=False)
    lock.acquire()
    made.rename(held)  # whoever sees it under this name sees it locked
    (held / _FILES).mkdir()
    _ours[held / _FILES] = lock
    return held / _FILES


def drop(files: Path) -> None:
    """Delete a folder that `make` returned, in this process or in the one that started it."""
    _delete(files.parent)
    if (lock := _ours.pop(files, None)) is not None:
        lock.release()
        shutil.rmtree(files.parent, ignore_errors=True)  # Windows deletes no file that is open


def drop_all() -> None:
    """Delete the folders of this process, which is about to be killed."""
    for files in list(_ours):
        drop(files)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder in the system's folder for temporary files; delete it afterwards.

    Raises:
        OSError: It cannot be written.
    """
    files = make()
    try:
        yield files
    finally:
        drop(files)


def in_memory() -> Path | None:
    """Return a folder that lies in memory, or None where the system has none to write to."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else None


def sweep() -> None:
    """Delete what killed processes of this user left; a living one is left alone."""
    for parent in {Path(tempfile.gettempdir()), _MEMORY}:
        for held in parent.glob(f"{_HELD}*"):
            if _is_ours(held) and (held / _LOCK).exists():
                _delete_unheld(held)


def _is_ours(held: Path) -> bool:
    """Whether it is a folder of this user, and no link to another."""
    with contextlib.suppress(OSError):
        return not held.is_symlink() and (os.name == "nt" or held.stat().st_uid == os.getuid())
    return False


def _delete_unheld(held: Path) -> None:
    import filelock

    with (
        contextlib.suppress(OSError, filelock.Timeout),
        filelock.FileLock(held / _LOCK, timeout=0),
    ):
        _delete(held)


def _delete(held: Path) -> None:
    shutil.rmtree(held / _FILES, ignore_errors=True)  # the lock last: what has it is found again
    shutil.rmtree(held, ignore_errors=True)
