"""The chapter that takes gains apart: what is a moved decision threshold, and what is left."""

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.analysis import curves, plots
from harness.analysis.compare import Panel
from harness.analysis.deciding import Setting
from harness.analysis.decompose import AS_IT_IS
from harness.analysis.formatting import in_words, unit_of
from harness.analysis.report import cells
from harness.analysis.report.answer import margin, of_panel
from harness.analysis.report.comparison import MOST_ROWS, section
from harness.analysis.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table
from harness.analysis.report.threshold_answer import HOW
from harness.analysis.report_data import ReportData
from harness.analysis.tables import DONE, records
from harness.errors import counted, listing
from harness.experiment.design import NOTHING
from harness.metrics import POINTS

TITLE = "Is it only a threshold?"

_SEEDS = 20
"""Runs per recipe that calibration is drawn from."""

_NOTES = 12
_SHARES = 6


def chapter(found: ReportData) -> Section | None:
    """Return what each rule leaves of each recipe's gain, what it assumes, and calibration."""
    return section(TITLE, found, _parts)


def _parts(found: ReportData, panel: Panel) -> list[Block]:
    rows = of_panel(found.threshold.table, panel)
    rows = rows[rows["metric"] == found.metric] if len(rows) else rows
    if rows.empty:
        return []
    blocks: list[Block] = [Paragraph(_lead(found))]
    if not found.threshold.rule:
        blocks.append(Paragraph(f"No rule of the file moves the threshold; {HOW} asks."))
    else:
        blocks += _figures(found, panel, rows)
    blocks.append(_table(found, panel, rows))
    blocks += [block for block in (_after(found, panel), _costs(found, panel)) if block]
    return [*blocks, *_assumed(found, panel)]


def _lead(found: ReportData) -> str:
    return (
        "A network trained on skewed classes says “rare” too seldom, and moving its decision "
        "threshold mends that without any training. So each recipe is compared with doing nothing "
        "twice: with the outputs of both as they are (argmax), and with both adjusted by the same "
        "rule. The gain with both adjusted is the rest; gain less rest is the threshold part."
    )


def _figures(found: ReportData, panel: Panel, rows: pd.DataFrame) -> Iterator[Block]:
    rule = found.threshold.rule
    drawn = rows[(rows["rule"] == rule) & (rows["recipe"] != NOTHING)]
    drawn = drawn.sort_values("gain", ascending=False).head(MOST_ROWS)
    if drawn["rest"].notna().any():
        caption = f"Rule {rule}. The line from hollow to filled dot is the threshold part: what "
        caption += "the gain loses, or a loss makes good, once doing nothing is adjusted as well. "
        caption += f"Grey band: ±{margin(found)}."
        yield Figure(plots.threshold_parts(drawn, found.margin), caption)
    runs = of_panel(found.runs, panel)
    bins: dict[str, pd.DataFrame] = {}
    for recipe in dict.fromkeys((NOTHING, found.chosen.get(panel))):
        done = runs[(runs["recipe"] == recipe) & (runs["status"] == DONE)].head(_SEEDS)
        by = found.threshold.of_folders(done, rule)
        if recipe is None or not by:
            continue
        for label, adjusted in ((AS_IT_IS, None), (rule, by)):
            table = curves.reliability(list(by), adjusted)
            if len(table):
                bins[f"{recipe}, {label}"] = table
    if bins:
        caption = "Calibration before and after: how often the class of the largest probability "
        caption += "is right, by that probability, on test."
        yield Figure(plots.reliability(bins), caption)


