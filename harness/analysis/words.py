"""How numbers and names are written: points, signs, ranges, metrics in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.intervals import UNDECIDED
from harness.experiment.metric_names import METRICS

_PLAIN = ("nll", "mcc", "ece")
"""Metrics that nobody reads as a percentage."""

_NAMES = {
    "nll": "negative log-likelihood",
    "mcc": "Matthews correlation",
    "ece": "calibration error",
    "g_mean": "G-mean",
    "macro_f1": "macro-F1",
    "macro_auc": "macro AUC",
    "recall_many": "recall of frequent classes",
    "recall_medium": "recall of medium classes",
    "recall_few": "recall of rare classes",
}


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written.

    Attributes:
        scale: What they are multiplied with.
        digits: Decimal places.
        name: ``points`` for differences of a percentage, else empty.
    """

    scale: float
    digits: int
    name: str

    def value(self, value: float | None, otherwise: str = "n/a") -> str:
        """Return a value: ``95.5``."""
        if value is None or not math.isfinite(value):
            return otherwise
        return f"{value * self.scale:.{self.digits}f}".replace("-", "−")

    def signed(self, value: float | None, otherwise: str = "n/a") -> str:
        """Return a difference with its sign: ``+4.1``."""
        if value is None or not math.isfinite(value):
            return otherwise
        text = f"{value * self.scale:+.{self.digits}f}"
        return text.replace("-", "−") if float(text) else text.lstrip("+-")

    def interval(self, low: float | None, high: float | None, otherwise: str = "") -> str:
        """Return an interval of differences: ``[−1.0, +11.2]``."""
        if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
            return otherwise
        return f"[{self.signed(low)}, {self.signed(high)}]"


def unit_of(metric: str) -> Unit:
    """Return how a metric is written: most in per cent, differences of them in points."""
    return Unit(1.0, 3, "") if metric in _PLAIN else Unit(100.0, 1, "points")


def in_words(metric: str) -> str:
    """Return a metric's name for a sentence."""
    return _NAMES.get(metric, metric.replace("_", " "))


def axis_of(metric: str) -> str:
    """Return the label of an axis of differences, which way is better included."""
    name = unit_of(metric).name
    better = "more" if METRICS[metric] else "less"
    return f"{f'{name} of ' if name else ''}{in_words(metric)} ({better} is better)"


def joined(items: Sequence[str], most: int = 6) -> str:
    """Return ``a, b and c``; beyond `most`, how many more there are."""
    shown = [*items[:most], *([f"{len(items) - most} more"] if len(items) > most else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def holm_says(row: Mapping[Any, Any]) -> str:
    """Return why an effect is undecided whose interval, by itself, excludes zero; else nothing.

    Args:
        row: Of `harness.analysis.effects.main_effects`.
    """
    p, asked = row.get("p_holm", math.nan), row.get("asked", math.nan)
    apart = row["low"] > 0 or row["high"] < 0
    if row.get("verdict") != UNDECIDED or not apart or not math.isfinite(p):
        return ""
    return f"{asked:.0f} asked at once, p = {p:.2g} by Holm"


def unreadable(file: Path, error: Exception) -> str:
    """Return that a file of a run cannot be read, by the run's name: pages are shown elsewhere."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    why = "it is damaged" if "allow_pickle" in str(why) else why  # numpy advises to trust it
    again = "delete the folder of this run and run again to have it whole"
    return f"{file.parent.name}/{file.name} cannot be read: {why}; {again}"


def seconds(value: float | None) -> str:
    """Return a duration: ``0.56 s``, ``12 s``, ``3 min``, ``1.5 h``."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if value < 90:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
