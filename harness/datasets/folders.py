"""Image files in folders named after their class: which there are, in an order of their own.

Nothing is opened here. Rows are sorted by their path below the root, in one Unicode form, so that
a copy of the folder on another system is the same dataset.
"""

import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import SPLITS, TEST, TRAIN, VAL
from harness.datasets.spelling import look_alike
from harness.errors import DataError, counted, listing

IMAGE_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".pbm", ".pgm", ".ppm", ".pnm"), "PPM"),
    **{".webp": "WEBP", ".gif": "GIF", ".jp2": "JPEG2000", ".avif": "AVIF"},
}
"""Format by extension: what is looked for in folders, and what a file's content should be."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""What sources call their splits, in lower case."""


@dataclass(frozen=True)
class Source:
    """Which image files there are, before any is opened.

    Attributes:
        files: N files.
        ids: N names that do not depend on where the dataset lies, in the order of the rows.
        labels: ``int64[N]``.
        class_names: C display names, in label order.
        split: ``int8[N]`` of TRAIN, VAL and TEST, or None.
        group: ``int64[N]`` or None.
        fold: ``int64[N]`` or None.
        warnings: What the user should know.
    """

    files: Sequence[Path]
    ids: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: NDArray[np.int8] | None = None
    group: NDArray[np.int64] | None = None
    fold: NDArray[np.int64] | None = None
    warnings: tuple[str, ...] = ()

    def take(self, rows: NDArray[np.int64], warnings: tuple[str, ...] = ()) -> "Source":
        """Return the source with these rows only, and `warnings` besides its own."""
        return replace(
            self,
            files=[self.files[row] for row in rows],
            ids=[self.ids[row] for row in rows],
            labels=self.labels[rows],
            split=None if self.split is None else self.split[rows],
            group=None if self.group is None else self.group[rows],
            fold=None if self.fold is None else self.fold[rows],
            warnings=(*self.warnings, *warnings),
        )


@dataclass(frozen=True)
class _Found:
    """One image file below the root: its id, place, class name and split."""

    name: str
    path: str
    class_name: str
    part: int


def class_folders(
    root: Path,
) -> tuple[Sequence[Path], NDArray[np.int64], tuple[str, ...], NDArray[np.int8] | None]:
    """Return ``(files, labels, class_names, split)`` of a folder of class folders.

    Args:
        root: See `class_source`, which tells more.

    Raises:
        DataError: There is no such folder, or no image in a class folder.
    """
    source = class_source(root)
    return source.files, source.labels, source.class_names, source.split


def class_source(root: Path, allow_outside: bool = True) -> Source:
    """Return the images in class folders below `root`, or below its train, val and test.

    Class folders are searched to any depth. Hidden files and folders are passed over; hidden
    class folders with images are told.

    Args:
        root: The folder.
        allow_outside: Whether images may lie elsewhere, by a symbolic link below the root.

    Raises:
        DataError: There is no such folder, no image in a class folder, or one outside.
    """
    root = Path(os.path.abspath(root.expanduser()))
    tops = _tops(root)
    layout, notes = _splits(root, tops)
    places = {TRAIN: tops} if layout is None else {k: _folders(top) for k, top in layout.items()}
    ignored: Counter[str] = Counter()
    names = {_normal(os.path.basename(top)) for folders in places.values() for top in folders}
    found = [
        file
        for part, folders in places.items()
        for top in folders
        for file in _images_of(str(root), top, part, ignored)
    ]
    if not found:
        raise DataError(
            f"no image in the class folders of {root} ({listing(sorted(names))}); looked for "
            f"files ending in {listing(sorted(IMAGE_FORMATS), 30)}"
        )
    found.sort(key=lambda file: file.name)
    if not allow_outside:
        require_inside([Path(file.path) for file in found], [root])
    class_names = tuple(sorted(names))
    label_of = {name: label for label, name in enumerate(class_names)}
    notes += look_alike(class_names, "class folders")
    notes += _hidden_notes([root] if layout is None else [Path(top) for top in layout.values()])
    notes += _ignored_notes(ignored)
    if layout is not None and VAL in layout:
        notes += _absent_notes(found, class_names)
    return Source(
        files=[Path(file.path) for file in found],
        ids=[file.name for file in found],
        labels=np.array([label_of[file.class_name] for file in found], np.int64),
        class_names=class_names,
        split=None if layout is None else np.array([file.part for file in found], np.int8),
        warnings=tuple(notes),
    )


