"""CutMix: a box of each image replaced by the same box of a partner."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from harness.strategies.base import Batch, Facts, Mix, Probability, Tunable, Windowed, strategy


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
        height, width = batch.shape[:2]
        draws = size if self.per_sample else 1
        half = 0.5 * np.sqrt(1.0 - rng.beta(self.alpha, self.alpha, draws))
        centre_x = rng.integers(width, size=draws)
        centre_y = rng.integers(height, size=draws)
        half_x = (half * width).astype(np.int64)
        half_y = (half * height).astype(np.int64)
        top, bottom = np.maximum(centre_y - half_y, 0), np.minimum(centre_y + half_y, height)
        left, right = np.maximum(centre_x - half_x, 0), np.minimum(centre_x + half_x, width)
        kept = 1.0 - (bottom - top) * (right - left) / (height * width)
        box = np.stack([top, bottom, left, right], axis=1)
        return Mix(
            partner=rng.permutation(size),
            weight=np.zeros(size, np.float32),
            label_weight=np.broadcast_to(kept.astype(np.float32), size).copy(),
            box=np.broadcast_to(box, (size, 4)).copy(),
        )

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason for a table, which has no box to cut."""
        return "a table row has no area to cut a box from" if facts.kind == "table" else None

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where no batch would ever be mixed."""
        return "p is 0, so no batch is mixed" if self.p == 0.0 else None
