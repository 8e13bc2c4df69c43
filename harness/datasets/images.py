"""Datasets made of image files: finding them, vouching for them, reading them once.

`ImageFiles` is the base of every such dataset: a subclass says which files there are and what
they are labelled (`ImageFiles.source`), the rest is here. Every file is verified when the dataset
is indexed, because splits are computed from the index and a file that fails later would shift
every row after it; what was found is remembered by path, size and modification time.
"""

import hashlib
import os
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import cache
from harness.datasets import readings
from harness.datasets.base import ImageDataset, Index, content_of
from harness.datasets.complete import complete
from harness.datasets.folders import SPLIT_WORDS, Source, class_folders, class_source
from harness.errors import BadFilesError, DataError, counted

if TYPE_CHECKING:  # OpenCV takes 0.3 s to import, and the list of datasets does without
    from harness.datasets.decode import FileFacts


__all__ = ["SPLIT_WORDS", "ImageFiles", "Source", "class_folders", "class_source"]


class ImageFiles(ImageDataset):
    """A dataset made of image files."""

    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Side in pixels of the square that every image becomes; needed where the files differ."""
    resize: Literal["keep", "squash"] = "keep"
    """``keep`` scales the short side and cuts out the centre; ``squash`` changes proportions."""
    grayscale: bool = False
    """One channel instead of RGB."""
    alpha: Literal["white", "black", "ignore"] = "white"
    """What transparent pixels are laid on; ``ignore`` takes their colours as if opaque."""
    on_bad_image: Literal["error", "skip"] = "error"
    """``skip`` leaves out what cannot be decoded and keeps what is merely mislabelled."""

    def source(self) -> Source:
        """Return which files there are.

        Raises:
            DataError: The files are not where or as they should be.
        """
        raise NotImplementedError

    def index(self) -> Index:
        """Return what is known of the files, each of them verified.

        Raises:
            DataError: Also where files are bad or do not go together; all are named at once.
        """
        source = self.source()
        facts = facts_of(source.files)
        bad_files, bad_notes = self._judge(source, facts)
        sound = np.flatnonzero([not of_file.trouble for of_file in facts])
        source, facts = source.take(sound), [facts[row] for row in sound]
        if not facts:
            raise DataError(f"dataset '{self.display()}': no image can be decoded")
        height, width = self._height_and_width(source, facts)
        depth = readings.common_depth(source.ids, facts)
        digests = [of_file.digest for of_file in facts]
        parts = (source.labels, source.split, source.group, source.fold)
        content = content_of(list(source.ids), digests, *parts)
        return Index(
            labels=source.labels,
            class_names=source.class_names,
            content=readings.content(content, facts, depth),
            shape=(height, width, 1 if self.grayscale else 3),
            ids=source.ids,
            files=source.files,
            split=source.split,
            group=source.group,
            fold=source.fold,
            digests=digests,
            alike=_alike(facts),
            warnings=(
                *source.warnings,
                *bad_notes,
                *depth.notes,
                *_not_compared(len(set(digests))),
                *readings.remarks(source.ids, facts, self.alpha),
            ),
            bad_files=bad_files,
        )

    def asides(self, index: Index) -> list[str]:
        """Return how much of the images the centre crop cuts away, where it is much."""
        if self.image_size is None or self.resize != "keep":
            return []
        return readings.cropped(index.ids, facts_of(index.files), self.image_size)

    def read(self, index: Index) -> NDArray[Any]:
        """Return the images, ``[N, H, W, C]`` of uint8, uint16 or float32, as a memory map.

        Raises:
            DataError: A file changed since it was indexed, or the cache cannot be written.
        """
        from harness.datasets import decode

        geometry = (index.shape, self.image_size, self.resize, self.grayscale, self.alpha)
        key = content_of("images", decode.VERSION, list(index.digests), geometry)[:32]
        shape = (len(index.files), *index.shape)
        stored = cache.open_array(key, shape)
        if stored is not None:
            return stored
        facts = facts_of(index.files)
        for path, of_file, digest in zip(index.files, facts, index.digests, strict=True):
            if of_file.digest != digest:
                raise DataError(f"{path} changed since the dataset was indexed; start again")
        depth = readings.common_depth(index.ids, facts)
        return cache.write_array(key, shape, depth.dtype, self._images(index, depth))

    def _images(self, index: Index, depth: readings.Depth) -> Iterator[NDArray[Any]]:
        from harness.datasets import decode
        from harness.datasets.picture import BadImage

        def image_of(path: Path) -> NDArray[Any]:
            try:
                image = decode.read_image(path, self.alpha)
            except BadImage as error:
                raise DataError(f"{path} {error}") from None
            image = decode.fit(image, self.image_size, self.resize, self.grayscale)
            if image.shape != index.shape:
                raise DataError(f"{path} changed since the dataset was indexed; start again")
            return depth.of(image)

        return decode.in_parallel(image_of, index.files, "reading images")

    def _judge(
        self, source: Source, facts: "Sequence[FileFacts]"
    ) -> tuple[dict[str, str], list[str]]:
        """Return what is wrong with each bad file, and remarks; or raise an error naming all."""
        bad = {
            str(path): reason
            for path, of_file in zip(source.files, facts, strict=True)
            if (reason := of_file.trouble or of_file.mislabelled)
        }
        if bad and self.on_bad_image == "error":
            lines = complete([f"{path}: {reason}" for path, reason in bad.items()], "\n  ")
            raise BadFilesError(
                f"dataset '{self.display()}' has {counted(len(bad), 'bad image file')} of "
                f"{len(facts)}:\n  {lines}\nmend them, or leave out what cannot be decoded "
                "and keep what is only mislabelled with `on_bad_image: skip`",
                bad,
            )
        return bad, readings.bad(source.ids, facts)

    def _height_and_width(self, source: Source, facts: "Sequence[FileFacts]") -> tuple[int, int]:
        if self.image_size is not None:
            return self.image_size, self.image_size
        first = facts[0].height, facts[0].width
        for name, of_file in zip(source.ids, facts, strict=True):
            if (of_file.height, of_file.width) != first:
                raise DataError(
                    f"dataset '{self.display()}' has images of different sizes: {source.ids[0]} "
                    f"is {first[0]} × {first[1]} pixels (height × width), {name} is "
                    f"{of_file.height} × {of_file.width}; set image_size, such as image_size: 64"
                )
        return first


def _alike(facts: "Sequence[FileFacts]") -> list[tuple[int, int]]:
    """Return the pairs of rows that seem to be one picture in two files; remembered."""
    from harness.datasets import alike, decode

    rows = list({of_file.digest: row for row, of_file in reversed([*enumerate(facts)])}.values())
    rows.sort()
    key = content_of("alike", [facts[row].digest for row in rows])[:32]
    version = f"{alike.VERSION} of {decode.VERSION}"
    notes = cache.load_notes(key, version)
    if "pairs" not in notes:
        found = alike.pairs([b64decode(facts[row].thumbnail) for row in rows])
        notes = {"pairs": [[rows[a], rows[b]] for a, b in found]}
        cache.save_notes(key, version, notes)
    return [(a, b) for a, b in notes["pairs"]]


def _not_compared(files: int) -> list[str]:
    from harness.datasets import alike

    if files <= alike.MOST:
        return []
    return [
        f"copies that are encoded again, resized or cropped are looked for among up to "
        f"{alike.MOST:,} files, and these are {files:,}: only exact copies are found"
    ]


def facts_of(files: Sequence[Path]) -> "list[FileFacts]":
    """Return what is known of each file; only those that are new or changed are opened."""
    from harness.datasets import decode

    texts = [str(path) for path in files]
    stamps = [_stamp(text) for text in texts]
    key = hashlib.sha256(_common_folder(texts).encode()).hexdigest()[:32]
    notes = cache.load_notes(key, decode.VERSION)
    unknown = [
        row
        for row, (text, stamp) in enumerate(zip(texts, stamps, strict=True))
        if text not in notes or tuple(notes[text][0]) != stamp
    ]
    if unknown:
        found = decode.in_parallel(
            decode.examine, [files[row] for row in unknown], "checking images"
        )
        for row, of_file in zip(unknown, found, strict=True):
            notes[texts[row]] = [stamps[row], *of_file]
        readable = {text: note for text, note in notes.items() if note[1]}
        cache.save_notes(key, decode.VERSION, readable)
    return [decode.FileFacts(*notes[text][1:]) for text in texts]


def _stamp(path: str) -> tuple[int, int]:
    """Return size and modification time; whoever opens the file says what is wrong with it."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _common_folder(paths: Sequence[str]) -> str:
    first, last = os.path.dirname(min(paths)), os.path.dirname(max(paths))
    try:
        return os.path.commonpath([first, last])
    except ValueError:  # two drives
        return first
