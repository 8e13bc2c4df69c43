"""Random over- and under-sampling: rows repeated, or left out, until classes are closer in size.

Both decide the order of rows, not their number: the budget of steps stays that of the original
training set (imbalanced-learn's samplers return a set of another size, on which a network would
train for longer or shorter).
"""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.strategies.base import Facts, Tunable, Windowed, strategy
from harness.streams import Stream

Rows = NDArray[np.int64]


class _Resampling(Windowed):
    """Deliver shuffled passes over a resampled set, one after another without a gap."""

    stage: ClassVar[int] = 20

    def rebalances(self) -> bool:
        """It does."""
        return True

    def resampled(self, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return the rows of the resampled set, in no order."""
        raise NotImplementedError

    def order(self, labels: Rows, steps: int, batch_size: int, rng: np.random.Generator) -> Rows:
        """Lay out one pass of a set resampled for it alone."""
        order = _shuffled(self.resampled(labels, rng), 0, steps * batch_size, lambda _: rng)
        return order.reshape(steps, batch_size)

    def order_pass(
        self,
        number: int,
        progress: float,
        labels: Rows,
        steps: int,
        batch_size: int,
        stream: Stream,
    ) -> Rows:
        """Lay out one pass; the resampled set is the same in every pass of a run."""
        rows = self.resampled(labels, stream.at(0))
        size = steps * batch_size
        order = _shuffled(rows, number * size, size, lambda round_: stream.at(1 + round_))
        return order.reshape(steps, batch_size)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where the classes are already equal."""
        if (facts.expanded_counts == facts.expanded_counts[0]).all():
            return "the classes already have equally many rows"
        return None


@strategy("random_over_sampling")
class RandomOverSampling(_Resampling):
    """Repeat rows of smaller classes at random until each has a share of the largest.

    As imbalanced-learn's ``RandomOverSampler``, but that whole rounds of a class come before random
    repeats, so that no row is left out by chance; within the budget of the original set.
    """

    target: Annotated[float, Field(gt=0.0, le=1.0), Tunable(0.1, 1.0)] = 1.0
    """Share of the largest class that every smaller one is brought to."""

    def resampled(self, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return the rows, those of smaller classes repeated."""
        counts = np.bincount(labels)
        wanted = np.maximum(counts, round(self.target * counts.max()))
        parts = [np.arange(len(labels))]
        for k in np.flatnonzero((counts > 0) & (wanted > counts)):
            own = np.flatnonzero(labels == k)
            rounds, rest = divmod(int(wanted[k]) - len(own), len(own))
            parts += [np.tile(own, rounds), rng.permutation(own)[:rest]]
        return np.concatenate(parts)


@strategy("random_under_sampling")
class RandomUnderSampling(_Resampling):
    """Leave out rows of larger classes at random, down to a multiple of the smallest.

    As imbalanced-learn's ``RandomUnderSampler`` without replacement. The same rows are left out for
    the whole run; those that stay are seen more often, within the budget of the original set.
    """

    ratio: Annotated[float, Field(ge=1.0), Tunable(1.0, 10.0, log=True)] = 1.0
    """How many times the smallest class a larger one may have."""

    def resampled(self, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return the rows that stay."""
        counts = np.bincount(labels)
        most = max(1, round(self.ratio * int(counts[counts > 0].min())))
        return np.concatenate(
            [rng.permutation(np.flatnonzero(labels == k))[:most] for k in np.flatnonzero(counts)]
        )


def _shuffled(rows: Rows, first: int, size: int, at: Callable[[int], np.random.Generator]) -> Rows:
    """Return `size` rows from place `first` of endless shuffles, each by its generator."""
    parts = []
    while size:
        number, within = divmod(first, len(rows))
        part = at(number).permutation(rows)[within : within + size]
        parts.append(part)
        first, size = first + len(part), size - len(part)
    return np.concatenate(parts)
