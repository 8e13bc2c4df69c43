"""The page as a whole: which chapters it has, and their order."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.analysis.decompose import AS_IT_IS
from harness.analysis.formatting import in_words
from harness.analysis.report import comparison, context, protocol, runs, threshold, tuning
from harness.analysis.report.answer import answer
from harness.analysis.report.document import Document, Part, Section, Thumbnails
from harness.analysis.report_data import ReportData
from harness.analysis.tables import DONE
from harness.errors import counted

_BY_PRIMARY: tuple[Callable[[ReportData], Section | None], ...] = (
    comparison.recipes,
    comparison.factors,
    comparison.interactions,
    tuning.tuning,
    context.confirmation,
    runs.classes,
    runs.confusion,
    context.reference,
    context.datasets,
    context.cost,
)
"""Chapters whose figures are by the primary decision rule."""

_AS_IT_IS: tuple[Callable[[ReportData], Section | None], ...] = (
    runs.learning,
    runs.calibration,
)
"""Chapters whose figures are of the outputs as they are, whichever rule is primary."""

_CHAPTERS = (
    comparison.recipes,
    threshold.chapter,
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


def _by(rule: str) -> str:
    said = "argmax (outputs as they are, the largest decides)" if rule == AS_IT_IS else rule
    return f"Decision rule: {said}."


def _made(found: ReportData) -> Iterator[Section]:
    """Yield the chapters, each with the decision rule of its figures."""
    for make in _CHAPTERS:
        section = make(found)
        if section is None:
            continue
        if make in _BY_PRIMARY:
            section = replace(section, rule=_by(found.rule))
        elif make in _AS_IT_IS:
            section = replace(section, rule=_by(AS_IT_IS))
        yield section


def document(found: ReportData, misses: Thumbnails | None = None) -> Document:
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
        f"decided by {found.rule}",
    ]
    lead = " · ".join([*([experiment.description] if experiment.description else []), *parts])
    chapters = list(_made(found))
    if misses is not None and misses.rows:
        title = "Worst misses"
        chapters.insert(-3, Section(title, [Part("", [misses])], _by(AS_IT_IS)))
    foot = f"Written {time.strftime('%Y-%m-%d %H:%M')} by: {found.command('report')}. "
    foot += "Beside this page: report.md, report.json and a CSV file for each table."
    return Document(experiment.name, lead, answer(found), protocol.warnings(found), chapters, foot)
