"""The answer in words: what helps, by how much, and whether it is real."""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from harness.analysis.compare import Panel
from harness.analysis.formatting import holm_says, in_words, joined, seconds, unit_of
from harness.analysis.intervals import BETTER, EXPLORATORY, FEWEST_SEEDS, SAME, UNDECIDED, WORSE
from harness.analysis.report.threshold_answer import sentences
from harness.analysis.report_data import ReportData
from harness.analysis.tables import records
from harness.errors import counted
from harness.experiment.design import NOTHING
from harness.metrics import POINTS, metric_of

Row = dict[str, Any]

_LARGE = 0.05
"""Change in the recall of a class from which on the answer names it."""

_HOW = {
    "factorial": "Averaged over every combination of the other factors",
    "one_at_a_time": "Each alone against doing nothing",
    "leave_one_out": "On top of all the other factors",
}


def answer(found: ReportData) -> list[list[str]]:
    """Return the answer for each dataset and model in sentences, the headline first."""
    if not found.panels:
        return [["No run is done yet, so there is nothing to compare."]]
    parts = (
        *(_headline, _threshold, _anew, _doubts, _rare_class, _search, _confirmation),
        *(_factors, _dependence, _classes),
    )
    return [[said for part in parts for said in part(found, panel)] for panel in found.panels]


def where(found: ReportData, panel: Panel) -> str:
    """Return a dataset's name, with the model where there are several."""
    models = {model for _, _, model in found.panels}
    return f"{panel[0]} with {panel[2]}" if len(models) > 1 else panel[0]


