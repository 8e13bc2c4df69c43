"""Balanced-MixUp: the batch as it comes, with a little of one in which classes are equal."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy
from harness.strategies.drawing import draw_by_class, power_shares


@strategy("balanced_mixup")
class BalancedMixUp(Windowed):
    """Blend each row with one whose class was drawn uniformly, λ ~ Beta(alpha, 1).

    Galdran et al. 2021, "Balanced-MixUp for Highly Imbalanced Medical Image Classification", with
    the roles as in the published code: x' = (1 − λ) x + λ x_balanced, one λ for the batch. With
    alpha = 0.1 nine tenths of the batch is itself on average, and the rest is balanced.
    """

    stage: ClassVar[int] = 44

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.05, 1.0, log=True)] = 0.1
    """First parameter of the Beta distribution; the balanced share is alpha / (alpha + 1)."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    """Share of batches that are mixed."""

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Draw λ, then the balanced partners from the training set."""
        size = len(batch.labels)
        weight = np.full(size, 1.0 - rng.beta(self.alpha, 1.0), np.float32)
        shares = power_shares(np.bincount(batch.train_labels), 0.0)
        partner = draw_by_class(batch.train_labels, shares, size, rng)
        return Mix(partner=partner, weight=weight, label_weight=weight, source="train")

    def rebalances(self) -> bool:
        """In part: its partners are balanced."""
        return True

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch would ever be mixed."""
        return "p is 0, so no batch is mixed" if self.p == 0.0 else None
