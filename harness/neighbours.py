"""The nearest rows of the same class, found once for a training set and kept in the cache.

Every recipe, process and study that synthesizes from the same rows asks for the same neighbours;
finding them is quadratic in the size of a class.
"""

import hashlib
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import cache
from harness.errors import DataError

_VERSION = 1
_WORTH_KEEPING = 1e9
"""Multiplications below which finding is faster than a look at the disk."""


def nearest_of_class(
    features: NDArray[Any], labels: NDArray[np.int64], k: int
) -> NDArray[np.int32]:
    """Return the k nearest others of each row in its class, by Euclidean distance.

    Args:
        features: ``[N, D]`` in any dtype; distances are computed in float.
        labels: ``int64[N]``.
        k: How many; a class of n ≤ k rows has only n − 1.

    Returns:
        ``int32[N, k]``, positions among the rows of the class, nearest first; −1 where there is
        none.
    """
    counts = np.bincount(labels)
    if float((counts.astype(np.float64) ** 2).sum()) * features.shape[1] < _WORTH_KEEPING:
        return _found(features, labels, k)
    key, shape = _key(features, labels, k), (len(labels), k)
    kept = cache.open_array(key, shape)
    if kept is not None:
        return np.array(kept, np.int32)
    found = _found(features, labels, k)
    with suppress(DataError):  # where the cache cannot be written, they are found again
        cache.write_array(key, shape, found.dtype, [found])
    return found


def _key(features: NDArray[Any], labels: NDArray[np.int64], k: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {features.dtype.str} {features.shape} {k}".encode())
    digest.update(np.ascontiguousarray(labels).data)
    digest.update(np.ascontiguousarray(features).data)
    return f"neighbours-{digest.hexdigest()[:40]}"


def _found(features: NDArray[Any], labels: NDArray[np.int64], k: int) -> NDArray[np.int32]:
    found = np.full((len(labels), k), -1, np.int32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if (own := min(k, len(rows) - 1)) > 0:
            found[rows, :own] = _nearest(features[rows], own)
    return found


def _nearest(points: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return the k nearest others of each point, ``int64[n, k]``."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    dtype = points.dtype if points.dtype == np.float64 else np.float32
    search = NearestNeighbors(n_neighbors=k).fit(points.astype(dtype, copy=False))
    # With several threads, which of equally near rows is kept depends on their number.
    with threadpool_limits(1):
        nearest: NDArray[np.int64] = search.kneighbors(return_distance=False)
    return nearest
