"""LDAM: a larger margin for rarer classes."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.strategies.base import Loss, Tunable, Windowed, strategy
from harness.strategies.losses import normalized_weights, weighted_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@strategy("ldam")
class Ldam(Windowed):
    """Ask of each class a margin in proportion to n^(−1/4), the largest being `max_m`.

    Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
    eq. 12 and 13: cross-entropy of s · (logits − targets · margins), where the logits are cosines,
    so the model gets a last layer with unit weights and features. For one-hot targets it is the
    published loss; on soft targets each class has its share of the margin. LDAM with deferred
    re-weighting (LDAM-DRW) is twice this strategy: one with ``stop: 0.8``, one with ``start: 0.8``
    and ``effective_number: 0.9999``.
    """

    stage: ClassVar[int] = 60
    head: ClassVar[Literal["linear", "normalized"]] = "normalized"

    max_m: Annotated[float, Field(gt=0.0, le=1.0), Tunable(0.1, 0.9)] = 0.5
    """Margin of the rarest class, in cosine."""
    s: Annotated[float, Field(gt=0.0)] = 30.0
    """Scale of the cosines."""
    effective_number: Annotated[float | None, Field(gt=0.0, lt=1.0)] = None
    """β of the effective number by which classes are weighted besides; None weighs none."""

    def rebalances(self) -> bool:
        """Only with weights: margins alone weigh nothing."""
        return self.effective_number is not None

    def logit_scale(self) -> float:
        """Return s: the softmax of bare cosines is nearly flat, whatever the network has learnt."""
        return self.s

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return why there is none.

        For two classes with margins a and b (times s) the risk is least where the odds are
        e^t (e^t + e^a) / (e^a (1/e^b + e^t)), t the difference of the scaled logits: nearly 1 for
        every t between −b and a. Within the margins the softmax says nothing of the posterior.
        """
        return (
            "within the margins of LDAM a softmax hardly depends on the posterior, so that it "
            "carries no class prior"
        )

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the margin loss on soft targets."""
        raw = class_counts.float() ** -0.25
        margins = raw * (self.max_m / raw.max())
        scale, beta = self.s, self.effective_number
        weights = raw.new_ones(len(raw)) if beta is None else normalized_weights(class_counts, beta)

        def margin(logits: "Tensor", targets: "Tensor") -> "Tensor":
            shifted = scale * (logits.float() - targets.float() * margins)
            return weighted_cross_entropy(shifted, targets, weights)

        return margin
