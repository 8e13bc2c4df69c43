"""Bins of confidence, for the calibration error and for reliability diagrams."""

import numpy as np
from numpy.typing import NDArray

ECE_BINS = 15
"""Bins of the calibration error."""


def bin_of(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each confidence: equal widths over [0, 1], open below (Guo et al. 2017).

    Args:
        confidence: ``float64[n]`` in [0, 1].
        bins: How many there are.

    Returns:
        ``int64[n]`` in ``[0, bins)``.
    """
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
