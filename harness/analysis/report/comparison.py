"""The chapters that compare recipes: leaderboard, effects, the balanced reference, cost, datasets.

Each returns a `Section` or None where there is nothing to say.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.analysis import plots
from harness.analysis.compare import Panel
from harness.analysis.effects import ESTIMANDS, POOLED
from harness.analysis.formatting import axis_of, holm_says, in_words, unit_of
from harness.analysis.report import cells
from harness.analysis.report.answer import has_val, is_of_two, margin, no_anew, of_panel, where
from harness.analysis.report.document import (
    Block,
    Cell,
    Column,
    Figure,
    Part,
    Section,
    Table,
)
from harness.analysis.report_data import ReportData
from harness.analysis.tables import records
from harness.errors import counted
from harness.experiment.design import NOTHING
from harness.metrics import FEW, OF_TWO, POINTS, Unit

RECIPES = "Recipes"
"""Title of the chapter with the leaderboards."""

MOST_ROWS = 60
MOST_PANELS = 8
"""Beyond these a page is no longer read; the CSV files have everything."""

_OTHERS = ("recall_few", "worst_class_recall", "macro_f1", "accuracy", "ece", "nll")
"""Metrics whose effects stand beside those of the primary one."""


def section(
    title: str, found: ReportData, make: Callable[[ReportData, Panel], list[Block]]
) -> Section | None:
    """Return a chapter with a part for each dataset and model, or None where all are empty."""
    several = len(found.panels) > 1
    parts = [
        Part(where(found, panel) if several else "", blocks)
        for panel in found.panels[:MOST_PANELS]
        if (blocks := make(found, panel))
    ]
    return Section(title, parts) if parts else None


def recipes(found: ReportData) -> Section | None:
    """Return the leaderboard of each dataset and model, its main effects beside it."""
    parts: list[Part] = []
    for panel in found.panels:
        shown = of_panel(found.effects, panel)
        side: list[Block] = []
        if len(shown) and shown["estimate"].notna().any() and len(parts) < MOST_PANELS:
            caption = f"{_estimand(found)} Thick: 95 % interval on this test set; thin, with "
            caption += f"ends: on new {found.sample}s of this kind. Grey band: ±{margin(found)}. "
            caption += (
                "Filled dots are told apart from zero by Holm's correction for the "
                f"{_asked(shown)}, hollow ones are not, even where an interval by itself leaves "
                "zero out: p beside it is adjusted."
            )
            side = [Figure(plots.main_effects(shown, found.margin), caption)]
        title = where(found, panel) if len(found.panels) > 1 else ""
        parts.append(Part(title, [leaderboard(found, panel, found.board)], side))
    return Section(RECIPES, parts) if parts else None


def _asked(rows: pd.DataFrame) -> str:
    """Return how many effects were asked about at once."""
    return counted(int(rows["asked"].max()), "effect asked at once", "effects asked at once")


def _estimand(found: ReportData) -> str:
    text = ESTIMANDS[found.experiment.design]
    apart = " Tuned recipes stand outside the crossing and play no part."
    return f"{text[0].upper()}{text[1:]}.{apart if found.tuned_names() else ''}"


def leaderboard(found: ReportData, panel: Panel, board: pd.DataFrame) -> Table:
    """Return the recipes of a dataset and model with everything that is said of each."""
    metric, rows = found.metric, of_panel(board, panel)
    gains = {row["recipe"]: row for row in records(of_panel(found.gains, panel))}
    each = _each(found, panel)
    span = _span(each, gains)
    unit, further = unit_of(metric), _further(found, rows)
    has_val_column = has_val(found, panel)
    made = []
    for row in records(rows)[:MOST_ROWS]:
        recipe, of = row["recipe"], gains.get(row["recipe"], {})
        low, high = of.get("low", math.nan), of.get("high", math.nan)
        drawn = plots.strip(each[recipe], low, high, span) if recipe in each else None
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        spread = f" ± {unit.value(row['sd'])}" if math.isfinite(row.get("sd", math.nan)) else ""
        gained = cells.gain(of.get("gain", math.nan), metric, of.get("verdict", ""))
        said = f"{gained.text} {unit.interval(low, high)}".strip()
        made.append(
            [
                cells.text(recipe),
                Cell(unit.value(row.get("test")) + spread, row.get("test", -math.inf)),
                replace(gained, text=said),
                Cell("", low, strip=drawn),
                cells.interval(of.get("new_low", math.nan), of.get("new_high", math.nan), metric),
                *([cells.number(row.get("val"), unit)] * has_val_column),
                *(cells.number(row.get(name), of_unit) for name, _, of_unit in further),
                Cell(f"{row['n']}{failed}", row["n"]),
            ]
        )
    label = f"{in_words(metric)}{', %' if unit.name else ''}"
    columns = [
        Column("recipe", wide=True),
        Column(f"{label} ± sd", "mean and standard deviation over seeds, on test"),
        Column(
            "vs nothing [95 %]",
            "mean paired difference to doing nothing and its 95 % "
            "interval over seeds, on this test set",
        ),
        Column("seeds", "the difference at each seed, over its interval"),
        Column(
            f"[95 %] on new {found.sample}s",
            f"interval of that difference on new {found.sample}s of this kind",
        ),
        *([Column("val", f"mean {label} on val, which the order goes by")] * has_val_column),
        *(column for _, column, _ in further),
        Column("runs"),
    ]
    return Table(columns, made, _board_caption(found, panel, len(rows)), tall=True)


def _further(found: ReportData, rows: pd.DataFrame) -> list[tuple[str, Column, Unit]]:
    """Return column, head and unit of what stands beside the primary metric.

    With two classes: average precision, precision and recall of the rarer one, which balanced
    accuracy does not show. Else the recall of rare classes, and of the worst.
    """
    if is_of_two(rows):
        shown = [
            ("rare_average_precision", "rare AP"),
            ("rare_precision", "rare precision"),
            ("rare_recall", "rare recall"),
        ]
        made = [(name, Column(head, f"{in_words(name)}, %"), POINTS) for name, head in shown]
    else:
        rare = f"recall of classes with fewer than {FEW} training {found.sample}s, %"
        made = [("few", Column("rare", rare), POINTS)]
        made += [("worst_class", Column("worst", "recall of the worst class, %"), POINTS)]
    own = [name for name in found.experiment.metrics if name in rows]
    made += [(n, Column(f"{n}{unit_of(n).percent}", in_words(n)), unit_of(n)) for n in own]
    return made


def _board_caption(found: ReportData, panel: Panel, rows: int) -> str:
    by = f"on {found.by}" if has_val(found, panel) else "on test, for want of val: optimistic"
    cut = f" The best {MOST_ROWS} of {rows} recipes." if rows > MOST_ROWS else ""
    unread = counted(found.not_detailed, "recipe was", "recipes were")
    left = f" Predictions of {unread} not read." if found.not_detailed else ""
    none = no_anew(found, panel)
    doubts = "".join(f" {doubt.sentence()}." for doubt in found.doubts.get(panel, ()))
    folds = " (corrected for folds)" if found.experiment.folds else ""
    return (
        f"Best {by} first; figures are of test but for val, means over seeds.{cut} Dots: one per "
        f"seed. Intervals are Student's{folds}, of paired differences, each by itself. "
        f"{cells.LEGEND} ±{margin(found)}.{left}{f' {none}' if none else ''}{doubts}"
    )


def _each(found: ReportData, panel: Panel) -> dict[str, list[float]]:
    """Return the paired differences of each recipe, one per seed."""
    runs = of_panel(found.runs, panel)
    column = f"test_{found.metric}"
    if column not in runs:
        return {}
    block = runs.set_index(["seed", "fold"])
    base = block.loc[block["recipe"] == NOTHING, column]
    return {
        str(recipe): (part[column] - base.reindex(part.index)).dropna().tolist()
        for recipe, part in block.groupby("recipe", sort=False)
        if recipe != NOTHING
    }


def _span(each: dict[str, list[float]], gains: dict[str, dict[str, float]]) -> tuple[float, float]:
    """Return a range that holds nearly all differences: one wild recipe shall not flatten all."""
    values = sorted(v for values in each.values() for v in values)
    if not values:
        return -1.0, 1.0
    cut = len(values) // 20
    return min(values[cut], 0.0), max(values[-1 - cut], 0.0)


def factors(found: ReportData) -> Section | None:
    """Return the main effects as tables: on the primary metric, and on others as exploration."""
    return section("Main effects", found, _effects)


def _effects(found: ReportData, panel: Panel) -> list[Block]:
    rows = records(of_panel(found.effects, panel))
    if len(found.panels) > 1 and panel == found.panels[0] and not found.effects.empty:
        rows += records(found.effects[found.effects["dataset"] == POOLED])
    if not rows:
        return []
    metric = found.metric
    made = [
        [
            cells.text(
                row["factor"] if row["dataset"] != POOLED else f"{row['factor']} ({POOLED})"
            ),
            cells.text(row["level"]),
            cells.gain(row["estimate"], metric, row["verdict"]),
            cells.interval(row["low"], row["high"], metric),
            cells.interval(row["new_low"], row["new_high"], metric),
            Cell(f"{row['pairs']} of {row['possible']}", row["pairs"]),
            Cell(str(row["blocks"]), row["blocks"]),
            _adjusted(row),
        ]
        for row in rows
    ]
    columns = [
        Column("factor", wide=True),
        Column("level", "against none", wide=True),
        Column("effect", axis_of(metric)),
        Column("95 % interval", "over seeds, on this test set"),
        Column(f"new {found.sample}s", f"95 % interval on new {found.sample}s of this kind"),
        Column("pairs", "combinations of the other factors that were compared, of all there are"),
        Column("seeds"),
        Column("p (Holm)", "adjusted for all main effects of this experiment"),
    ]
    caption = f"{_estimand(found)} Effects are averaged over the pairs within a seed first; the "
    caption += "interval and the p-value are over seeds. ▲ and ▼ where the p-value, adjusted by "
    caption += f"Holm for the {_asked(of_panel(found.effects, panel))}, is at most 0.05; each "
    caption += "interval is by itself, and may leave zero out where that is not enough. "
    caption += f"≈ where the interval lies within ±{margin(found)}.{_lost(rows)}"
    return [Table(columns, made, caption), *_other_effects(found, panel)]


def _adjusted(row: dict[str, Any]) -> Cell:
    """Return the adjusted p-value, with the number asked where it overrules the interval."""
    cell = cells.p_value(row["p_holm"])
    return replace(cell, text=f"{cell.text}, of {row['asked']:.0f}") if holm_says(row) else cell


def _lost(rows: list[dict[str, Any]]) -> str:
    """Return how effects were estimated where runs are missing, or nothing."""
    if not any(row["lost"] for row in rows):
        return ""
    return (
        " Some pairs lack a run at some seeds: their effect there is told by least squares from "
        "the others, and the intervals are wider for it."
    )


def _other_effects(found: ReportData, panel: Panel) -> Iterator[Table]:
    rows = of_panel(found.other_effects, panel)
    wanted = dict.fromkeys([*found.experiment.metrics, *_OTHERS, *OF_TWO])
    names = [name for name in wanted if len(rows) and (rows["metric"] == name).any()]
    if not names:
        return
    made = []
    for (_, level), part in rows.groupby(["factor", "level"], sort=False):
        by = {row["metric"]: row for row in records(part)}
        gains = [cells.gain(by[n]["estimate"], n, by[n]["verdict"], True) for n in names]
        made.append([cells.text(level), *gains])
    columns = [Column("level", wide=True), *(Column(in_words(name)) for name in names)]
    yield Table(
        columns,
        made,
        "The same on other metrics, in points (calibration error and negative log-likelihood as "
        "they are; less is better): exploratory, without correction for their number. "
        "Calibration is where MixUp and CutMix often show.",
    )


def interactions(found: ReportData) -> Section | None:
    """Return how much the effect of one factor depends on another."""
    return section("Interactions", found, _interactions)


def _interactions(found: ReportData, panel: Panel) -> list[Block]:
    rows = of_panel(found.interactions, panel)
    if rows.empty or not rows["estimate"].notna().any():
        return []
    metric = found.metric
    order = rows.loc[rows["estimate"].abs().sort_values(ascending=False, kind="stable").index]
    made = [
        [
            cells.text(f"{row['level_a']} × {row['level_b']}"),
            cells.gain(row["estimate"], metric, row["verdict"]),
            cells.interval(row["low"], row["high"], metric),
            Cell(f"{row['pairs']} of {row['possible']}", row["pairs"]),
            Cell(str(row["blocks"]), row["blocks"]),
        ]
        for row in records(order)[:MOST_ROWS]
    ]
    columns = [
        Column("together", wide=True),
        Column("more than their sum", axis_of(metric)),
        Column("95 % interval", "over seeds, on this test set"),
        Column(
            "squares", "combinations of the other factors with all four cells, of all there are"
        ),
        Column("seeds"),
    ]
    caption = "How much more a level does where the other is on than where it is off; zero where "
    caption += "effects add up. Each interval by itself: exploratory."
    top = records(order)[0]
    means = _cell_means(found, panel, str(top["factor_a"]), str(top["factor_b"]))
    said = f"The largest one: {top['level_a']} along the bottom, a line for each level of "
    said += f"{top['factor_b']}. Parallel lines would mean that the effects add up."
    return [
        Figure(plots.interactions(rows, found.margin), "The largest interactions."),
        Figure(plots.cell_means(means, metric), said),
        Table(columns, made, caption),
    ]


def _cell_means(found: ReportData, panel: Panel, a: str, b: str) -> pd.DataFrame:
    """Return the mean over everything else at each pair of levels of two factors."""
    runs, columns = of_panel(found.runs, panel), [f"factor.{a}", f"factor.{b}"]
    means = runs.dropna(subset=columns).groupby(columns)[f"test_{found.metric}"].mean()
    order = {f: [level.label for level in found.experiment.factors[f]] for f in (a, b)}
    table = means.rename_axis(["a", "b"]).rename("mean").reset_index().dropna()
    place = table.assign(x=table["a"].map(order[a].index), y=table["b"].map(order[b].index))
    return place.sort_values(["x", "y"])[["a", "b", "mean"]]
