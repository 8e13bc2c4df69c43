"""The field's canonical long-tailed subsets of a balanced training set.

Counts and index lists are those of Cao et al. 2019 (LDAM-DRW ``imbalance_cifar.py``), which most
of the literature copied: NumPy's legacy generator with seed 0, one in-place shuffle per class in
label order, the first ``n_k`` kept, class after class.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Profile = Literal["exp", "step"]


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
        DataError: A class would be left without a training image.
    """
    available = np.bincount(labels, minlength=len(class_names))
    sizes = class_sizes(int(len(labels) / len(class_names)), len(class_names), factor, profile)
    if (sizes > available).any():
        sizes = class_sizes(int(available.min()), len(class_names), factor, profile)
    _require_every_class(sizes, class_names, factor)
    return _draw(labels, sizes, seed)


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


def _require_every_class(
    sizes: NDArray[np.int64], class_names: tuple[str, ...], factor: float
) -> None:
    if (sizes < 1).any():
        first = int(np.argmax(sizes < 1))
        raise DataError(
            f"imbalance_factor {factor:g} leaves no training image of '{class_names[first]}' "
            f"(the largest class has {sizes.max()}); choose less than {sizes.max()}"
        )