def linked_out(files: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    """Return the files that lie elsewhere, by a link that they are or that leads to them.

    The folders themselves may be links: the user named them.
    """
    roots = tuple(os.path.join(os.path.realpath(folder), "") for folder in folders)
    real = functools.cache(os.path.realpath)  # of folders: there are fewer of them
    out = []
    for file in files:
        folder, name = os.path.split(file)
        inner = os.path.join(real(folder), name)
        place = os.path.realpath(file) if os.path.islink(file) else inner
        if not place.startswith(roots):
            out.append(file)
    return out


def require_inside(files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Check that no file lies elsewhere.

    Raises:
        DataError: Some do, by a symbolic link.
    """
    if linked := linked_out(files, folders):
        what = counted(
            len(linked), "image lies behind a symbolic link", "images lie behind symbolic links"
        )
        raise DataError(
            f"{what} out of {listing(map(str, folders))}: {listing(map(str, linked), 5)}; "
            "`allow_outside: true` permits that"
        )


def _tops(root: Path) -> list[str]:
    """Return the folders directly under the root."""
    if not root.exists():
        raise DataError(f"there is no folder {root}")
    if not root.is_dir():
        raise DataError(f"{root} is a file; a folder with one folder for each class is needed")
    tops = _folders(str(root))
    if not tops:
        raise DataError(
            f"{root} has no class folders: images are expected in one folder for each class, "
            "directly or under train, val and test; images listed in a CSV file are a `manifest`"
        )
    return tops


def _splits(root: Path, tops: list[str]) -> tuple[dict[int, str] | None, list[str]]:
    """Return the folder of each split, or None where the folders are classes; and remarks.

    A class may be called train (a vehicle): a split is a folder of folders, and beside folders
    that are not splits it takes a train and another split to be believed.
    """
    layout: dict[int, str] = {}
    others = []
    for top in tops:
        part = SPLIT_WORDS.get(os.path.basename(top).casefold())
        if part is None or not _folders(top) or _has_images(top):
            others.append(top)
        elif part in layout:
            raise DataError(f"{layout[part]} and {top} are both the {SPLITS[part]} split")
        else:
            layout[part] = top
    if layout and others and not (TRAIN in layout and len(layout) > 1):
        known = listing(os.path.basename(top) for top in layout.values())
        return None, [
            f"{listing(map(os.path.basename, tops), 5)} are taken for classes: a split is called "
            f"one of {listing(SPLIT_WORDS)}, and only {known} {'is' if len(layout) == 1 else 'are'}"
        ]
    if not layout:
        return None, []
    if TRAIN not in layout:
        raise DataError(f"{root} has {listing(map(os.path.basename, tops))} but no train folder")
    if not others:
        return layout, []
    names = listing(os.path.basename(other) for other in others)
    return layout, [f"folders beside the splits are ignored: {names}"]


def _folders(place: str) -> list[str]:
    with _scan(place) as entries:
        return sorted(entry.path for entry in entries if _visible(entry.name) and entry.is_dir())


def _has_images(place: str) -> bool:
    with _scan(place) as entries:
        return any(_is_image(entry.name) and entry.is_file() for entry in entries)


def _images_of(root: str, top: str, part: int, ignored: Counter[str]) -> Iterator[_Found]:
    """Yield the images of a class folder; other files are counted by extension."""
    class_name = _normal(os.path.basename(top))
    for path in _walk(top, (os.path.realpath(top),)):
        if not _is_image(path):
            ignored[os.path.splitext(path)[1].lower() or "no extension"] += 1
            continue
        name = _normal(path[len(root) :].replace(os.sep, "/").lstrip("/"))
        yield _Found(name, path, class_name, part)


def _walk(place: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield every visible file, following links but never back into a folder above."""
    with _scan(place) as entries:
        visible = [entry for entry in entries if _visible(entry.name)]
    for entry in visible:
        if not entry.is_dir():
            yield entry.path
            continue
        real = os.path.realpath(entry.path)
        if real not in above:
            yield from _walk(entry.path, (*above, real))


def _scan(place: str) -> "os._ScandirIterator[str]":
    try:
        return os.scandir(place)
    except OSError as error:
        raise DataError(f"the folder {place} cannot be read: {error.strerror}") from None


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_FORMATS


def _normal(text: str) -> str:
    """Return one Unicode form: macOS spells é in two characters, and would sort it elsewhere."""
    return unicodedata.normalize("NFC", text)


def _ignored_notes(ignored: Counter[str]) -> list[str]:
    if not ignored:
        return []
    kinds = listing(f"{kind} ({count})" for kind, count in ignored.most_common(5))
    what = counted(ignored.total(), "file that is no image is", "files that are not images are")
    return [f"{what} ignored: {kinds}"]


def _hidden_notes(places: Sequence[Path]) -> list[str]:
    """Return a remark on hidden folders that would be classes, but for their names."""
    found = []
    for place in places:
        with _scan(str(place)) as entries:
            hidden = [entry for entry in entries if entry.name.startswith(".") and entry.is_dir()]
        found += [entry.path for entry in hidden if os.access(entry.path, os.R_OK | os.X_OK)]
    names = sorted({os.path.basename(path) for path in found if _has_images(path)})
    if not names:
        return []
    what = "hidden folder with images is" if len(names) == 1 else "hidden folders with images are"
    return [f"{len(names)} {what} no class: {listing(names, 5)}; rename what is one"]


def _absent_notes(found: list[_Found], class_names: tuple[str, ...]) -> list[str]:
    """Return a remark on classes without val; base sees to those without train or test."""
    present = {file.class_name for file in found if file.part == VAL}
    absent = [f"'{name}'" for name in class_names if name not in present]
    return [f"classes without an image in val: {listing(absent)}"] if absent else []