def of_panel(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """Return the rows of a tidy table that belong to a panel."""
    if table.empty:
        return table
    here = (table["dataset"] == panel[0]) & (table["model"] == panel[2])
    return table[here & (table["reference"] == panel[1])] if "reference" in table else table[here]


def _headline(found: ReportData, panel: Panel) -> Iterator[str]:
    recipe, place = found.chosen.get(panel), f"On {where(found, panel)}"
    how = "chosen on val" if found.by == "val" else "best on test, for want of val"
    if recipe is None:
        yield f"{place}, no recipe has finished all its runs without a failure yet."
    elif recipe == NOTHING:
        yield f"{place}, doing nothing stands first ({how}): no remedy did better there."
    elif row := of_recipe(found.gains, panel, recipe):
        yield f"{place}, {recipe} ({how}) {compared(found, row)}."
    else:
        yield f"{place}, {recipe} stands first ({how}); doing nothing has no run to compare with."


def _threshold(found: ReportData, panel: Panel) -> Iterator[str]:
    yield from sentences(found.threshold, panel, found.chosen.get(panel))


def of_recipe(table: pd.DataFrame, panel: Panel, recipe: str | None) -> Row | None:
    """Return the row of a recipe in a tidy table, or None."""
    rows = of_panel(table, panel)
    found = records(rows[rows["recipe"] == recipe]) if len(rows) else []
    return found[0] if found else None


def compared(found: ReportData, row: Row) -> str:
    """Return a difference to doing nothing as the end of a sentence, with its interval."""
    verdict, gain = row["verdict"], row["gain"]
    unit, name = unit_of(found.metric), in_words(found.metric)
    blocks = "pair" if found.experiment.folds else "seed"
    seeds = counted(int(row["pairs"]), blocks)
    interval = f"95 % interval {_span(found, row['low'], row['high'])}, {seeds}"
    if verdict == SAME:
        return f"makes no difference within ±{margin(found)} ({interval})"
    size = unit.value(abs(gain))
    amount = f"{size} {unit.name} of {name}" if unit.name else f"{size} in {name}"
    if verdict in (BETTER, WORSE):
        does = (
            ("gains" if gain > 0 else "loses")
            if metric_of(found.metric).higher_is_better
            else ("is higher by" if gain > 0 else "is lower by")
        )
        return f"{does} {amount} over doing nothing ({interval})"
    scores = f"scores {amount} {'more' if gain > 0 else 'less'} than doing nothing"
    if verdict == EXPLORATORY:
        alike = row["pairs"] >= FEWEST_SEEDS
        return f"{scores} ({seeds}{', all alike: no' if alike else ': exploratory, no'} interval)"
    return f"{scores}, which may be chance ({interval})"


def _span(found: ReportData, low: float, high: float) -> str:
    unit = unit_of(found.metric)
    return f"{unit.signed(low).lstrip('+')} to {unit.signed(high).lstrip('+')}"


def margin(found: ReportData) -> str:
    """Return the largest difference that does not matter, with its unit."""
    unit = unit_of(found.metric)
    return f"{found.margin * unit.scale:g}{f' {unit.name}' if unit.name else ''}"


def _anew(found: ReportData, panel: Panel) -> Iterator[str]:
    row = of_recipe(found.gains, panel, found.chosen.get(panel))
    if row and math.isfinite(row["new_low"]):
        anew = _span(found, row["new_low"], row["new_high"])
        if anew == _span(found, row["low"], row["high"]):
            seeds = counted(int(row["pairs"]), "seed")
            yield (
                f"For new {found.sample}s of this kind the interval of the gain is no wider: with "
                f"{seeds} it is as wide already."
            )
        else:
            yield f"For new {found.sample}s of this kind the interval of the gain is {anew}."
    elif row and math.isfinite(row["low"]) and (why := no_anew(found, panel)):
        yield why


def no_anew(found: ReportData, panel: Panel) -> str:
    """Return why nothing is said of new images, as a sentence, or nothing where it is."""
    why = found.no_anew.get(panel, "")
    return f"For new {found.sample}s of this kind there is no interval: {why}." if why else ""


def _doubts(found: ReportData, panel: Panel) -> Iterator[str]:
    for doubt in found.doubts.get(panel, ()):
        yield f"{doubt.sentence()}."


def is_of_two(board: pd.DataFrame) -> bool:
    """Whether the rows of a leaderboard are of two classes, one of them rarer."""
    return "rare_recall" in board and bool(board["rare_recall"].notna().any())


def _rare_class(found: ReportData, panel: Panel) -> Iterator[str]:
    """Say what becomes of the rarer of two classes, where doing nothing can be compared with."""
    board = of_panel(found.board, panel)
    recipe = found.chosen.get(panel)
    now, before = (of_recipe(found.board, panel, name) for name in (recipe, NOTHING))
    if recipe == NOTHING or not is_of_two(board) or now is None or before is None:
        return
    changes = [
        f"{words} goes from {POINTS.value(before[name])} to {POINTS.value(now[name])} %"
        for name, words in (
            ("rare_average_precision", "average precision"),
            ("rare_precision", "precision"),
            ("rare_recall", "recall"),
        )
    ]
    rows = of_panel(found.classes, panel)
    known = rows.sort_values("train_count")["name"].iloc[0] if len(rows) else ""
    yield f"Of the rarer class{f' {known}' if known else ''}, {joined(changes)}."


def _search(found: ReportData, panel: Panel) -> Iterator[str]:
    rows = of_panel(found.tuned, panel)
    for row in records(rows[rows["tuned"] == found.chosen.get(panel)]):
        against = ""
        if math.isfinite(row["gain"]):
            said = compared(found, row).replace("doing nothing", "its own default")
            against = f" On test it {said}."
        spent = f"{counted(int(row['runs']), 'run')}, {seconds(row['seconds'])}"
        yield f"It had a search behind it ({spent}) that doing nothing had not.{against}"


def _confirmation(found: ReportData, panel: Panel) -> Iterator[str]:
    recipe = found.chosen.get(panel)
    if recipe in (None, NOTHING):
        return
    if not has_val(found, panel):
        yield (
            "No val is held out, so the choice was read off test: the figure flatters itself, and "
            "only new test data could confirm it."
        )
    elif row := of_recipe(found.confirmed, panel, recipe):
        if row["verdict"] == EXPLORATORY:
            few = row["pairs"] < FEWEST_SEEDS
            more = "three seeds" if few else f"more test {found.sample}s"
            yield f"On fresh seeds it {compared(found, row)}; {more} would make it a claim."
        elif row["verdict"] == BETTER and (doubts := found.uncertain(panel)):
            said = "; ".join(doubt.said for doubt in doubts)
            mend = "; ".join(doubt.mend for doubt in doubts)
            yield (
                f"Repeated on fresh seeds, it {compared(found, row)}; not confirmed beyond this "
                f"test set: {said}. To be certain: {mend}."
            )
        elif row["verdict"] == BETTER:
            yield f"Confirmed on fresh seeds: it {compared(found, row)}."
        else:
            yield f"Not confirmed: on fresh seeds it {compared(found, row)}."
    else:
        yield (
            "Not confirmed yet: the seeds that measured the gain also chose the recipe; "
            f"“{found.command('confirm')}” repeats it on fresh ones."
        )


def has_val(found: ReportData, panel: Panel) -> bool:
    """Whether the recipes of a dataset and model could be put in order by val."""
    rows = of_panel(found.board, panel)
    return "val" in rows and bool(rows["val"].notna().any())


def _factors(found: ReportData, panel: Panel) -> Iterator[str]:
    rows = of_panel(found.effects, panel)
    if rows.empty:
        return
    unit = unit_of(found.metric)
    groups: dict[str, list[str]] = {}
    for row in records(rows):
        name = str(row["level"])
        if not math.isfinite(row["estimate"]):
            groups.setdefault("none", []).append(name)
            continue
        part = f", over {row['pairs']} of {row['possible']} pairs"
        partly = part if row["pairs"] < row["possible"] else ""
        value = f"{name} ({unit.signed(row['estimate'])}{partly})"
        if holm_says(row):
            groups.setdefault("among", []).append(
                f"{name} ({unit.signed(row['estimate'])}{partly}, "
                f"{_span(found, row['low'], row['high'])} by itself)"
            )
            continue
        groups.setdefault(row["verdict"], []).append(name if row["verdict"] == SAME else value)
    said = [
        f"{joined(groups[verdict])} {words}"
        for verdict, words in (
            (BETTER, "helps" if len(groups.get(BETTER, ())) == 1 else "help"),
            (WORSE, "hurts" if len(groups.get(WORSE, ())) == 1 else "hurt"),
            (
                SAME,
                f"{'makes' if len(groups.get(SAME, ())) == 1 else 'make'} no difference "
                f"within ±{margin(found)}",
            ),
            (
                "among",
                "cannot be told from no effect among the "
                f"{counted(_asked(rows), 'effect')} asked at once (Holm)",
            ),
            (UNDECIDED, "cannot be told from no effect"),
            (
                EXPLORATORY,
                f"{'has' if len(groups.get(EXPLORATORY, ())) == 1 else 'have'} no interval yet",
            ),
            ("none", "could not be estimated"),
        )
        if verdict in groups
    ]
    yield f"{_HOW[found.experiment.design]}: {'; '.join(said)}."


def _asked(rows: pd.DataFrame) -> int:
    return int(rows["asked"].max())


def _dependence(found: ReportData, panel: Panel) -> Iterator[str]:
    rows = of_panel(found.interactions, panel)
    if rows.empty:
        return
    sure = rows[rows["verdict"].isin((BETTER, WORSE)) & (rows["estimate"].abs() > found.margin)]
    if sure.empty:
        return
    row = max(records(sure), key=lambda row: abs(row["estimate"]))
    unit = unit_of(found.metric)
    size = f"{unit.value(abs(row['estimate']))} {unit.name}".strip()
    yield (
        f"But they depend on each other: {row['level_a']} is worth {size} "
        f"{'more' if row['estimate'] > 0 else 'less'} where {row['level_b']} is on than where it "
        "is off, so read the factors together with their interactions."
    )


def _classes(found: ReportData, panel: Panel) -> Iterator[str]:
    recipe, rows = found.chosen.get(panel), of_panel(found.classes, panel)
    if rows.empty or recipe in (None, NOTHING):
        return
    known = records(rows[(rows["recipe"] == recipe) & rows["gain"].notna()])
    for verb, row in (
        ("gains", max(known, key=lambda row: row["gain"], default=None)),
        ("loses", min(known, key=lambda row: row["gain"], default=None)),
    ):
        if row is None or abs(row["gain"]) < _LARGE or (row["gain"] > 0) != (verb == "gains"):
            continue
        few = f", judged on few test {found.sample}s" if row["few_images"] else ""
        few += "" if row["low"] > 0 or row["high"] < 0 else ", which may be chance"
        trained = counted(int(row["train_count"]), f"training {found.sample}")
        yield (
            f"Class {row['name']} ({trained}) {verb} "
            f"most: recall goes from {100 * row['nothing']:.0f} to {100 * row['value']:.0f} %{few}."
        )
