"""Carrying out what a plan decides, on any device.

The only place that knows the order of the stages: gather (synthetic rows are interpolated here,
in float), lowered augmentation, the per-image tail, normalise, mix. Where a recipe has a tail, or
the dataset does not fit on the device, all up to the tail is *staged* on the host; everything else
is a fixed set of array operations.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.base import Data
from harness.strategies.base import Synthesis
from harness.training.buffers import ChunkBuffers, StepBuffers, head_name, stacked
from harness.training.operations import affine, lowered, mixed, scaled, smoothed_classes
from harness.training.per_image import Tail
from harness.training.plan import BatchPlan, Decisions
from harness.training.source import Source

EVAL_BATCH = {"cpu": 128}
"""Rows of a batch that is evaluated, elsewhere 1024: more leave a CPU's cache and take twice as
long."""
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

    Attributes:
        staged: Whether slots need ``values`` from `stage`.
    """

    def __init__(
        self,
        data: Data,
        synthesis: Synthesis | None,
        plan: BatchPlan,
        device: torch.device,
        moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._data = data
        self._plan = plan
        self._device = device
        self._tails = [
            Tail(tail, plan.seed, f"albumentations/{place}") if tail else None
            for place, tail in enumerate(plan.tails)
        ]
        self.staged = any(self._tails) or not _fits(data, device)
        self._source = Source(data, synthesis, torch.device("cpu") if self.staged else device)
        self._targets = smoothed_classes(len(data.class_names), label_smoothing, device)
        mean, std = moments or (data.mean, data.std)
        self._stored_scale = affine(data.intensity, mean, std, device)
        self._scale = self._stored_scale
        self._bytes = data.features.dtype == np.uint8
        self._evaluated = EVAL_BATCH.get(device.type, 1024)
        self._unit_scale = affine((0.0, 1.0), mean, std, device)
        if self.staged and not self._bytes:
            self._scale = self._unit_scale

    def batch(self, decisions: Decisions) -> tuple[Tensor, Tensor]:
        """Return inputs and soft targets of one step, decided by itself; as `prepared`."""
        buffers = ChunkBuffers(stacked(self._plan, [decisions])).at(decisions.step)
        buffers = {name: value.to(self._device) for name, value in buffers.items()}
        if self.staged:
            buffers["values"] = self.stage(decisions).to(self._device)
        return self.prepared(buffers)

    def stage(self, decisions: Decisions) -> Tensor:
        """Return the images of a step as they are before they go to the device.

        Returns:
            ``uint8[R, H, W, C]`` where they are stored so, else ``float32[R, H, W, C]`` in [0, 1];
            rows of a table are ``float32[R, D]``.
        """
        values = self._source.training(torch.from_numpy(decisions.rows))
        if self._data.kind == "table":
            return values.to(torch.float32)
        unit = False
        for place, augmentation in enumerate(decisions.augmentations):
            if augmentation is None:
                continue
            choices = [torch.from_numpy(choice) for choice in augmentation.head]
            values = lowered(values, self._plan.heads[place], choices, self._fill(unit))
            tail = self._tails[place]
            if tail is not None:
                images = self._plain(values, unit)
                values = torch.from_numpy(tail(images, augmentation.applies, decisions.step))
                unit = True
        return torch.from_numpy(self._plain(values, unit))

    def _fill(self, unit: bool) -> float:
        """Return the value that stands for black."""
        return 0.0 if unit else self._data.intensity[0]

    def _plain(self, values: Tensor, unit: bool) -> NDArray[np.generic]:
        """Return images as Albumentations knows them: uint8, or float32 in [0, 1]."""
        images: NDArray[np.generic] = values.numpy()
        if self._bytes:
            return images.astype(np.uint8, copy=False)
        if unit:
            return images
        low, high = self._data.intensity
        return ((images.astype(np.float32) - low) / (high - low)).clip(0.0, 1.0)

    def prepared(self, buffers: StepBuffers) -> tuple[Tensor, Tensor]:
        """Return inputs and soft targets of one step.

        Args:
            buffers: Its decisions on the model's device, with ``values`` where `staged`.

        Returns:
            Images ``float32[B, C, H, W]`` or rows ``float32[B, D]``, and ``float32[B, classes]``
            whose rows sum to 1.
        """
        if self.staged:
            values = buffers["values"]
        else:
            values = self._source.training(buffers["rows"])
            for place, head in enumerate(self._plan.heads):
                choices = [buffers[head_name(place, k)] for k in range(len(head))]
                values = lowered(values, head, choices, self._data.intensity[0])
        inputs = self._normalised(values, self._scale)
        targets = self._targets.index_select(0, buffers["labels"])
        if "partner" in buffers:
            blend = (buffers["partner"], buffers["weight"], buffers["share"], buffers.get("box"))
            return mixed(inputs, targets, *blend)
        size = self._plan.facts.batch_size
        return inputs[:size], targets[:size]

    def rows(self, rows: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield stored rows as the model evaluates them, some hundred at a time."""
        place = torch.device("cpu") if self.staged else self._device
        for first in range(0, len(rows), self._evaluated):
            part = torch.from_numpy(rows[first : first + self._evaluated]).to(place)
            values = self._source.stored(part).to(self._device, non_blocking=True)
            yield self._normalised(values, self._stored_scale)

    def shown(self, inputs: Tensor) -> NDArray[np.uint8]:
        """Return inputs of a model as pictures, with their normalisation undone.

        Returns:
            ``uint8[B, H, W, C]``. A row of a table is a strip one pixel high, mid-grey at 0 and
            black and white three standard deviations from it.
        """
        if self._data.kind == "table":
            unit = (inputs[:, None, :, None] + 3.0) / 6.0
        else:
            times, plus = self._unit_scale
            unit = (inputs.permute(0, 2, 3, 1) - plus) / times
        pixels: NDArray[np.uint8] = (
            (unit.clamp(0.0, 1.0) * 255).round().to(torch.uint8).cpu().numpy()
        )
        return pixels

    def _normalised(self, values: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
        if self._data.kind == "table":
            return values.to(torch.float32)
        if not self._bytes and scale is self._stored_scale:
            values = values.to(torch.float32).clamp(
                *self._data.intensity
            )  # as Albumentations' range demands
        return scaled(values, *scale).permute(0, 3, 1, 2)


def _fits(data: Data, device: torch.device) -> bool:
    """Whether the dataset may lie on the device as a whole."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # what earlier runs of this process have given back to torch is free, too
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return data.features.nbytes < _RESIDENT_SHARE * free
