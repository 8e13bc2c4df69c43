"""Drawing rows class first: exact at any size, where a multinomial over rows is limited."""

import numpy as np
from numpy.typing import NDArray


def draw_by_class(
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
    size: int | tuple[int, ...],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw rows with replacement: the class by its share, then a row of it uniformly.

    Args:
        labels: ``int64[M]``, in ``[0, C)``.
        shares: ``float64[C]``, of sum 1; 0 for a class without rows.
        size: Shape of what is drawn.
        rng: Gives the classes, then the rows within them.

    Returns:
        ``int64[size]`` of row numbers.
    """
    counts = np.bincount(labels, minlength=len(shares))
    by_class = np.argsort(labels, kind="stable")
    first = np.cumsum(counts) - counts
    drawn = rng.choice(len(counts), size, p=shares)
    within: NDArray[np.int64] = rng.integers(0, counts[drawn])
    rows: NDArray[np.int64] = by_class[first[drawn] + within]
    return rows


def power_shares(counts: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """Return shares in proportion to n^power, ``float64[C]``; 0 for a class without rows."""
    mass = np.maximum(counts, 1).astype(np.float64) ** power
    mass[counts == 0] = 0.0
    total: np.float64 = mass.sum()
    return mass / total
