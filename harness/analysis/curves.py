"""How runs went and what they confuse: learning curves, calibration, confusion matrices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import intervals
from harness.analysis.images import read_predictions
from harness.analysis.intervals import Floats
from harness.analysis.tables import DONE, GROUP
from harness.decisions.base import Fitted, log_probabilities
from harness.errors import StoreError
from harness.metrics import metric_of
from harness.metrics.calibration import bin_of
from harness.metrics.split import confusion_matrix
from harness.training.run_result import recall_run

BINS = 10
"""Bins of equal width in a reliability diagram."""


def learning_curves(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean of a column of ``history.csv`` over runs, along the budget.

    Columns: those of `GROUP`, ``step``, ``fraction`` (of the budget), ``mean``, its 95 %
    interval ``low, high`` over runs, and ``n``. Runs without a history, or without the column,
    are left out. Runs of one recipe may have other numbers of steps (their training sets differ
    by some samples): each is put on its own share of the budget, and read between its
    evaluations, so that every mean is of all of them.

    Args:
        runs: From `runs_table`; a few recipes of it.
        column: Such as ``val/balanced_accuracy`` or ``train/loss``.
    """
    tables = []
    for group, members in runs[runs["status"] == DONE].groupby(GROUP, sort=False):
        read = [_history(str(path), column) for path in members["path"]]
        of_runs = [found for found in read if len(found)]
        if of_runs:
            table = _mean(of_runs, int(members["folds"].iloc[0]), column)
            for name, value in zip(GROUP, group, strict=True):
                table[name] = str(value)
            tables.append(table)
    if not tables:
        return pd.DataFrame()
    columns = [*GROUP, "step", "mean", "low", "high", "n", "fraction"]
    return pd.concat(tables, ignore_index=True)[columns]


def _mean(runs: list[Floats], folds: int, column: str) -> pd.DataFrame:
    """Return the mean of curves where all of them are.

    Args:
        runs: ``float64[points, 3]`` each: step, share of the budget, value.
        folds: Number of folds, or 0.
        column: What is averaged.
    """
    longest = max(runs, key=len)
    begin, end = max(run[0, 1] for run in runs), min(run[-1, 1] for run in runs)
    inner = longest[(longest[:, 1] > begin) & (longest[:, 1] < end), 1]
    at = np.unique([begin, *inner, end])
    values = np.stack([np.interp(at, run[:, 1], run[:, 2]) for run in runs], axis=1)
    found = intervals.of_blocks(values, folds)
    low, high = found.low, found.high
    if column.startswith("val/") and metric_of(column[4:]).span() == 1.0:  # a share
        low, high = np.maximum(low, 0.0), np.minimum(high, 1.0)
    step = np.interp(at, longest[:, 1], longest[:, 0]).round().astype(np.int64)
    ends = {"low": low, "high": high, "n": len(runs), "fraction": at}
    return pd.DataFrame({"step": step, "mean": found.estimate, **ends})


def _history(folder: str, column: str) -> Floats:
    """Return step, share of the run's budget and value, ``float64[points, 3]``, in order."""
    try:
        rows = recall_run(folder).history()
        points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        total = max(int(row["step"]) for row in rows) if points else 0
    except (StoreError, ValueError):
        return np.empty((0, 3))
    kept = {step: (step, step / total, value) for step, value in points if math.isfinite(value)}
    return np.array([kept[step] for step in sorted(kept)]).reshape(-1, 3)


def reliability(paths: Sequence[str], adjusted: Mapping[str, Fitted] | None = None) -> pd.DataFrame:
    """Return how often a recipe is right where it says how sure it is, over all its runs.

    Columns ``low, high`` (edges of the bin of top-label confidence), ``confidence`` (mean),
    ``accuracy`` and ``n`` (predictions); bins without a prediction are left out. Bins are open
    below, as in Guo et al. (2017); the calibration error itself is that of the runs' metrics.

    Args:
        paths: Folders of runs. Those whose predictions cannot be read are left out.
        adjusted: By folder, the rule whose adjusted probabilities are meant instead of the
            outputs as they are.
    """
    sums = np.zeros((3, BINS))
    for path in paths:
        try:
            found = read_predictions(path)
        except StoreError:
            continue
        outputs: NDArray[np.floating[Any]] = found.probabilities
        if adjusted is not None:
            outputs = adjusted[path].probabilities(log_probabilities(outputs))
        sure = outputs.max(axis=1).astype(np.float64)
        right = outputs.argmax(axis=1) == found.labels
        place = bin_of(sure, BINS)
        for row, values in enumerate((np.ones(len(sure)), sure, right.astype(float))):
            sums[row] += np.bincount(place, weights=values, minlength=BINS)
    n, sure, right = sums
    edges = np.arange(BINS + 1) / BINS
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n.astype(int)})
    kept = n > 0
    return table[kept].assign(confidence=sure[kept] / n[kept], accuracy=right[kept] / n[kept])


def confusion(
    paths: Sequence[str], adjusted: Mapping[str, Fitted] | None = None
) -> NDArray[np.int64] | None:
    """Return the confusion matrix of a recipe, summed over its runs, ``int64[C, C]``.

    Rows are true classes, columns predicted ones. None where nothing can be read.

    Args:
        paths: Folders of runs. Those whose predictions cannot be read are left out.
        adjusted: By folder, the rule that decides; by default the largest output does.
    """
    total: NDArray[np.int64] | None = None
    for path in paths:
        try:
            found = read_predictions(path)
        except StoreError:
            continue
        classes = found.probabilities.shape[1]
        decided = (
            found.probabilities.argmax(axis=1)
            if adjusted is None
            else adjusted[path].decisions(log_probabilities(found.probabilities))
        )
        counts = confusion_matrix(found.labels, decided, classes)
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
