"""Metrics of one split, computed once over all of its stored predictions.

Never averaged over batches. Classes without a sample are left out of means; what cannot be computed
at all (the recall of an empty group) is None, never 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.base import Metric, metric_of
from harness.metrics.split import Ints, Split

STANDARD = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "worst_class_recall",
    "g_mean",
    "mcc",
    "macro_auc",
    "ece",
    "nll",
    "recall_many",
    "recall_medium",
    "recall_few",
    "macro_average_precision",
)
"""What every run is measured by."""

OF_TWO = (
    "rare_average_precision",
    "rare_roc_auc",
    "rare_precision",
    "rare_recall",
    "rare_f1",
)
"""What runs with two classes are measured by besides."""

COUNTS = ("n", "absent_classes")
"""What stands beside the metrics in a summary and is none: samples, and classes without one."""


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on one split.

    Attributes:
        summary: Value of each metric by its label (None where it is undefined), and of `COUNTS`.
        per_class: Arrays of length C by column: ``precision``, ``recall``, ``f1``, ``support``,
            ``predicted``, ``average_precision``, ``auc``, ``train_count``.
        confusion: ``int64[C, C]``: rows are true classes, columns decided ones.
    """

    summary: dict[str, float | None]
    per_class: dict[str, NDArray[Any]]
    confusion: Ints


def standard(classes: int) -> tuple[str, ...]:
    """Return what runs with so many classes are measured by."""
    return (*STANDARD, *OF_TWO) if classes == 2 else STANDARD


def during_training(primary: str, chooses: bool) -> tuple[str, ...]:
    """Return what each validation during training computes: what is quick, and what is gone by.

    Args:
        primary: Label of the primary metric.
        chooses: Whether it chooses the weights, however long it takes.
    """
    quick = [name for name in STANDARD if metric_of(name).quick]
    own = [primary] if chooses or metric_of(primary).quick else []
    return tuple(dict.fromkeys([*quick, *own]))


def evaluate(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    train_counts: NDArray[np.integer],
    *,
    decisions: NDArray[np.integer] | None = None,
    metrics: Iterable[str | Metric] | None = None,
    class_names: Sequence[str] = (),
) -> Evaluation:
    """Measure a whole split.

    Args:
        probabilities: ``float32[n, C]``, rows that sum to 1.
        labels: ``int64[n]``, in ``[0, C)``.
        train_counts: ``int64[C]``, original training samples per class.
        decisions: ``int64[n]``, the class that a rule decided on for each sample; by default the
            most probable one. Metrics of probabilities do not change by it.
        metrics: What to compute, by label or as objects; by default `standard`.
        class_names: C display names, for metrics that name a class.

    Raises:
        ValueError: Shapes do not fit, a label or decision lies outside ``[0, C)``, the split is
            empty, or a probability is not finite or outside [0, 1].
    """
    split = Split.checked(probabilities, labels, train_counts, decisions, class_names)
    columns: dict[str, NDArray[Any]] = {
        "precision": split.precision,
        "recall": split.recall,
        "f1": split.f1,
        "support": split.support,
        "predicted": split.predicted,
        "average_precision": split.average_precision,
        "auc": split.auc,
        "train_count": split.train_counts,
    }
    summary = scores(split, standard(split.classes) if metrics is None else metrics)
    summary |= {"n": len(split.labels), "absent_classes": int((split.support == 0).sum())}
    return Evaluation(summary, columns, split.confusion)


def scores(split: Split, metrics: Iterable[str | Metric]) -> dict[str, float | None]:
    """Return the value of each metric by its label; less work than a whole `evaluate`."""
    found: dict[str, float | None] = {}
    for item in metrics:
        metric = metric_of(item) if isinstance(item, str) else item
        value = metric.value(split)
        found[metric.label()] = None if value is None or not np.isfinite(value) else float(value)
    return found
