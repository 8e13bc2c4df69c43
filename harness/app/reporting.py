"""What `harness report` and `harness confirm` do, also for a notebook."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from harness.analysis.compare import Panel, chosen, differences, leaderboard
from harness.analysis.doubts import Doubts, doubts
from harness.analysis.images import image_scores
from harness.analysis.report.document import Document
from harness.analysis.report.misses import worst_misses
from harness.analysis.report.page import document
from harness.analysis.report.write import write
from harness.analysis.report_data import CONFIRMED, ReportData, collect, command
from harness.analysis.tables import PANEL, damaged_runs, runs_table, stored_specs
from harness.analysis.threshold import under_primary
from harness.app import compose
from harness.app.options import Options, check_options
from harness.errors import ConfigError, DataError, StoreError, TrackingError, counted, listing
from harness.execution.search_results import SearchResult, read
from harness.execution.store import Store
from harness.experiment.design import NOTHING
from harness.experiment.expand import Plan
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.tracking import summary
from harness.tuning import tuned

FOLDER = "report"
"""Of an experiment's results: where its report is."""

POINTS = 0.5
"""Largest difference that does not matter, as a report shows it: half a point."""

FRESH = 1000
"""First of the seeds on which a choice is confirmed."""

FEWEST_FRESH = 3


@dataclass(frozen=True)
class Reported:
    """A report that was written.

    Attributes:
        found: What the experiment came to.
        document: The page.
        files: Where it is, ``index.html`` first.
    """

    found: ReportData
    document: Document
    files: tuple[Path, ...]


def report(
    experiment: Experiment,
    results: Path,
    points: float = POINTS,
    thumbnails: bool = True,
    file_names: bool = True,
    classes: Sequence[str] = (),
) -> Reported:
    """Write the report of an experiment into its results folder.

    Args:
        experiment: What was asked.
        results: The results folder.
        points: Largest difference that does not matter, as tables show it: in points where the
            metric is a percentage, else in its own unit divided by 100.
        thumbnails: Whether to show test images that were missed.
        file_names: Whether their file names stand below them.
        classes: Names of the classes to show; by default the rarest.

    Raises:
        HarnessError: No run was ever committed, or the folder cannot be read or written.
    """
    store = Store(results, experiment.name)
    specs, notes, searched = asked(experiment, store)
    found = collect(experiment, specs, store, points / 100, notes, searched)
    page = document(found, worst_misses(found, file_names, classes) if thumbnails else None)
    folder = store.path / FOLDER
    try:
        files = write(found, page, folder)
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}") from None
    return Reported(found, page, tuple(files))


@contextmanager
def attaching(
    experiment: Experiment, results: Path, warn: Callable[[str], None]
) -> Iterator[Callable[[Reported], None]]:
    """Connect to MLflow while a report is made, and yield what attaches it once it is written.

    A failure is only told. Without a committed run there is nothing to connect for.
    """
    if not Store(results, experiment.name).runs():
        yield lambda made: None
        return
    with summary.ahead(summary.Target.of(experiment, results)) as attach:

        def attached(made: Reported) -> None:
            tables = [file for file in made.files if file.suffix == ".csv"]
            pages = [file for file in made.files if file not in tables]
            try:
                attach({"": pages, "tables": tables}, _note(made.document))
            except TrackingError as error:
                warn(f"the report is written, and not attached to MLflow: {error}")

        yield attached


def _note(page: Document) -> str:
    """Return the answer as Markdown for MLflow's pages."""
    answers = [
        "\n".join([f"**{first}**", "", *(f"- {text}" for text in rest)])
        for first, *rest in page.answer
    ]
    warned = [f"*{text}*" for text in page.warnings]
    where = "The whole report: artifact `index.html` of the run `report`."
    return "\n\n".join([*answers, *warned, where])


