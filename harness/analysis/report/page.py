"""The page as a whole: which chapters it has, and their order."""

import time
from collections.abc import Callable

from harness.analysis.findings import Findings
from harness.analysis.report import comparison, context, protocol, runs, tuning
from harness.analysis.report.answer import answer
from harness.analysis.report.document import Document, Part, Section, Thumbnails
from harness.analysis.tables import DONE
from harness.analysis.words import in_words
from harness.errors import counted

_CHAPTERS: tuple[Callable[[Findings], Section | None], ...] = (
    comparison.recipes,
    comparison.factors,
    comparison.interactions,
    tuning.tuning,
    context.confirmation,
    runs.classes,
    context.reference,
    context.datasets,
    runs.confusion,
    runs.learning,
    runs.calibration,
    context.cost,
    protocol.recipes,
    protocol.incomplete,
    protocol.protocol,
)


def document(found: Findings, misses: Thumbnails | None = None) -> Document:
    """Return the report of an experiment as a document.

    Args:
        found: What it came to.
        misses: Pictures of the worst misses, or None.
    """
    experiment, done = found.experiment, int((found.runs["status"] == DONE).sum())
    tuned = len(found.tuned_names() - {recipe.name for recipe in experiment.recipes})
    parts = [
        counted(done, "run") + f" of {len(found.specs):,} planned",
        counted(len(experiment.recipes), "recipe") + (f" and {tuned} tuned" if tuned else ""),
        counted(len(experiment.datasets), "dataset"),
        f"{counted(len(experiment.seeds), 'seed')}"
        + (f" × {experiment.folds} folds" if experiment.folds else ""),
        f"primary metric: {in_words(found.metric)}",
    ]
    lead = " · ".join([*([experiment.description] if experiment.description else []), *parts])
    chapters = [made for make in _CHAPTERS if (made := make(found)) is not None]
    if misses is not None and misses.rows:
        title = "Worst misses"
        chapters.insert(-3, Section(title, [Part("", [misses])]))
    foot = f"Written {time.strftime('%Y-%m-%d %H:%M')} by: {found.command('report')}. "
    foot += "Beside this page: report.md, report.json and a CSV file for each table."
    return Document(experiment.name, lead, answer(found), protocol.warnings(found), chapters, foot)
