"""The contract of a dataset: a named source of samples.

A dataset says what it holds without reading a pixel (`index`) and reads it when asked (`read`).
Everything else is the same for every source: how it is cut is in `partition`, and images are
normalised by their original training rows. A new one is one small file::

    from harness.datasets.base import ImageDataset, Index, content_of, dataset

    @dataset("noise")
    class Noise(ImageDataset):
        \"\"\"A thousand images of noise in two classes.\"\"\"

        def index(self):
            labels = np.arange(1000) % 2
            return Index(labels=labels, class_names=("a", "b"), content=content_of(labels),
                         shape=(8, 8, 1))

        def read(self, index):
            return np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 1), dtype=np.uint8)
"""

import inspect
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator

from harness.datasets.normalise import intensity, moments
from harness.datasets.partition import Fraction, Partition
from harness.datasets.records import (
    SPLITS,
    TEST,
    TRAIN,
    VAL,
    Data,
    Features,
    Index,
    Info,
    Rows,
    content_of,
)
from harness.datasets.splits import GROUPS
from harness.errors import DataError, listing
from harness.registry import datasets

__all__ = [
    "SPLITS",
    "TEST",
    "TRAIN",
    "VAL",
    "Data",
    "Dataset",
    "Features",
    "Fraction",
    "ImageDataset",
    "Index",
    "Info",
    "NotIdentity",
    "Rows",
    "TableDataset",
    "content_of",
    "dataset",
    "forget",
]

dataset = datasets.register


class NotIdentity:
    """Marks a field that says where or how to read, and does not change what is read."""


