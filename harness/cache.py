"""The cache folder: decoded images, and what is known of files by path, size and time.

Everything in it can be deleted at any time and is made again. A file appears whole or not at all
(written beside its place, then renamed), so two processes may write the same one: the last wins.
A file that turns out torn is ignored and replaced.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

from harness.errors import DataError
from harness.files import replacing

VARIABLE = "HARNESS_CACHE_DIR"

log = logging.getLogger(__name__)


def folder() -> Path:
    """Return where the cache is: ``HARNESS_CACHE_DIR``, else this user's cache folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    try:
        Path.home()
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in containers
        return Path(tempfile.gettempdir()) / "imbalance-harness"
    own = platformdirs.user_cache_path("imbalance-harness", appauthor=False, opinion=False)
    return own.absolute()


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        yield file


def open_array(key: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return a stored array as a read-only memory map, or None where there is no sound one.

    Args:
        key: What it was stored under.
        shape: What its shape must be.
    """
    path = _array_path(key)
    try:
        # unlike np.load it takes neither pickles nor zip files
        found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        return None
    except Exception as error:  # NumPy fails on a broken header in many ways
        log.warning("the cache file %s is broken (%s) and is made again", path, error)
        return None
    if found.shape != shape:
        log.warning("the cache file %s holds %s instead of %s", path, found.shape, shape)
        return None
    return found


def write_array(
    key: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]
) -> NDArray[Any]:
    """Store an array part by part and return it as a read-only memory map.

    It is written rather than mapped: on a full disk a write fails, a mapped page kills the process.

    Args:
        key: What to store it under.
        shape: Its whole shape.
        dtype: Its dtype.
        parts: Its parts along the first axis, in order.

    Raises:
        DataError: The cache folder cannot be written.
    """
    path = _array_path(key)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    try:
        with _replacing(path) as file:
            np.lib.format.write_array_header_2_0(file, header)
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype).data)
    except OSError as error:
        # on Windows nobody may replace a file that another process has mapped: it is as good
        if (found := open_array(key, shape)) is not None:
            return found
        need = int(np.prod(shape)) * dtype.itemsize / 2**20
        raise DataError(
            f"cannot write the image cache {path}: {error.strerror or error}; it needs "
            f"{need:,.0f} MiB; name a folder with space in the environment variable {VARIABLE}"
        ) from None
    found = open_array(key, shape)
    if found is None:
        raise DataError(f"the image cache {path} was written and cannot be read back")
    return found


def _array_path(key: str) -> Path:
    return folder() / "arrays" / f"{key}.npy"


def load_notes(key: str, version: str) -> dict[str, list[Any]]:
    """Return the notes stored under `key`, empty where there are none of this `version`."""
    try:
        stored = json.loads(_notes_path(key).read_bytes())
        if stored["version"] == version and isinstance(stored["notes"], dict):
            return dict(stored["notes"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the cache file %s is broken (%s) and is made again", _notes_path(key), error)
    return {}


def save_notes(key: str, version: str, notes: dict[str, list[Any]]) -> None:
    """Store JSON-able notes under `key`; where that fails, the work is only done again."""
    try:
        with _replacing(_notes_path(key)) as file:
            file.write(json.dumps({"version": version, "notes": notes}).encode())
    except OSError as error:
        log.warning("cannot write %s: %s", _notes_path(key), error)


def save_lines(key: str, lines: Iterable[str]) -> Path | None:
    """Store lines of text for the user to read, and return where; None where that fails."""
    path = folder() / "lists" / f"{key}.txt"
    try:
        with _replacing(path) as file:
            # a file name may hold bytes that are no text
            file.writelines(f"{line}\n".encode(errors="surrogateescape") for line in lines)
    except OSError as error:
        log.warning("cannot write %s: %s", path, error)
        return None
    return path


def _notes_path(key: str) -> Path:
    return folder() / "files" / f"{key}.json"
