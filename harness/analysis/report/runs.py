"""The chapters on what is behind the comparison: classes, curves, calibration, runs, protocol."""

import numpy as np
import pandas as pd

from harness.analysis import curves, plots
from harness.analysis.classes import FEW_IMAGES, in_order
from harness.analysis.compare import Panel
from harness.analysis.decompose import AS_IT_IS
from harness.analysis.formatting import in_words, unit_of
from harness.analysis.report import cells
from harness.analysis.report.answer import margin, of_panel
from harness.analysis.report.comparison import MOST_ROWS, section
from harness.analysis.report.document import (
    Block,
    Cell,
    Column,
    Figure,
    Section,
    Table,
)
from harness.analysis.report_data import ReportData
from harness.analysis.tables import DONE, records
from harness.errors import counted, listing
from harness.experiment.design import NOTHING
from harness.metrics import FEW, MANY, POINTS

MOST_CLASSES = 20
MOST_MEASURED = 100
MOST_RECIPES = 40
_SEEDS = 20
"""Runs per recipe that curves, calibration and confusion are drawn from."""

_GROUPS = (
    ("recall_many", f"> {MANY} in training"),
    ("recall_medium", f"{FEW}–{MANY}"),
    ("recall_few", f"< {FEW}"),
    ("worst_class_recall", "worst class"),
)


def classes(found: ReportData) -> Section | None:
    """Return what recipes do to frequent, medium and rare classes, and to each."""
    return section("Classes", found, _classes)


def _classes(found: ReportData, panel: Panel) -> list[Block]:
    rows = of_panel(found.classes, panel)
    blocks: list[Block] = []
    shown = _shown(found, panel)
    if len(rows) and shown:
        recipe = shown[0]
        caption = f"Recall of each class on test under {recipe} and under doing nothing; in "
        caption += f"brackets its training {found.sample}s. A pale line is Wilson's 95 % interval "
        caption += f"of a class with fewer than {FEW_IMAGES} test {found.sample}s."
        picture = plots.class_recalls(rows[rows["recipe"] == recipe], recipe)
        blocks.append(Figure(picture, caption))
    tables = (
        _measures(found, rows, shown),
        _by_group(found, panel),
        _heat_map(found, rows),
        _groups(found, panel),
    )
    return [*blocks, *(table for table in tables if table)]


def _groups(found: ReportData, panel: Panel) -> Table | None:
    """Return of how many groups each class is in each part, rarest in test first."""
    rests = found.resting.get(panel)
    if rests is None or not rests.groups:
        return None
    parts = list(rests.groups)
    order = sorted(range(len(rests.names)), key=lambda k: rests.groups["test"][k])
    few = dict(rests.few)
    made = [
        [
            cells.text(rests.names[k]),
            *(Cell(str(rests.groups[part][k]), rests.groups[part][k]) for part in parts),
            Cell(f"rests on {few[rests.names[k]]}" if rests.names[k] in few else ""),
        ]
        for k in order[:MOST_ROWS]
    ]
    columns = [Column("class", wide=True), *(Column(f"groups in {part}") for part in parts)]
    caption = "Of how many groups the samples of each class are: no group is in two of the parts. "
    caption += (
        "What is measured on one or two groups is of these groups, and not certain of others."
    )
    caption += " This is of one run: the first fold." if found.experiment.folds else ""
    return Table([*columns, Column("", wide=True)], made, caption, tall=True)


def _shown(found: ReportData, panel: Panel) -> list[str]:
    """Return the recipes that are drawn beside doing nothing, the chosen one first."""
    board = of_panel(found.board, panel)
    order = [r for r in board.loc[board["n"] > 0, "recipe"] if r != NOTHING]
    chosen = found.chosen.get(panel)
    first = [chosen] if chosen in order else []
    return [*first, *(recipe for recipe in order if recipe not in first)]