def _table(found: ReportData, panel: Panel, rows: pd.DataFrame) -> Table:
    metric, unit = found.metric, unit_of(found.metric)
    order = {recipe: i for i, recipe in enumerate(of_panel(found.board, panel)["recipe"])}
    rules = list(dict.fromkeys(rows["rule"]))
    made = [
        [
            cells.text(row["recipe"]),
            Cell(str(row["rule"])),
            cells.number(row["value"], unit),
            _own(row, unit) if row["rule"] != AS_IT_IS else Cell("", -math.inf),
            _part(row, "gain", metric),
            _part(row, "threshold_part", metric) if row["rule"] != AS_IT_IS else Cell(""),
            replace(_part(row, "rest", metric), tone=row["verdict"]),
            cells.interval(row["rest_new_low"], row["rest_new_high"], metric),
            cells.p_value(row["p_holm"]),
        ]
        for row in records(rows.assign(place=rows["recipe"].map(order)).sort_values(
            "place", kind="stable"
        ))[: MOST_ROWS * len(rules)]
    ]  # fmt: skip
    columns = [
        Column("recipe", wide=True),
        Column("rule", "how outputs became decisions", wide=True),
        Column(f"{in_words(metric)}{', %' if unit.name else ''}", "mean over seeds, on test"),
        Column("rule alone [95 %]", "what the rule changes of this recipe, against argmax"),
        Column("gain [95 %]", "over doing nothing, outputs of both as they are"),
        Column("threshold part [95 %]", "gain less rest"),
        Column("rest [95 %]", "over doing nothing, both by this rule"),
        Column(f"rest on new {found.sample}s", f"95 % interval on new {found.sample}s"),
        Column("p (Holm)", "of the rest under the primary rule, for all recipes of this report"),
    ]
    primary = found.threshold.primary
    asked = int(found.threshold.table["p_holm"].notna().sum())
    caption = f"Claims are made with the primary rule, {primary}: there ▲ and ▼ go by p, adjusted "
    caption += f"by Holm for the {counted(asked, 'recipe')} that were compared. The other rules "
    caption += "are exploratory: each interval by itself. ▲ better, ▼ worse than doing nothing "
    caption += f"under the same rule; ≈ inside ±{margin(found)}. Intervals on this test set are "
    caption += f"over seeds. All of it, other metrics too: decisions.csv.{_left(found)}"
    return Table(columns, made, caption, tall=True)


def _left(found: ReportData) -> str:
    if not found.not_detailed:
        return ""
    return f" {counted(found.not_detailed, 'recipe')} not read: too many runs."


def _part(row: Mapping[str, Any], part: str, metric: str) -> Cell:
    verdict = row["verdict"] if part == "rest" else ""
    cell = cells.gain(row[part], metric, verdict)
    between = unit_of(metric).interval(row[f"{part}_low"], row[f"{part}_high"])
    return replace(cell, text=f"{cell.text} {between}".strip())


def _after(found: ReportData, panel: Panel) -> Table | None:
    """Return calibration before and after, of the recipes that the answer is about."""
    metrics = [("ece", "ECE", POINTS), ("nll", "NLL", unit_of("nll"))]
    table = of_panel(found.threshold.table, panel)
    board = of_panel(found.board, panel)["recipe"].tolist()
    shown = list(dict.fromkeys([NOTHING, found.chosen.get(panel), *board]))[:MOST_ROWS]
    by = {(r["recipe"], r["rule"], r["metric"]): r for r in records(table)}
    made = []
    for recipe in shown:
        for rule in dict.fromkeys(table["rule"]):
            values = [by.get((recipe, rule, name)) for name, *_ in metrics]
            if any(values):
                line = [cells.text(recipe), Cell(str(rule))]
                for row, (_, _, unit) in zip(values, metrics, strict=True):
                    line.append(cells.number(None if row is None else row["value"], unit))
                    line.append(_own(row, unit) if rule != AS_IT_IS else Cell("", -math.inf))
                made.append(line)
    if not made:
        return None
    columns = [Column("recipe", wide=True), Column("rule", wide=True)]
    for name, head, unit in metrics:
        columns.append(Column(f"{head}{unit.percent}", in_words(name)))
        columns.append(Column("change [95 %]", "against argmax"))
    caption = "Calibration before and after each rule, on test; less is better. A rule that moves "
    caption += "outputs to a deployment prior is calibrated for that prior: on a test set whose "
    caption += "classes are shared otherwise its figures are worse without being wrong. "
    caption += "Exploratory."
    return Table(columns, made, caption, tall=True)


def _own(row: Mapping[str, Any] | None, unit: Any) -> Cell:
    if row is None or not math.isfinite(row["own"]):
        return Cell("", -math.inf)
    between = unit.interval(row["own_low"], row["own_high"])
    return Cell(f"{unit.signed(row['own'])} {between}".strip(), row["own"])


