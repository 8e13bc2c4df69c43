"""`harness report`: the answer in words, and the pages behind it."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from harness.analysis.report.comparison import RECIPES
from harness.analysis.report.document import Document, Figure, Table
from harness.analysis.report.write import data
from harness.app import reporting
from harness.cli.shared import err, find, out, print_json
from harness.experiment.schema import load

_PAGE = 58
"""Lines that fit on an A4 page."""

_ROWS = 16


def run(
    file: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    results: Path,
    margin: float,
    thumbnails: bool,
    file_names: bool,
    classes: Sequence[str],
    brief: bool,
    opened: bool,
    as_json: bool,
) -> None:
    """Write a report, say what it says and where it is, and attach it to MLflow."""
    experiment = load(find(file), sets, plugins)
    with reporting.attaching(experiment, results, _warn) as attach:
        made = reporting.report(experiment, results, margin, thumbnails, file_names, classes)
        page = made.files[1] if brief else made.files[0]
        if as_json:
            print_json(data(made.found, made.document))
        else:
            _show(_brief(made.document) if brief else _answer(made.document), page)
        if opened:
            webbrowser.open(page.as_uri())
        attach(made)


def _warn(text: str) -> None:
    err.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True)


def _show(lines: Sequence[str], page: Path) -> None:
    for line in [*lines, "", f"the report: {page}"]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _answer(document: Document) -> list[str]:
    lines = []
    for first, *rest in document.answer:
        lines += [first, *(f"  {sentence}" for sentence in rest), ""]
    return [*lines[:-1], *(f"note: {text}" for text in document.warnings)]


def _brief(document: Document) -> list[str]:
    """Return what fits on one A4 page: the answer, the best recipes, the main effects."""
    lines = [document.title, document.lead, "", *_answer(document)]
    for part in document.chapter(RECIPES):
        lines += ["", part.title or RECIPES]
        for block in (*part.blocks, *part.side):
            if isinstance(block, Table):
                lines += _rows(block)
            elif isinstance(block, Figure):
                lines += [f"{block.picture.title}: {block.picture.alt}"]
    return lines[:_PAGE]


def _rows(table: Table) -> list[str]:
    """Return the first rows of a leaderboard as lines of three columns."""
    rows = [[cell.text for cell in row[:3]] for row in table.rows[:_ROWS]]
    head = [column.name for column in table.columns[:3]]
    width = [max(len(row[i]) for row in [head, *rows]) for i in range(3)]
    return [
        f"{a:<{width[0]}}  {b:>{width[1]}}  {c:>{width[2]}}".rstrip() for a, b, c in [head, *rows]
    ]
