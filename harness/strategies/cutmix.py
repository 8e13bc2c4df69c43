"""CutMix: a box of each image replaced by the same box of a partner."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy
from harness.strategies.boxes import draw_boxes


@strategy("cutmix")
class CutMix(Windowed):
    """Paste a box of a partner's image, labels weighted by the area that remains.

    Yun et al. 2019, "CutMix", with the label weight of the box *after* clipping to the image, as
    in torchvision: at Beta(1, 1) and 32 pixels the nominal λ would overstate the pasted class by
    20 points. The partner is drawn from the same batch by a random permutation, so its class
    follows whatever the sampler delivers.
    """

    stage: ClassVar[int] = 41

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.05, 2.0, log=True)] = 1.0
    """Both parameters of the Beta distribution of λ; the box covers 1 − λ before clipping."""
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    """Share of batches that are mixed."""
    per_sample: bool = False
    """Draw a box for each image instead of one for the batch."""

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Draw λ, the centres (columns, then rows) and the partners."""
        size = len(batch.labels)
        drawn, kept = draw_boxes(self.alpha, size if self.per_sample else 1, batch.shape, rng)
        label_weight, box = np.empty(size, np.float32), np.empty((size, 4), np.int64)
        label_weight[:], box[:] = kept, drawn
        return Mix(
            partner=rng.permutation(size),
            weight=np.zeros(size, np.float32),
            label_weight=label_weight,
            box=box,
        )

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason for a table, which has no box to cut."""
        return "a table row has no area to cut a box from" if facts.kind == "table" else None

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch would ever be mixed."""
        return "p is 0, so no batch is mixed" if self.p == 0.0 else None
