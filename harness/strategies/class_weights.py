"""Cross-entropy that counts rare classes more."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.strategies.base import Facts, Loss, Windowed, strategy
from harness.strategies.losses import normalized_weights, weighted_cross_entropy, weights_of_counts

if TYPE_CHECKING:
    from torch import Tensor


@strategy("class_weights")
class ClassWeights(Windowed):
    """Weight each class in the loss by the inverse of its size or of its effective number.

    ``inverse`` is 1/n, ``effective_number`` (1 − β) / (1 − β^n) (Cui et al. 2019, eq. 2); both
    normalised to sum to C. With ``start: 0.8`` this is deferred re-weighting.

    The loss on soft targets is `weighted_cross_entropy`. A weighted sampler on top corrects
    the imbalance a second time.
    """

    stage: ClassVar[int] = 60

    scheme: Literal["inverse", "effective_number"] = "inverse"
    """How the weight follows from the class size."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9999
    """β of the effective number."""

    @model_validator(mode="after")
    def _beta_has_a_use(self) -> Self:
        if self.scheme == "inverse" and "beta" in self.model_fields_set:
            raise ValueError("beta belongs to scheme 'effective_number'")
        return self

    def rebalances(self) -> bool:
        """It does."""
        return True

    def weights(self, class_counts: "Tensor") -> "Tensor":
        """Return the weights of the classes, ``float32[C]``, which sum to C."""
        return normalized_weights(class_counts, None if self.scheme == "inverse" else self.beta)

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return shares × weights: Σ_c w_c π_c p(x | c) (−log p_c) is least at their posterior."""
        beta = None if self.scheme == "inverse" else self.beta
        return shares * weights_of_counts(class_counts, beta)

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the weighted cross-entropy on soft targets."""
        weights = self.weights(class_counts)
        return lambda logits, targets: weighted_cross_entropy(logits, targets, weights)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where all weights would be 1."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes have equally many rows, so every weight is 1"
        return None
