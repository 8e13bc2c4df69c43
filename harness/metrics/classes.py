"""Which classes are frequent and which are rare."""

import numpy as np
from numpy.typing import NDArray

MANY = 100
"""Training samples above which a class is frequent."""

FEW = 20
"""Training samples below which a class is rare."""


def groups(train_counts: NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]:
    """Return which classes are many (> `MANY` samples), medium, and few (< `FEW`).

    The convention of OLTR (Liu et al. 2019) and most long-tail papers.

    Args:
        train_counts: ``int64[C]``, original training samples per class.
    """
    counts = np.asarray(train_counts)
    many, few = counts > MANY, counts < FEW
    return {"many": many, "medium": ~many & ~few, "few": few}


def rarest(train_counts: NDArray[np.integer]) -> int | None:
    """Return the class with the fewest training samples, or None where several have as few."""
    counts = np.asarray(train_counts)
    least = np.flatnonzero(counts == counts.min()) if len(counts) else counts
    return int(least[0]) if len(least) == 1 else None
