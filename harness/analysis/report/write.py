"""Writing a report: HTML, a page for print, Markdown, JSON and tidy CSV files."""

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import to_json

from harness.analysis.decompose import PARTS
from harness.analysis.report.comparison import RECIPES
from harness.analysis.report.document import Block, Cell, Document, Figure, Table
from harness.analysis.report.threshold_answer import sentences
from harness.analysis.report_data import ReportData
from harness.analysis.svg import Picture, plain
from harness.files import write_atomically
from harness.text import csv_cell, storable

SCHEMA = 1
"""Raised when ``report.json`` comes to mean something else."""

_BRIEF_ROWS = 12
_BRIEF_COLUMNS = (0, 1, 2)


def write(found: ReportData, document: Document, folder: Path) -> list[Path]:
    """Write every file of a report and return where they are, ``index.html`` first.

    Args:
        found: What the experiment came to.
        document: The page.
        folder: Where to; tables of an earlier report that this one lacks are removed.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "index.html": html(document),
        "brief.html": brief(document),
        "report.md": document.markdown(),
        "report.json": to_json(data(found, document), indent=1).decode(),
    }
    tables = tidy(found)
    texts |= {f"{name}.csv": _csv(table) for name, table in tables.items()}
    for name, text in texts.items():
        write_atomically(folder / name, text.rstrip("\n"))
    for stale in folder.glob("*.csv"):
        if stale.name not in texts:
            stale.unlink()
    return [folder / name for name in texts]


def _csv(table: pd.DataFrame) -> str:
    """Return a table as CSV in which no name is a formula to a spreadsheet."""
    named = table.map(lambda cell: csv_cell(storable(cell)) if isinstance(cell, str) else cell)
    return named.rename(columns=csv_cell).to_csv(index=False)


def tidy(found: ReportData) -> dict[str, pd.DataFrame]:
    """Return every table of a report by name; paths are relative to the experiment's results."""
    long = {
        "runs": _by(_shareable(found.runs), found.rule),
        "classes": _by(found.classes, found.rule),
        "confirmed_runs": _by(_shareable(found.confirmed_runs), found.rule),
        "missing": found.missing(),
    }
    return {name: table for name, table in long.items() if len(table)} | _summaries(found)


def _summaries(found: ReportData) -> dict[str, pd.DataFrame]:
    """Return the tables that ``report.json`` has as well."""
    by_rule = {
        "leaderboard": found.board,
        "differences": pd.concat([found.gains, found.other_gains]),
        "main_effects": pd.concat([found.effects, found.other_effects]),
        "interactions": found.interactions,
        "gap": found.gap,
        "balanced": found.balanced,
        "costs": found.costs,
        "tuned": found.tuned,
        "datasets": found.datasets,
        "ranks": found.ranks,
        "confirmed": found.confirmed,
    }
    tables = {name: _by(table, found.rule) for name, table in by_rule.items()} | {
        "decisions": found.threshold.table,
        "recipes": found.recipes,
        "environments": found.environments,
    }
    return {name: table for name, table in tables.items() if len(table)}


