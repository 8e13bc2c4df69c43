"""Carrying out what a plan decides, on any device.

The only place that knows the order of the stages: gather (synthetic rows are interpolated here,
in float), lowered augmentation, the per-image tail, normalise, mix. Everything but the tail is a
fixed set of array operations.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from harness.datasets.base import Data
from harness.strategies.base import Flip, Mix, PadCrop, Synthesis
from harness.training.per_image import Tail
from harness.training.plan import Augmentation, Decisions, Plan

EVAL_BATCH = 1024
_RESIDENT_SHARE = 0.4


class Pipeline:
    """Batches of one run, ready for the model.

    Args:
        data: The loaded dataset.
        synthesis: Rows to create, or None.
        plan: The decisions.
        device: Where the model is.
        moments: Mean and std per channel on the 0–1 scale that the weights demand, instead of
            the dataset's own.
        label_smoothing: Share of each target spread evenly over the classes.
    """

    def __init__(
        self,
        data: Data,
        synthesis: Synthesis | None,
        plan: Plan,
        device: torch.device,
        moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._data = data
        self._plan = plan
        self._device = device
        self._smoothing = label_smoothing
        self._classes = len(data.class_names)
        self._tails = [
            Tail(tail, plan.seed, f"albumentations/{place}") if tail else None
            for place, tail in enumerate(plan.tails)
        ]
        on_host = any(self._tails) or not _fits(data, device)
        self._stage = torch.device("cpu") if on_host else device
        self._source = _source(data, self._stage)
        self._rows, self._neighbour, self._gap = self._expanded(synthesis)
        mask = data.continuous
        self._continuous = None if mask is None else torch.from_numpy(mask).to(self._stage)
        self._whole = data.features.dtype.kind == "u"
        mean, std = moments or (data.mean, data.std)
        self._scale, self._shift = _affine(data.intensity, mean, std, device)
        self._unit_scale, self._unit_shift = _affine((0.0, 1.0), mean, std, device)

    def _expanded(self, synthesis: Synthesis | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        train = torch.from_numpy(self._data.rows.train.astype(np.int64)).to(self._stage)
        if synthesis is None or not len(synthesis.base):
            return train, None, None
        base, neighbour, gap = (
            torch.from_numpy(np.ascontiguousarray(part)).to(self._stage)
            for part in (synthesis.base, synthesis.neighbour, synthesis.gap.astype(np.float32))
        )
        none = torch.zeros(len(train), dtype=torch.float32, device=self._stage)
        return (
            torch.cat([train, train[base]]),
            torch.cat([train, train[neighbour]]),
            torch.cat([none, gap]),
        )

    def batch(self, decisions: Decisions) -> tuple[Tensor, Tensor]:
        """Return inputs and soft targets of one step.

        Returns:
            Images ``float32[B, C, H, W]`` or rows ``float32[B, D]``, and ``float32[B, classes]``
            whose rows sum to 1, both on the model's device.
        """
        values = self._gather(torch.from_numpy(decisions.rows).to(self._stage))
        inputs = self._finish(*self._augment(values, decisions))
        labels = torch.from_numpy(decisions.labels).to(self._device)
        targets = functional.one_hot(labels, self._classes).to(torch.float32)
        if self._smoothing:
            targets = targets * (1.0 - self._smoothing) + self._smoothing / self._classes
        return mixed(inputs, targets, decisions.mix) if decisions.mix else (inputs, targets)

    def rows(self, rows: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield stored rows as the model evaluates them, `EVAL_BATCH` at a time."""
        for first in range(0, len(rows), EVAL_BATCH):
            part = torch.from_numpy(rows[first : first + EVAL_BATCH]).to(self._stage)
            yield self._finish(self._source(part), False)

    def shown(self, inputs: Tensor) -> NDArray[np.uint8]:
        """Return inputs of a model as pictures, with their normalisation undone.

        Returns:
            ``uint8[B, H, W, C]``. A row of a table is a strip one pixel high, mid-grey at 0 and
            black and white three standard deviations from it.
        """
        if self._data.kind == "table":
            unit = (inputs[:, None, :, None] + 3.0) / 6.0
        else:
            unit = (inputs.permute(0, 2, 3, 1) - self._unit_shift) / self._unit_scale
        pixels: NDArray[np.uint8] = (
            (unit.clamp(0.0, 1.0) * 255).round().to(torch.uint8).cpu().numpy()
        )
        return pixels

    def _gather(self, rows: Tensor) -> Tensor:
        base = self._source(self._rows[rows])
        if self._neighbour is None or self._gap is None:
            return base
        gap = self._gap[rows].view(-1, *[1] * (base.dim() - 1))
        if self._continuous is not None:
            gap = gap * self._continuous
        start = base.to(torch.float32)  # before the difference: uint8 would wrap around
        values = start + gap * (self._source(self._neighbour[rows]).to(torch.float32) - start)
        return values.round_() if self._whole else values

    def _augment(self, values: Tensor, decisions: Decisions) -> tuple[Tensor, bool]:
        """Return the augmented values, and whether they are on the 0–1 scale already."""
        unit = False
        for place, augmentation in enumerate(decisions.augmentations):
            if augmentation is None:
                continue
            values = _lowered(values, self._plan.heads[place], augmentation)
            tail = self._tails[place]
            if tail is not None:
                values, unit = self._per_image(tail, values, unit, augmentation, decisions.step)
        return values, unit

    def _per_image(
        self, tail: Tail, values: Tensor, unit: bool, augmentation: Augmentation, step: int
    ) -> tuple[Tensor, bool]:
        images = values.numpy()
        if self._data.features.dtype == np.uint8:
            images = images.astype(np.uint8, copy=False)
        elif not unit:  # Albumentations knows uint8, and float32 in [0, 1]
            low, high = self._data.intensity
            images = ((images.astype(np.float32) - low) / (high - low)).clip(0.0, 1.0)
            unit = True
        return torch.from_numpy(tail(images, augmentation.applies, step)), unit

    def _finish(self, values: Tensor, unit: bool) -> Tensor:
        values = values.to(self._device, non_blocking=True).to(torch.float32)
        if self._data.kind == "table":
            return values
        scale, shift = (self._unit_scale, self._unit_shift) if unit else (self._scale, self._shift)
        return torch.addcmul(shift, values, scale).permute(0, 3, 1, 2)


