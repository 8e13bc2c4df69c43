"""Boxes that are cut from one image and pasted into another, clipped to the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw_boxes(
    alpha: float, draws: int, shape: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw boxes that cover 1 − λ of an image before they are clipped, λ ~ Beta(alpha, alpha).

    Yun et al. 2019, "CutMix", with the share of what remains computed from the *clipped* box, as in
    torchvision: at Beta(1, 1) and 32 pixels the nominal λ is 20 points too small.

    Args:
        alpha: Both parameters of the Beta distribution.
        draws: How many boxes.
        shape: ``(H, W, …)`` of the image.
        rng: Gives λ, then the columns of the centres, then their rows.

    Returns:
        ``int64[draws, 4]`` of ``(top, bottom, left, right)``, half open, and ``float32[draws]``,
        the share of the image outside the box.
    """
    sides = np.array(shape[:2])
    height, width = shape[:2]
    side = np.sqrt(1.0 - rng.beta(alpha, alpha, draws))
    centre_x = rng.integers(width, size=draws)
    centre_y = rng.integers(height, size=draws)
    centre = np.array((centre_y, centre_x)).T
    half = (0.5 * side[:, None] * sides).astype(np.int64)
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, sides)
    box = np.empty((draws, 4), np.int64)
    box[:, 0::2], box[:, 1::2] = low, high
    kept = 1.0 - (high - low).prod(axis=1) / (height * width)
    return box, kept.astype(np.float32)
