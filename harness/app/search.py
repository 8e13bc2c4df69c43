"""Where a search is put together: what `harness tune` does, also for a notebook."""

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.app import compose
from harness.app.compose import ExperimentOutcome, say
from harness.app.options import GRID_LIMIT, Options, check_options, make_executor
from harness.datasets.base import forget
from harness.errors import ConfigError, counted, did_you_mean, listing
from harness.execution.search_results import SearchResult, write
from harness.execution.store import Store
from harness.experiment.design import NOTHING
from harness.experiment.expand import Plan, expand
from harness.experiment.schema import Experiment, load
from harness.experiment.shipped import find
from harness.experiment.spec import RunSpec
from harness.experiment.tune import tuned_name
from harness.terminal import Terminal
from harness.tracking.mirror import misses
from harness.tracking.studies import StudyRecord
from harness.tuning.database import FILE, clear_errors, open_storage
from harness.tuning.run_lookup import RunLookup, trial_store
from harness.tuning.searches import Search, check_possible, searches_of
from harness.tuning.session import Session, artifacts_of
from harness.tuning.study import TuningStudy
from harness.tuning.summary import result_of, study_record

if TYPE_CHECKING:
    import optuna

SMOKE_TRIALS = 3


@dataclass(frozen=True)
class TuneOutcome:
    """What `harness tune` has come to.

    Attributes:
        studies: Optuna's own studies, in the order of `results`.
        results: What each came to.
        failed: Trials that this command saw fail, each with its reason.
        outcome: The ordinary runs of the recipes, tuned and untuned.
    """

    studies: tuple["optuna.Study", ...]
    results: tuple[SearchResult, ...]
    failed: tuple[str, ...]
    outcome: ExperimentOutcome


def smoke(experiment: Experiment) -> Experiment:
    """Return the experiment cut to a few trials of one seed and a few steps."""
    small = compose.smoke(experiment)
    if small.tuning is None:
        return small
    trials, seeds = min(small.tuning.trials, SMOKE_TRIALS), small.tuning.seeds[:1]
    return replace(small, tuning=replace(small.tuning, trials=trials, seeds=seeds))


def tune(experiment: Experiment, options: Options, console: Console) -> TuneOutcome:
    """Search, then execute the recipes that won beside those they came from.

    Raises:
        HarnessError: Something is wrong before training starts, or the studies cannot be written.
        KeyboardInterrupt: After running attempts were discarded.
    """
    check_options(options)
    plan = _planned(experiment)
    searches = _selected(searches_of(plan), options.only)
    studies, results, failed = _search(plan, searches, options, console)
    cells = {search.group[:2] for search in searches}
    recipes = {search.recipe for search in searches}
    recipes |= {NOTHING, *map(tuned_name, recipes)}

    def wanted(spec: RunSpec) -> bool:
        cell = (spec.dataset_label, spec.model.label())
        return cell in cells and spec.recipe in recipes and not spec.reference

    outcome = compose.execute(experiment, replace(options, only=()), console, wanted)
    return TuneOutcome(tuple(studies), tuple(results), tuple(failed), outcome)


def _planned(experiment: Experiment) -> Plan:
    plan = expand(experiment)
    compose.check_names(plan)
    check_possible(plan)
    return plan


def _selected(searches: Sequence[Search], only: Sequence[str]) -> tuple[Search, ...]:
    """Return the searches whose dataset, model or recipe a pattern matches; all without one."""
    for pattern in only:
        if not any(fnmatch.fnmatchcase(name, pattern) for s in searches for name in s.group):
            known = sorted({search.recipe for search in searches})
            raise ConfigError(
                f"--only {pattern}: matches no search{did_you_mean(pattern, known)} "
                f"(recipes that are tuned: {listing(known)})"
            )
    return tuple(
        search
        for search in searches
        if not only
        or any(fnmatch.fnmatchcase(name, pattern) for name in search.group for pattern in only)
    )


def _search(
    plan: Plan, searches: Sequence[Search], options: Options, console: Console
) -> tuple[list["optuna.Study"], list[SearchResult], list[str]]:
    """Do the trials that are left; return the studies, what they came to, and what failed."""
    experiment = plan.experiment
    store = Store(options.results, experiment.name)
    trials = trial_store(options.results, experiment.name)
    _announce(experiment, searches, options, console)
    with store.locked():
        store.create()
        storage = open_storage(store.results)
        trials.create()
        with clear_errors(store.results / FILE):
            studies = [TuningStudy(storage, search, options.retry_failed) for search in searches]
            lookup = RunLookup(trials, store, experiment.metric, experiment.tuning)
            failed = _run(plan, studies, trials, lookup, options, console)
            results = [result_of(studied, lookup) for studied in studies]
            for text in lookup.damaged.values():
                say(console, f"note: {text}; it is done again when a trial asks for it")
            write(store, [r for r, s in zip(results, studies, strict=True) if s.is_over()])
    return [studied.study for studied in studies], results, failed