def _costs(found: ReportData, panel: Panel) -> Table | None:
    """Return what decisions cost under each rule, where costs are given."""
    table = of_panel(found.threshold.table, panel)
    table = table[table["metric"].str.startswith("expected_cost(")]
    if table.empty:
        return None
    label = str(table["metric"].iloc[0])
    unit = unit_of(label)
    order = {recipe: i for i, recipe in enumerate(of_panel(found.board, panel)["recipe"])}
    rows = table[table["metric"] == label]
    rows = rows.assign(place=rows["recipe"].map(order)).sort_values("place", kind="stable")
    made = [
        [
            cells.text(row["recipe"]),
            Cell(str(row["rule"])),
            cells.number(row["value"], unit),
            *(_part(row, part, label) for part in ("gain", "threshold_part", "rest")),
        ]
        for row in records(rows)[: MOST_ROWS * rows["rule"].nunique()]
    ]
    columns = [Column("recipe", wide=True), Column("rule", wide=True), Column("expected cost")]
    columns += [Column(f"{name} [95 %]") for name in ("difference", "threshold part", "rest")]
    caption = f"Mean cost of a decision on a test {found.sample}, by the file's costs and the "
    caption += "class shares of the test set; less is better, and differences to doing nothing "
    caption += "below zero are savings. Exploratory."
    return Table(columns, made, caption, tall=True)


def _assumed(found: ReportData, panel: Panel) -> Iterator[Block]:
    """Yield what each rule assumed: what it is, both priors, and what there was to say."""
    wanted, threshold = found.experiment.decisions, found.threshold
    said = [
        f"{rule.label()}: {(inspect.getdoc(type(rule)) or '').split(chr(10), 1)[0]}"
        for rule in wanted.rules
    ]
    yield Paragraph("What each rule is:", items=said)
    yield Paragraph("What rules assumed:", items=[_deployed(found), *_trained(found, panel)])
    notes = [
        f"{recipe}, {rule}: {text}"
        for (dataset, recipe, rule), texts in threshold.decided.notes.items()
        for text in texts
        if dataset == panel[0]
    ]
    if notes:
        more = [f"and {len(notes) - _NOTES} more"] if len(notes) > _NOTES else []
        yield Paragraph("What they had to say:", items=[*notes[:_NOTES], *more])


def _deployed(found: ReportData) -> str:
    deploy, metric = found.experiment.decisions.deploy, found.metric
    if isinstance(deploy, Mapping):
        shares = ", ".join(f"{name} {100 * share:.3g} %" for name, share in deploy.items())
        return f"Deployment prior: {shares}, as the file says."
    setting = Setting.of(found.experiment, ())
    words = {"balanced": "all classes alike", "train": "the shares of the training set"}
    default = "" if deploy else f", as {in_words(metric)} asks by default"
    return f"Deployment prior: {words[str(setting.deployed())]}{default}."


def _trained(found: ReportData, panel: Panel) -> Iterator[str]:
    """Yield the prior that outputs of doing nothing and of the chosen recipe carry."""
    runs, classes = of_panel(found.runs, panel), of_panel(found.classes, panel)
    if classes.empty:
        return
    one = classes.drop_duplicates("class").sort_values("class")
    names, counts = one["name"].astype(str).tolist(), one["train_count"].tolist()
    for recipe in dict.fromkeys((NOTHING, found.chosen.get(panel))):
        keys = runs.loc[(runs["recipe"] == recipe) & (runs["status"] == DONE), "key"]
        trained = next((t for key in keys if (t := found.threshold.decided.trained.get(key))), None)
        if trained is None:
            continue
        if trained.shares is None:
            yield f"Trained prior of {recipe}: not known, so it is not adjusted: {trained.reason}."
        elif len(trained.shares) == len(names):
            order = sorted(range(len(names)), key=lambda k: -counts[k])
            half = _SHARES // 2
            few = order if len(order) <= _SHARES else [*order[:half], *order[-half:]]
            shares = [f"{names[k]} {100 * trained.shares[k]:.3g} %" for k in few]
            cut = "" if len(few) == len(order) else " (most and least frequent)"
            yield f"Trained prior of {recipe}{cut}: {listing(shares)}."
