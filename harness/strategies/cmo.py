"""CMO: boxes of rare classes pasted onto images as they come."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy
from harness.strategies.boxes import draw_boxes
from harness.strategies.drawing import draw_by_class, power_shares


@strategy("cmo")
class Cmo(Windowed):
    """Paste a box of an image drawn in favour of rare classes onto each image of the batch.

    Park et al. 2022, "The Majority Can Help the Minority: Context-rich Minority Oversampling": the
    background follows the sampler of the recipe, the foreground a distribution that weighs a row
    of a class of n by 1 / n^weighted_alpha; labels by the area that remains, one box for the batch.
    Not at the beginning and the end of the budget: the published code leaves out the first four
    and the last three epochs of 200.
    """

    stage: ClassVar[int] = 43

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.05, 2.0, log=True)] = 1.0
    """Both parameters of the Beta distribution of λ; the box covers 1 − λ before clipping."""
    weighted_alpha: Annotated[float, Field(ge=0.0, le=2.0), Tunable(0.0, 2.0)] = 1.0
    """Power of the class size by which a foreground is weighed down; 1 draws classes equally."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 0.5
    """Share of batches that are mixed."""
    start: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """When it begins to act, as a fraction of the budget."""
    stop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.985
    """When it ceases to act, as a fraction of the budget."""

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Draw the foregrounds from the training set, then one box."""
        size = len(batch.labels)
        counts = np.bincount(batch.train_labels)
        shares = power_shares(counts, 1.0 - self.weighted_alpha)
        partner = draw_by_class(batch.train_labels, shares, size, rng)
        drawn, kept = draw_boxes(self.alpha, 1, batch.shape, rng)
        return Mix(
            partner=partner,
            weight=np.zeros(size, np.float32),
            label_weight=np.repeat(kept, size),
            box=np.repeat(drawn, size, axis=0),
            source="train",
        )

    def rebalances(self) -> bool:
        """Unless foregrounds are drawn as they come."""
        return self.weighted_alpha > 0.0

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason for a table, which has no box to cut."""
        return "a table row has no area to cut a box from" if facts.kind == "table" else None

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch would ever be mixed."""
        return "p is 0, so no batch is mixed" if self.p == 0.0 else None