def _measures(found: ReportData, rows: pd.DataFrame, shown: list[str]) -> Table | None:
    """Return precision, recall and F1 of each class, under doing nothing and the best recipe."""
    if rows.empty:
        return None
    recipes = [NOTHING, *shown[:1]]
    of = {(row["recipe"], row["class"]): row for row in records(rows)}
    recipes = [recipe for recipe in recipes if (rows["recipe"] == recipe).any()]
    made = []
    for row in records(in_order(rows).tail(MOST_MEASURED)):
        line = [cells.text(row["name"], 30), Cell(f"{row['train_count']:g}", row["train_count"])]
        line.append(Cell(str(row["support"]), row["support"]))
        for name in ("precision", "value", "f1"):
            for recipe in recipes:
                known = of.get((recipe, row["class"]), {})
                line.append(cells.number(known.get(name), POINTS))
        made.append(line)
    columns = [Column("class", wide=True), Column("train"), Column("test")]
    for name in ("precision", "recall", "F1"):
        columns += [
            Column(f"{name}, {_short(recipe)}", f"{name} under {recipe}, %") for recipe in recipes
        ]
    caption = f"Means over seeds on test, in per cent; {found.sample}s of each class in training "
    caption += "and test beside it."
    if len(in_order(rows)) > MOST_MEASURED:
        caption += f" The {MOST_MEASURED} rarest classes; all are in classes.csv."
    return Table(columns, made, caption, tall=True)


def _by_group(found: ReportData, panel: Panel) -> Table | None:
    gains = of_panel(found.other_gains, panel)
    if gains.empty:
        return None
    names = [name for name, _ in _GROUPS if (gains["metric"] == name).any()]
    by = {(row["recipe"], row["metric"]): row for row in records(gains)}
    made = []
    for recipe in _shown(found, panel)[:MOST_ROWS]:
        row = [cells.text(recipe)]
        for name in names:
            of = by.get((recipe, name))
            if of is None:
                row += [Cell(""), Cell("")]
            else:
                row += [
                    cells.gain(of["gain"], name, of["verdict"]),
                    cells.interval(of["low"], of["high"], name),
                ]
        made.append(row)
    heads = dict(_GROUPS)
    columns = [Column("recipe", wide=True)]
    for name in names:
        columns += [Column(heads[name], in_words(name)), Column("95 % interval")]
    caption = "Difference in mean recall to doing nothing, in points, by training "
    caption += f"{found.sample}s of the class: exploratory. {cells.LEGEND} ±{margin(found)}."
    return Table(columns, made, caption, tall=True) if made and names else None


def _heat_map(found: ReportData, rows: pd.DataFrame) -> Table | None:
    if rows.empty:
        return None
    known = rows[["class", "name", "train_count", "support", "few_images"]]
    every = in_order(known)
    few = records(every.tail(MOST_CLASSES))
    recipes = [r for r in rows["recipe"].unique() if r != NOTHING][:MOST_RECIPES]
    by = {(row["recipe"], row["class"]): row for row in records(rows)}
    if not recipes:
        return None
    made = []
    for recipe in recipes:
        line = [cells.text(recipe)]
        for of_class in few:
            row = by.get((recipe, of_class["class"]))
            line.append(_difference(row) if row else Cell(""))
        made.append(line)
    columns = [Column("recipe", wide=True)]
    for of_class in few:
        flag = "*" if of_class["few_images"] else ""
        hint = (
            f"{of_class['train_count']:g} training and {of_class['support']} test {found.sample}s"
        )
        columns.append(Column(f"{_short(str(of_class['name']))}{flag}", hint))
    untested = [str(row["name"]) for row in records(every) if not row["support"]]
    caption = "Difference in recall to doing nothing, in points, most frequent class first; "
    caption += "[brackets] where the 95 % interval over seeds excludes zero. Many comparisons: "
    caption += "exploratory, and no stars are given."
    if len(every) > MOST_CLASSES:
        caption += f" The {MOST_CLASSES} rarest of {len(every)} classes; all are in classes.csv."
    if any(of_class["few_images"] for of_class in few):
        caption += f" *: fewer than {FEW_IMAGES} test {found.sample}s: coarse."
    if untested:
        caption += f" Without a test {found.sample}: {listing(map(_short, untested), 5)}."
    return Table(columns, made, caption, tall=True)


def _short(name: str) -> str:
    return cells.text(name, 16).text