def asked(
    experiment: Experiment, store: Store
) -> tuple[Sequence[RunSpec], list[str], Sequence[SearchResult]]:
    """Return the planned runs, what to say beforehand, and what searches came to.

    Where the data is gone: the runs that are there, of each recipe and seed the newest.
    """
    try:
        plan = compose.planned(experiment, store)
    except DataError as error:
        specs, unreadable = stored_specs(store)
        reason = str(error).split("\n")[0]
        gone = f"The data is not here ({reason}), so runs that are missing are not known."
        kept = _newest(specs, store)
        older = counted(len(specs) - len(kept), "run")
        left = [f"{older} of other settings left out."] if len(kept) < len(specs) else []
        return kept, [gone, *left, *unreadable], _of_recipes(experiment, read(store))
    found = tuned.found_of(plan, store)
    outdated = tuned.outdated(plan, store, found)
    notes = [f"{text[0].upper()}{text[1:]}." for text in outdated]
    notes += [f"{text}." for text in plan.notes if text not in outdated]
    return plan.runs, notes, [result for _, result in found]


def _newest(specs: Sequence[RunSpec], store: Store) -> list[RunSpec]:
    """Return one run per recipe, seed and fold: of several with other settings, the last one."""
    stored = store.runs()
    order = sorted(specs, key=lambda spec: stored[spec.key].path.stat().st_mtime_ns)
    kept = {_cell(spec): spec for spec in order}
    return [spec for spec in specs if kept[_cell(spec)] is spec]


def _cell(spec: RunSpec) -> tuple[object, ...]:
    where = spec.dataset_label, spec.reference, spec.model.label()
    return *where, spec.recipe, spec.seed, spec.fold


def _of_recipes(experiment: Experiment, results: Sequence[SearchResult]) -> list[SearchResult]:
    """Return what came of searches of recipes that the file still has."""
    names = {recipe.name for recipe in experiment.recipes}
    spaces = {} if experiment.tuning is None else experiment.tuning.spaces
    return [
        result.of_space(spaces[result.recipe]) if result.recipe in spaces else result
        for result in results
        if result.recipe in names
    ]


@dataclass(frozen=True)
class Choice:
    """What is to be confirmed, and by which runs.

    Attributes:
        plan: Runs on fresh seeds, of an experiment of their own.
        recipes: The recipe that val chose, by dataset, reference and model.
        skipped: Runs that are damaged, and what cannot be confirmed, each with the reason.
    """

    plan: Plan
    recipes: dict[Panel, str]
    skipped: tuple[str, ...]


def choose(experiment: Experiment, results: Path, seeds: int | None = None) -> Choice:
    """Return the recipe that val chose and the runs that would confirm it.

    Args:
        experiment: What was asked; all of its runs have ended.
        results: The results folder.
        seeds: How many fresh seeds; by default as many as the experiment has, and at least 3.

    Raises:
        ConfigError: Runs are missing, no recipe has all of its runs done, or no val chose anything.
    """
    store = Store(results, experiment.name)
    plan = compose.planned(experiment, store)
    runs = runs_table(store, plan.runs)
    missing = len(plan.runs) - len(runs)
    do = command("run", experiment, store.results)
    if missing:
        raise ConfigError(
            f"{experiment.source}: {counted(missing, 'run')} of {len(plan.runs):,} missing, so val "
            f"has not chosen yet; finish them first: {do}"
        )
    damaged = damaged_runs(runs)
    board = leaderboard(under_primary(runs, plan.runs, experiment)[0], experiment.metric)
    if not chosen(board):
        raise ConfigError(
            f"{experiment.source}: no recipe has all its runs done, so val has chosen none; do "
            f"those that failed again: {do} --retry-failed" + "".join(f"\n  {d}" for d in damaged)
        )
    recipes, skipped = _choices(experiment, board)
    fresh = fresh_seeds(
        experiment, max(len(experiment.seeds), FEWEST_FRESH) if seeds is None else seeds
    )
    name = f"{experiment.name}{CONFIRMED}"
    specs = [
        replace(spec, seed=seed, experiment=name)
        for seed in fresh
        for spec in plan.runs
        if spec.seed == experiment.seeds[0] and not spec.reference
        if (cell := (spec.dataset_label, "", spec.model.label())) in recipes
        if spec.recipe in (NOTHING, recipes[cell])
    ]
    again = replace(experiment, name=name, seeds=tuple(fresh))
    return Choice(Plan(again, tuple(specs), plan.infos), recipes, (*damaged, *skipped))


