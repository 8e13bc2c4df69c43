"""Plot of gains taken apart: what is a moved decision threshold, and what is left."""

import math

import pandas as pd

from harness.analysis import svg
from harness.analysis.formatting import axis_of, unit_of
from harness.analysis.intervals import BETTER, MARGIN, SAME, WORSE
from harness.analysis.svg import BLUE, GREY, INK, ORANGE, WIDTH, Canvas, Picture

_COLOURS = {BETTER: BLUE, WORSE: ORANGE, SAME: INK}
_STEP = 30


def threshold_parts(parts: pd.DataFrame, margin: float = MARGIN) -> Picture:
    """Draw each recipe's gain over doing nothing and what is left of it with both adjusted.

    A hollow dot is the gain with outputs as they are, a filled one the rest, over its 95 %
    interval; the thin line between them is the threshold part.

    Args:
        parts: Rows of `harness.analysis.threshold.Threshold.table` for one dataset, model, rule
            and metric, in the order to draw.
        margin: Largest difference that does not matter; drawn as a band.
    """
    shown = parts[parts["rest"].notna()]
    metric = str(parts["metric"].iloc[0]) if len(parts) else "balanced_accuracy"
    unit, top = unit_of(metric), 34
    ends = shown[["gain", "rest", "rest_low", "rest_high"]].to_numpy(float).ravel().tolist()
    low, high = svg.around(ends, (-margin, margin))
    scale = svg.Scale(low * unit.scale, high * unit.scale, 12, WIDTH - 12)
    bottom = top + _STEP * len(shown) + 4
    canvas = Canvas(bottom + 42)
    canvas.dot(18, 14, GREY, 4, hollow=True)
    canvas.text(28, 18, "gain, outputs as they are", size=11.5)
    canvas.dot(188, 14, GREY, 4)
    canvas.text(198, 18, "rest, both adjusted, with 95 % interval", size=11.5)
    at = margin * unit.scale
    canvas.rect(scale(-at), top, scale(at) - scale(-at), bottom - top, svg.BAND)
    svg.below(canvas, scale, top, bottom, axis_of(metric), "g")
    canvas.line((scale(0), top), (scale(0), bottom), GREY, 1.4)
    said = []
    for place, row in enumerate(shown.to_dict("records")):
        y = top + _STEP * place
        gain, rest = (scale(row[name] * unit.scale) for name in ("gain", "rest"))
        colour = _COLOURS.get(row["verdict"], GREY)
        words = f"{unit.signed(row['gain'])} → {unit.signed(row['rest'])}"
        canvas.text(12, y + 12, row["recipe"], bold=True, size=11.5, room=WIDTH - 120)
        canvas.text(WIDTH - 12, y + 12, words, "end", size=11.5)
        if math.isfinite(row["rest_low"]):
            span = [scale(row[name] * unit.scale) for name in ("rest_low", "rest_high")]
            canvas.line((span[0], y + 22), (span[1], y + 22), colour, 4.5)
        canvas.line((gain, y + 22), (rest, y + 22), INK, 1.2)
        canvas.dot(gain, y + 22, GREY, 4, hollow=True)
        canvas.dot(rest, y + 22, colour, 4)
        interval = unit.interval(row["rest_low"], row["rest_high"])
        said.append(f"{row['recipe']} {words} {interval}".strip())
    return canvas.picture("Gain, and what is left with both adjusted", "; ".join(said))
