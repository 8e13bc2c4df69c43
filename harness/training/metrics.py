"""Metrics of one split, computed once over all of its stored predictions.

Pure NumPy. Never averaged over batches; every per-class array has length C whatever classes the
split holds. A class without a sample in the split has recall, F1, average precision and AUC NaN
and is left out of the means; precision of a class that is never predicted is 0. What cannot be
computed at all (the recall of an empty group) is None, never 0. Probabilities are taken as they
are: nothing is calibrated or renormalised.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.experiment.metric_names import COUNTS, METRICS, QUICK

__all__ = ["COUNTS", "METRICS", "QUICK", "Evaluation", "evaluate", "groups", "quick"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ECE_BINS = 15
_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on one split.

    Attributes:
        summary: Value of each of `METRICS` (None where it is undefined) and of `COUNTS`.
        per_class: Arrays of length C by column: ``precision``, ``recall``, ``f1``, ``support``,
            ``predicted``, ``average_precision``, ``auc``, ``train_count``.
        confusion: ``int64[C, C]``: rows are true classes, columns predicted ones.
    """

    summary: dict[str, float | None]
    per_class: dict[str, NDArray[Any]]
    confusion: Ints


def evaluate(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], train_counts: Ints
) -> Evaluation:
    """Compute every metric of a whole split.

    Args:
        probabilities: ``float32[n, C]``, rows that sum to 1.
        labels: ``int64[n]``, in ``[0, C)``.
        train_counts: ``int64[C]``, original training samples per class.

    Raises:
        ValueError: Shapes do not fit, a label lies outside ``[0, C)``, the split is empty, or a
            probability is not finite or outside [0, 1].
    """
    probabilities, labels = _checked(probabilities, labels)
    if np.shape(train_counts) != (probabilities.shape[1],):
        raise ValueError(
            f"train_counts has shape {np.shape(train_counts)}, not ({probabilities.shape[1]},)"
        )
    confusion, columns, summary = _hard(probabilities, labels)
    columns["average_precision"], columns["auc"] = _ranked(probabilities, labels)
    columns["train_count"] = np.asarray(train_counts, np.int64)
    recall = columns["recall"]
    present = recall[~np.isnan(recall)]
    # imbalanced-learn's "multiclass" G-mean: geometric mean of the recalls, 0 where one is 0
    # (Kubat & Matwin 1997; Sun et al. 2006), not the mean of sqrt(sensitivity · specificity)
    with np.errstate(divide="ignore"):
        summary["g_mean"] = float(np.exp(np.log(present).mean()))
    summary["mcc"] = _mcc(confusion)
    summary["macro_auc"] = _mean(columns["auc"])
    summary["ece"] = _calibration_error(probabilities, labels)
    for name, members in groups(train_counts).items():
        summary[f"recall_{name}"] = _mean(recall[members])
    return Evaluation({name: summary[name] for name in (*METRICS, *COUNTS)}, columns, confusion)


def quick(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> dict[str, float | None]:
    """Compute the metrics of `QUICK` alone, equal to those of `evaluate`.

    Args:
        probabilities: ``float32[n, C]``, rows that sum to 1.
        labels: ``int64[n]``, in ``[0, C)``.

    Raises:
        ValueError: As `evaluate`.
    """
    _, _, summary = _hard(*_checked(probabilities, labels))
    return {name: summary[name] for name in QUICK}


def groups(train_counts: NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]:
    """Return which classes are many (> 100 training samples), medium (20–100) and few (< 20).

    The convention of OLTR (Liu et al. 2019) and most long-tail papers.

    Args:
        train_counts: ``int64[C]``, original training samples per class.
    """
    counts = np.asarray(train_counts)
    many, few = counts > 100, counts < 20
    return {"many": many, "medium": ~many & ~few, "few": few}


def _checked(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.floating], Ints]:
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities {probabilities.shape} and labels {labels.shape} do not fit: "
            "[n, C] and [n] are expected"
        )
    if not probabilities.size:
        raise ValueError(f"nothing to evaluate: probabilities have shape {probabilities.shape}")
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("probabilities are not finite")
    if low < 0.0 or high > 1.0 + 1e-4:  # a softmax in half precision rounds past 1
        raise ValueError(f"probabilities lie in [{low:g}, {high:g}], outside [0, 1]")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels lie in [{labels.min()}, {labels.max()}], outside [0, {probabilities.shape[1]})"
        )
    return probabilities, labels.astype(np.int64, copy=False)