def _by(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Return a table with the decision rule of its figures."""
    return table if table.empty else table.assign(rule=rule)


def _shareable(runs: pd.DataFrame) -> pd.DataFrame:
    if runs.empty:
        return runs
    folders = [os.path.basename(path) for path in runs["path"]]
    return runs.assign(path=folders, notes=["; ".join(notes) for notes in runs["notes"]])


def data(found: ReportData, document: Document) -> dict[str, Any]:
    """Return the report as plain JSON values; what is not a number is null."""
    return {
        "schema": SCHEMA,
        "experiment": found.experiment.name,
        "metric": found.metric,
        "margin": found.margin,
        "design": found.experiment.design,
        "chosen_on": found.by,
        "chosen": [
            {"dataset": panel[0], "reference": panel[1], "model": panel[2], "recipe": recipe}
            for panel, recipe in found.chosen.items()
        ],
        "groups": [
            {
                "dataset": panel[0],
                "reference": panel[1],
                "model": panel[2],
                "classes": list(rests.names),
                **rests.groups,
                "few": dict(rests.few),
                "share": rests.share,
                "certain": rests.certain,
            }
            for panel, rests in found.resting.items()
            if rests.unit
        ],
        "doubts": [
            {"dataset": panel[0], "reference": panel[1], "model": panel[2], **asdict(doubt)}
            for panel, doubts in found.doubts.items()
            for doubt in doubts
        ],
        "rule": found.rule,
        "threshold": _threshold(found),
        "answer": [list(sentences) for sentences in document.answer],
        "warnings": list(document.warnings),
        "runs": {str(k): int(v) for k, v in found.runs["status"].value_counts().items()},
        "planned": len(found.specs),
        "tables": {
            name: json.loads(table.to_json(orient="records"))
            for name, table in _summaries(found).items()
        },
    }


def _threshold(found: ReportData) -> list[dict[str, Any]]:
    """Return what a free adjustment of both leaves of the gain of each chosen recipe."""
    made = []
    for panel in found.panels:
        recipe = found.chosen.get(panel)
        row = None if recipe is None else found.threshold.row(panel, recipe)
        where = {"dataset": panel[0], "reference": panel[1], "model": panel[2], "recipe": recipe}
        said = " ".join(sentences(found.threshold, panel, recipe))
        made.append({**where, "rule": found.threshold.rule, "said": said, **_values(row)})
    return made


def _values(row: dict[str, Any] | None) -> dict[str, float | None]:
    names = [f"{part}{end}" for part in PARTS for end in ("", "_low", "_high")]
    known = {name: math.nan if row is None else float(row[name]) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in known.items()}


def html(document: Document) -> str:
    """Return the page as one HTML file that needs nothing else."""
    tools = {"grouped": _grouped, "shade": _shade, "breakable": _breakable}
    return _rendered("page.html.j2", document=document, **tools)


def brief(document: Document) -> str:
    """Return one A4 page: the answer, the best recipes and the main effects of two datasets."""
    most = _BRIEF_ROWS if len(document.answer) == 1 else _BRIEF_ROWS // 2
    panels = []
    for part in document.chapter(RECIPES)[:2]:
        figures = [block for block in part.side if isinstance(block, Figure)]
        for block in part.blocks:
            if isinstance(block, Table):
                panels.append((part.title or RECIPES, _cut(block, most), [*figures, None][0]))
    more = (
        []
        if len(panels) > 1
        else [
            figure
            for title in ("Interactions", "Classes")
            for part in document.chapter(title)[:1]
            for figure in [block for block in part.blocks if isinstance(block, Figure)][:1]
        ]
    )
    note = (
        "Thick: 95 % interval on this test set; thin: on new images. Filled: told apart from zero "
    )
    note += (
        "among all that were asked at once (Holm); where an interval alone would say so, with p."
    )
    values = {"document": document, "panels": panels, "more": more, "note": note}
    return _rendered("brief.html.j2", breakable=_breakable, **values)


def preview_page(title: str, parts: Mapping[str, Sequence[Picture]]) -> str:
    """Return one HTML page of what recipes feed the model.

    Args:
        title: Name of the experiment.
        parts: Pictures by dataset.
    """
    return _rendered("preview.html.j2", title=title, parts=list(parts.items()))


def _cut(table: Table, most: int) -> Table:
    columns = [table.columns[i] for i in _BRIEF_COLUMNS]
    rows: Sequence[Sequence[Cell]] = [[row[i] for i in _BRIEF_COLUMNS] for row in table.rows[:most]]
    return Table(columns, rows)


def _rendered(template: str, **values: Any) -> str:
    import jinja2

    source = resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finished,
    )
    return environment.from_string(source).render(**values)


def _finished(value: Any) -> Any:
    """Return a value as the page may hold it; what is mark-up already stays."""
    return plain(value) if type(value) is str else value


def _grouped(blocks: Iterable[Block]) -> Iterator[tuple[str, list[Block]]]:
    """Yield runs of blocks of one kind: pictures that follow each other stand in one grid."""
    for kind, group in itertools.groupby(blocks, key=lambda block: type(block).__name__):
        yield kind, list(group)


def _breakable(text: str) -> Any:
    """Return text whose lines may end after a plus sign within a name, not after that of +5.3."""
    import markupsafe

    return markupsafe.Markup(
        re.sub(r"(?<=[\w)])\+(?=\w)", "+<wbr>", str(markupsafe.escape(plain(text))))
    )


def _shade(share: float) -> str:
    """Return a colour between white and blue (better) or orange (worse)."""
    full = (138, 190, 226) if share > 0 else (245, 178, 132)
    mixed = (round(255 + (c - 255) * min(abs(share), 1.0)) for c in full)
    return "#" + "".join(f"{c:02x}" for c in mixed)
