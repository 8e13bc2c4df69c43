"""SMOTE: synthetic rows between a row and a neighbour of its class."""

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.strategies.base import (
    Facts,
    Strategy,
    Synthesis,
    Tunable,
    nearest_of_class,
    strategy,
)


@strategy("smote")
class Smote(Strategy):
    """Synthesize rows of small classes between a row and one of its k nearest of the class.

    Chawla et al. 2002, with the draws of imbalanced-learn in its order: per class, ascending,
    first the (row, neighbour) pairs, then the gaps. Distances are Euclidean in pixel or column
    space, over training rows only, in float: uint8 would wrap around. Nothing is copied; the
    result is index triples. A class of n ≤ k rows uses its n − 1 neighbours, a class of one row
    is duplicated, and both are named in the notes. One-hot columns of a table are taken whole from
    the base row, where SMOTE-NC takes the most frequent category of the neighbours.
    """

    stage: ClassVar[int] = 10

    k: Annotated[int, Field(ge=1), Tunable(1, 10, integer=True)] = 5
    """Neighbours to choose from."""
    target: Annotated[float, Field(gt=0.0, le=1.0), Tunable(0.1, 1.0)] = 1.0
    """Fill each class up to this fraction of the largest."""

    def expanded_counts(self, class_counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ``int64[C]``: max(n, ⌊target · largest n⌋)."""
        # Without the margin 0.29 · 100 is 28.999…
        floor = int(np.floor(self.target * int(class_counts.max()) + 1e-9))
        return np.maximum(class_counts, floor)

    def synthesize(
        self, features: NDArray[Any], labels: NDArray[np.int64], rng: np.random.Generator
    ) -> Synthesis:
        """Draw the rows to create, class by class."""
        counts = np.bincount(labels)
        present = np.flatnonzero(counts)
        missing = self.expanded_counts(counts) - counts
        short = present[missing[present] > 0]
        among = np.flatnonzero(np.isin(labels, short))  # the largest classes need no neighbours
        nearest = np.full((len(labels), self.k), -1, np.int32)
        nearest[among] = nearest_of_class(features[among], labels[among], self.k)
        parts, notes = [], {}
        for c in short:
            rows = np.flatnonzero(labels == c)
            k = min(self.k, len(rows) - 1)
            if k < self.k:
                notes[int(c)] = _note(self.k, len(rows))
            parts.append(_pairs(rows, nearest[rows, :k], int(missing[c]), rng))
        base, neighbour, gap = (np.concatenate(part) for part in zip(_NOTHING, *parts, strict=True))
        return Synthesis(base, neighbour, gap, notes)

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where there is no row to create."""
        if (self.expanded_counts(facts.class_counts) == facts.class_counts).all():
            return f"every class already has {self.target:g} of the largest, so no row is created"
        return None


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _pairs(
    rows: NDArray[np.int64], nearest: NDArray[np.int32], wanted: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return base rows, neighbour rows and gaps of one class, each of length `wanted`."""
    k = nearest.shape[1]
    if k == 0:
        same = np.repeat(rows, wanted)
        return same, same, np.zeros(wanted, np.float32)
    drawn = rng.integers(0, nearest.size, size=wanted)
    gap = rng.random(wanted).astype(np.float32)
    return rows[drawn // k], rows[nearest.ravel()[drawn]], gap


def _note(k: int, rows: int) -> str:
    if rows == 1:
        return "1 row and no neighbour: synthetic rows are copies of it"
    return f"k lowered from {k} to {rows - 1}: {rows} rows"
