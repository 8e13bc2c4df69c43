"""Focal loss: cross-entropy that counts well classified rows less."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.strategies.base import Facts, Loss, Tunable, Windowed, strategy

if TYPE_CHECKING:
    from torch import Tensor


@strategy("focal")
class Focal(Windowed):
    """Scale the loss of each class by (1 − p)^gamma.

    Lin et al. 2017, "Focal Loss", eq. 4, on a softmax and soft targets:
    ``Σ_c y_c (1 − p_c)^gamma (−log p_c)``.
    """

    stage: ClassVar[int] = 60

    gamma: Annotated[float, Field(ge=0.0), Tunable(0.0, 5.0)] = 2.0
    """How strongly an easy row is played down; 0 is cross-entropy."""

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the focal loss on soft targets."""
        import torch
        from torch.nn.functional import log_softmax

        gamma = self.gamma

        def focal(logits: "Tensor", targets: "Tensor") -> "Tensor":
            log_p = log_softmax(logits.float(), dim=1)
            # At p = 1 the slope of (1 − p)^gamma is infinite for gamma < 1: 0 · inf would be NaN.
            missing = (-torch.expm1(log_p)).clamp_min(1e-12)
            return -(targets.float() * missing**gamma * log_p).sum(1)

        return focal

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return the shares for gamma 0, and else why there is no such prior.

        The risk is least where η_c ∝ p_c / φ(p_c) with φ(p) = (1 − p)^γ − γ p (1 − p)^(γ−1) log p
        (Charoenphakdee et al. 2021, "On Focal Loss for Class-Posterior Probability Estimation"):
        argmax p is argmax η, but p is not a posterior η under any prior.
        """
        if self.gamma == 0.0:
            return shares
        return (
            "focal loss has its least risk at outputs that are less sure than the posterior, so "
            "that they carry no class prior"
        )

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where this is cross-entropy."""
        return "gamma is 0, which is cross-entropy" if self.gamma == 0.0 else None
