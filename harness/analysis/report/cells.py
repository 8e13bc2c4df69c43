"""Cells that several tables share: numbers that sort, differences that say what they mean."""

import math
from typing import Any

from harness.analysis.formatting import unit_of
from harness.analysis.intervals import BETTER, SAME, WORSE
from harness.analysis.report.document import Cell
from harness.metrics import Unit, metric_of

MARKS = {BETTER: " ▲", WORSE: " ▼", SAME: " ≈"}
LEGEND = "▲ better, ▼ worse than doing nothing; unmarked: undecided; ≈ no difference: inside"


def number(value: float | None, unit: Unit) -> Cell:
    """Return a value that sorts as the number it is."""
    known = value is not None and math.isfinite(value)
    return Cell(unit.value(value), value if known else -math.inf)


def text(value: Any, most: int = 60) -> Cell:
    """Return a name; a long one is cut in its middle and whole in the hint."""
    said = str(value)
    if len(said) <= most:
        return Cell(said)
    half = most // 2
    return Cell(f"{said[:half]}…{said[-half + 1 :]}", said, hint=said)


def gain(value: float, metric: str, verdict: str = "", shaded: bool = False) -> Cell:
    """Return a difference with the mark of its verdict, perhaps shaded by its size."""
    unit = unit_of(metric)
    if not math.isfinite(value):
        return Cell("", -math.inf)
    worth = value if metric_of(metric).higher_is_better else -value
    shade = max(-1.0, min(1.0, worth / unit.full)) if shaded else None
    return Cell(unit.signed(value) + MARKS.get(verdict, ""), value, verdict, shade)


def interval(low: float, high: float, metric: str) -> Cell:
    """Return an interval that sorts by its lower end."""
    said = unit_of(metric).interval(low, high)
    return Cell(said, low if said else -math.inf)


def p_value(value: float) -> Cell:
    """Return a p-value."""
    if not math.isfinite(value):
        return Cell("", math.inf)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
