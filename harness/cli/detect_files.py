"""Which column of a file names images, and in which folders those lie.

Everything below the file's own folder is listed once (then, if nothing fits, what lies beside that
folder too), and the values of each column are looked up in that list.
"""

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from harness.cli.detect_elsewhere import lists_files
from harness.datasets.cells import Texts
from harness.datasets.column_text import numbers
from harness.datasets.folders import IMAGE_FORMATS
from harness.errors import ConfigError, listing

_DEPTH = 4
_MOST_PLACES = 20_000
_SAMPLE = 50
_ENOUGH = 0.5
_MOST_FOLDERS = 10
_INDEX = re.compile(r"|unnamed: ?\d+|column_0|index|level_0|__index_level_0__")
"""Names of a saved index, in lower case."""


@dataclass(frozen=True)
class NameColumn:
    """The column that names images.

    Attributes:
        column: Its name.
        suffix: What follows each value, such as ``.jpg``; empty where the values are paths.
        folders: Where the images lie.
        outside: Whether paths are absolute or lead out of the folder of the file.
        remarks: What the user should know.
    """

    column: str
    suffix: str
    folders: tuple[Path, ...]
    outside: bool = False
    remarks: tuple[str, ...] = ()


def find_names(
    file: Path, columns: Mapping[str, Texts], given: Sequence[Path] = ()
) -> NameColumn | None:
    """Return the column whose values name image files, or None.

    Args:
        file: The CSV or Parquet file.
        columns: Its columns as text.
        given: Folders to look in; by default that of the file, then the one around it.

    Raises:
        ConfigError: A folder that was given is not there.
    """
    own = Path(os.path.abspath(file.expanduser())).parent
    measured = any(_is_measured(values) for values in columns.values())
    able = {
        name: values
        for name, values in columns.items()
        if _could_name(values) and not (measured and _is_index_or_number(name, values))
    }
    absent = [str(folder) for folder in given if not folder.expanduser().is_dir()]
    if absent:
        raise ConfigError(f"--images: there is no folder {listing(absent)}")
    asked = [[Path(os.path.abspath(folder.expanduser())) for folder in given]] if given else []
    for around in asked or [[own], [own.parent]]:
        if around == [own.parent]:  # it may be large: no plain number is worth a search there
            able = {name: values for name, values in able.items() if numbers(values) is None}
        if not able:
            return None
        images = _Images(own, around)
        rated = [(_rate(images, values), name) for name, values in able.items()]
        # an identifier of many images (a patient) may be found too: the most different values win
        rated.sort(key=lambda item: (item[0], len(set(columns[item[1]]))), reverse=True)
        if rated[0][0] >= _ENOUGH:
            others = [name for rate, name in rated[1:] if rate >= _ENOUGH]
            return _settled(images, file, rated[0][1], columns[rated[0][1]], others)
    return None


def _could_name(values: Texts) -> bool:
    """Whether values can be names of images: mostly different, and no measurements.

    Names of files may come again, as where a row tells of a part of an image.
    """
    if lists_files(values):
        return True
    found = numbers(values)
    whole = found is None or bool((found[np.isfinite(found)] % 1 == 0).all())
    return whole and len(set(values) - {""}) > len(values) / 2


def _is_measured(values: Texts) -> bool:
    found = numbers(values)
    return found is not None and bool((found[np.isfinite(found)] % 1 != 0).any())


def _is_index_or_number(name: str, values: Texts) -> bool:
    """Whether a column beside measurements names no images: a saved index, or numbers with gaps.

    A folder near a table may well hold images 0 to 600. The index of a part of a table has gaps;
    its name tells it then.
    """
    found = numbers(values)
    if found is None:
        return False
    steps = np.diff(found)
    if "" in set(values) or (_INDEX.fullmatch(name.casefold()) and bool((steps > 0).all())):
        return True
    return found[0] in (0, 1) and bool((steps == 1).all())


