"""How numbers and names are written: points, signs, ranges, metrics in words."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.analysis.intervals import UNDECIDED
from harness.metrics import Unit, metric_of


def unit_of(metric: str) -> Unit:
    """Return how a metric is written: most in per cent, differences of them in points."""
    return metric_of(metric).unit


def in_words(metric: str) -> str:
    """Return a metric's name for a sentence."""
    return metric_of(metric).in_words()


def axis_of(metric: str) -> str:
    """Return the label of an axis of differences, which way is better included."""
    name = unit_of(metric).name
    better = "more" if metric_of(metric).higher_is_better else "less"
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
