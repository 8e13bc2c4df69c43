"""The class prior that the outputs of a stored run carry, from its spec and its result.

A run is parted into phases by the windows of its samplers and losses. In each, the shares of the
label mass that was delivered are known, and the loss that acted says which prior its softmax is
relative to (`Strategy.trained_prior`).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.decisions.priors import Floats, TrainedPrior
from harness.errors import ConfigError
from harness.experiment.spec import RunSpec, Training
from harness.strategies.base import Strategy, deciding

_NEEDED = ("class_names", "train_counts", "synthetic", "delivered", "steps", "selected_step")

ENOUGH_SGD = 3.0
"""Learning rate summed over the steps of a phase, over 1 − momentum, from which it decides: it is
the time of the gradient flow, in units in which a bias of the last layer settles."""

ENOUGH_ADAMW = 0.01
"""The same for AdamW, whose every step moves each weight by about the learning rate."""

LITTLE = 0.1
"""Part of that below which a last phase leaves outputs where they were."""

Timed = tuple[Strategy, tuple[int, int]]
"""A strategy with the steps ``[first, last)`` in which it acts."""

_KEEP_SHARES = ("mixup", "cutmix")
"""Blends that leave each class its share of the labels: their partners are of the same batch."""


@dataclass(frozen=True)
class Phase:
    """Steps ``[first, last)`` in which one sampler and one loss acted.

    Attributes:
        first: First step.
        last: Step after the last; that of the weights that were evaluated in the last phase.
        shares: ``float64[C]``: of the label mass delivered, after label smoothing.
        loss: What decided the loss; None for soft cross-entropy.
        gradual: Whether it is a part of the window of a sampler whose shares shift in it.
    """

    first: int
    last: int
    shares: Floats
    loss: Strategy | None
    gradual: bool = False

    def prior(self, class_counts: NDArray[np.int64]) -> Floats | str:
        """Return which shares a softmax trained in this phase alone is relative to, or why not.

        Raises:
            ConfigError: What the loss declares is no prior.
        """
        if self.loss is None:
            return self.shares
        found = self.loss.trained_prior(self.shares, class_counts)
        if isinstance(found, str):
            return found
        mass = np.asarray(found, np.float64)
        sane = mass.shape == self.shares.shape and bool(np.isfinite(mass).all())
        if not (sane and mass.min() >= 0 and mass.max() > 0):
            raise ConfigError(
                f"'{self.loss.name}'.trained_prior returned {found!r}; {len(self.shares)} finite "
                "numbers that are not negative and not all 0 are needed, or a reason"
            )
        return mass

    def continued(self, later: "Phase") -> "Phase":
        """Return this phase and the one that follows it as one."""
        own, others = self.last - self.first, later.last - later.first
        shares = (own * self.shares + others * later.shares) / (own + others)
        return replace(self, last=later.last, shares=shares)


def trained_prior(spec: RunSpec, result: Mapping[str, Any]) -> TrainedPrior:
    """Return the class prior that the outputs of a run are relative to, or why it is not known.

    The last phase decides: outputs follow a new prior within few steps at a usual learning rate,
    as biases of the last layer alone can (docs/decisions.md has the experiment). Where its learning
    rate was too low for that, outputs are between two priors, and which is not known. Where a
    sampler shifts its shares gradually, as much of its end counts as was enough.

    Args:
        spec: What was trained.
        result: Its ``result.json``, of schema 1.
    """
    for name in _NEEDED:
        if name not in result:
            return TrainedPrior.unknown(f"result.json does not record '{name}'")
    counts = np.asarray(result["train_counts"], np.int64)
    expanded = expanded_counts(spec, counts)
    found = phases(spec, result)
    if isinstance(found, str):
        return TrainedPrior.unknown(found)
    steps = int(result["steps"])
    while _goes_on(found) and _settled(found[-1], spec.training, steps) < 1.0:
        later = found.pop()
        found[-1] = found[-1].continued(later)
    while len(found) > 1 and _settled(found[-1], spec.training, steps) < LITTLE:
        found.pop()
    names = result["class_names"]
    mass = found[-1].prior(expanded)
    if isinstance(mass, str):
        return TrainedPrior.unknown(mass)
    prior = TrainedPrior.of(mass, names)
    if len(found) > 1 and _settled(found[-1], spec.training, steps) < 1.0:
        before = found[-2].prior(expanded)
        if isinstance(before, str) or _differ(TrainedPrior.of(before, names), prior):
            return TrainedPrior.unknown(
                f"sampler or loss changed at step {found[-1].first} of {result['steps']}, and the "
                "learning rate was then too low for the outputs to follow; start earlier"
            )
    return replace(prior, notes=(*prior.notes, *_smoothed(spec, found[-1].loss)))


def _smoothed(spec: RunSpec, loss: Strategy | None) -> list[str]:
    """Return what is to be said of outputs that were trained on smoothed labels."""
    smoothing = spec.training.label_smoothing
    by = [f"label smoothing of {smoothing:g}"] if smoothing else []
    by += [f"'{loss.name}'"] if loss is not None and loss.smooths else []
    return [
        f"{one} makes outputs less sure than the posterior, which the prior of the smoothed labels "
        "makes up for on average alone"
        for one in by
    ]


def _goes_on(found: list[Phase]) -> bool:
    """Whether the last phase only goes on with what a sampler shifts in the one before."""
    if len(found) < 2:
        return False
    before, last = found[-2:]
    return before.gradual and last.gradual and before.loss is last.loss


def _settled(phase: Phase, training: Training, steps: int) -> float:
    """Return how far outputs could follow the prior of a phase: 1 is enough."""
    total = sum(training.rate(step, steps) for step in range(phase.first, phase.last))
    if training.optimizer == "adamw":
        return total / ENOUGH_ADAMW
    return total / (1 - training.momentum) / ENOUGH_SGD


def _differ(one: TrainedPrior, other: TrainedPrior) -> bool:
    assert one.shares is not None
    assert other.shares is not None
    return bool(np.abs(np.log(one.shares) - np.log(other.shares)).max() > 0.1)


def expanded_counts(spec: RunSpec, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the training rows per class once the recipe has synthesized its own."""
    for strategy in deciding(spec.strategies, "synthesize"):
        counts = strategy.expanded_counts(counts)
    return counts


