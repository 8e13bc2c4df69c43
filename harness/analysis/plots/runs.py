"""Plots of runs: how they learned, and how sure they are of what they say."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.analysis import svg
from harness.analysis.svg import GREY, SERIES, WIDTH, Canvas, Picture


def learning_curves(curves: pd.DataFrame, label: str, recipes: Sequence[str]) -> Picture:
    """Draw mean curves over the budget, each with its 95 % band over seeds.

    Args:
        curves: From `harness.analysis.curves.learning_curves`, of one dataset and model.
        label: What is drawn.
        recipes: Which, in order; at most five.
    """
    recipes = [name for name in recipes if (curves["recipe"] == name).any()][: len(SERIES)]
    part = curves[curves["recipe"].isin(recipes)]
    low, high = svg.around(part["mean"].tolist())
    scale, across = svg.Scale(low, high, 190, 12), svg.Scale(0, 100, 52, WIDTH - 12)
    canvas = Canvas(236 + 16 * len(recipes))
    svg.beside(canvas, scale, 52, WIDTH - 12, ".3g")
    svg.below(canvas, across, 12, 190, "per cent of the budget", "g")
    said = []
    for (colour, dash), recipe in zip(SERIES, recipes, strict=False):
        rows = part[part["recipe"] == recipe]
        x = [across(100 * f) for f in rows["fraction"]]
        ends = [[scale(v) for v in rows[name]] for name in ("high", "low")]
        if rows["low"].notna().all():
            outline = [*zip(x, ends[0], strict=True), *zip(x[::-1], ends[1][::-1], strict=True)]
            canvas.path(outline, fill=colour, width=0, opacity=0.14)
        canvas.path(
            [(a, scale(v)) for a, v in zip(x, rows["mean"], strict=True)], colour, dash=dash
        )
        said.append(f"{recipe} ends at {rows['mean'].iloc[-1]:.3g}")
    svg.legend(canvas, 52, 244, recipes, WIDTH - 64)
    return canvas.picture(label, "; ".join(said))


def reliability(bins: Mapping[str, pd.DataFrame]) -> Picture:
    """Draw how often recipes are right against how sure they are; the diagonal is calibrated.

    Args:
        bins: Tables of `harness.analysis.curves.reliability` by recipe; at most five.
    """
    canvas = Canvas(290 + 16 * len(bins))
    scale, across = svg.Scale(0, 100, 244, 12), svg.Scale(0, 100, 52, 284)
    svg.beside(canvas, scale, 52, 284, "g")
    svg.below(canvas, across, 12, 244, "confidence, %", "g")
    canvas.line((across(0), scale(0)), (across(100), scale(100)), GREY, 1.2, "4 3")
    canvas.text(300, 24, "right, % (upwards)", fill=GREY, size=11.5)
    canvas.text(300, 42, "above the diagonal:", fill=GREY, size=11.5)
    canvas.text(300, 58, "too unsure; below it:", fill=GREY, size=11.5)
    canvas.text(300, 74, "too sure. Larger dots:", fill=GREY, size=11.5)
    canvas.text(300, 90, "more test samples", fill=GREY, size=11.5)
    said = []
    for (colour, dash), (recipe, table) in zip(SERIES, bins.items(), strict=False):
        sure, right, n = table[["confidence", "accuracy", "n"]].to_numpy(float).T
        points = [(across(100 * a), scale(100 * b)) for a, b in zip(sure, right, strict=True)]
        canvas.path(points, colour, dash=dash)
        for (x, y), share in zip(points, n / max(n.sum(), 1), strict=True):
            canvas.dot(x, y, colour, 2 + 6 * math.sqrt(share))
        gap = float((right - sure) @ n / max(n.sum(), 1))
        said.append(
            f"{recipe} is {'less' if gap > 0 else 'more'} sure than right by "
            f"{100 * abs(gap):.1f} points on average"
        )
    svg.legend(canvas, 52, 298, list(bins), WIDTH - 64)
    return canvas.picture("Reliability", "; ".join(said))
