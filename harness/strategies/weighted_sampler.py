"""Sampling with replacement, class first, so that rare classes are seen more often."""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.strategies.base import Facts, Tunable, Windowed, strategy
from harness.strategies.drawing import draw_by_class, power_shares


@strategy("weighted_sampler")
class WeightedSampler(Windowed):
    """Draw each class in proportion to n^(1 − beta), then a row of it, with replacement.

    The class is drawn first and the row uniformly within it, in float64 and whole numbers: exact
    at any size, where a multinomial over rows is limited and rounds. With `effective_number` a
    row of a class of n weighs (1 − β) / (1 − β^n) instead (Cui et al. 2019, eq. 2). A weighted
    loss on top corrects the imbalance a second time.
    """

    stage: ClassVar[int] = 20

    beta: Annotated[float, Field(ge=0.0, le=1.0), Tunable(0.0, 1.0)] = 1.0
    """1 draws every class equally often, 0.5 by the square root of its size, 0 by its size."""
    effective_number: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """β of the effective number, such as 0.9999; instead of `beta`."""
    start: Annotated[float, Field(ge=0.0, lt=1.0), Tunable(0.0, 0.9)] = 0.0
    """Fraction of the budget from which it acts; before, rows are shuffled."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.effective_number is not None and "beta" in self.model_fields_set:
            raise ValueError("beta and effective_number are two rules; give one of them")
        return self

    def rebalances(self) -> bool:
        """Unless beta is 0, which draws what shuffling draws."""
        return self.effective_number is not None or self.beta > 0.0

    def order(
        self, labels: NDArray[np.int64], steps: int, batch_size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw one pass, ``int64[steps, batch_size]``."""
        shares = self.class_probabilities(np.bincount(labels))
        return draw_by_class(labels, shares, (steps, batch_size), rng)

    def class_probabilities(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how often each class is drawn, ``float64[C]``; 0 for a class without rows."""
        if self.effective_number is None:
            return power_shares(counts, 1.0 - self.beta)
        rows = np.maximum(counts, 1)
        mass: NDArray[np.float64] = counts / -np.expm1(rows * np.log(self.effective_number))
        return np.asarray(mass / mass.sum())

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where the classes are already equal, as after SMOTE to 1.0."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes already have equally many rows"
        return None

    def tunables(self) -> dict[str, Tunable]:
        """Return the search ranges that the other parameters leave open."""
        ranges = super().tunables()
        ranges["start"] = Tunable(0.0, 0.9 * self.stop)
        if self.effective_number is not None:
            del ranges["beta"]
        return ranges
