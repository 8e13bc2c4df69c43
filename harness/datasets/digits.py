"""The 1,797 handwritten digits of scikit-learn, shipped in the package: no download, no wait.

The file beside this one holds scikit-learn's values 0…16 as ``value · 255 // 16``. It is read
without scikit-learn, whose import takes longer than a run on these images.
"""

from importlib import resources
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.datasets.base import ImageDataset, Index, content_of, dataset


@dataset("digits")
class Digits(ImageDataset):
    """1,797 handwritten digits of 8×8 grey pixels, shipped in the package."""

    horizontal_flip: bool = False
    """Whether a left-right flip keeps the label: a mirrored 2 is no 2."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Share held out as test: there is no official test set."""

    def index(self) -> Index:
        """Return labels and fingerprint of the shipped file."""
        images, labels = _shipped()
        return Index(
            labels=labels,
            class_names=tuple("0123456789"),
            content=content_of(images, labels),
            shape=images.shape[1:],
        )

    def read(self, index: Index) -> NDArray[np.uint8]:
        """Return the images, ``uint8[1797, 8, 8, 1]``."""
        return _shipped()[0]


def _shipped() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images and labels of the package."""
    with (
        resources.files("harness.datasets").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return np.asarray(arrays["images"]), arrays["labels"].astype(np.int64)