def _hard(
    probabilities: NDArray[np.floating], labels: Ints
) -> tuple[Ints, dict[str, NDArray[Any]], dict[str, float | None]]:
    """Return the confusion matrix, the columns that derive from it, and the quick metrics."""
    n, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    # one count of pairs, at fixed length: an absent class moves no other
    pairs = np.bincount(labels * classes + predicted, minlength=classes * classes)
    confusion = pairs.astype(np.int64, copy=False).reshape(classes, classes)
    hits, support, claims = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall = _divide(hits, support, np.nan)
    f1 = _divide(2 * hits, support + claims, np.nan)
    f1[support == 0] = np.nan
    columns: dict[str, NDArray[Any]] = {
        "precision": _divide(hits, claims, 0.0),
        "recall": recall,
        "f1": f1,
        "support": support,
        "predicted": claims,
    }
    of_truth = probabilities[np.arange(n), labels].astype(np.float64)
    summary: dict[str, float | None] = {
        "accuracy": float(hits.sum() / n),
        "balanced_accuracy": _mean(recall),
        "macro_f1": _mean(f1),
        "worst_class_recall": float(np.nanmin(recall)),
        # scikit-learn's clipping for float32, so that an underflow costs 15.9 and not infinity
        "nll": float(-np.log(np.clip(of_truth, _EPS, 1.0 - _EPS)).mean()),
        "n": n,
        "absent_classes": int((support == 0).sum()),
    }
    return confusion, columns, summary


def _ranked(probabilities: NDArray[np.floating], labels: Ints) -> tuple[Floats, Floats]:
    """Return average precision and one-vs-rest AUC of every class, ties counted right.

    Only the positives of a class need a rank. With s a positive's score and, among all n scores of
    the class, `below` less than s and `upto` at most s, its midrank is (below + upto + 1) / 2 and
    AUC is the Mann–Whitney U of the positives over P · N. Average precision is the step sum
    Σ (R_k − R_{k−1}) P_k over distinct scores: every positive adds 1/P times the precision at its
    own score, (positives ≥ s) / (scores ≥ s).
    """
    n, classes = probabilities.shape
    scores = np.sort(np.ascontiguousarray(probabilities.T), axis=1)
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=classes))
    precision, auc = np.full(classes, np.nan), np.full(classes, np.nan)
    for k, end in enumerate(ends):
        rows = by_class[(ends[k - 1] if k else 0) : end]
        positives = len(rows)
        if not positives:
            continue
        own = np.sort(probabilities[rows, k])
        below = np.searchsorted(scores[k], own, "left")
        at_least = positives - np.searchsorted(own, own, "left")
        precision[k] = (at_least / (n - below)).mean()
        if positives < n:
            upto = np.searchsorted(scores[k], own, "right")
            wins = (below + upto + 1).sum() / 2 - positives * (positives + 1) / 2
            auc[k] = wins / (positives * (n - positives))
    return precision, auc


def _mcc(confusion: Ints) -> float:
    """Return the Matthews correlation for C classes (Gorodkin 2004), 0 where it is 0/0."""
    table = confusion.astype(np.float64)
    true, claims, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    together = table.trace() * n - true @ claims
    spread = (n * n - claims @ claims) * (n * n - true @ true)
    return float(together / np.sqrt(spread)) if spread > 0 else 0.0


def _calibration_error(probabilities: NDArray[np.floating], labels: Ints) -> float:
    """Return the top-label ECE over 15 equal-width bins, open below (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(labels))


def _divide(above: Ints, below: Ints, otherwise: float) -> Floats:
    result = np.full(len(below), otherwise)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _mean(values: Floats) -> float | None:
    """Return the mean of what is not NaN, or None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
