"""What datasets are made of: an index of samples, how it is cut, and what is loaded."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Index:
    """What a dataset knows of its N samples before reading any of them.

    Attributes:
        labels: ``int64[N]`` in ``[0, C)``.
        class_names: C display names, in label order.
        content: Fingerprint of everything that is read: samples, labels, given splits.
        shape: ``(H, W, C)`` of an image or ``(columns,)`` of a table.
        ids: N names by which a sample can be found again; their positions where empty.
        files: N image files for the default `Dataset.read`; empty where there are none.
        split: ``int8[N]`` of TRAIN, VAL and TEST, or None where the source has no split.
        group: ``int64[N]`` or None: samples of one group (a patient) never straddle a split.
        fold: ``int64[N]`` or None: folds that the source itself names, in place of a split.
        digests: N content digests of single samples, to find the same image or row in two splits.
        by_chance: Whether so few different samples are possible that equal ones are no copies.
        alike: Pairs of rows that seem to be one picture in two files, smaller row first.
        warnings: What the user should know of this source.
        bad_files: What is wrong with files that are left out or not what their name says, by path.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    content: str
    shape: tuple[int, ...]
    ids: Sequence[str] = ()
    files: Sequence[Path] = ()
    split: NDArray[np.int8] | None = None
    group: NDArray[np.int64] | None = None
    fold: NDArray[np.int64] | None = None
    digests: Sequence[str] = ()
    by_chance: bool = False
    alike: Sequence[tuple[int, int]] = ()
    warnings: tuple[str, ...] = ()
    bad_files: Mapping[str, str] = field(default_factory=dict)

    def id_of(self, row: int) -> str:
        """Return the name of a sample."""
        return self.ids[row] if len(self.ids) else str(row)

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return of how many groups some rows are, per class, ``int64[C]``; None without groups."""
        if self.group is None:
            return None
        pairs = np.unique(np.stack([self.labels[rows], self.group[rows]]), axis=1)
        return np.bincount(pairs[0], minlength=len(self.class_names))

    def first_fold(self) -> tuple[int, int] | tuple[None, None]:
        """Return ``(0, number of folds)`` where the source names folds, else twice None."""
        return (None, None) if self.fold is None else (0, len(np.unique(self.fold)))


@dataclass(frozen=True)
class Rows:
    """Which samples are train, val and test.

    Attributes:
        train: ``int64[n]`` rows; sample i of a training set is the i-th of them.
        val: ``int64[n]`` rows.
        test: ``int64[n]`` rows.
        notes: What the user should know.
        subset: The long-tailed subset before val was carved from it, class after class as
            published, or None where none was drawn.
        places: ``int64[n, 2]``: the class of each sample of `subset`, and its place among the
            training samples of this class that could have been drawn; or None.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    subset: NDArray[np.int64] | None = None
    places: NDArray[np.int64] | None = None

    def digests(self) -> dict[str, str]:
        """Return by part the SHA-256 of its row numbers, as little-endian int64 in their order.

        Two that train on the same rows of the same set have the same digests. Row numbers depend
        on how the source is laid out; ``subset_by_class``, of `places`, does not: the subset of a
        published file and that of its images in class folders, in the same order within a class,
        have one digest.
        """
        parts = {
            **{"train": self.train, "val": self.val, "test": self.test, "subset": self.subset},
            "subset_by_class": self.places,
        }
        return {
            name: hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
            for name, rows in parts.items()
            if rows is not None
        }


@dataclass(frozen=True)
class Features:
    """What `Dataset.features` returns.

    Attributes:
        values: ``[N, H, W, C]`` of uint8, uint16 or float32, or ``float32[N, D]``.
        continuous: ``bool[D]`` or None: which columns may be interpolated.
        notes: What the user should know.
    """

    values: NDArray[Any]
    continuous: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """A loaded dataset, split; rows index `features` and `labels`.

    Attributes:
        kind: ``"image"`` or ``"table"``.
        features: ``[N, H, W, C]`` of uint8, uint16 or float32 (perhaps a memory map), or
            ``float32[N, D]``.
        labels: ``int64[N]``.
        rows: Which rows are train, val and test.
        index: Where it came from.
        continuous: ``bool[D]`` or None: which columns of a table may be interpolated.
        intensity: The stored values that stand for 0 and 1.
        mean: ``float32[C]`` on the 0–1 scale, or None where nothing is subtracted (tables).
        std: ``float32[C]`` on the 0–1 scale, or None.
        notes: What the user should know.
    """

    kind: Literal["image", "table"]
    features: NDArray[Any]
    labels: NDArray[np.int64]
    rows: Rows
    index: Index
    continuous: NDArray[np.bool_] | None = None
    intensity: tuple[float, float] = (0.0, 1.0)
    mean: NDArray[np.float32] | None = None
    std: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def copies(self) -> int:
        """Return how many test samples are in train or val too, as they are or nearly.

        Rows of a table that chance makes equal are no copies.
        """
        test = set(self.rows.test.tolist())
        used = {*self.rows.train.tolist(), *self.rows.val.tolist()}
        torn = (pair for pair in self.index.alike if test & {*pair} and used & {*pair})
        copied = {row for pair in torn for row in pair if row in test}
        digests = self.index.digests
        if len(digests) and not self.index.by_chance:
            seen = {digests[row] for row in used}
            copied |= {row for row in test if digests[row] in seen}
        return len(copied)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.features.shape[1:])

    @property
    def class_names(self) -> tuple[str, ...]:
        """C display names, in label order."""
        return self.index.class_names

    def groups(self) -> dict[str, NDArray[np.int64]]:
        """Return of how many groups each part is, per class, ``int64[C]``; empty without groups."""
        parts = {"train": self.rows.train, "val": self.rows.val, "test": self.rows.test}
        found = {name: self.index.groups_of(rows) for name, rows in parts.items()}
        return {name: counts for name, counts in found.items() if counts is not None}

    @property
    def train_counts(self) -> NDArray[np.int64]:
        """Original training samples per class, ``int64[C]``."""
        return np.bincount(self.labels[self.rows.train], minlength=len(self.class_names))


@dataclass(frozen=True)
class Info:
    """What `Dataset.info` tells without reading the samples.

    Attributes:
        kind: ``"image"`` or ``"table"``.
        shape: ``(H, W, C)`` or ``(columns,)``.
        class_names: C display names.
        counts: ``int64[3, C]``: train, val and test samples per class.
        content: Fingerprint of what would be read.
        warnings: What the user should know.
        digests: As `Rows.digests`: which rows are train, val, test and the long-tailed subset.
        groups: ``int64[3, C]``: of how many groups these samples are; None without groups.
    """

    kind: Literal["image", "table"]
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    content: str
    warnings: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None


def content_of(*parts: Any) -> str:
    """Return the SHA-256 of arrays, strings and JSON-able values, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()


_CHUNK = 256
