"""Where the images of a manifest lie: from what a row says to a file below the image folders."""

import os
import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from harness.datasets.complete import complete
from harness.datasets.folders import IMAGE_FORMATS, require_inside
from harness.errors import BadFilesError, DataError, counted, listing


def relative_id(text: str) -> str:
    """Return a path as a manifest writes it in one form: forward slashes, no ``.`` or ``a/..``."""
    return unicodedata.normalize("NFC", posixpath.normpath(text.replace("\\", "/")))


def locate(names: Sequence[str], folders: Sequence[Path], allow_outside: bool) -> list[Path]:
    """Return the file of each name.

    Args:
        names: N paths as a manifest writes them.
        folders: Absolute folders to look in.
        allow_outside: Whether a path may be absolute or lead out of the folders.

    Raises:
        DataError: Files are missing, lie in several folders, or are outside, also by a symbolic
            link; all named together.
    """
    absent = [str(folder) for folder in folders if not folder.is_dir()]
    if absent:
        raise DataError(f"images: there is no folder {listing(absent)}")
    outside = [name for name in names if _leads_out(name)]
    if outside and not allow_outside:
        raise DataError(
            f"{counted(len(outside), 'path leads', 'paths lead')} out of "
            f"{listing(map(str, folders))}: {listing(outside, 5)}; "
            "`allow_outside: true` permits that"
        )
    found = [_candidates(name, folders) for name in names]
    missing = [name for name, files in zip(names, found, strict=True) if not files]
    if missing:
        raise BadFilesError(
            f"{len(missing)} of {counted(len(names), 'image')} missing below "
            f"{listing(map(str, folders))}: {complete(missing)}"
            f"{_hint(missing[0], folders) or '; `on_missing_image: skip` leaves these rows out'}",
            dict.fromkeys(missing, "is missing"),
        )
    several = [name for name, files in zip(names, found, strict=True) if len(files) > 1]
    if several:
        raise DataError(
            f"{counted(len(several), 'image lies', 'images lie')} in more than one of "
            f"{listing(map(str, folders))}: {listing(several, 5)}"
        )
    paths = [Path(files[0]) for files in found]
    if not allow_outside:
        require_inside(paths, folders)
    return paths


def present(names: Sequence[str], folders: Sequence[Path]) -> NDArray[np.bool_]:
    """Return which names have a file in one of the folders, ``bool[N]``."""
    return np.array([bool(_candidates(name, folders)) for name in names], bool)


def _leads_out(name: str) -> bool:
    plain = relative_id(name)
    return (
        plain.startswith("/") or plain.split("/")[0] == ".." or bool(PureWindowsPath(plain).drive)
    )


def _candidates(name: str, folders: Sequence[Path]) -> list[str]:
    plain = posixpath.normpath(name.replace("\\", "/"))
    places = dict.fromkeys(os.path.normpath(os.path.join(folder, plain)) for folder in folders)
    return [place for place in places if os.path.isfile(place)]


def _hint(name: str, folders: Sequence[Path]) -> str:
    """Return the suffix that makes a file of a missing name, as a hint."""
    for suffix in IMAGE_FORMATS:
        if _candidates(name + suffix, folders):
            return f"; {name}{suffix} is there: set `suffix: {suffix}`"
    return ""
