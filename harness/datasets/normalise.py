"""The intensity range and the moments of images, from original training rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 256


def intensity(features: NDArray[Any], train: NDArray[np.int64]) -> tuple[float, float]:
    """Return the stored values that stand for 0 and 1: of the type for uint8, else of `train`."""
    if features.dtype == np.uint8:
        return 0.0, 255.0
    low, high = np.inf, -np.inf
    for at in range(0, len(train), _CHUNK):
        part = features[train[at : at + _CHUNK]]
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return (low, high) if high > low else (low, low + 1.0)


def moments(
    features: NDArray[Any], train: NDArray[np.int64], low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return per-channel mean and std on the 0–1 scale, in float64 and in chunks."""
    total = np.zeros(features.shape[-1])
    square = np.zeros(features.shape[-1])
    for at in range(0, len(train), _CHUNK):
        part = (features[train[at : at + _CHUNK]].astype(np.float64) - low) / (high - low)
        total += part.sum(axis=(0, 1, 2))
        square += (part * part).sum(axis=(0, 1, 2))
    pixels = len(train) * int(np.prod(features.shape[1:3]))
    mean = total / pixels
    std = np.sqrt(np.maximum(square / pixels - mean * mean, 0.0))
    std[std < 1e-6] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)
