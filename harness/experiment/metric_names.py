"""Names of the summary metrics, and which way is better.

Pure names: what a metric computes is in `harness.training.metrics`, which a plan does not import.
"""

import math

METRICS: dict[str, bool] = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "worst_class_recall": True,
    "g_mean": True,
    "mcc": True,
    "macro_auc": True,
    "ece": False,
    "nll": False,
    "recall_many": True,
    "recall_medium": True,
    "recall_few": True,
}
"""Summary metric -> whether higher is better."""

_SPANS = {"mcc": 2.0, "nll": math.inf}


def span(metric: str) -> float:
    """Return the largest difference that two values of a metric can have: 1 of a share."""
    return _SPANS.get(metric, 1.0 if metric in METRICS else math.inf)


QUICK = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall", "nll")
"""The metrics that are computed at every validation during training."""

COUNTS = ("n", "absent_classes")
"""What stands beside the metrics in a summary and is none: samples, and classes without one."""
