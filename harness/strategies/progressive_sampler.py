"""Progressively-balanced sampling: from rows as they come to classes as often as each other."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.strategies.base import Facts, Windowed, strategy
from harness.strategies.drawing import draw_by_class, power_shares
from harness.streams import Stream


@strategy("progressive_sampler")
class ProgressiveSampler(Windowed):
    """Draw classes by (1 − t) · n_c / N + t / C, with t going from 0 to 1 over the budget.

    Kang et al. 2020, "Decoupling Representation and Classifier", eq. 3; t is that of the pass, as
    there that of the epoch, and goes over the window where one is given.
    """

    stage: ClassVar[int] = 20
    gradual: ClassVar[bool] = True

    def rebalances(self) -> bool:
        """It does, at the end."""
        return True

    def order(
        self, labels: NDArray[np.int64], steps: int, batch_size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw a pass at the end of the budget, ``int64[steps, batch_size]``."""
        return self._draw(1.0, labels, (steps, batch_size), rng)

    def order_pass(
        self,
        number: int,
        progress: float,
        labels: NDArray[np.int64],
        steps: int,
        batch_size: int,
        stream: Stream,
    ) -> NDArray[np.int64]:
        """Draw the pass that begins at `progress` of the window."""
        return self._draw(progress, labels, (steps, batch_size), stream.at(number))

    def _draw(
        self,
        t: float,
        labels: NDArray[np.int64],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        counts = np.bincount(labels)
        shares = (1.0 - t) * power_shares(counts, 1.0) + t * power_shares(counts, 0.0)
        return draw_by_class(labels, shares, size, rng)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where the classes are already equal."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes already have equally many rows"
        return None
