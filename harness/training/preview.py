"""What a recipe really feeds the model: a batch as pictures, and the share of each class.

The same plan and pipeline as in training, and no model.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.experiment.spec import RunSpec
from harness.training.feed import Feed, feed
from harness.training.plan import Decisions

EACH = 8
"""Pictures of a batch."""

MOST_STEPS = 1000
"""Steps that are counted for the shares; of a longer run, the first ones of each epoch."""

MOST_EPOCHS = 40
_SEARCHED = 60
"""Steps in which each way of mixing is looked for."""


@dataclass(frozen=True)
class Sample:
    """One row of a batch as the model sees it.

    Attributes:
        image: ``uint8[H, W, C]``.
        labels: Names and weights of its label, the larger weight first.
        synthetic: Whether it was created, and is in no file.
    """

    image: NDArray[np.uint8]
    labels: tuple[tuple[str, float], ...]
    synthetic: bool


@dataclass(frozen=True)
class PreviewBatch:
    """A part of one batch.

    Attributes:
        step: Which one.
        blend: Name of the strategy that mixed it, or None.
        samples: Some of its rows.
    """

    step: int
    blend: str | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Preview:
    """What a run is fed.

    Attributes:
        class_names: C display names.
        counts: ``int64[C]``: original training samples.
        steps: Length of the budget.
        batches: One for each way in which batches are mixed.
        shares: ``float64[E, C]``: share of each class among the rows delivered, by epoch.
        mixed: ``float64[C]``: share of each class in the labels after mixing, over the budget.
        mixed_batches: Share of batches that were mixed.
        sampled: Whether only some steps were counted.
        notes: What the user should know.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    steps: int
    batches: tuple[PreviewBatch, ...]
    shares: NDArray[np.float64]
    mixed: NDArray[np.float64]
    mixed_batches: float
    sampled: bool
    notes: tuple[str, ...]


def preview(spec: RunSpec) -> Preview:
    """Return what a run is fed, on the CPU.

    Raises:
        HarnessError: Dataset and recipe do not fit together.
    """
    fed = feed(spec, torch.device("cpu"))
    shares, mixed, mixed_batches, sampled = _shares(fed, math.ceil(spec.training.epochs))
    return Preview(
        class_names=fed.data.class_names,
        counts=fed.facts.class_counts,
        steps=fed.facts.steps,
        batches=tuple(_batch(fed, decisions) for decisions in _chosen(spec, fed)),
        shares=shares,
        mixed=mixed,
        mixed_batches=mixed_batches,
        sampled=sampled,
        notes=fed.notes,
    )


def _chosen(spec: RunSpec, fed: Feed) -> Iterator[Decisions]:
    """Yield a step for each way of mixing, from where the most strategies act."""
    windows = [strategy.window() for strategy in spec.strategies]
    starts = [start for start, _ in windows] or [0.0]
    busiest = max(starts, key=lambda at: sum(start <= at < stop for start, stop in windows))
    first = min(math.ceil(busiest * fed.facts.steps), fed.facts.steps - 1)
    seen: set[str | None] = set()
    for step in range(first, min(first + _SEARCHED, fed.facts.steps)):
        decisions = fed.plan.decide(step)
        if decisions.blend not in seen:
            seen.add(decisions.blend)
            yield decisions


def _batch(fed: Feed, decisions: Decisions) -> PreviewBatch:
    inputs, _ = fed.pipeline.batch(decisions)
    pictures = fed.pipeline.shown(inputs)
    size, original = len(pictures), int(fed.facts.class_counts.sum())
    synthetic = decisions.rows[:size] >= original
    order = np.argsort(~synthetic, kind="stable")[: EACH // 2].tolist() if synthetic.any() else []
    order = [i for i in order if synthetic[i]]
    order += [i for i in range(size) if i not in order][: EACH - len(order)]
    samples = [
        Sample(pictures[i], _labels(fed, decisions, i), bool(synthetic[i])) for i in sorted(order)
    ]
    return PreviewBatch(decisions.step, decisions.blend, tuple(samples))


def _labels(fed: Feed, decisions: Decisions, i: int) -> tuple[tuple[str, float], ...]:
    names, mix = fed.data.class_names, decisions.mix
    own = names[decisions.labels[i]]
    if mix is None:
        return ((own, 1.0),)
    share = float(mix.label_weight[i])
    other = names[decisions.labels[mix.partner[i]]]
    both = [(own, share), (other, 1.0 - share)]
    return tuple(sorted((part for part in both if part[1] > 0), key=lambda part: -part[1]))


def _shares(fed: Feed, epochs: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float, bool]:
    """Return shares by epoch, shares after mixing, the share of mixed batches, and if sampled."""
    steps, classes = fed.facts.steps, len(fed.data.class_names)
    count = max(1, min(epochs, MOST_EPOCHS, steps))
    edges = np.linspace(0, steps, count + 1).round().astype(int)
    each = max(1, MOST_STEPS // count)
    delivered, mass = np.zeros((count, classes)), np.zeros(classes)
    mixed = total = 0
    for epoch in range(count):
        for step in range(edges[epoch], min(edges[epoch + 1], edges[epoch] + each)):
            decisions = fed.plan.decide(step)
            own = decisions.labels[: fed.facts.batch_size]
            counted = np.bincount(own, minlength=classes)
            delivered[epoch] += counted
            total += 1
            if decisions.mix is None:
                mass += counted
                continue
            mixed += 1
            share, other = decisions.mix.label_weight, decisions.labels[decisions.mix.partner]
            mass += np.bincount(own, weights=share, minlength=classes)
            mass += np.bincount(other, weights=1.0 - share, minlength=classes)
    shares = delivered / delivered.sum(axis=1, keepdims=True)
    return shares, mass / mass.sum(), mixed / total, total < steps
