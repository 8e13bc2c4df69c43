"""Remix: MixUp whose label goes to the rare class where a frequent one is mixed into it."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy
from harness.strategies.boxes import draw_boxes


@strategy("remix")
class Remix(Windowed):
    """Blend as MixUp or CutMix does, but give a pair of unequal classes to the rarer of the two.

    Chou et al. 2020, "Remix: Rebalanced Mixup", eq. 7: with n_i and n_j the training rows of the
    two classes, the label's share of the first is 0 where n_i / n_j ≥ κ and λ < τ, 1 where
    n_i / n_j ≤ 1 / κ and 1 − λ < τ, and λ elsewhere. Each pair is decided by itself. As in the
    paper it needs a sampler or a loss that rebalances, deferred, to gain much (Remix-DRW).
    """

    stage: ClassVar[int] = 42

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.05, 2.0, log=True)] = 1.0
    """Both parameters of the Beta distribution of λ."""
    kappa: Annotated[float, Field(ge=1.0), Tunable(1.0, 10.0, log=True)] = 3.0
    """κ: how many times larger a class must be to give its label away."""
    tau: Annotated[Probability, Tunable(0.0, 1.0)] = 0.5
    """τ: below which share of the frequent image its label is given away; 0 is MixUp."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    """Share of batches that are mixed."""
    cut: bool = False
    """Paste boxes, as CutMix does, instead of blending (Remix-CutMix)."""
    per_sample: bool = False
    """Draw a λ for each row instead of one for the batch."""

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Draw λ or a box, then the partners; decide each pair's label."""
        size = len(batch.labels)
        draws = size if self.per_sample else 1
        kept = np.empty(size, np.float32)
        box = None
        if self.cut:
            drawn, kept[:] = draw_boxes(self.alpha, draws, batch.shape, rng)
            box = np.empty((size, 4), np.int64)
            box[:] = drawn
        else:
            kept[:] = rng.beta(self.alpha, self.alpha, draws)
        partner = rng.permutation(size)
        counts = batch.class_counts.astype(np.float64)
        own, other = counts[batch.labels], counts[batch.labels[partner]]
        share = kept.copy()
        share[(own >= self.kappa * other) & (kept < self.tau)] = 0.0
        share[(self.kappa * own <= other) & (1.0 - kept < self.tau)] = 1.0
        weight = np.zeros(size, np.float32) if self.cut else kept
        return Mix(partner=partner, weight=weight, label_weight=share, box=box)

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason for boxes in a table, which has none to cut."""
        if self.cut and facts.kind == "table":
            return "a table row has no area to cut a box from; leave out cut"
        return None

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch is mixed, or no label would be given away."""
        if self.p == 0.0:
            return "p is 0, so no batch is mixed"
        counts = facts.class_counts[facts.class_counts > 0]
        name = "cutmix" if self.cut else "mixup"
        if self.tau == 0.0:
            return f"tau is 0, so no label is given away: it is {name}"
        if counts.max() < self.kappa * counts.min():
            return f"no class is kappa ({self.kappa:g}) times larger than another: it is {name}"
        return None
