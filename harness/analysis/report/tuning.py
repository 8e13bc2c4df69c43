"""The chapter on tuned recipes: what was searched, what it found, what it cost and gained."""

from typing import Any

from harness.analysis.compare import Panel
from harness.analysis.formatting import seconds, unit_of
from harness.analysis.report import cells
from harness.analysis.report.answer import margin, of_panel
from harness.analysis.report.comparison import MOST_ROWS, section
from harness.analysis.report.document import Block, Cell, Column, Section, Table
from harness.analysis.report_data import ReportData
from harness.analysis.tables import records
from harness.errors import listing

TITLE = "Tuned parameters"


def tuning(found: ReportData) -> Section | None:
    """Return what each search moved and found, and what the tuned recipe gains on test."""
    return section(TITLE, found, _tuned)


def _tuned(found: ReportData, panel: Panel) -> list[Block]:
    if panel[1]:
        return []
    rows = records(of_panel(found.tuned, panel))
    unit = unit_of(found.metric)
    percent = ", %" if unit.name else ""
    columns = [
        Column("recipe", wide=True),
        Column("searched values", "own default → what won on val", wide=True),
        Column("trials", "how many values were tried"),
        Column(f"val, default{percent}", "mean ± sd over the tuning seeds"),
        Column(f"val, best{percent}", "mean ± sd over the tuning seeds; the best of many trials"),
        Column("on test, vs its default", "paired by seed, on the seeds of this report"),
        Column("95 % interval", "over seeds, on this test set"),
        Column(f"new {found.sample}s", f"95 % interval on new {found.sample}s of this kind"),
        Column("search", "time of all runs of its trials, added up"),
    ]
    made = [_row(row, found) for row in rows[:MOST_ROWS]]
    return [Table(columns, made, _caption(found, len(rows)))] if made else []


def _row(row: dict[str, Any], found: ReportData) -> list[Cell]:
    lost = f" ({row['lost']} without a value)" if row["lost"] else ""
    gained = cells.gain(row["gain"], found.metric, row["verdict"] or "")
    if row["own_best"]:
        gained = Cell("own values won", 0.0)
    return [
        cells.text(row["recipe"]),
        Cell(_unbroken(row["values"]) or "no trial came to a value"),
        Cell(f"{row['trials']}{lost}", row["trials"]),
        _score(row["val_default"], row["val_default_sd"], found.metric),
        _score(row["val_best"], row["val_best_sd"], found.metric),
        gained,
        cells.interval(row["low"], row["high"], found.metric),
        cells.interval(row["new_low"], row["new_high"], found.metric),
        Cell(seconds(row["seconds"]), row["seconds"]),
    ]


def _unbroken(values: str) -> str:
    """Return ``path own → tuned, path …`` whose lines end after a comma only."""
    return values.replace(" ", "\xa0").replace(",\xa0", ", ")


def _score(mean: float, sd: float, metric: str) -> Cell:
    unit = unit_of(metric)
    cell = cells.number(mean, unit)
    spread = f" ± {unit.value(sd)}" if sd == sd else ""
    return Cell(cell.text + spread, cell.sort)


def _caption(found: ReportData, rows: int) -> str:
    tuning = found.experiment.tuning
    seeds = f" ({listing(map(str, tuning.seeds), 12)})" if tuning else ""
    cut = f" The first {MOST_ROWS} of {rows}; all are in tuned.csv." if rows > MOST_ROWS else ""
    rule = tuning.rule.label() if tuning and tuning.rule else "argmax"
    return (
        f"Searched on val, decided by {rule}, with seeds of their own{seeds}; the best value there "
        "is that of the luckiest of many trials and flatters. The gain on test is over the "
        "recipe's own default, paired by the seeds of this report, on which nothing was searched. "
        f"{cells.LEGEND.replace('doing nothing', 'the default')} ±{margin(found)}. A tuned recipe "
        "has had a search that doing nothing and the untuned ones had not; the tables of recipes "
        f"compare it with doing nothing all the same.{cut}"
    )
