"""How runs went and what they confuse: learning curves, calibration, confusion matrices."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import intervals
from harness.analysis.images import read_predictions
from harness.analysis.tables import DONE, GROUP
from harness.errors import StoreError
from harness.metrics.calibration import bin_of
from harness.metrics.split import confusion_matrix

BINS = 10
"""Bins of equal width in a reliability diagram."""


def learning_curves(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean of a column of ``history.csv`` over runs, at each evaluation.

    Columns: those of `GROUP`, ``step``, ``fraction`` (of the budget), ``mean``, its 95 %
    interval ``low, high`` over runs, and ``n``. Runs without a history, or without the column,
    are left out.

    Args:
        runs: From `runs_table`; a few recipes of it.
        column: Such as ``val/balanced_accuracy`` or ``train/loss``.
    """
    points = [
        {**{name: row[name] for name in (*GROUP, "folds")}, "step": step, "value": value}
        for row in runs[runs["status"] == DONE].to_dict("records")
        for step, value in _history(Path(str(row["path"])) / "history.csv", column)
    ]
    if not points:
        return pd.DataFrame()
    groups = pd.DataFrame(points).groupby([*GROUP, "step"], sort=False)
    value, folds = groups["value"], groups["folds"].first()
    found = intervals.over_seeds(value.mean(), value.std(), value.size(), folds)
    ends = {"low": found.low, "high": found.high, "n": value.size()}
    table = pd.DataFrame({"mean": value.mean(), **ends}).reset_index()
    table["fraction"] = table["step"] / table.groupby(GROUP)["step"].transform("max")
    return table


def _history(file: Path, column: str) -> list[tuple[int, float]]:
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    except (OSError, ValueError, KeyError):
        return []


def reliability(paths: Sequence[str]) -> pd.DataFrame:
    """Return how often a recipe is right where it says how sure it is, over all its runs.

    Columns ``low, high`` (edges of the bin of top-label confidence), ``confidence`` (mean),
    ``accuracy`` and ``n`` (predictions); bins without a prediction are left out. Bins are open
    below, as in Guo et al. (2017); the calibration error itself is that of the runs' metrics.

    Args:
        paths: Folders of runs. Those whose predictions cannot be read are left out.
    """
    sums = np.zeros((3, BINS))
    for path in paths:
        try:
            found = read_predictions(path)
        except StoreError:
            continue
        sure = found.probabilities.max(axis=1).astype(np.float64)
        right = found.probabilities.argmax(axis=1) == found.labels
        place = bin_of(sure, BINS)
        for row, values in enumerate((np.ones(len(sure)), sure, right.astype(float))):
            sums[row] += np.bincount(place, weights=values, minlength=BINS)
    n, sure, right = sums
    edges = np.arange(BINS + 1) / BINS
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n.astype(int)})
    kept = n > 0
    return table[kept].assign(confidence=sure[kept] / n[kept], accuracy=right[kept] / n[kept])


def confusion(paths: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the confusion matrix of a recipe, summed over its runs, ``int64[C, C]``.

    Rows are true classes, columns predicted ones. None where nothing can be read.

    Args:
        paths: Folders of runs. Those whose predictions cannot be read are left out.
    """
    total: NDArray[np.int64] | None = None
    for path in paths:
        try:
            found = read_predictions(path)
        except StoreError:
            continue
        classes = found.probabilities.shape[1]
        counts = confusion_matrix(found.labels, found.probabilities.argmax(axis=1), classes)
        total = counts if total is None else total + counts
    return total


def most_confused(matrix: NDArray[np.int64], names: Sequence[str], most: int) -> pd.DataFrame:
    """Return the largest shares of a true class that is called another, ``true, as, share, n``."""
    support = matrix.sum(axis=1)
    share = matrix / np.maximum(support, 1)[:, None]
    np.fill_diagonal(share, 0.0)
    order = np.argsort(-share, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(names)) for place in order]
    rows = [
        [names[true], names[called], share[true, called], int(matrix[true, called])]
        for true, called in pairs
        if share[true, called] > 0
    ]
    return pd.DataFrame(rows, columns=["true", "as", "share", "n"])
