"""MixUp: convex blends of pairs of a batch."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy


@strategy("mixup")
class MixUp(Windowed):
    """Blend each row and its label with a partner, λ ~ Beta(alpha, alpha).

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1. The partner is drawn
    from the same batch by a random permutation, so its class follows whatever the sampler
    delivers: with a balanced sampler it is balanced × balanced, which is neither CMO nor
    Balanced-MixUp.
    """

    stage: ClassVar[int] = 40

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.05, 2.0, log=True)] = 1.0
    """Both parameters of the Beta distribution; small means mostly one of the two."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    """Share of batches that are mixed."""
    per_sample: bool = False
    """Draw a λ for each row instead of one for the batch."""

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Draw λ, then the partners."""
        size = len(batch.labels)
        weight = np.empty(size, np.float32)
        weight[:] = rng.beta(self.alpha, self.alpha, size if self.per_sample else 1)
        return Mix(partner=rng.permutation(size), weight=weight, label_weight=weight)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch would ever be mixed."""
        return "p is 0, so no batch is mixed" if self.p == 0.0 else None