class Dataset(Partition):
    """A named source of train, val and test; its fields are its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    kind: ClassVar[Literal["image", "table"]] = "image"

    label: Annotated[str | None, NotIdentity()] = None
    """What tables and run names call it; by default the name and the imbalance factor."""

    def index(self) -> Index:
        """Return what is known before any sample is read.

        Raises:
            DataError: The source is missing, empty or not what it should be.
        """
        raise NotImplementedError

    def read(self, index: Index) -> NDArray[Any]:
        """Return the samples, ``[N, H, W, C]`` or ``[N, D]``, in the order of `index`."""
        raise NotImplementedError

    def features(self, index: Index, train: NDArray[np.int64]) -> Features:
        """Return the samples ready for training; what is fitted is fitted on `train` only."""
        return Features(_remembered(_reads, self._place(index), lambda: self.read(index)))

    def asides(self, index: Index) -> list[str]:
        """Return what is worth a word when somebody looks at the source, and not in every run."""
        return []

    def identity(self) -> dict[str, Any]:
        """Return what of this dataset changes a result, its content apart."""
        skip = {
            name
            for name, info in type(self).model_fields.items()
            if any(isinstance(marker, NotIdentity) for marker in info.metadata)
        }
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude=skip)
        return {"name": self.name, "version": self.version, **fields}

    def config(self) -> dict[str, Any]:
        """Return the dataset as an experiment file would write it."""
        return {"name": self.name, **self.model_dump(mode="json", exclude_defaults=True)}

    def display(self) -> str:
        """Return what tables call it."""
        if self.label is not None:
            return self.label
        tail = f"-lt{self.imbalance_factor:g}" if self.imbalance_factor else ""
        step = "-step" if tail and self.profile == "step" else ""
        return f"{self.name}{tail}{step}"

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]

    def indexed(self) -> Index:
        """Return `index()`, remembered for this process and checked.

        Its content tells also how groups are cut, where there are any.

        Raises:
            DataError: Also where there are fewer than two classes or a class without a sample.
        """
        return _remembered(_indices, self._config_key(), lambda: _checked(self, self.index()))

    def info(self, seed: int = 0, fold: int | None = None, folds: int | None = None) -> Info:
        """Return class counts of the three splits and the fingerprint; reads no sample."""
        index = self.indexed()
        rows = self.split(index, seed, fold, folds)
        names = index.class_names
        parts = (rows.train, rows.val, rows.test)
        counts = np.stack([np.bincount(index.labels[part], minlength=len(names)) for part in parts])
        groups = [found for part in parts if (found := index.groups_of(part)) is not None]
        return Info(
            kind=self.kind,
            shape=index.shape,
            class_names=names,
            counts=counts,
            content=index.content,
            warnings=index.warnings + rows.notes,
            digests=rows.digests(),
            groups=np.stack(groups) if groups else None,
        )

    def load(self, seed: int, fold: int | None = None, folds: int | None = None) -> Data:
        """Read and split the dataset for one seed (and fold).

        Raises:
            DataError: Samples cannot be read or split as asked.
        """
        index = self.indexed()
        rows = self.split(index, seed, fold, folds)
        features = self.features(index, rows.train)
        return self.finish(
            Data(
                kind=self.kind,
                features=features.values,
                labels=index.labels,
                rows=rows,
                index=index,
                continuous=features.continuous,
                notes=rows.notes + features.notes,
            )
        )

    def finish(self, data: Data) -> Data:
        """Add what is fitted on the original training rows, such as the normalisation."""
        return data

    def _config_key(self) -> str:
        return json.dumps([type(self).__module__, self.config()], sort_keys=True)

    def _place(self, index: Index) -> str:
        return json.dumps([index.content, self.identity()], sort_keys=True)


class ImageDataset(Dataset):
    """A dataset of images."""

    kind: ClassVar[Literal["image", "table"]] = "image"

    horizontal_flip: bool = True
    """Whether a left-right flip keeps the label."""
    vertical_flip: bool = False
    """Whether an up-down flip keeps the label."""
    intensity: tuple[float, float] | None = None
    """Stored values that stand for 0 and 1; by default 0 and 255, and for 16-bit and float
    images the smallest and largest value in the training images."""
    mean: tuple[float, ...] | None = None
    """Per channel on the 0–1 scale; by default from the original training images."""
    std: tuple[float, ...] | None = None
    """Per channel on the 0–1 scale; by default from the original training images."""

    @model_validator(mode="after")
    def _mean_and_std(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be larger than 0")
        if self.intensity is not None and self.intensity[0] >= self.intensity[1]:
            raise ValueError("intensity must be [low, high] with low < high")
        return self

    def finish(self, data: Data) -> Data:
        """Add intensity range, mean and std, fitted on original training rows where not given."""
        train = np.sort(data.rows.train)
        low, high = self.intensity or intensity(data.features, train)
        if self.mean is not None and self.std is not None:
            mean = np.array(self.mean, np.float32)
            std = np.array(self.std, np.float32)
            if len(mean) != data.shape[-1] or len(std) != data.shape[-1]:
                raise DataError(
                    f"dataset '{self.display()}': mean and std need {data.shape[-1]} values, one "
                    f"per channel, and have {len(mean)} and {len(std)}"
                )
        else:
            mean, std = moments(data.features, train, low, high)
        return Data(**{**vars(data), "intensity": (low, high), "mean": mean, "std": std})


class TableDataset(Dataset):
    """A dataset of numeric rows."""

    kind: ClassVar[Literal["image", "table"]] = "table"

    def columns(self) -> Mapping[str, str]:
        """Return what became of each column of the source, by name, for a user to read."""
        return {}


def _checked(source: Dataset, index: Index) -> Index:
    names, labels = index.class_names, index.labels
    where = f"dataset '{source.display()}'"
    if not len(labels):
        raise DataError(f"{where} has no samples")
    if len(names) < 2:
        raise DataError(f"{where} has {len(names)} class ({listing(names)}); at least 2 are needed")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{where} has class names twice: {listing(twice)}")
    counts = np.bincount(labels, minlength=len(names))
    if (counts == 0).any():
        empty = listing(f"'{names[k]}'" for k in np.flatnonzero(counts == 0))
        raise DataError(
            f"{where} has classes without a sample: {empty}; remove these, or add samples"
        )
    if index.group is None:
        return index
    # runs on groups that were cut another way are other runs; the others keep their keys
    return replace(index, content=content_of(index.content, "groups", GROUPS))


T = TypeVar("T")

_indices: "OrderedDict[str, Index]" = OrderedDict()
_reads: "OrderedDict[str, NDArray[Any]]" = OrderedDict()
_REMEMBER = 4


def _remembered(memory: "OrderedDict[str, T]", key: str, make: Callable[[], T]) -> T:
    """Return what `make` made for this key, kept while it is among the last few asked for."""
    if key not in memory:
        memory[key] = make()
        while len(memory) > _REMEMBER:
            memory.popitem(last=False)
    memory.move_to_end(key)
    return memory[key]


def forget() -> None:
    """Drop every index and every sample that this process remembers."""
    _indices.clear()
    _reads.clear()
