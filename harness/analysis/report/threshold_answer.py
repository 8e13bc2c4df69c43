"""The sentence that says how much of a gain is only a moved decision threshold."""

import math
from collections.abc import Iterator
from typing import Any

from harness.analysis.decompose import Panel
from harness.analysis.formatting import in_words
from harness.analysis.intervals import EXPLORATORY, FEWEST_SEEDS, SAME, UNDECIDED, verdicts
from harness.analysis.threshold import Threshold
from harness.errors import counted
from harness.experiment.design import NOTHING
from harness.metrics import metric_of

Row = dict[str, Any]

HOW = "decisions: {rules: [argmax, prior]}"


def sentences(found: Threshold, panel: Panel, recipe: str | None) -> Iterator[str]:
    """Yield what of a recipe's gain over doing nothing a free adjustment of both leaves.

    Nothing where no recipe was chosen, or there is no run to compare it with.

    Args:
        found: What rules make of the gains.
        panel: Dataset, reference, model.
        recipe: The recipe that was chosen.
    """
    if recipe is None:
        return
    if not found.rule:
        if recipe != NOTHING:
            yield (
                "How much of it is only a moved decision threshold was not asked: the file's rules "
                f"leave the threshold where it is ({HOW} asks)."
            )
        return
    row, nothing = found.row(panel, recipe), found.row(panel, NOTHING)
    if recipe == NOTHING:
        yield from _of_nothing(found, nothing)
    elif row is None or nothing is None or not row["pairs"]:
        yield from _unknown(found, panel, recipe)
    else:
        yield _parted(found, row, nothing, recipe)


def _unknown(found: Threshold, panel: Panel, recipe: str) -> Iterator[str]:
    """Say which of the two could not be adjusted, and why."""
    for name in (recipe, NOTHING):
        if found.row(panel, name, "argmax") is None:
            return  # there is no run, which is said elsewhere
        if found.row(panel, name) is None:
            called = "doing nothing" if name == NOTHING else name
            why = found.why_not(panel, name) or "it was not computed"
            yield (
                "How much of it is only a moved decision threshold is not known: rule "
                f"{found.rule} could not be fitted for {called} ({why})."
            )
            return


def _of_nothing(found: Threshold, row: Row | None) -> Iterator[str]:
    if row is None:
        return
    own, low, high = _improvement(found, "own", row)
    if _round(found, own) == 0:
        yield f"Moving its decision threshold (rule {found.rule}) changes nothing on average."
        return
    does = "gains" if own > 0 else "would lose"
    free = " for free" if own > 0 else ""
    chance = "" if not _may_be_chance(low, high) else ", which may be chance"
    yield (
        f"Moving its decision threshold (rule {found.rule}) {does} {_size(found, own)} "
        f"{_interval(found, low, high)}{free}{chance}.".replace("  ", " ")
    )


def _may_be_chance(low: float, high: float) -> bool:
    return not (low > 0 or high < 0)