def _announce(
    experiment: Experiment, searches: Sequence[Search], options: Options, console: Console
) -> None:
    """Say what is asked for; refuse a great many runs that nobody has confirmed."""
    assert experiment.tuning is not None
    for note in experiment.tuning.notes:
        say(console, f"note: {note}")
    trials, seeds = experiment.tuning.trials, len(experiment.tuning.seeds)
    runs = trials * seeds * len(searches)
    if runs > GRID_LIMIT and not options.yes:
        raise ConfigError(
            f"{experiment.source}: tune: {counted(len(searches), 'study', 'studies')} of {trials} "
            f"trials on {seeds} seeds are up to {runs:,} runs, more than {GRID_LIMIT:,}; give "
            "--yes if that is meant, or --only to tune a part"
        )


def _run(
    plan: Plan,
    studies: Sequence[TuningStudy],
    trials: Store,
    lookup: RunLookup,
    options: Options,
    console: Console,
) -> list[str]:
    for studied in studies:
        if studied.note:
            say(console, f"note: {studied.note}")
    experiment = plan.experiment
    searched = {studied.search.group for studied in studies if studied.left}
    compose.check_models(plan, [spec for spec in plan.runs if _group(spec) in searched])
    left = sum(studied.left for studied in studies)
    runs = left * len(studies[0].search.tuning.seeds)
    behind = options.track and misses(
        options.results, experiment, _records(studies, lookup, trials)
    )
    if not left and not behind:
        return []
    make = functools.partial(make_executor, options, False, runs)
    with ExitStack() as stack:
        warm = [make()] if left else []
        if warm:  # its slots start while MLflow is connected
            stack.callback(warm[0].close)
            slots = f"{warm[0].slots} at a time" if warm[0].slots > 1 else "one at a time"
            what = f"{counted(left, 'trial')} in {counted(len(studies), 'study', 'studies')}"
            say(console, f"{what} to do: up to {counted(runs, 'run')}, {slots}", "")
        mirror = stack.enter_context(compose.mirrored(experiment, options, console))
        session = Session(studies, trials, lookup, console, mirror)
        session.run(lambda: warm.pop() if warm else make(), options.fail_fast)
    return session.failed


def _group(spec: RunSpec) -> tuple[str, str, str]:
    return spec.dataset_label, spec.model.label(), spec.recipe


def _records(studies: Sequence[TuningStudy], lookup: RunLookup, trials: Store) -> list[StudyRecord]:
    return [
        study_record(
            studied,
            lookup,
            "over" if studied.is_over() else "interrupted",
            artifacts=artifacts_of(trials, studied.search.name),
        )
        for studied in studies
    ]


def sync_records(experiment: Experiment, results: Path) -> list[StudyRecord]:
    """Return the searches of an experiment for MLflow, without doing any trial.

    Called by the one driver that holds the lock of the experiment.
    """
    trials = trial_store(results, experiment.name)
    if experiment.tuning is None or not (trials.results / FILE).exists():
        return []
    storage = open_storage(trials.results)
    with clear_errors(trials.results / FILE):
        known = {study.study_name for study in storage.get_all_studies()}
        searches = [search for search in searches_of(_planned(experiment)) if search.name in known]
        ordinary = Store(results, experiment.name)
        lookup = RunLookup(trials, ordinary, experiment.metric, experiment.tuning)
        return _records([TuningStudy(storage, search) for search in searches], lookup, trials)


def tune_experiment(
    experiment: str | Path | Mapping[str, Any],
    *,
    results: str | Path = "results",
    settings: Sequence[str] = (),
    plugins: Sequence[str] = (),
    **options: Any,
) -> list["optuna.Study"]:
    """Tune an experiment from Python and return Optuna's studies.

    Args:
        experiment: An experiment file, the name of a shipped one, or the same keys as a mapping.
        results: The results folder.
        settings: Assignments such as ``"tune.trials=80"``.
        plugins: Modules and files to import.
        **options: As in `Options`.

    Raises:
        HarnessError: Something is wrong before training starts, or the studies cannot be written.
    """
    forget()  # files may have changed since this process last looked
    chosen = Options.of(results, options)
    asked = experiment if isinstance(experiment, Mapping) else find(experiment)
    outcome = tune(load(asked, settings, plugins), chosen, Terminal(stderr=True))
    return list(outcome.studies)