class _Images:
    """Image files below folders, by name and by stem."""

    def __init__(self, own: Path, around: Sequence[Path]) -> None:
        self.own = str(own)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        seen: set[str] = set()
        for folder, name in (file for place in around for file in walk(str(place), _DEPTH, seen)):
            stem, suffix = os.path.splitext(name)
            self._by_name[name].append(folder)
            self._by_stem[stem].append((folder, suffix))

    def hits(self, value: str) -> set[tuple[str, str]]:
        """Return every ``(folder, suffix)`` with which a value is an image."""
        plain = posixpath.normpath(value.replace("\\", "/"))
        if leads_out(plain):
            found = os.path.isfile(os.path.join(self.own, plain))
            return {(self.own, "")} if found and _is_image(plain) else set()
        head, name = posixpath.split(plain)
        near = [(folder, "") for folder in self._by_name.get(name, ())]
        near += self._by_stem.get(name, ())
        tail = os.sep + head.replace("/", os.sep) if head else ""
        return {
            (folder[: len(folder) - len(tail)], suffix)
            for folder, suffix in near
            if folder.endswith(tail)
        }


def leads_out(plain: str) -> bool:
    """Return whether a path is absolute or leads out of its folder."""
    return plain.startswith(("/", "../")) or bool(PureWindowsPath(plain).drive)


def walk(place: str, depth: int, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield folder and name of every visible image; what cannot be read is passed over."""
    real = os.path.realpath(place)
    if real in seen or len(seen) >= _MOST_PLACES:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    yield from ((place, entry.name) for entry in visible if _is_image(entry.name))
    if depth:
        for entry in visible:
            if not _is_image(entry.name) and entry.is_dir():
                yield from walk(entry.path, depth - 1, seen)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_FORMATS


def _rate(images: _Images, values: Texts) -> float:
    """Return which share of a sample of a column's values are images."""
    different = sorted(set(values) - {""})
    if len(different) < 2:
        return 0.0
    sample = different[:: -(-len(different) // _SAMPLE)]
    return sum(bool(images.hits(value)) for value in sample) / len(sample)


def _settled(
    images: _Images, file: Path, column: str, values: Texts, same: Sequence[str]
) -> NameColumn:
    hits = [images.hits(value) for value in values]
    suffix = _suffix(hits)
    missing = [{folder for folder, ends in found if ends == suffix} for found in hits]
    missing = [found for found in missing if found]
    whole = Counter(folder for found in missing for folder in found)
    chosen: list[str] = []
    while missing and len(chosen) < _MOST_FOLDERS:
        left = Counter(folder for found in missing for folder in found)
        best = min(left, key=lambda folder: (-left[folder], folder != images.own, folder))
        chosen.append(best)
        missing = [found for found in missing if best not in found]
    others = sorted(set(whole) - set(chosen))
    remarks = []
    named = [name for name in same if name != column]
    if named:
        remarks.append(
            f"column '{column}' names the image of a row; so {'does' if len(named) == 1 else 'do'} "
            f"{listing(map(repr, named))}, not used: path_column or id_column changes that"
        )
    if others:
        shown = listing((_as_given(file, images.own, folder).as_posix() for folder in others), 5)
        remarks.append(f"files of the same names lie in {shown} too; those are not used")
    return NameColumn(
        column,
        suffix,
        tuple(_as_given(file, images.own, folder) for folder in chosen),
        any(leads_out(posixpath.normpath(value.replace("\\", "/"))) for value in values),
        tuple(remarks),
    )


def _suffix(hits: Sequence[set[tuple[str, str]]]) -> str:
    """Return the suffix that most values take; none where it does as well as any."""
    counts = Counter(suffix for found in hits for suffix in {ends for _, ends in found})
    return min(counts, key=lambda suffix: (-counts[suffix], suffix))


def _as_given(file: Path, own: str, folder: str) -> Path:
    """Return a folder as the user wrote the file: relative to where the command runs, or not."""
    return Path(os.path.normpath(os.path.join(file.parent, os.path.relpath(folder, own))))
