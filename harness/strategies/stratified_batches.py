"""Batches in which every class appears equally often."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.strategies.base import Facts, Windowed, strategy


@strategy("stratified_batches")
class StratifiedBatches(Windowed):
    """Put every class into every batch, equally often, without repeats before a class is used up.

    Each class has ⌊B / C⌋ rows in a batch of B; the remaining B mod C places go around the
    classes from batch to batch. Within a class the rows follow one shuffle after another.
    """

    stage: ClassVar[int] = 20

    def rebalances(self) -> bool:
        """It does."""
        return True

    def order(
        self, labels: NDArray[np.int64], steps: int, batch_size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Lay out one pass, ``int64[steps, batch_size]``."""
        counts = np.bincount(labels)
        present = np.flatnonzero(counts)
        places = _places(present, steps, batch_size, rng)
        wanted = np.bincount(places.ravel())[present]
        rows = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts[present])[:-1])
        order = np.empty(steps * batch_size, np.int64)
        order[np.argsort(places.ravel(), kind="stable")] = np.concatenate(
            [_cycle(own, int(n), rng) for own, n in zip(rows, wanted, strict=True)]
        )
        # A blend may pair neighbours in the batch, so classes must not stand in blocks.
        return rng.permuted(order.reshape(steps, batch_size), axis=1)

    def unsuitable(self, facts: Facts) -> str | None:
        """Return a reason where a batch is too small to hold every class."""
        classes = len(facts.class_counts)
        if classes > facts.batch_size:
            return (
                f"{classes} classes do not fit into a batch of {facts.batch_size}; "
                f"set batch_size to {classes} or more"
            )
        return None


def _places(
    present: NDArray[np.int64], steps: int, batch_size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the class of every place of every batch, ``int64[steps, batch_size]``."""
    share, extra = divmod(batch_size, len(present))
    turn = rng.permutation(present)
    rest = (np.arange(steps)[:, None] * extra + np.arange(extra)) % len(present)
    same = np.broadcast_to(np.repeat(present, share), (steps, share * len(present)))
    return np.concatenate([same, turn[rest]], axis=1)


def _cycle(rows: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `wanted` of `rows`: one shuffle after another, cut."""
    rounds = -(-wanted // len(rows))
    return rng.permuted(np.tile(rows, (rounds, 1)), axis=1).ravel()[:wanted]
