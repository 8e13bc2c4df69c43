"""The array operations of a batch: pure functions of tensors, the same on any device.

None of them reads a value on the host, so that they can be part of a captured step.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from harness.strategies.base import Flip, PadCrop


def mixed(
    inputs: Tensor,
    targets: Tensor,
    partner: Tensor,
    weight: Tensor,
    share: Tensor,
    box: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend a batch with its partners.

    Inside the box (everywhere where there is none) ``x' = m·x + (1−m)·x[partner]``, outside it x;
    ``y' = λ·y + (1−λ)·y[partner]``.

    Args:
        inputs: ``float32[R, …]``, the batch first and, if they are rows of their own, partners.
        targets: ``float32[R, classes]``.
        partner: ``int64[B]``, positions in `inputs`.
        weight: ``float32[B]``, m.
        share: ``float32[B]``, λ.
        box: ``int64[B, 4]`` of ``(top, bottom, left, right)``, half open.

    Returns:
        ``float32[B, …]`` and ``float32[B, classes]``.
    """
    size = len(weight)
    weight = weight.view(-1, *[1] * (inputs.dim() - 1))
    if box is not None:
        weight = torch.where(_inside(box, inputs), weight, 1.0)
    own, other = inputs[:size], inputs.index_select(0, partner)
    # lerp is exact at both ends: where the weight is 0 or 1 a pixel is taken as it is
    return (
        torch.lerp(other, own, weight),
        torch.lerp(targets.index_select(0, partner), targets[:size], share[:, None]),
    )


def _inside(box: Tensor, images: Tensor) -> Tensor:
    """Return ``bool[B, 1, H, W]``: which pixels lie in each image's box."""
    top, bottom, left, right = (edge[:, None] for edge in box.unbind(1))
    down = torch.arange(images.shape[2], device=images.device)[None]
    along = torch.arange(images.shape[3], device=images.device)[None]
    inside_down = (down >= top) & (down < bottom)
    inside_along = (along >= left) & (along < right)
    return (inside_down[:, :, None] & inside_along[:, None, :])[:, None]


_WIDE = 16
"""Pixels in a row from which a CPU moves images faster one by one, as rows of memory."""

_LARGE = 2**15
"""Values of an image from which a CPU converts and scales it faster by itself, within its cache."""


def _one_by_one(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.shape[2] >= _WIDE


def lowered(
    values: Tensor,
    operations: Sequence[Flip | PadCrop],
    choices: Sequence[Tensor],
    fill: float = 0.0,
) -> Tensor:
    """Apply flips and pad-and-crops to ``[B, H, W, C]``, each image by its own decision.

    Args:
        values: The images.
        operations: What to do, in order.
        choices: ``bool[B]`` of a flip, ``int64[B, 2]`` of the offset of a crop.
        fill: The value around a padded image.
    """
    for operation, choice in zip(operations, choices, strict=True):
        if isinstance(operation, Flip):
            values = _flip(values, 2 if operation.axis == "horizontal" else 1, choice)
        else:
            values = _pad_crop(values, operation.padding, choice, fill)
    return values


def _flip(values: Tensor, axis: int, applies: Tensor) -> Tensor:
    if _one_by_one(values):
        pairs = zip(values, applies.tolist(), strict=True)
        return torch.stack([one.flip(axis - 1) if flipped else one for one, flipped in pairs])
    return torch.where(applies[:, None, None, None], values.flip(axis), values)


def _pad_crop(values: Tensor, padding: int, offsets: Tensor, fill: float) -> Tensor:
    count, height, width, _ = values.shape
    around = (0, 0, padding, padding, padding, padding)
    padded = functional.pad(values, around, value=fill)
    if _one_by_one(values):
        corners = zip(padded, offsets.tolist(), strict=True)
        return torch.stack([one[y : y + height, x : x + width] for one, (y, x) in corners])
    down = offsets[:, :1] + torch.arange(height, device=values.device)
    along = offsets[:, 1:] + torch.arange(width, device=values.device)
    image = torch.arange(count, device=values.device)
    return padded[image[:, None, None], down[:, :, None], along[:, None, :]]


def scaled(values: Tensor, times: Tensor, plus: Tensor) -> Tensor:
    """Return ``values · times + plus`` as ``float32[B, H, W, C]``, by channel.

    Args:
        values: Images ``[B, H, W, C]``.
        times: ``float32[C]``, or ``float32[1]`` for all channels.
        plus: The same.
    """
    count, height, width, channels = values.shape
    if not _one_by_one(values) or len(times) != channels:
        return torch.addcmul(plus, values.to(torch.float32), times)
    # the same numbers from rows of pixels, which are long enough for the CPU's vectors
    times, plus = times.repeat(width), plus.repeat(width)
    rows = values.reshape(count, height, width * channels)
    if height * width * channels < _LARGE:
        return torch.addcmul(plus, rows.to(torch.float32), times).view(values.shape)
    result = torch.empty(rows.shape)
    for one, target in zip(rows, result, strict=True):
        torch.addcmul(plus, one.to(torch.float32), times, out=target)
    return result.view(values.shape)


def affine(
    intensity: tuple[float, float],
    mean: NDArray[np.float32] | None,
    std: NDArray[np.float32] | None,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return scale and shift, per channel, so that ``value · scale + shift`` is normalised."""
    low, high = intensity
    centre = np.zeros(1) if mean is None else mean.astype(np.float64)
    spread = np.ones(1) if std is None else std.astype(np.float64)
    scale = 1.0 / ((high - low) * spread)
    shift = -low * scale - centre / spread
    return (
        torch.from_numpy(scale.astype(np.float32)).to(device),
        torch.from_numpy(shift.astype(np.float32)).to(device),
    )


def smoothed_classes(classes: int, smoothing: float, device: torch.device) -> Tensor:
    """Return the target of each class, ``float32[C, C]``: one-hot, `smoothing` of it spread."""
    targets = torch.eye(classes, dtype=torch.float32) * (1.0 - smoothing) + smoothing / classes
    return targets.to(device)