def _parted(found: Threshold, row: Row, nothing: Row, recipe: str) -> str:
    """Return the sentence on a gain, or a loss, that is known in its parts."""
    gain, *_ = _improvement(found, "gain", row)
    part, *of_part = _improvement(found, "threshold_part", row)
    rest, low, high = _improvement(found, "rest", row)
    own, *of_own = _improvement(found, "own", nothing)
    whole, moved, left, free = (_round(found, value) for value in (gain, part, rest, own))
    unit = metric_of(found.metric).unit
    span = _interval(found, low, high)
    both = f"{unit.signed(rest)} {span}".strip()
    end = _ending(found, row, low, high)
    rule = f" (rule {found.rule})"
    all_of, none_of = (
        f"{_mean(*ends)}{word} of".capitalize()
        for ends, word in (((low, high), "all"), (of_part, "none"))
    )
    if free <= 0:
        before, after = (unit.value(nothing["value"] - x) for x in (nothing["own"], 0.0))
        does = (
            "leaves doing nothing as it is"
            if free == 0
            else (f"takes doing nothing from {before} to {after}{unit.percent}")
        )
        return (
            f"A free adjustment{rule} {does}, so {_mean(*of_own)}it explains none of the "
            f"difference; with both adjusted {both} are left{end}."
        )
    if whole > 0 and moved > 0 and left > 0:
        return (
            f"Of the {_size(found, gain)}, {_mean(*of_part)}{unit.value(part)} come from moving "
            "the decision threshold, which doing nothing can have for free; "
            f"{f'{unit.value(rest)} {span}'.strip()} are left{end}{rule}."
        )
    if whole > 0 and moved > 0:
        return (
            f"{all_of} the {_size(found, gain)} come from moving the decision threshold, which "
            f"doing nothing can have for free: with both adjusted {both} are left{end}{rule}."
        )
    if whole > 0:
        return (
            f"{none_of} the {_size(found, gain)} come from moving the decision threshold: with "
            f"both adjusted {both} are left{end}{rule}."
        )
    if whole < 0 and moved < 0 and left < 0:
        return (
            f"Of the {_size(found, gain)} that it loses, {_mean(*of_part)}{unit.value(-part)} come "
            "from a decision threshold in the wrong place, which can be moved for free; with both "
            f"adjusted {both} are left{end}{rule}."
        )
    if whole < 0 and moved < 0:
        return (
            f"{all_of} the {_size(found, gain)} that it loses come from a decision threshold in "
            f"the wrong place, which can be moved for free: with both adjusted {both} are "
            f"left{end}{rule}."
        )
    if whole < 0:
        return (
            f"The loss is {_mean(*of_part)}none of the decision threshold: with both adjusted "
            f"{both} are left{end}{rule}."
        )
    return f"With the decision thresholds of both moved, {recipe} has {both}{end}{rule}."


def _mean(low: float, high: float) -> str:
    """Return what is put before a share that the interval holds on average alone."""
    return "on average " if low <= 0 <= high and low < high else ""


def _ending(found: Threshold, row: Row, low: float, high: float) -> str:
    """Return what the interval of the rest says of it, and Holm's p-value where it is a claim."""
    unit, pairs = metric_of(found.metric).unit, int(row["pairs"])
    (verdict,) = verdicts(low, high, found.margin)
    if verdict == EXPLORATORY:
        few = "exploratory, no interval" if pairs < FEWEST_SEEDS else "all alike: no interval"
        return f", from {counted(pairs, 'pair')}: {few}"
    if verdict == SAME:
        name = f" {unit.name}" if unit.name else ""
        return f", no difference within ±{found.margin * unit.scale:g}{name}"
    if verdict == UNDECIDED:
        return ", which may be chance"
    if found.rule != found.primary:
        return ", which by itself is more than chance"
    if row["verdict"] == UNDECIDED:
        asked = int(found.table["p_holm"].notna().sum())
        return f", which may be chance among the {counted(asked, 'recipe')} compared (Holm)"
    return ", which is more than chance"


def _improvement(found: Threshold, part: str, row: Row) -> tuple[float, float, float]:
    """Return a part with its interval, such that more is better."""
    value, low, high = (row[f"{part}{end}"] for end in ("", "_low", "_high"))
    return (value, low, high) if metric_of(found.metric).higher_is_better else (-value, -high, -low)


def _round(found: Threshold, value: float) -> float:
    """Return a value as it is shown, so that what reads 0.0 is none."""
    unit = metric_of(found.metric).unit
    return round(value * unit.scale, unit.digits)


def _size(found: Threshold, value: float) -> str:
    unit = metric_of(found.metric).unit
    size = unit.value(abs(value))
    return f"{size} {unit.name}" if unit.name else f"{size} in {in_words(found.metric)}"


def _interval(found: Threshold, low: float, high: float) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return metric_of(found.metric).unit.interval(low, high)
