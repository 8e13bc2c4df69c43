"""Plots of classes: the recall of each, and which is taken for which."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import svg
from harness.analysis.classes import in_order
from harness.analysis.svg import BLUE, GREY, INK, ORANGE, WIDTH, Canvas, Picture

_MOST_CLASSES = 30
_MOST_CELLS = 20
_SLOPED = 72.0
"""Height of the names below a matrix where they stand along a slope."""

_LIGHT, _DARK = np.array([247, 250, 253]), np.array([8, 60, 110])


def class_recalls(classes: pd.DataFrame, recipe: str) -> Picture:
    """Draw the recall of each class under a recipe and under doing nothing, frequent ones first.

    Args:
        classes: Rows of `harness.analysis.classes.class_differences` for one recipe.
        recipe: What it is called.
    """
    order = in_order(classes)
    if len(order) > _MOST_CLASSES:
        return _recalls_by_count(order, recipe)
    left, top, step = 150, 40, 22
    bottom = top + step * len(order)
    canvas, scale = Canvas(bottom + 42), svg.Scale(0, 100, left, WIDTH - 14)
    canvas.dot(10, 12, GREY, hollow=True)
    canvas.text(20, 16, "nothing", size=11.5)
    canvas.dot(86, 12, BLUE)
    canvas.text(96, 16, recipe, size=11.5, room=WIDTH - 124)
    svg.below(canvas, scale, top - 6, bottom, "recall on test, %", "g")
    said = []
    for place, row in enumerate(order.to_dict("records")):
        y = top + step * place + 8
        canvas.text(
            left - 10, y + 4, f"{row['name']} ({row['train_count']:g})", "end", room=left - 14
        )
        before, after = row["nothing"] * 100, row["value"] * 100
        if math.isnan(after):
            canvas.text(left + 4, y + 4, "no test sample", fill=GREY, size=11.5)
            continue
        if math.isfinite(row["wilson_low"]):
            ends = (scale(row["wilson_low"] * 100), y), (scale(row["wilson_high"] * 100), y)
            canvas.line(*ends, "#9fc3dd", 1.6)
        if math.isfinite(before):
            canvas.line((scale(before), y), (scale(after), y), BLUE if after >= before else ORANGE)
            canvas.dot(scale(before), y, GREY, hollow=True)
        canvas.dot(scale(after), y, BLUE if not after < before else ORANGE)
        said.append(f"{row['name']} {before:.0f} to {after:.0f} %")
    return canvas.picture("Recall by class, most training samples first", "; ".join(said))


def _recalls_by_count(order: pd.DataFrame, recipe: str) -> Picture:
    """Draw the gain in recall of each of many classes over its number of training images."""
    known = order.dropna(subset="gain")
    counts, gains = known["train_count"].tolist(), (known["gain"] * 100).tolist()
    canvas = Canvas(250)
    across = svg.Scale(
        max(min(counts, default=1) * 0.9, 0.5),
        max(counts, default=1) * 1.1,
        46,
        WIDTH - 12,
        log=True,
    )
    scale = svg.Scale(*svg.around(gains, (0,)), 200, 12)
    svg.beside(canvas, scale, 46, WIDTH - 12, "g")
    canvas.line((46, scale(0)), (WIDTH - 12, scale(0)), GREY, 1.4)
    svg.below(canvas, across, 12, 200, "training samples (log scale)", "g")
    for name, count, gain in zip(known["name"], counts, gains, strict=True):
        colour = BLUE if gain >= 0 else ORANGE
        canvas.dot(across(count), scale(gain), colour, 3, hint=f"{name}: {gain:+.0f} points")
    up = sum(gain > 0 for gain in gains)
    alt = f"{recipe}: recall rises for {up} of {len(gains)} classes"
    return canvas.picture("Gain in recall by number of training samples, points", alt)


def confusion(matrix: NDArray[np.int64], names: Sequence[str], title: str) -> Picture:
    """Draw a confusion matrix, each row as shares of its true class.

    Args:
        matrix: ``int64[C, C]``: rows are true classes, columns predicted ones.
        names: C display names.
        title: What it is of.
    """
    share = matrix / np.maximum(matrix.sum(axis=1), 1)[:, None]
    colours = _LIGHT + np.sqrt(share)[..., None] * (_DARK - _LIGHT)
    count = len(names)
    left, side = 92.0, WIDTH - 100.0
    cell, top = side / count, 26.0
    upright = all(svg.cut(name, cell, 11.5) == svg.plain(name) for name in names)
    # names that are wider than their cell stand along a slope, where each has the same room
    canvas = Canvas(top + side + (30 if upright else _SLOPED))
    canvas.text(left + side / 2, 16, "predicted class", "middle", GREY, 11.5)
    if count > _MOST_CELLS:
        canvas.image(left, top, side, side, svg.png(colours.astype(np.uint8)))
        canvas.text(left - 6, top + 10, "true class", "end", GREY, 11.5)
    else:
        canvas.rect(left, top, side - 0.6, side - 0.6, _colour(_LIGHT))  # of all empty cells
        for i in range(count):
            y = top + cell * (i + 0.5) + 4
            canvas.text(left - 6, y, names[i], "end", size=11.5, room=left - 8)
            x = left + cell * (i + 0.5)
            if upright:
                canvas.text(x, top + side + 14, names[i], "middle", size=11.5)
            else:
                size = min(11.5, cell * 0.95)
                at = x + size / 3, top + side + 10
                canvas.text(*at, names[i], "end", size=size, room=_SLOPED * 1.25, turn=-45)
            for j in np.flatnonzero(share[i]).tolist():
                place = (left + cell * j, top + cell * i, cell)
                _square(canvas, place, float(share[i, j]), _colour(colours[i, j]))
    recalls = [f"{name} {100 * r:.0f} %" for name, r in zip(names, np.diag(share), strict=True)]
    alt = "share of each true class that is recognised: " + ", ".join(recalls[:_MOST_CELLS])
    return canvas.picture(title, alt)


def _colour(parts: NDArray[np.float64]) -> str:
    red, green, blue = (int(part) for part in parts)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _square(canvas: Canvas, place: tuple[float, float, float], share: float, colour: str) -> None:
    x, y, size = place
    canvas.rect(x, y, size - 0.6, size - 0.6, colour)
    if share >= 0.005:
        text = f"{100 * share:.0f}"
        ink = "#fff" if share > 0.3 else INK
        canvas.text(x + size / 2, y + size / 2 + 4, text, "middle", ink, min(11.5, size * 0.45))
