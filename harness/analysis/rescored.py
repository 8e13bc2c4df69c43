"""Metrics of finished runs that their results do not hold, from their stored predictions.

Nothing is trained for it: a metric of one's own, or one with parameters, is always computed anew,
so that it is what its code says today.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.formatting import unreadable
from harness.errors import ConfigError, StoreError
from harness.metrics import OF_TWO, STANDARD, Metric, Split, metric_of, scores
from harness.text import named_error
from harness.training.run_result import recall_run
from harness.training.rundir import PREDICTIONS

STORED = (*STANDARD, *OF_TWO)
"""Metrics whose value is taken from the result of a run, where it is there."""

SPLITS = ("val", "test")


def labels_of(metrics: Iterable[str | Metric]) -> list[str]:
    """Return the label of each metric, once."""
    return list(dict.fromkeys(m if isinstance(m, str) else m.label() for m in metrics))


def known(labels: Iterable[str]) -> list[str]:
    """Return those of which there is a metric: of a plugin that is not loaded there is none."""
    found = []
    for label in labels:
        try:
            metric_of(label)
        except ConfigError:
            continue
        found.append(label)
    return found


def wanted(labels: Iterable[str], values: Mapping[str, Any], classes: int) -> list[str]:
    """Return the metrics that are to be computed for a run.

    Args:
        labels: What is asked for.
        values: What its result says of test.
        classes: How many it has; a run with two has `OF_TWO` too, also one of before they were.
    """
    asked = dict.fromkeys([*labels, *(OF_TWO if classes == 2 else ())])
    return [label for label in asked if label not in STORED or label not in values]


def rescored(
    folder: str,
    labels: Iterable[str],
    result: Mapping[str, Any],
    splits: Sequence[str] = SPLITS,
) -> tuple[dict[str, float], list[str]]:
    """Return metrics of a finished run by column, such as ``test_f_beta(beta=3)``, and remarks.

    NaN where a metric is not defined, or could not be computed: then a remark says why.

    Args:
        folder: Of the run.
        labels: What to compute.
        result: Its ``result.json``.
        splits: Of which splits.

    Raises:
        StoreError: The predictions are missing or damaged.
    """
    counts = np.array(result["train_counts"], np.int64)
    values: dict[str, float] = {}
    remarks: list[str] = []
    for name, (probabilities, truth) in _predictions(folder, splits).items():
        try:
            split = Split.checked(
                probabilities, truth, counts, class_names=tuple(result["class_names"])
            )
        except ValueError as error:
            raise StoreError(unreadable(Path(folder) / PREDICTIONS, error)) from None
        for label in labels:
            try:
                found = scores(split, [label])[label]
            except Exception as error:  # of a plugin
                remarks.append(f"{label} could not be computed: {named_error(error)}")
                found = None
            values[f"{name}_{label}"] = np.nan if found is None else found
    return values, list(dict.fromkeys(remarks))


def _predictions(folder: str, splits: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Return probabilities and labels of each split that a run has predictions of."""
    run = recall_run(folder)
    there = run.splits()
    found = {name: run.predictions(name) for name in splits if name in there}
    return {name: (arrays["probabilities"], arrays["labels"]) for name, arrays in found.items()}
