"""Balanced softmax: cross-entropy with the class prior added to the logits."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.strategies.base import Facts, Loss, Windowed, strategy

if TYPE_CHECKING:
    from torch import Tensor


@strategy("balanced_softmax")
class BalancedSoftmax(Windowed):
    """Add log n of each class to the logits in training, and leave them alone in evaluation.

    Ren et al. 2020, "Balanced Meta-Softmax for Long-Tailed Visual Recognition", eq. 4. The counts
    are those of the training rows, not of what a sampler delivers: a weighted sampler on top
    corrects the imbalance a second time.
    """

    stage: ClassVar[int] = 60

    def rebalances(self) -> bool:
        """It does."""
        return True

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the cross-entropy of the shifted logits on soft targets."""
        from torch.nn.functional import log_softmax

        prior = class_counts.float().log()

        def balanced(logits: "Tensor", targets: "Tensor") -> "Tensor":
            return -(targets.float() * log_softmax(logits.float() + prior, dim=1)).sum(1)

        return balanced

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return shares / counts, uniform where rows are delivered as they are counted.

        softmax(z + log n) is the posterior under the delivered shares π, so softmax(z) is the one
        under π / n. A class without rows is shifted by log 0: its logit is never trained.
        """
        return np.divide(shares, class_counts, out=np.zeros_like(shares), where=class_counts > 0)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where all logits would be shifted alike."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes have equally many rows, so the shift changes nothing"
        return None
