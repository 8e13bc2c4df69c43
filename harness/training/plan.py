"""Every random decision of a run, as arrays.

A plan is a pure function of (recipe, training labels, seed, step): `decide` of any step gives the
same arrays whether or not other steps were decided before, which is what makes resumed, repeated
and differently executed runs identical. Nothing here touches a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError
from harness.strategies.base import (
    Batch,
    Facts,
    Flip,
    Mix,
    PadCrop,
    Strategy,
    Synthesis,
    deciding,
)
from harness.streams import Stream


@dataclass(frozen=True)
class Augmentation:
    """What one `augment` strategy does to the images of a step.

    Attributes:
        applies: ``bool[B]``: whether its per-image tail runs at all.
        head: One array per lowered operation: ``bool[B]`` of a flip, ``int64[B, 2]`` of the
            offset (down, right) of a pad-and-crop.
    """

    applies: NDArray[np.bool_]
    head: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Decisions:
    """Everything decided for one step.

    Attributes:
        step: Which one.
        rows: ``int64[B]``, rows of the expanded training set; twice as many where `mix` takes
            its partners from the training set: the partners stand in the second half.
        labels: Labels of `rows`.
        augmentations: One for each strategy that augments and is active, or None.
        mix: How the batch is mixed, or None; partners are positions in `rows`.
        blend: Name of the strategy that mixes, or None.
    """

    step: int
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    augmentations: tuple[Augmentation | None, ...]
    mix: Mix | None
    blend: str | None


_MOVE_LABELS = ("order", "blend", "loss")
"""Hooks that decide which labels count how much."""


class Window:
    """The half-open range of steps in which a strategy acts."""

    def __init__(self, strategy: Strategy, steps: int) -> None:
        start, stop = strategy.window()
        self.first = round(start * steps)
        self.last = round(stop * steps)

    def __contains__(self, step: int) -> bool:
        return self.first <= step < self.last

    def progress(self, step: int) -> float:
        """Return how much of it is over at `step`, in [0, 1]."""
        return min(max((step - self.first) / max(self.last - self.first, 1), 0.0), 1.0)


def phase_starts(strategies: Sequence[Strategy], steps: int) -> tuple[int, ...]:
    """Return the steps at which a sampler, a blend or a loss begins or ceases to act, 0 first.

    The window of a sampler that shifts its shares is parted into tenths besides.
    """
    windows = [Window(s, steps) for s in strategies if any(map(type(s).decides, _MOVE_LABELS))]
    ends = {step for window in windows for step in (window.first, window.last)}
    for window in (Window(s, steps) for s in strategies if s.gradual):
        ends |= set(np.linspace(window.first, window.last, 11).round().astype(int).tolist())
    return tuple(sorted({0, *(step for step in ends if step < steps)}))


class BatchPlan:
    """The decisions of one run.

    Args:
        strategies: The recipe, in canonical order.
        facts: What is known of the run.
        labels: ``int64[N]``, original training labels.
        synthesis: Rows to create, or None.
        seed: The run's seed.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        facts: Facts,
        labels: NDArray[np.int64],
        synthesis: Synthesis | None,
        seed: int,
    ) -> None:
        recipe = tuple(strategies)
        self.facts = facts
        self.seed = seed
        extra = labels[synthesis.base] if synthesis else labels[:0]
        self.labels: NDArray[np.int64] = np.concatenate([labels, extra])
        self._orders = [(s, Window(s, facts.steps)) for s in deciding(recipe, "order")]
        self._blends = [(s, Window(s, facts.steps)) for s in deciding(recipe, "blend")]
        self.augmenting = tuple(deciding(recipe, "transforms"))
        self.heads, self.tails = _lower(self.augmenting, facts)
        self._windows = [Window(s, facts.steps) for s in self.augmenting]
        self._pass: tuple[object, NDArray[np.int64]] | None = None  # the last one asked for
        self._passes = Stream(seed, f"order/{len(self.labels)}")
        self._which = Stream(seed, "blend")
        self._mixes = {s.name: Stream(seed, f"blend/{s.name}") for s, _ in self._blends}
        self._images = [Stream(seed, f"augment/{place}") for place in range(len(self.heads))]

    def decide(self, step: int) -> Decisions:
        """Return what happens at `step`."""
        rows = self._rows(step)
        strategy = self._blend_at(step)
        mix = None
        if strategy is not None:
            mix = self._mix(strategy, rows, step)
            if mix.source == "train":
                rows = np.concatenate([rows, mix.partner])
                partner = np.arange(len(mix.partner)) + len(mix.partner)
                mix = Mix(partner, mix.weight, mix.label_weight, mix.box)
        return Decisions(
            step=step,
            rows=rows,
            labels=self.labels[rows],
            augmentations=self._augmentations(step, len(rows)),
            mix=mix,
            blend=strategy.name if strategy else None,
        )

    def _rows(self, step: int) -> NDArray[np.int64]:
        size = self.facts.batch_size
        for strategy, steps in self._orders:
            if step in steps:
                length = -(-len(self.labels) // size)
                number, within = divmod(step, length)
                rows: NDArray[np.int64] = self._order(strategy, steps, number, length)[within]
                return rows
        # Shuffled passes without replacement run on across batches: every batch is full.
        first = step * size
        parts = []
        while size:
            number, within = divmod(first, len(self.labels))
            part = self._shuffled(number)[within : within + size]
            parts.append(part)
            first += len(part)
            size -= len(part)
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _shuffled(self, number: int) -> NDArray[np.int64]:
        if self._pass is None or self._pass[0] != number:
            self._pass = (number, self._passes.at(number).permutation(len(self.labels)))
        return self._pass[1]

    def _order(
        self, strategy: Strategy, window: Window, number: int, length: int
    ) -> NDArray[np.int64]:
        key = (strategy, number)
        if self._pass is None or self._pass[0] != key:
            size = self.facts.batch_size
            order = strategy.order_pass(
                number, window.progress(number * length), self.labels, length, size, self._passes
            )
            _check_order(strategy, order, (length, size), len(self.labels))
            self._pass = (key, order)
        return self._pass[1]

    def _blend_at(self, step: int) -> Strategy | None:
        """Draw which strategy mixes this batch: each owns an interval as long as its share."""
        active = [s for s, steps in self._blends if step in steps]
        if not active:
            return None
        whole = max(1.0, sum(s.firing() for s in active))
        left = self._which.at(step).random() * whole
        for strategy in active:
            left -= strategy.firing()
            if left < 0.0:
                return strategy
        return None

    def _mix(self, strategy: Strategy, rows: NDArray[np.int64], step: int) -> Mix:
        batch = Batch(
            indices=rows,
            labels=self.labels[rows],
            class_counts=self.facts.class_counts,
            train_labels=self.labels,
            shape=self.facts.shape,
            progress=step / self.facts.steps,
        )
        mix = strategy.blend(batch, self._mixes[strategy.name].at(step))
        _check_mix(strategy, mix, len(rows), len(self.labels))
        return mix

    def _augmentations(self, step: int, size: int) -> tuple[Augmentation | None, ...]:
        found: list[Augmentation | None] = []
        for place, (strategy, head) in enumerate(zip(self.augmenting, self.heads, strict=True)):
            if step not in self._windows[place]:
                found.append(None)
                continue
            rng = self._images[place].at(step)
            applies = rng.random(size) < strategy.firing()
            found.append(Augmentation(applies, tuple(_draw(op, applies, rng) for op in head)))
        return tuple(found)


def _draw(
    operation: Flip | PadCrop, applies: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[Any]:
    if isinstance(operation, Flip):
        return (rng.random(len(applies)) < operation.p) & applies
    offsets = rng.integers(0, 2 * operation.padding + 1, (len(applies), 2))
    return np.where(applies[:, None], offsets, operation.padding)


def _lower(
    augmenting: Sequence[Strategy], facts: Facts
) -> tuple[tuple[tuple[Flip | PadCrop, ...], ...], tuple[tuple[Any, ...], ...]]:
    """Part each strategy's transforms into the lowered head and the per-image tail."""
    heads, tails = [], []
    for strategy in augmenting:
        transforms = strategy.transforms(facts)
        lowered = [isinstance(t, Flip | PadCrop) for t in transforms]
        cut = lowered.index(False) if False in lowered else len(lowered)
        if any(lowered[cut:]):
            raise ConfigError(
                f"'{strategy.name}': Flip and PadCrop must come before any other transform"
            )
        heads.append(tuple(transforms[:cut]))
        tails.append(tuple(transforms[cut:]))
    return tuple(heads), tuple(tails)


def _check_order(
    strategy: Strategy, order: NDArray[np.int64], shape: tuple[int, int], rows: int
) -> None:
    if order.shape != shape or not np.issubdtype(order.dtype, np.integer):
        raise ConfigError(
            f"'{strategy.name}'.order returned {order.dtype}{list(order.shape)}; "
            f"int64{list(shape)} is needed"
        )
    if order.min() < 0 or order.max() >= rows:
        raise ConfigError(f"'{strategy.name}'.order returned rows outside 0..{rows - 1}")


def _check_mix(strategy: Strategy, mix: Mix, batch: int, rows: int) -> None:
    """Refuse what cannot be carried out; weights are looked at in `check_weights`."""
    for name in ("partner", "weight", "label_weight"):
        if np.shape(getattr(mix, name)) != (batch,):
            raise ConfigError(f"'{strategy.name}'.blend: {name} must have {batch} entries")
    limit = batch if mix.source == "batch" else rows
    if mix.partner.min() < 0 or mix.partner.max() >= limit:
        raise ConfigError(f"'{strategy.name}'.blend: partners must lie in 0..{limit - 1}")
    if mix.box is not None and mix.box.shape != (batch, 4):
        raise ConfigError(f"'{strategy.name}'.blend: box must be int64[{batch}, 4]")


def check_weights(decisions: Sequence[Decisions]) -> None:
    """Refuse weights outside [0, 1], for many steps at once: for each it would cost too much.

    Raises:
        ConfigError: As said; the message names the strategy.
    """
    mixing = [(d.blend, d.mix) for d in decisions if d.mix is not None]
    for name in ("weight", "label_weight"):
        values = np.array([getattr(mix, name) for _, mix in mixing])
        if not ((values >= 0) & (values <= 1)).all():  # nor is NaN
            blend = next(
                blend
                for (blend, _), own in zip(mixing, values, strict=True)
                if not (own.min() >= 0 and own.max() <= 1)
            )
            raise ConfigError(f"'{blend}'.blend: {name} must lie in [0, 1]")