def _difference(row: dict[str, float]) -> Cell:
    cell = cells.gain(row["gain"], "recall_few", shaded=True)
    excludes = row["low"] > 0 or row["high"] < 0
    said = f"[{cell.text}]" if excludes and cell.text else cell.text
    interval = unit_of("accuracy").interval(row["low"], row["high"], "no interval")
    return Cell(said, cell.sort, shade=cell.shade, hint=f"{cell.text} {interval}" if said else "")


def confusion(found: ReportData) -> Section | None:
    """Return which classes are taken for which, under doing nothing and under the chosen recipe."""
    return section("Confusion", found, _confusion)


def _confusion(found: ReportData, panel: Panel) -> list[Block]:
    rows = of_panel(found.classes, panel)
    names = _class_names(found, panel)
    order = in_order(rows)["class"].tolist() if len(rows) else []
    blocks: list[Block] = []
    for recipe in [NOTHING, *_shown(found, panel)[:1]]:
        paths = _paths(found, panel, recipe)
        adjusted = None
        if found.rule != AS_IT_IS:
            adjusted = found.threshold.of_folders(of_panel(found.runs, panel), found.rule)
            paths = [path for path in paths if path in adjusted]
        matrix = curves.confusion(paths, adjusted)
        if matrix is None or len(matrix) != len(names):
            continue
        pairs = curves.most_confused(matrix, names, 5)
        drawn, ordered = matrix[np.ix_(order, order)], [names[k] for k in order]
        said = [
            f"{row['true']} as {row['as']} ({100 * row['share']:.0f} %)" for row in records(pairs)
        ]
        caption = f"{recipe}: rows are true classes, in per cent of the class, over "
        caption += f"{counted(len(paths), 'run')}. "
        caption += f"Most often mistaken: {'; '.join(said)}." if said else "No mistakes."
        blocks.append(Figure(plots.confusion(drawn, ordered, f"Confusion of {recipe}"), caption))
    return blocks


def _class_names(found: ReportData, panel: Panel) -> list[str]:
    rows = of_panel(found.classes, panel)
    if rows.empty:
        return []
    return rows.drop_duplicates("class").sort_values("class")["name"].astype(str).tolist()


def _paths(found: ReportData, panel: Panel, recipe: str) -> list[str]:
    runs = of_panel(found.runs, panel)
    done = runs[(runs["recipe"] == recipe) & (runs["status"] == DONE)]
    return [str(path) for path in done["path"].head(_SEEDS)]


def learning(found: ReportData) -> Section | None:
    """Return how the best recipes and doing nothing learned."""
    return section("Learning curves", found, _learning)


def _learning(found: ReportData, panel: Panel) -> list[Block]:
    names = [NOTHING, *_shown(found, panel)[:3]]
    runs = of_panel(found.runs, panel)
    few = pd.concat(
        [runs[(runs["recipe"] == name) & (runs["status"] == DONE)].head(_SEEDS) for name in names]
    )
    made: list[Block] = []
    for column, label in (
        (f"val/{found.metric}", f"{in_words(found.metric)} on val"),
        ("train/loss", "loss in training"),
    ):
        table = curves.learning_curves(few, column)
        if len(table):
            caption = f"Mean {label} with its 95 % band over seeds, along each run's own budget."
            if column == "train/loss":
                caption += " Mixed labels and weights make losses of recipes differ by nature."
            made.append(Figure(plots.learning_curves(table, label, names), caption))
    return made


def calibration(found: ReportData) -> Section | None:
    """Return how sure recipes are against how often they are right."""
    return section("Calibration", found, _calibration)


def _calibration(found: ReportData, panel: Panel) -> list[Block]:
    bins = {
        recipe: table
        for recipe in [NOTHING, *_shown(found, panel)[:2]]
        if len(table := curves.reliability(_paths(found, panel, recipe)))
    }
    if not bins:
        return []
    caption = "How often the top class is right, by how sure the model says it is, on test. "
    caption += "Mixed labels teach a model to be less sure: what looks like a gain in calibration "
    caption += "error may be under-confidence, and the reverse."
    return [Figure(plots.reliability(bins), caption)]
