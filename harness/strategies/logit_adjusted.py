"""Logit-adjusted softmax: cross-entropy with τ times the log of the class prior on the logits."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.strategies.base import Facts, Loss, Tunable, Windowed, strategy

if TYPE_CHECKING:
    from torch import Tensor


@strategy("logit_adjusted")
class LogitAdjusted(Windowed):
    """Add τ · log π of each class to the logits in training, and leave them alone in evaluation.

    Menon et al. 2021, "Long-tail Learning via Logit Adjustment", eq. 10. With ``tau: 1`` it is
    `balanced_softmax`. The same adjustment after training, for nothing, is the decision rule
    ``prior``.
    """

    stage: ClassVar[int] = 60

    tau: Annotated[float, Field(gt=0.0, le=4.0), Tunable(0.25, 2.5)] = 1.0
    """τ: how much of the prior is taken out; more than 1 favours rare classes beyond balance."""

    def rebalances(self) -> bool:
        """It does."""
        return True

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the cross-entropy of the shifted logits on soft targets."""
        from torch.nn.functional import log_softmax

        counts = class_counts.float()
        shift = self.tau * (counts / counts.sum()).log()

        def adjusted(logits: "Tensor", targets: "Tensor") -> "Tensor":
            return -(targets.float() * log_softmax(logits.float() + shift, dim=1)).sum(1)

        return adjusted

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return shares / counts^τ: softmax(z + τ log π) is the posterior under the shares."""
        counts = np.asarray(class_counts, np.float64) ** self.tau
        return np.divide(shares, counts, out=np.zeros_like(shares), where=counts > 0)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where all logits would be shifted alike."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes have equally many rows, so the shift changes nothing"
        return None