def _choices(experiment: Experiment, board: pd.DataFrame) -> tuple[dict[Panel, str], list[str]]:
    """Return what val chose, and what cannot be confirmed in words.

    Raises:
        ConfigError: No dataset has a val set.
    """
    recipes: dict[Panel, str] = {}
    first = chosen(board)
    skipped = [
        f"{dataset}, {model}: no recipe has all its runs done"
        for dataset, reference, model in board[PANEL].drop_duplicates().itertuples(index=False)
        if not reference and (dataset, reference, model) not in first
    ]
    blind: list[str] = []
    for panel, recipe in first.items():
        dataset, reference, model = panel
        here = (board["dataset"] == dataset) & (board["model"] == model)
        if reference:
            continue
        if "val" not in board or board.loc[here, "val"].isna().all():
            blind.append(dataset)
        elif recipe == NOTHING:
            skipped.append(f"{dataset}, {model}: val puts doing nothing first")
        else:
            recipes[panel] = recipe
    if blind and not recipes:
        raise ConfigError(
            f"{experiment.source}: {listing(dict.fromkeys(blind))}: no val is held out "
            "(val_fraction: 0), so which recipe wins can only be read off test, and fresh seeds on "
            "the same test set would confirm nothing: the claim needs new test data, or a val set "
            "to choose on (val_fraction: 0.2)"
        )
    skipped += [
        f"{dataset}: no val is held out; the claim needs new test data" for dataset in blind
    ]
    return recipes, skipped


def fresh_seeds(experiment: Experiment, count: int) -> list[int]:
    """Return seeds that had no part in choosing a recipe, always the same ones."""
    searched = () if experiment.tuning is None else experiment.tuning.seeds
    used = {*experiment.seeds, *searched}
    found: list[int] = []
    seed = FRESH
    while len(found) < count:
        if seed not in used:
            found.append(seed)
        seed += 1
    return found


@dataclass(frozen=True)
class Confirmed:
    """What fresh seeds say.

    Attributes:
        outcome: What was run.
        runs: From `harness.analysis.tables.runs_table`.
        gains: `harness.analysis.compare.differences` on the fresh seeds.
        doubts: Why a gain is not certain of samples that nobody has seen, by panel.
    """

    outcome: compose.ExperimentOutcome
    runs: pd.DataFrame
    gains: pd.DataFrame
    doubts: Doubts


def confirm(
    choice: Choice, options: Options, console: Console, points: float = POINTS
) -> Confirmed:
    """Run what is missing on fresh seeds and compare.

    Args:
        choice: From `choose`.
        options: How to run.
        console: Where progress is shown.
        points: Largest difference that does not matter.

    Raises:
        HarnessError: Something is wrong before training starts.
        KeyboardInterrupt: After running attempts were discarded.
    """
    check_options(options)
    outcome = compose.carry_out(choice.plan, options, console)
    experiment = choice.plan.experiment
    stored, metric = runs_table(outcome.store, choice.plan.runs), experiment.metric
    runs, decided = under_primary(stored, choice.plan.runs, experiment)
    images = (
        image_scores(runs, metric).scores
        if decided is None
        else decided.of_images(experiment.decisions.primary)
    )
    gains = differences(runs, metric, points / 100, images=images)
    return Confirmed(outcome, runs, gains, doubts(runs, metric))
