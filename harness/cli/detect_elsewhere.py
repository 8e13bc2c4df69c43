"""A file that lists images which are not where it says: how to tell, and what to ask.

Such a file must not become a table of its identifiers: whoever made it meant the images.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from harness.datasets.cells import Texts
from harness.datasets.column_text import numbers
from harness.datasets.folders import IMAGE_FORMATS
from harness.errors import ConfigError, counted, listing

_UNREAD = frozenset(
    (
        *(".dcm", ".dicom", ".nii", ".mha", ".mhd", ".nrrd", ".heic", ".heif", ".svg", ".svs"),
        *(".ndpi", ".czi", ".cr2", ".nef", ".arw", ".dng", ".exr", ".jxl", ".psd", ".npy", ".fits"),
    )
)
"""Extensions of images that are not read here."""

_MOST = 0.8
"""The share of a column's different values that look like file names, where it lists files."""

_CALLED = re.compile(
    r"^(image|img|picture|pic|photo|photograph|thumbnail|scan|slide|frame|file|filename|filepath)s?"
    r"(id|no|nr|number|name|file|filename|path|url|uri|location)?s?$"
)
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def lists_files(values: Texts) -> bool:
    """Return whether the values of a column are names of image files, by their extension."""
    different = sorted(set(values) - {""})
    named = sum(_extension(value) in IMAGE_FORMATS.keys() | _UNREAD for value in different)
    return named > 0 and named >= _MOST * len(different)


def columns_of_images(columns: Mapping[str, Texts]) -> list[str]:
    """Return the columns that list images: by the extension of their values, else by their name.

    A column is known by its name if that says image or file and hardly a value comes again, none
    of them a measurement.

    Args:
        columns: Columns of a file as text.
    """
    listed = [name for name, values in columns.items() if lists_files(values)]
    return listed or [name for name, values in columns.items() if _is_called(name, values)]


def _extension(value: str) -> str:
    plain = re.split(r"[?#]", value, maxsplit=1)[0] if _ADDRESS.match(value) else value
    return os.path.splitext(plain.replace("\\", "/"))[1].lower()


def _is_called(name: str, values: Texts) -> bool:
    if not _CALLED.match(re.sub(r"[\W_]+", "", name.casefold())):
        return False
    found = numbers(values)
    different = len(set(values) - {""})
    return different > len(values) / 2 and (found is None or bool((found % 1 == 0).all()))


def refuse_embedded(file: Path, cells: Any) -> None:
    """Refuse a Parquet file that holds the images themselves.

    Raises:
        ConfigError: A column holds bytes, alone or in a record.
    """
    for name in cells.columns:
        first = next((value for value in cells[name] if value is not None), None)
        if isinstance(first, bytes | bytearray) or (isinstance(first, dict) and "bytes" in first):
            raise ConfigError(
                f"{file}: column '{name}' holds images themselves, as bytes; write each to a file, "
                "and their names in a column of text instead"
            )


def question(file: Path, columns: Mapping[str, Texts], names: Sequence[str], looked: str) -> str:
    """Return what to say where a file lists images and they are not found.

    Args:
        file: The file.
        columns: Its columns as text.
        names: Those that list images.
        looked: Where was looked.
    """
    values = sorted(set(columns[names[0]]) - {""})
    what = f"{file} lists images: column '{names[0]}' holds {_shown(values)}"
    if len(names) > 1:
        what += f" (and so {_do(len(names) - 1)} {listing(map(repr, names[1:]))})"
    unread = sorted({_extension(value) for value in values} & _UNREAD)
    if unread:
        return (
            f"{what}. Files ending in {listing(unread)} are not read here: convert them, to PNG or "
            "TIFF, and change the names in the column"
        )
    if any(_ADDRESS.match(value) for value in values):
        return (
            f"{what}. These are addresses, and nothing is downloaded here: download the images to "
            "a folder, have a column of their file names below it, and say where it is, with "
            f"`--images FOLDER` (in the experiment file `images: FOLDER`). {_TABLE}"
        )
    ask = (
        "Where are they? Give the folder that they lie in: `--images FOLDER` (in the experiment "
        "file `images: FOLDER`, with inspect `--set images=FOLDER`)"
    )
    if any(value.startswith("/") or PureWindowsPath(value).drive for value in values):
        ask += (
            "; paths that start at a root, perhaps of another machine, are better written below "
            "that folder"
        )
    return f"{what}; {_count(values)} {looked}. {ask}. {_TABLE}"


_TABLE = "If the other columns are meant, without the images: `--table`"


def _do(others: int) -> str:
    return "does" if others == 1 else "do"


def _count(values: Sequence[str]) -> str:
    return f"few or none of {counted(len(values), 'name')} are files"


def _shown(values: Sequence[str]) -> str:
    return listing((value if len(value) <= 80 else f"{value[:77]}..." for value in values), 3)
