"""Validation outputs of several folds as one sample, where one fold's val is small."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.decisions.base import Floats, Ints
from harness.decisions.priors import TrainedPrior


@dataclass(frozen=True)
class Part:
    """Validation outputs of one fold's model, none of whose rows it was trained on.

    Attributes:
        log_p: ``float64[n, C]``.
        labels: ``int64[n]``.
        rows: ``int64[n]``: which samples of the dataset they are.
        trained: The prior that these outputs carry.
    """

    log_p: Floats
    labels: Ints
    rows: Ints
    trained: TrainedPrior


def pooled(own: int, parts: Sequence[Part], test_rows: NDArray[Any]) -> tuple[Floats, Ints]:
    """Return the log-probabilities and labels of all folds that one may be fitted on.

    Left out are rows in the test set of the fold that is decided, which are val rows of others. The
    outputs of each are moved to the trained prior of that fold. Where its prior is unknown, its own
    val is all there is.

    Args:
        own: Position of the fold that is decided.
        parts: One per fold.
        test_rows: ``int64[m]``: its test set.
    """
    mine = parts[own]
    if mine.trained.shares is None:
        return mine.log_p, mine.labels
    logs, labels = [], []
    for part in parts:
        if part.trained.shares is None:
            continue
        kept = ~np.isin(part.rows, test_rows)
        moved = np.log(mine.trained.shares) - np.log(part.trained.shares)
        logs.append(part.log_p[kept] + moved)
        labels.append(part.labels[kept])
    return np.concatenate(logs), np.concatenate(labels)
