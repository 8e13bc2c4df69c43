"""How files are written so that none is ever half there, and read so that nothing can hang.

A file that others read takes the place of the one before when all of it is on the disk; a list
grows by whole lines, and a line that was torn counts for nothing.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import from_json

from harness.text import storable

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk, which no run is to blame for."""

_STALE_SECONDS = 24 * 3600

HELD_SECONDS = 5.0
"""How long a rename is tried: on Windows an antivirus holds a new file for a moment."""

MAKING_SECONDS = 60.0
"""Longest wait for another process that makes a file which both share."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_bytes(path: str | Path) -> bytes:
    """Return what is in a file; a folder, a pipe or a device is an error and never waited for.

    Raises:
        OSError: It is not there, is no file, or cannot be read.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(found.st_mode)} and no file")
        parts = []
        while part := os.read(descriptor, max(found.st_size + 1, 65536)):
            parts.append(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]
    finally:
        os.close(descriptor)


def kind_of(mode: int) -> str:
    """Return in words what something that is no file is: ``a folder``."""
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path`, in a folder that is there, once it is on disk.

    Raises:
        OSError: It cannot be written; nothing is left behind then.
    """
    _sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a small text so that a reader sees the old one or the new one, never a part.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path) as file:
        file.write(f"{storable(text)}\n".encode())


def _sweep(place: Path) -> None:
    """Delete what killed processes left half-written; a file being written is never that old."""
    for left in place.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def rename(source: Path, target: Path, seconds: float = HELD_SECONDS) -> None:
    """Rename, in the place of what `target` was, and again while another program holds it.

    Raises:
        OSError: It cannot be renamed; a `PermissionError` after that many seconds.
    """
    _patiently(lambda: os.replace(source, target), seconds)


def _patiently(act: Callable[[], None], seconds: float) -> None:
    until = time.monotonic() + seconds
    wait = 0.01
    while True:
        try:
            act()
            return
        except PermissionError:
            if time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        wait = min(2 * wait, 0.5)


def make_once(path: Path, make: Callable[[Path], None], empty_is_missing: bool = False) -> None:
    """Make a file that several processes share, unless another one is just making it.

    Args:
        path: The file.
        make: Makes it, whole or not at all.
        empty_is_missing: Whether a file of no bytes is made, too.

    Raises:
        OSError: Its folder cannot be written, or another process does not come to an end with it.
    """
    import filelock  # only where a file is made: it takes as long to import as `--help`

    def missing() -> bool:
        return not path.exists() or (empty_is_missing and path.stat().st_size == 0)

    if not missing():
        return
    lock = path.with_name(f".{path.name}.lock")
    with filelock.FileLock(lock, timeout=MAKING_SECONDS):
        if missing():  # or who held the lock before us has made it
            make(path)
        with suppress(OSError):  # Windows deletes no file that is open
            lock.unlink(missing_ok=True)  # whoever waits for it finds the file


def sync(path: Path) -> None:
    """Flush a file or folder to disk; where the platform cannot flush folders, nothing is lost."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add a line of JSON to a list, after ending one that was torn.

    Raises:
        OSError: It cannot be written.
    """
    line = json.dumps(value).encode() + b"\n"
    with open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # as where the disk was full
                line = b"\n" + line
        file.write(line)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a list of JSON objects; one that is torn counts for nothing.

    Raises:
        OSError: It is there and cannot be read.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return
    for line in content.splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(value := from_json(line), dict):
                yield value


def delete(path: Path) -> None:
    """Delete a folder, or whatever stands in its place, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):  # rmtree would open it, and wait for ever at a pipe
        path.unlink(missing_ok=True)
