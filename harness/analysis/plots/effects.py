"""Plots of effects: each level's, two together, and what a gain costs."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.analysis import svg
from harness.analysis.formatting import axis_of, holm_says, in_words, unit_of
from harness.analysis.intervals import BETTER, MARGIN, SAME, WORSE
from harness.analysis.svg import BLUE, FAINT, GREY, INK, ORANGE, SERIES, WIDTH, Canvas, Picture

_COLOURS = {BETTER: BLUE, WORSE: ORANGE, SAME: INK}


def main_effects(effects: pd.DataFrame, margin: float = MARGIN) -> Picture:
    """Draw each level's effect with its intervals: thick on this test set, thin on new images.

    Args:
        effects: Rows of `harness.analysis.effects.main_effects` for one dataset and model.
        margin: Largest difference that does not matter; drawn as a band.
    """
    shown = effects[effects["estimate"].notna()]
    several = shown["factor"].duplicated(keep=False)
    labels = [
        level if level == factor or not more else f"{factor}: {level}"
        for factor, level, more in zip(shown["factor"], shown["level"], several, strict=True)
    ]
    return _forest(shown.assign(label=labels), "Main effects", margin)


def interactions(effects: pd.DataFrame, margin: float = MARGIN, most: int = 12) -> Picture:
    """Draw the interactions of largest size: how far two levels do more or less than their sum.

    Args:
        effects: Rows of `harness.analysis.effects.interactions` for one dataset and model.
        margin: Largest difference that does not matter; drawn as a band.
        most: Most interactions to draw.
    """
    known = effects[effects["estimate"].notna()]
    order = known["estimate"].abs().sort_values(ascending=False, kind="stable").index[:most]
    shown = known.loc[order]
    labels = [f"{a} × {b}" for a, b in zip(shown["level_a"], shown["level_b"], strict=True)]
    return _forest(shown.assign(label=labels), "Interactions", margin)


def _forest(rows: pd.DataFrame, title: str, margin: float) -> Picture:
    """Draw one row per estimate: its label and value above its interval."""
    metric = str(rows["metric"].iloc[0]) if len(rows) else "balanced_accuracy"
    unit, step, top = unit_of(metric), 38, 8
    ends = [name for name in ("estimate", "low", "high", "new_low", "new_high") if name in rows]
    low, high = svg.around(rows[ends].to_numpy(float).ravel().tolist(), (-margin, margin))
    scale = svg.Scale(low * unit.scale, high * unit.scale, 12, WIDTH - 12)
    bottom = top + step * len(rows) + 4
    canvas = Canvas(bottom + 42)
    at = margin * unit.scale
    canvas.rect(scale(-at), top, scale(at) - scale(-at), bottom - top, svg.BAND)
    svg.below(canvas, scale, top, bottom, axis_of(metric), "g")
    canvas.line((scale(0), top), (scale(0), bottom), GREY, 1.4)
    said = []
    for place, row in enumerate(rows.to_dict("records")):
        y = top + step * place
        value = f"{unit.signed(row['estimate'])} {unit.interval(row['low'], row['high'])}".strip()
        why = holm_says(row)
        canvas.text(12, y + 14, row["label"], bold=True, room=WIDTH - (240 if why else 170))
        shown = f"{value} · p {row['p_holm']:.2g}" if why else value
        canvas.text(WIDTH - 12, y + 14, shown, "end", size=11.5)
        _whisker(canvas, scale, y + 26, row, unit.scale)
        said.append(f"{row['label']} {value}: {row.get('verdict', '')}{f' ({why})' if why else ''}")
    return canvas.picture(title, "; ".join(said) or "nothing could be estimated")


def _whisker(canvas: Canvas, scale: svg.Scale, y: float, row: dict[Any, Any], times: float) -> None:
    colour = _COLOURS.get(row.get("verdict", ""), GREY)
    for names, width in ((("new_low", "new_high"), 1.6), (("low", "high"), 4.5)):
        low, high = (row.get(name, math.nan) for name in names)
        if math.isfinite(low) and math.isfinite(high):
            canvas.line((scale(low * times), y), (scale(high * times), y), colour, width)
            if width < 2:
                for end in (low, high):
                    x = scale(end * times)
                    canvas.line((x, y - 4), (x, y + 4), colour, width)
    canvas.dot(scale(row["estimate"] * times), y, colour, hollow=colour == GREY)


def cell_means(means: pd.DataFrame, metric: str) -> Picture:
    """Draw how one factor's levels do at each level of another: crossing lines interact.

    Args:
        means: Columns ``a``, ``b`` (levels of two factors) and ``mean``, one row per pair.
        metric: What the mean is of.
    """
    unit = unit_of(metric)
    across, lines = list(dict.fromkeys(means["a"])), list(dict.fromkeys(means["b"]))
    low, high = svg.around((means["mean"] * unit.scale).tolist())
    scale = svg.Scale(low, high, 178, 12)
    canvas = Canvas(206 + 16 * len(lines))
    svg.beside(canvas, scale, 48, WIDTH - 12, "g")
    room = (WIDTH - 220) / max(len(across) - 1, 1)
    places = {level: 130 + room * i for i, level in enumerate(across)}
    for level, x in places.items():
        canvas.text(x, 196, level, "middle", size=11.5, room=room)
    said = []
    for (colour, dash), level in zip(SERIES, lines, strict=False):
        part = means[means["b"] == level]
        points = [
            (places[a], scale(v * unit.scale)) for a, v in zip(part["a"], part["mean"], strict=True)
        ]
        canvas.path(points, colour, dash=dash)
        for x, y in points:
            canvas.dot(x, y, colour)
        ends = ", ".join(
            f"{unit.value(v)} at {a}" for a, v in zip(part["a"], part["mean"], strict=True)
        )
        said.append(f"{level}: {ends}")
    svg.legend(canvas, 94, 218, lines, WIDTH - 106)
    return canvas.picture(f"Mean {in_words(metric)} by two factors", "; ".join(said))


def cost(costs: pd.DataFrame, metric: str) -> Picture:
    """Draw each recipe's gain against what a run of it costs; no other does better for less.

    Args:
        costs: Columns ``recipe, gain, relative`` (seconds as a multiple of doing nothing's).
        metric: What the gain is of.
    """
    known = costs.dropna(subset=["gain", "relative"])
    unit = unit_of(metric)
    gains = (known["gain"] * unit.scale).tolist()
    scale = svg.Scale(*svg.around(gains, (0,)), 200, 26)
    across = svg.Scale(*svg.around(known["relative"].tolist(), (1,)), 52, WIDTH - 14)
    canvas = Canvas(246)
    canvas.text(52, 14, axis_of(metric), fill=GREY, size=11.5, room=WIDTH - 60)
    svg.beside(canvas, scale, 52, WIDTH - 14, "g")
    canvas.line((52, scale(0)), (WIDTH - 14, scale(0)), GREY, 1.4)
    svg.below(canvas, across, 26, 200, "seconds of a run, × those of nothing", "g")
    for row, gain in zip(known.to_dict("records"), gains, strict=True):
        hint = f"{row['recipe']}: {gain:+.{unit.digits}f}, {row['relative']:.2f} × the time"
        best = bool(row["frontier"])
        canvas.dot(
            across(row["relative"]),
            scale(gain),
            BLUE if best else GREY,
            4,
            hollow=not best,
            hint=hint,
        )
    said = [
        f"{row['recipe']} {unit.signed(row['gain'])} at {row['relative']:.2f} × the time"
        for row in known[known["frontier"]].to_dict("records")
    ]
    return canvas.picture("Gain against cost", "none does better for less than: " + "; ".join(said))


def strip(values: Sequence[float], low: float, high: float, span: tuple[float, float]) -> Picture:
    """Draw a difference as a small strip for a table: a dot per seed over the interval.

    Args:
        values: Paired differences, one per seed.
        low: End of the interval, or NaN.
        high: End of the interval, or NaN.
        span: Range of the strip, the same for a whole table.
    """
    canvas, scale = Canvas(18, 130), svg.Scale(*span, 4, 126)
    canvas.line((scale(0), 1), (scale(0), 17), GREY)
    canvas.line((4, 9), (126, 9), FAINT)
    if math.isfinite(low) and math.isfinite(high):
        colour = BLUE if low > 0 else ORANGE if high < 0 else GREY
        canvas.line((scale(low), 9), (scale(high), 9), colour, 5)
    for value in values:
        if math.isfinite(value):
            canvas.dot(scale(value), 9, INK, 2)
    return canvas.picture("", "")
