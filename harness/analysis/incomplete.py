"""The mean over rows and the value of each block of a table with holes, by least squares.

Blocks (seeds) and rows (pairs of cells that match) add up: d = row + block + noise. A mean over
what is there would be one over other rows in each block, and so of another thing wherever the rows
differ in worth, as they do where factors depend on each other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from harness.analysis.intervals import Floats

_LEAST = 0.5
"""Share of the fullest block's rows that a block needs: one that has hardly begun would add more
noise than it takes away."""


class Fit(NamedTuple):
    """How the values of blocks follow from what is there.

    Attributes:
        blocks: ``int64[B]``: blocks that take part.
        rows: ``int64[R]``: rows that take part.
        weights: ``float64[B, B, R]``: weight of each value in the value of each block, which is
            the mean over all rows as that block would have it; 0 where nothing is there.
        widening: What to multiply the variance of the mean over blocks with, at least 1: blocks
            share what the others tell of a row, so that they vary less than they are uncertain.
    """

    blocks: NDArray[np.int64]
    rows: NDArray[np.int64]
    weights: Floats
    widening: float


def fit(there: NDArray[np.bool_]) -> Fit:
    """Return the least-squares fit of row and block effects to the values that are there.

    Where every value is there, each block is the plain mean of its own rows.

    Args:
        there: ``bool[blocks, rows]``.
    """
    blocks, rows = _connected(there)
    known = there[np.ix_(blocks, rows)].astype(np.float64)
    size, wide = known.shape
    if not known.size or known.all():
        return Fit(blocks, rows, np.eye(size)[:, :, None] * np.ones(wide) / max(wide, 1), 1.0)
    of_row = known / known.sum(axis=0)
    # normal equations of the block effects, whose sum is 0, with those of the rows put in
    within = np.eye(size)[:, :, None] * known[:, None] - known[:, None] * of_row[None]
    laplacian = np.diag(known.sum(axis=1)) - known @ of_row.T
    effects = np.einsum("bc,cdr->bdr", np.linalg.pinv(laplacian, hermitian=True), within)
    share = of_row.mean(axis=1)
    mean = of_row / wide - np.einsum("c,cdr->dr", share, effects)
    # of noise alone, which is the worst case: differences of whole blocks are met in full
    real = (mean**2).sum()
    seen = (effects**2).sum() / max(size - 1, 1) / size
    widening = max(1.0, float(real / seen)) if seen > 0 else 1.0
    return Fit(blocks, rows, mean[None] + effects, widening)


def _connected(there: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the blocks and rows of the largest part that hangs together."""
    counts = there.sum(axis=1)
    there = there & (counts >= max(1.0, _LEAST * counts.max(initial=0)))[:, None]
    _, part = connected_components(there.astype(np.int64) @ there.T, directed=False)
    sizes = np.bincount(part, weights=there.sum(axis=1), minlength=1)
    blocks = np.flatnonzero((part == np.argmax(sizes)) & there.any(axis=1))
    return blocks, np.flatnonzero(there[blocks].any(axis=0))
