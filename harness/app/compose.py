"""Where the rooms are put together: what `harness run` does, also for a notebook."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.app.options import (
    GRID_LIMIT,
    Options,
    check_options,
    make_executor,
    pending,
    select,
)
from harness.datasets.base import forget
from harness.errors import ConfigError, counted
from harness.execution.changes import changes
from harness.execution.estimate import Estimate, estimate, measure, shape_of, sizes_of
from harness.execution.executors.local import Local
from harness.execution.executors.resources import check_device, layout
from harness.execution.progress import Display
from harness.execution.runner import Executor, Listener, Summary, run
from harness.execution.search_results import SearchResult
from harness.execution.shard import parse, part_of
from harness.execution.store import Store
from harness.execution.weights import WeightKeeper
from harness.experiment.expand import Plan, expand
from harness.experiment.model_names import OWN
from harness.experiment.schema import Experiment, load
from harness.experiment.shipped import find
from harness.experiment.spec import RunSpec
from harness.strategies.base import head_of
from harness.terminal import Terminal
from harness.tracking.address import resolve
from harness.tracking.keys import check_class_names
from harness.tracking.mirror import Mirror, is_behind, open_tracking
from harness.tracking.ui import ui_command
from harness.training.run_options import RunOptions
from harness.training.rundir import ERROR, RESULT
from harness.tuning.tuned import found_of, with_tuned

if TYPE_CHECKING:
    import pandas as pd

SMOKE_STEPS = 10


@dataclass(frozen=True)
class ExperimentOutcome:
    """What an experiment has come to: its plan, its store, and this command's part in it."""

    plan: Plan
    store: Store
    selected: tuple[RunSpec, ...]
    summary: Summary
    ui_command: str | None = None
    searched: tuple[SearchResult, ...] = ()


def smoke(experiment: Experiment) -> Experiment:
    """Return the experiment cut to one seed and a few steps, under a name of its own."""
    training = experiment.training.model_copy(update={"max_steps": SMOKE_STEPS, "eval_every": 1.0})
    return replace(
        experiment, name=f"{experiment.name}-smoke", seeds=experiment.seeds[:1], training=training
    )


def planned(experiment: Experiment, store: Store) -> Plan:
    """Return every run of an experiment, those of recipes that were tuned among them.

    Raises:
        HarnessError: As `expand`, a class has a name that MLflow could not tell apart, or the
            results folder cannot be read.
    """
    plan = expand(experiment)
    check_names(plan)
    return with_tuned(plan, store)


def execute(
    experiment: Experiment,
    options: Options,
    console: Console,
    wanted: Callable[[RunSpec], bool] = lambda spec: True,
) -> ExperimentOutcome:
    """Execute what is missing of an experiment and mirror it.

    Args:
        experiment: What to execute.
        options: How.
        console: Where progress is shown.
        wanted: Which runs, of those that the options select.

    Raises:
        HarnessError: Something is wrong before training starts.
        KeyboardInterrupt: After what ran has written a checkpoint.
    """
    check_options(options)
    plan = planned(experiment, Store(options.results, experiment.name))
    return carry_out(plan, options, console, wanted)


def carry_out(
    plan: Plan,
    options: Options,
    console: Console,
    wanted: Callable[[RunSpec], bool] = lambda spec: True,
) -> ExperimentOutcome:
    """Execute what is missing of a plan and mirror it; as `execute`.

    MLflow is told that runs of the experiment with other settings than the plan's are outdated.

    Raises:
        HarnessError: Something is wrong before training starts.
        KeyboardInterrupt: After what ran has written a checkpoint.
    """
    begun = time.monotonic()
    experiment = plan.experiment
    store = Store(options.results, experiment.name)
    selected = tuple(spec for spec in select(plan.runs, options.only) if wanted(spec))
    if options.shard is not None:
        selected = part_of(selected, parse(options.shard))
    todo = pending(selected, store, options)
    if len(todo) > GRID_LIMIT and not options.yes:
        raise ConfigError(
            f"{experiment.source}: {len(todo):,} runs to do, more than {GRID_LIMIT:,}; "
            "give --yes if that is meant, or --only and --limit to do a part"
        )
    address = resolve(options.results, experiment.tracking.uri) if options.track else None
    if todo:
        check_models(plan, todo)
    for note in plan.notes:
        say(console, f"note: {note}")
    for change in (*changes(store, selected), *_hollow(store, todo)) if todo else ():
        say(console, f"note: {change}")
    summary = Summary()
    with ExitStack() as stack:
        if todo or (options.track and is_behind(options.results, experiment, plan.runs)):
            stack.enter_context(store.locked())
            store.create()
            todo = pending(selected, store, options)  # another driver may have been at it
            if todo:
                executor = make_executor(options, experiment.keep_weights != "none", len(todo))
                stack.callback(executor.close)  # slots warm up while MLflow is connected
                running = f"{executor.slots} at a time" if executor.slots > 1 else "one at a time"
                runs = "1 run" if len(todo) == 1 else f"{len(todo):,} runs"
                say(console, f"{runs} to do, {running}; the first takes longest", "")
            mirror = stack.enter_context(mirrored(experiment, options, console, plan.runs))
            listeners = [] if mirror is None else [mirror]
            if todo:
                until = begun + 3600 * options.max_hours if options.max_hours else None
                summary = _run(
                    experiment, todo, store, executor, options, listeners, console, until
                )
    command = ui_command(store.results) if address is not None and address.own else None
    results = tuple(result for _, result in found_of(plan, store))
    return ExperimentOutcome(plan, store, selected, summary, command, results)


