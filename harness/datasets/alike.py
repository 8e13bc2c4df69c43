"""The same picture in several files: encoded again, resized, or slightly cropped.

Of every file a thumbnail is kept. Thumbnails are compared by their cosine once the mean thumbnail
of the dataset is taken off, so that a layout that all share (a face in the middle, a dark rim)
counts for nothing; for crops, each is also compared to the other cut by up to an eighth on every
side. A pair counts only where both are close, the other pictures of the set are far from them, and
hardly any pair is nearly as close: among digits, drawings or plain grounds, where many pictures
resemble each other more or less, nothing is said.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Raised when other pairs are found: what is remembered is remembered under it."""

SIDE = 16
"""Rows and columns of a thumbnail."""

CLOSE = 0.04
"""Largest distance (1 − cosine) of two files of one picture."""

FAR = 0.25
"""Smallest distance from it of the picture that is next to up to `COPIES` of it."""

COPIES = 10
"""Files of one picture beside which others are still looked at."""

GAP = 4.0
"""Up to which multiple of a distance hardly any other pair may lie."""

MOST = 50_000
"""Most files that are compared: time grows with their square (about 20 s for so many)."""

_LOOK = 0.35
_PLAIN = 3.0
"""Standard deviation, in levels of 255, under which a thumbnail shows nothing."""
_RANK = 1.5
_ENOUGH = 3
"""Pairs before which a gap may be chance."""
_SOME, _RICH = 0.4, 0.6
_RICH_FAR = 0.35
"""Pictures that change nearly everywhere, and are that far from others, need no gap."""
_CUTS = (0.0, 0.06, 0.12)
_BLOCK = 512


def thumbnail(image: NDArray[np.generic]) -> bytes:
    """Return the whole of an image as `SIDE` × `SIDE` gray levels, in bytes.

    Those of more than 8 bits are stretched from the darkest to the brightest.

    Args:
        image: ``[H, W, 3]`` RGB of uint8, uint16 or float32.
    """
    gray = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    step = min(height, width) // (4 * SIDE)
    if step > 1:  # by whole numbers it is ten times as fast
        gray = gray[: height // step * step, : width // step * step]
        gray = cv2.resize(gray, (width // step, height // step), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if min(gray.shape) >= SIDE else cv2.INTER_LINEAR
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=how).astype(np.float32)
    low, high = (0, 255) if image.dtype == np.uint8 else (float(small.min()), float(small.max()))
    levels = np.rint((small - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return bytes(levels.tobytes())


def pairs(thumbnails: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the pairs of rows, smaller first, whose files seem to hold one picture.

    Args:
        thumbnails: Of N different files, as `thumbnail` makes them.
    """
    stacked = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE)
    detail = _detail(stacked)
    shown = np.flatnonzero(detail >= _SOME)
    if not 2 < len(shown) <= MOST:
        return []
    stacked, detail = stacked[shown], detail[shown]
    mean = _unit(stacked).mean(axis=0)
    units = _unit(stacked, mean)
    found: dict[tuple[int, int], float] = {}
    certain: set[tuple[int, int]] = set()
    near = min(COPIES + 3, len(shown) - 1)
    for at in range(0, len(shown), _BLOCK):
        cosines = units[at : at + _BLOCK] @ units.T
        rows = np.arange(len(cosines))
        cosines[rows, at + rows] = -2.0
        others = np.argpartition(-cosines, near - 1, axis=1)[:, :near]
        closest = 1 - np.take_along_axis(cosines, others, axis=1).max(axis=1)
        for row in np.flatnonzero(closest <= _LOOK):
            cut = _unit(_cut(stacked[at + row]), mean)
            distances = 1 - (cut @ units[others[row]].T).max(axis=0)
            far = np.sort(distances)[min(COPIES, near - 1)]
            if far < FAR:
                continue
            for other, distance in zip(others[row], distances, strict=True):
                if distance <= GAP * CLOSE:
                    a, b = sorted((int(shown[at + row]), int(shown[other])))
                    found[a, b] = min(float(distance), found.get((a, b), np.inf))
                    if distance <= CLOSE / 2 and far >= _RICH_FAR and detail[at + row] >= _RICH:
                        certain.add((a, b))
    limit = _gap(np.array(list(found.values())))
    return sorted(certain.union(pair for pair, distance in found.items() if distance <= limit))


def _detail(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of an image in which it changes; 0 where it is plain or a mere gradient.

    It changes where the slope is above a tenth of the steepest. A gradient along one axis is a
    matrix of rank 1: the effective rank is the exponential of the entropy of squared singular
    values (Roy and Vetterli 2007, there of the values themselves).
    """
    level = images.astype(np.float32)
    level -= level.mean(axis=(1, 2), keepdims=True)
    slope = np.hypot(np.diff(level, axis=1)[:, :, :-1], np.diff(level, axis=2)[:, :-1])
    share = (slope > 0.1 * slope.max(axis=(1, 2), keepdims=True)).mean(axis=(1, 2))
    power = np.linalg.svd(level, compute_uv=False).astype(np.float64) ** 2
    power /= np.maximum(power.sum(axis=1, keepdims=True), 1e-9)
    rank = np.exp(-(power * np.log(np.maximum(power, 1e-12))).sum(axis=1))
    shown = (level.std(axis=(1, 2)) > _PLAIN) & (rank > _RANK)
    return np.where(shown, share, 0.0)


def _gap(distances: NDArray[np.float64]) -> float:
    """Return the largest distance, up to `CLOSE`, that is followed by a gap, or −1.

    Pictures that merely resemble each other do so at every distance: within four times a distance
    there are at least four times as many pairs, where they differ in two ways or more (the square
    of a length is what is compared). Copies of one picture stand apart from all other pairs.
    """
    for limit in CLOSE / 2.0 ** np.arange(6):
        copies = int((distances <= limit).sum())
        if copies >= _ENOUGH and (distances <= GAP * limit).sum() <= 2 * copies:
            return float(limit)
    return -1.0


def _unit(
    images: NDArray[np.generic], mean: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return each image as a vector of mean 0 and length 1, less `mean` and of length 1 again."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    for offset in (None, mean):
        rows -= 0 if offset is None else offset
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows


def _window(before: float, after: float) -> NDArray[np.float32]:
    """Return the matrix that cuts one axis of a thumbnail at both ends and stretches the rest."""
    at = (before + (np.arange(SIDE) + 0.5) / SIDE * (1 - before - after)) * SIDE - 0.5
    left = np.clip(np.floor(at).astype(np.int64), 0, SIDE - 2)
    share = np.clip(at - left, 0, 1)
    matrix = np.zeros((SIDE, SIDE), np.float32)
    matrix[np.arange(SIDE), left] = 1 - share
    matrix[np.arange(SIDE), left + 1] = share
    return matrix


_WINDOWS = np.stack([_window(before, after) for before in _CUTS for after in _CUTS])


def _cut(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a thumbnail cut in every way, ``float32[81, SIDE, SIDE]``."""
    rows = _WINDOWS @ image.astype(np.float32)
    cut: NDArray[np.float32] = rows[:, None] @ _WINDOWS.transpose(0, 2, 1)[None]
    return cut.reshape(-1, SIDE, SIDE)
