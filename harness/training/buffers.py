"""The plan of a stretch of steps as tensors: what one training step reads, and nothing else.

A slot is the decisions of one step, by name: ``rows`` and ``labels`` ``int64[R]``;
``head.<place>.<operation>`` of each lowered operation (``bool[R]`` or ``int64[R, 2]``);
``partner`` ``int64[B]``, ``weight`` and ``share`` ``float32[B]``, ``box`` ``int64[B, 4]`` where a
recipe mixes; ``values`` where images are prepared on the host. B is the batch size; R is 2·B where
partners of their own stand behind the batch.

All slots of a chunk have the same shapes: a step that does not mix has itself as partner, a
strategy out of its window flips nothing. So one captured step can serve them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.strategies.base import Flip, Mix, PadCrop
from harness.training.plan import Augmentation, BatchPlan, Decisions, check_weights

CHUNK = 64
"""Steps in a chunk; decisions do not depend on it."""

StepBuffers = dict[str, Tensor]

MIX = ("partner", "weight", "share", "box")
"""What a slot has only where the step mixes."""


@dataclass(frozen=True)
class Chunk:
    """The decisions of steps ``[first, first + len(decisions))``.

    Attributes:
        first: The first step.
        decisions: One for each step.
        arrays: Of all slots, by name, with the step as first axis.
    """

    first: int
    decisions: Sequence[Decisions]
    arrays: dict[str, NDArray[Any]]

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of a slot, equal for chunks that one captured step can serve."""
        return tuple((name, array.shape[1:]) for name, array in sorted(self.arrays.items()))


def make_chunk(plan: BatchPlan, first: int, last: int, before: Chunk | None = None) -> Chunk:
    """Return the decisions of steps ``[first, last)`` of a plan.

    Args:
        plan: Whose decisions.
        first: The first step.
        last: The step after the last.
        before: As in `stacked`.

    Raises:
        ConfigError: A strategy decides what cannot be carried out.
    """
    return stacked(plan, [plan.decide(step) for step in range(first, last)], before)


def stacked(plan: BatchPlan, decisions: Sequence[Decisions], before: Chunk | None = None) -> Chunk:
    """Return consecutive decisions as a chunk.

    Args:
        plan: Whose decisions.
        decisions: One for each step.
        before: An earlier chunk of the run, all of whose names this one has, too: where a blend is
            rare, one captured step still serves them all.

    Raises:
        ConfigError: As `make_chunk`.
    """
    check_weights(decisions)
    known = {} if before is None else before.arrays
    least = known["rows"].shape[1] if known else 0
    arrays = {
        "rows": _padded([d.rows for d in decisions], least),
        "labels": _padded([d.labels for d in decisions], least),
    }
    width = arrays["rows"].shape[1]
    for place, head in enumerate(plan.heads):
        for k, operation in enumerate(head):
            arrays[head_name(place, k)] = np.stack(
                [_choice(d.augmentations[place], k, operation, width) for d in decisions]
            )
    mixes = [d.mix for d in decisions]
    if "partner" in known or any(mix is not None for mix in mixes):
        arrays |= _mixing(mixes, plan.facts.batch_size, plan.facts.shape, "box" in known)
    return Chunk(decisions[0].step, decisions, arrays)


def head_name(place: int, operation: int) -> str:
    """Return the name under which a slot has the choices of a lowered operation."""
    return f"head.{place}.{operation}"


def _padded(parts: Sequence[NDArray[np.int64]], least: int) -> NDArray[np.int64]:
    """Stack rows of unequal length, the shorter ones filled up with their first entry."""
    width = max(least, *(len(part) for part in parts))
    if all(len(part) == width for part in parts):
        return np.stack(parts)
    return np.stack([np.concatenate([part, np.full(width - len(part), part[0])]) for part in parts])


def _choice(
    augmentation: Augmentation | None, k: int, operation: Flip | PadCrop, width: int
) -> NDArray[Any]:
    """Return what a lowered operation does to each of `width` rows; those unnamed stay."""
    own = augmentation.head[k] if augmentation is not None else None
    if own is not None and len(own) == width:
        return own
    if isinstance(operation, Flip):
        still: NDArray[Any] = np.zeros(width, np.bool_)
    else:
        still = np.full((width, 2), operation.padding, np.int64)
    if own is not None:
        still[: len(own)] = own
    return still


def _mixing(
    mixes: Sequence[Mix | None], size: int, shape: tuple[int, ...], boxed: bool
) -> dict[str, NDArray[Any]]:
    itself = np.arange(size)
    whole = np.ones(size, np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "partner": np.stack([itself if mix is None else mix.partner for mix in mixes]),
        "weight": np.stack([whole if mix is None else mix.weight for mix in mixes]),
        "share": np.stack([whole if mix is None else mix.label_weight for mix in mixes]),
    }
    if boxed or any(mix is not None and mix.box is not None for mix in mixes):
        everywhere = np.tile(np.array([0, shape[0], 0, shape[1]]), (size, 1))
        boxes = [everywhere if mix is None or mix.box is None else mix.box for mix in mixes]
        arrays["box"] = np.stack(boxes)
    return {
        name: array.astype(np.float32 if name in ("weight", "share") else np.int64, copy=False)
        for name, array in arrays.items()
    }


class ChunkCache:
    """The decisions of a run, chunk by chunk.

    Args:
        plan: Makes them.
    """

    def __init__(self, plan: BatchPlan) -> None:
        self._plan = plan
        self._chunk: Chunk | None = None

    def at(self, step: int) -> Chunk:
        """Return the chunk that holds `step`."""
        first = step - step % CHUNK
        if self._chunk is None or self._chunk.first != first:
            last = min(first + CHUNK, self._plan.facts.steps)
            self._chunk = make_chunk(self._plan, first, last, self._chunk)
        return self._chunk


class ChunkBuffers:
    """The slots of a chunk on a host, one at a time; a step that does not mix lacks `MIX`.

    Args:
        chunk: The chunk.
    """

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._views = {
            name: torch.from_numpy(np.ascontiguousarray(array)).unbind(0)
            for name, array in chunk.arrays.items()
        }
        self._without = [name for name in self._views if name not in MIX]

    def at(self, step: int) -> StepBuffers:
        """Return the slot of one step of the chunk."""
        i = step - self._chunk.first
        mixes = self._chunk.decisions[i].mix is not None
        names = self._views if mixes else self._without
        return {name: self._views[name][i] for name in names}