def mixed(inputs: Tensor, targets: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """Blend a batch with its partners.

    Inside the box (everywhere where there is none) ``x' = m·x + (1−m)·x[partner]``, outside it x;
    ``y' = λ·y + (1−λ)·y[partner]``.

    Args:
        inputs: ``float32[R, …]``, the batch first and, if they are rows of their own, partners.
        targets: ``float32[R, classes]``.
        mix: What to do.

    Returns:
        ``float32[B, …]`` and ``float32[B, classes]``.
    """
    size = len(mix.weight)
    device = inputs.device
    partner = torch.from_numpy(mix.partner).to(device)
    share = torch.from_numpy(mix.label_weight.astype(np.float32)).to(device)[:, None]
    weight = torch.from_numpy(mix.weight.astype(np.float32)).to(device)
    weight = weight.view(-1, *[1] * (inputs.dim() - 1))
    if mix.box is not None:
        weight = torch.where(_inside(torch.from_numpy(mix.box).to(device), inputs), weight, 1.0)
    own, other = inputs[:size], inputs[partner]
    # lerp is exact at both ends: where the weight is 0 or 1 a pixel is taken as it is
    return torch.lerp(other, own, weight), torch.lerp(targets[partner], targets[:size], share)


def _inside(box: Tensor, images: Tensor) -> Tensor:
    """Return ``bool[B, 1, H, W]``: which pixels lie in each image's box."""
    top, bottom, left, right = (edge[:, None] for edge in box.unbind(1))
    down = torch.arange(images.shape[2], device=images.device)[None]
    along = torch.arange(images.shape[3], device=images.device)[None]
    inside_down = (down >= top) & (down < bottom)
    inside_along = (along >= left) & (along < right)
    return (inside_down[:, :, None] & inside_along[:, None, :])[:, None]


def _lowered(
    values: Tensor, head: tuple[Flip | PadCrop, ...], augmentation: Augmentation
) -> Tensor:
    """Apply flips and pad-and-crops to ``[B, H, W, C]``, each image by its own decision."""
    for operation, decided in zip(head, augmentation.head, strict=True):
        choice = torch.from_numpy(decided).to(values.device)
        if isinstance(operation, Flip):
            axis = 2 if operation.axis == "horizontal" else 1
            values = torch.where(choice[:, None, None, None], values.flip(axis), values)
        else:
            values = _pad_crop(values, operation.padding, choice)
    return values


def _pad_crop(values: Tensor, padding: int, offsets: Tensor) -> Tensor:
    count, height, width, _ = values.shape
    padded = functional.pad(values, (0, 0, padding, padding, padding, padding))
    down = offsets[:, :1] + torch.arange(height, device=values.device)
    along = offsets[:, 1:] + torch.arange(width, device=values.device)
    image = torch.arange(count, device=values.device)
    return padded[image[:, None, None], down[:, :, None], along[:, None, :]]


class _Host:
    """Rows of a NumPy array (perhaps a memory map) as host tensors."""

    def __init__(self, features: NDArray[np.generic]) -> None:
        self._features = features

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(_plain(self._features[rows.numpy()]))


class _Resident:
    """Rows of a tensor that lies on the device."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def __call__(self, rows: Tensor) -> Tensor:
        return self._features.index_select(0, rows)


def _plain(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Torch does hardly any arithmetic on uint16; int32 holds the same levels."""
    return values.astype(np.int32) if values.dtype == np.uint16 else values


def _source(data: Data, stage: torch.device) -> _Host | _Resident:
    if isinstance(data.features, np.memmap) and stage.type == "cpu":
        return _Host(data.features)
    values = _plain(data.features)
    return _Resident(
        torch.from_numpy(values if values.flags.writeable else values.copy()).to(stage)
    )


def _fits(data: Data, device: torch.device) -> bool:
    """Whether the dataset may lie on the device as a whole."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return data.features.nbytes < _RESIDENT_SHARE * free


def _affine(
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