def phases(spec: RunSpec, result: Mapping[str, Any]) -> list[Phase] | str:
    """Return the phases that led to the weights that were evaluated, or why they are not known."""
    steps, selected = int(result["steps"]), int(result["selected_step"])
    losses = [(s, _steps(s, steps)) for s in deciding(spec.strategies, "loss")]
    orders = [(s, _steps(s, steps)) for s in deciding(spec.strategies, "order")]
    if "label_mass" in result:  # of each phase, after mixing
        parts = [(p["first"], p["last"], np.asarray(p["mass"])) for p in result["label_mass"]]
        parts = [(first, last, mass / mass.sum()) for first, last, mass in parts]
    else:
        found = _inferred(spec, result, losses, orders)
        if isinstance(found, str):
            return found
        parts = found
    smoothing = spec.training.label_smoothing
    return [
        Phase(
            first,
            min(last, selected),
            (1 - smoothing) * shares + smoothing / len(shares),
            _at(losses, first),
            (sampler := _at(orders, first)) is not None and sampler.gradual,
        )
        for first, last, shares in parts
        if first < selected
    ]


def _inferred(
    spec: RunSpec, result: Mapping[str, Any], losses: list[Timed], orders: list[Timed]
) -> list[tuple[int, int, Floats]] | str:
    """Return first and last step and the shares of each phase of a run that did not record them."""
    counts = np.asarray(result["train_counts"], np.int64)
    expanded = expanded_counts(spec, counts)
    if int(expanded.sum() - counts.sum()) != result["synthetic"]:
        return "how many rows of each class were synthesized is not recorded"
    for blend in deciding(spec.strategies, "blend"):
        if blend.name not in _KEEP_SHARES:
            return f"'{blend.name}' mixes labels, and what was left of each class is not recorded"
    steps = int(result["steps"])
    ends = sorted({0, steps, *itertools.chain(*(window for _, window in orders + losses))})
    delivered = _delivered(orders, np.asarray(result["delivered"]), expanded, steps, spec)
    if isinstance(delivered, str):
        return delivered
    return [
        (first, last, delivered[_at(orders, first)]) for first, last in itertools.pairwise(ends)
    ]


def _delivered(
    orders: list[Timed],
    total: NDArray[np.int64],
    expanded: NDArray[np.int64],
    steps: int,
    spec: RunSpec,
) -> dict[Strategy | None, Floats] | str:
    """Return the shares that each sampler delivered; None stands for shuffling.

    A run records what it delivered as a whole. What shuffled passes delivered follows from the
    counts, and the rest is the sampler's.
    """
    sampled = sum(last - first for _, (first, last) in orders)
    shuffled = expanded / expanded.sum()
    if not orders:
        return {None: total / total.sum()}
    if len(orders) > 1:
        return "it had several samplers, and what each delivered is not recorded"
    batch = spec.training.batch_size
    rest = np.maximum(total - (steps - sampled) * batch * shuffled, 0.0)
    if not rest.any():
        return "what its sampler delivered is not recorded"
    return {None: shuffled, orders[0][0]: rest / rest.sum()}


def _steps(strategy: Strategy, steps: int) -> tuple[int, int]:
    """Return the steps in which a strategy acts, rounded as a plan rounds them."""
    start, stop = strategy.window()
    return round(start * steps), round(stop * steps)


def _at(windows: list[Timed], step: int) -> Strategy | None:
    return next((s for s, (first, last) in windows if first <= step < last), None)
