"""The file formats of the published benchmark sets, read without trusting the files.

CIFAR comes as pickles, which can run anything when loaded: they are read by an unpickler that
admits arrays and nothing else.
"""

import gzip
import math
import pickle
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray
from numpy.typing import NDArray

from harness.errors import DataError

VERSION = "1"
"""Raised when a file comes to be read differently, so that what is remembered is forgotten."""

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Raw:
    """Both official splits as they lie in the files, training samples first.

    Attributes:
        images: ``uint8[N, H, W, C]``.
        labels: ``int64[N]``.
        class_names: C display names, in label order.
        training: How many of the N are training samples.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    training: int


def read_cifar(batches: Sequence[Path], meta: Path, label_key: str, name_key: str) -> Raw:
    """Read CIFAR's Python version.

    Args:
        batches: Training batches in their order, then the test batch.
        meta: The file of class names.
        label_key: Entry of a batch that holds the labels.
        name_key: Entry of `meta` that holds the names.

    Raises:
        DataError: A file is damaged or is no such batch.
    """
    images, labels = [], []
    for path in batches:
        with _naming(path):
            entry = _unpickle(path)
            images.append(entry["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.array(entry[label_key], np.int64))
            _require_equally_many(images[-1], labels[-1])
    with _naming(meta):
        names = tuple(str(name) for name in _unpickle(meta)[name_key])
    return _joined(images, labels, names)


def read_mnist(files: Sequence[Path], class_names: tuple[str, ...]) -> Raw:
    """Read MNIST and the sets that took over its format.

    Args:
        files: Training images, training labels, test images, test labels, perhaps gzipped.
        class_names: Display names, in label order.

    Raises:
        DataError: A file is damaged or is no such file.
    """
    images, labels = [], []
    for image_path, label_path in (files[:2], files[2:]):
        with _naming(image_path):
            images.append(_idx(image_path, 3)[..., None])
        with _naming(label_path):
            labels.append(_idx(label_path, 1).astype(np.int64))
            _require_equally_many(images[-1], labels[-1])
    return _joined(images, labels, class_names)


def read_svhn(files: Sequence[Path]) -> Raw:
    """Read the cropped digits of SVHN, whose label 10 is the digit 0.

    Args:
        files: Training file and test file.

    Raises:
        DataError: A file is damaged or is no such file.
    """
    images, labels = [], []
    for path in files:
        with _naming(path):
            arrays = _mat(path)
            images.append(arrays["X"].transpose(3, 0, 1, 2))
            labels.append(arrays["y"].reshape(-1).astype(np.int64) % 10)
            _require_equally_many(images[-1], labels[-1])
    return _joined(images, labels, _DIGITS)


def _joined(
    images: Sequence[NDArray[Any]], labels: Sequence[NDArray[np.int64]], names: tuple[str, ...]
) -> Raw:
    joined = np.concatenate(labels)
    if joined.min() < 0 or joined.max() >= len(names):
        raise DataError(f"labels go from {joined.min()} to {joined.max()} in {len(names)} classes")
    stacked = np.ascontiguousarray(np.concatenate(images))
    return Raw(stacked, joined, names, len(joined) - len(labels[-1]))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which file it is whatever goes wrong in reading it."""
    try:
        yield
    except (
        *(pickle.UnpicklingError, EOFError, zlib.error, OSError),
        *(ValueError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError),
    ) as error:
        raise DataError(
            f"{path.absolute()} is damaged or no file of this dataset "
            f"({type(error).__name__}: {error}); delete it and fetch it again"
        ) from None


def _require_equally_many(images: NDArray[Any], labels: NDArray[np.int64]) -> None:
    if len(images) != len(labels) or not len(labels) or images.dtype != np.uint8:
        raise ValueError(f"{len(images)} images of {images.dtype} and {len(labels)} labels")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds arrays, numbers, strings and containers, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three things that an array needs.

        Raises:
            pickle.UnpicklingError: The file asks for anything else.
        """
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            if name == "_reconstruct":
                return multiarray._reconstruct
        elif module == "numpy" and name in {"ndarray", "dtype"}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:  # written by Python 2, whose strings are bytes
        return _ArraysOnly(file, encoding="latin1").load()


def _mat(path: Path) -> dict[str, Any]:
    """Return the arrays of a MATLAB file."""
    import scipy.io

    try:
        return dict(scipy.io.loadmat(path))
    except scipy.io.matlab.MatReadError as error:  # no subclass of anything that says so
        raise ValueError(str(error)) from None


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array of an IDX file: big-endian sizes, then bytes."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    at = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]):  # 8 stands for unsigned bytes
        raise ValueError(f"it starts with {data[:4].hex(' ')}")
    shape = tuple(int(size) for size in np.frombuffer(data[4:at], ">u4"))
    if len(data) - at != math.prod(shape):
        raise ValueError(f"{len(data) - at} bytes for the shape {shape}")
    return np.frombuffer(data, np.uint8, offset=at).reshape(shape)