def _hollow(store: Store, todo: Sequence[RunSpec]) -> Iterator[str]:
    """Yield in words which runs are done anew because somebody has deleted half of them."""
    stored = store.runs(hollow=True)
    for spec in todo:
        if spec.key in stored and stored[spec.key].hollow:
            folder = stored[spec.key].folder
            yield f"{folder} is damaged: it has neither {RESULT} nor {ERROR}; the run is done anew"


def check_models(plan: Plan, runs: Sequence[RunSpec]) -> None:
    """Build every network that may not fit its images, or whose weights may not fit it, once.

    Our own without weights fit whatever they are given; they cost no import of torch here.

    Raises:
        ConfigError: A model cannot be built, which every one of its runs would find out by itself.
    """
    unsure = {
        (spec.model, spec.dataset_label, head_of(spec.strategies)): spec
        for spec in runs
        if spec.model.name not in OWN or spec.model.weights is not None
    }
    for (model, dataset, head), spec in unsure.items():
        from harness.training.models import build, check_batch

        info = plan.infos[dataset]
        try:
            net = build(model, info.shape, len(info.class_names), head, spec.seed)
            check_batch(model, net, info.shape, spec.training.batch_size)
        except ConfigError as error:
            raise ConfigError(f"{plan.experiment.source}: dataset '{dataset}': {error}") from None


def _run(
    experiment: Experiment,
    todo: list[RunSpec],
    store: Store,
    executor: Executor,
    options: Options,
    mirror: Sequence[Listener],
    console: Console,
    until: float | None,
) -> Summary:
    keeper = WeightKeeper(store, experiment.keep_weights, experiment.weights_gb)
    with Display(console, len(todo), experiment.metric) as display:
        listeners = [display, *mirror]
        return run(
            todo,
            store,
            executor,
            listeners,
            keeper,
            options.fail_fast,
            max_failures=options.max_failures,
            deadline=until,
        )


def cost(plan: Plan, runs: Sequence[RunSpec], options: Options, console: Console) -> Estimate:
    """Measure what runs would cost with these options; leaves nothing behind.

    Raises:
        HarnessError: The device does not exist, or a run of a few steps fails.
    """
    check_device(options.device)
    shared = layout(options.device, options.jobs, options.runs_per_gpu, len(runs))
    keep = plan.experiment.keep_weights != "none"
    shapes = len({shape_of(spec) for spec in runs})
    say(console, f"measuring {counted(shapes, 'shape')} of run, some steps each …", "")
    found = measure(runs, lambda: Local(shared, RunOptions(keep_weights=keep)), shared.at_a_time)
    cap = plan.experiment.weights_gb * 1e9 if keep else 0.0
    sizes, processes = sizes_of(plan.infos), len(shared.gpus)
    return estimate(runs, found, sizes, shared.at_a_time, processes, cap)


def run_experiment(
    experiment: str | Path | Mapping[str, Any],
    *,
    results: str | Path = "results",
    settings: Sequence[str] = (),
    plugins: Sequence[str] = (),
    **options: Any,
) -> "pd.DataFrame":
    """Run an experiment from Python and return one row per finished run.

    Args:
        experiment: An experiment file, the name of a shipped one, or the same keys as a mapping.
        results: The results folder.
        settings: Assignments such as ``"training.lr=0.05"``.
        plugins: Modules and files to import.
        **options: As in `Options`.

    Raises:
        HarnessError: Something is wrong before training starts.
    """
    from harness.analysis.tables import runs_table

    forget()  # files may have changed since this process last looked
    chosen = Options.of(results, options)
    asked = experiment if isinstance(experiment, Mapping) else find(experiment)
    outcome = execute(load(asked, settings, plugins), chosen, Terminal(stderr=True))
    return runs_table(outcome.store, outcome.plan.runs)


def check_names(plan: Plan) -> None:
    """Refuse class names that MLflow could not tell apart.

    Raises:
        ConfigError: Two classes of a dataset would share a metric key.
    """
    for dataset, info in plan.infos.items():
        try:
            check_class_names(info.class_names)
        except ConfigError as error:
            raise ConfigError(f"{plan.experiment.source}: dataset '{dataset}': {error}") from None


@contextmanager
def mirrored(
    experiment: Experiment,
    options: Options,
    console: Console,
    asked: Sequence[RunSpec] | None = None,
) -> Iterator[Mirror | None]:
    """Yield what mirrors runs to MLflow, or None where that is off."""
    if not options.track:
        yield None
        return

    def warn(message: str) -> None:
        say(console, f"warning: {message}")

    with open_tracking(options.results, experiment, warn, asked) as mirror:
        yield mirror


def say(console: Console, text: str, style: str = "yellow") -> None:
    """Print a line as it is."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
