"""The field's canonical long-tailed subsets of a balanced training set.

Counts and index lists are those of Cao et al. 2019 (LDAM-DRW ``imbalance_cifar.py``), which most
of the literature copied: NumPy's legacy generator with seed 0, one in-place shuffle per class in
label order, the first ``n_k`` kept, class after class.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, listing

Profile = Literal["exp", "step"]

BALANCED = 3.0
"""Largest / smallest class of what still is a balanced set: SVHN, of which the field draws long
tails, has 2.98."""

_EVEN = 0.9
"""Smallest class / mean class above which starting from the smallest is not worth a word."""


def class_sizes(largest: int, classes: int, factor: float, profile: Profile) -> NDArray[np.int64]:
    """Return the training images per class, ``int64[C]``, largest first.

    Args:
        largest: Size of the largest class, ``n_max``.
        classes: Number of classes, C.
        factor: Imbalance factor ``n_max / n_min``, at least 1.
        profile: ``exp``: ``int(n_max · factor^(−k/(C−1)))``; ``step``: the first ``C // 2``
            classes whole, the others ``int(n_max / factor)``.
    """
    ratio = 1.0 / factor
    if profile == "exp":
        sizes = [int(largest * ratio ** (k / (classes - 1.0))) for k in range(classes)]
    else:
        sizes = [largest] * (classes // 2) + [int(largest * ratio)] * (classes - classes // 2)
    return np.array(sizes, dtype=np.int64)


def longtail_subset(
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    factor: float,
    profile: Profile,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return the rows of the canonical subset, ``int64[n]``, class after class.

    ``n_max`` is ``N / C`` as in the original code, or the size of the smallest class where the
    set is not exactly balanced and ``N / C`` is more than that class has.

    Args:
        labels: ``int64[N]`` of the full official training set.
        class_names: Display names, in label order.
        factor: Imbalance factor.
        profile: ``exp`` or ``step``.
        seed: Seed of the legacy generator; 0 is the published subset.

    Raises:
        DataError: The set is not balanced, or a class would be left without a training image.
    """
    available = np.bincount(labels, minlength=len(class_names))
    _require_balance(available, class_names)
    sizes = class_sizes(int(len(labels) / len(class_names)), len(class_names), factor, profile)
    if (sizes > available).any():
        sizes = class_sizes(int(available.min()), len(class_names), factor, profile)
    _require_every_class(sizes, class_names, factor)
    return _draw(labels, sizes, seed)


def uneven(
    labels: NDArray[np.int64], class_names: tuple[str, ...], subset: NDArray[np.int64]
) -> list[str]:
    """Return a remark where a subset starts from a class well below the mean.

    Args:
        labels: ``int64[N]`` of the full official training set.
        class_names: Display names, in label order.
        subset: What `longtail_subset` drew from it.
    """
    available = np.bincount(labels, minlength=len(class_names))
    largest = int(np.bincount(labels[subset]).max())
    if largest >= _EVEN * (len(labels) // len(class_names)):
        return []
    return [
        f"the classes have {available.min():,} to {available.max():,} training samples: the long "
        f"tail starts from the smallest, '{class_names[int(available.argmin())]}' with "
        f"{largest:,}, and leaves out {len(labels) - len(subset):,} of {len(labels):,}"
    ]


def balanced_subset(
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    total: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return `total` rows with equal classes (the first ones larger by one where it is uneven).

    Raises:
        DataError: A class has too few images for its share.
    """
    share, rest = divmod(total, len(class_names))
    sizes = np.full(len(class_names), share, dtype=np.int64)
    sizes[:rest] += 1
    available = np.bincount(labels, minlength=len(class_names))
    if (sizes > available).any():
        short = int(np.argmax(sizes > available))
        raise DataError(
            f"the balanced reference needs {sizes[short]} training images of "
            f"'{class_names[short]}', and there are {available[short]}; it exists only for "
            "long-tailed subsets of balanced sets (imbalance_factor)"
        )
    return _draw(labels, sizes, seed)


def _draw(labels: NDArray[np.int64], sizes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    rng = np.random.RandomState(seed)
    chosen = []
    for k, size in enumerate(sizes):
        rows = np.where(labels == k)[0]
        rng.shuffle(rows)
        chosen.append(rows[:size])
    return np.concatenate(chosen).astype(np.int64)


def _require_balance(available: NDArray[np.int64], class_names: tuple[str, ...]) -> None:
    if available.max() > BALANCED * available.min():
        order = np.argsort(-available, kind="stable")
        counts = listing(f"'{class_names[k]}' {available[k]:,}" for k in order)
        raise DataError(
            "imbalance_factor draws a long tail from a balanced set, in which no class has more "
            f"than {BALANCED:g} times the training samples of another; here the classes have "
            f"{available.max():,} to {available.min():,}: {counts}; leave out imbalance_factor to "
            "train on the imbalance that is there"
        )


def _require_every_class(
    sizes: NDArray[np.int64], class_names: tuple[str, ...], factor: float
) -> None:
    if (sizes < 1).any():
        first = int(np.argmax(sizes < 1))
        raise DataError(
            f"imbalance_factor {factor:g} leaves no training image of '{class_names[first]}' (the "
            f"long tail starts from {sizes.max()}); choose less than {sizes.max()}"
        )
