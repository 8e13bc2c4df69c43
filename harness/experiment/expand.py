"""From an experiment to its runs, with everything that can be known before training checked.

Runs come seed by seed (fold by fold within it), so that a grid stopped half-way has compared
every recipe on the same seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.datasets.base import Dataset, Info
from harness.errors import ConfigError, DataError, listing
from harness.experiment.design import Recipe, contradiction, flagged
from harness.experiment.facts import facts_of
from harness.experiment.model_names import BATCH_OF_ONE, FOR_TABLES, smallest_map
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec, recipe_of
from harness.metrics import metric_of
from harness.strategies.base import Facts, Strategy

MOST_RUNS = 100_000
"""Runs beyond which an experiment is taken for a mistake."""


@dataclass(frozen=True)
class Remark:
    """Something about one recipe on one dataset that the user should see before running it."""

    dataset: str
    recipe: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What an experiment expands to.

    Attributes:
        experiment: Where it came from.
        runs: Every run, seed by seed; each key once.
        infos: Class counts and warnings by dataset, for the first seed.
        unsuitable: Recipes left out, with the reason.
        redundant: Recipes that run, but change nothing worth a run.
        flags: Recipes that are allowed but often a mistake.
        notes: Anything else, such as warnings of a dataset.
        same: Recipes that are the same runs as an earlier one, by name.
    """

    experiment: Experiment
    runs: tuple[RunSpec, ...]
    infos: dict[str, Info]
    unsuitable: tuple[Remark, ...] = ()
    redundant: tuple[Remark, ...] = ()
    flags: tuple[Remark, ...] = ()
    notes: tuple[str, ...] = ()
    same: tuple[Remark, ...] = ()


@dataclass
class _Remarks:
    unsuitable: list[Remark] = field(default_factory=list)
    redundant: list[Remark] = field(default_factory=list)
    flags: list[Remark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def expand(experiment: Experiment) -> Plan:
    """Return every run of an experiment and what there is to say of them.

    Raises:
        ConfigError: A recipe contradicts itself or suits no dataset, or the batch is larger than
            a training set.
        DataError: A dataset is missing or cannot be split as asked.
    """
    _refuse_endless(experiment)
    _refuse_contradictions(experiment)
    remarks = _Remarks()
    infos: dict[str, Info] = {}
    suited: dict[str, list[Recipe]] = {}
    for dataset in experiment.datasets:
        info = _info(experiment, dataset)
        infos[dataset.display()] = info
        _refuse_unfit_models(experiment, dataset)
        _refuse_batch_of_one(experiment, dataset, info)
        _refuse_unfit_metrics(experiment, dataset, info)
        remarks.notes += [f"{dataset.display()}: {warning}" for warning in info.warnings]
        suited[dataset.display()] = _suited(experiment, dataset, info, remarks)
    _refuse_useless(experiment, remarks)
    first = [
        spec
        for dataset in experiment.datasets
        for spec in _first(experiment, dataset, infos, suited[dataset.display()])
    ]
    runs = [
        spec.at(seed, fold)
        for seed in experiment.seeds
        for fold in _folds(experiment)
        for spec in first
    ]
    unique, same = _unique(runs)
    return Plan(
        experiment,
        tuple(unique),
        infos,
        tuple(remarks.unsuitable),
        tuple(remarks.redundant),
        tuple(remarks.flags),
        tuple(remarks.notes),
        tuple(same),
    )


def _folds(experiment: Experiment) -> Sequence[int | None]:
    return range(experiment.folds) if experiment.folds else (None,)


def _info(experiment: Experiment, dataset: Dataset) -> Info:
    """Return the counts of the first fold, after a look at the others and the reference."""
    sources = [dataset]
    if experiment.references:
        sources.append(dataset.model_copy(update={"balanced": True}))
    try:
        infos = [
            source.info(experiment.seeds[0], fold, experiment.folds)
            for source in sources
            for fold in _folds(experiment)
        ]
    except DataError as error:
        named = str(error).startswith("dataset '")
        place = (
            experiment.source if named else f"{experiment.source}: dataset '{dataset.display()}'"
        )
        raise error.within(place) from None
    batch, size = experiment.training.batch_size, min(int(i.counts[0].sum()) for i in infos)
    if batch > size:
        raise ConfigError(
            f"{experiment.source}: training.batch_size: {batch} is larger than the training set "
            f"of '{dataset.display()}' ({size} samples)"
        )
    return infos[0]


def _refuse_unfit_models(experiment: Experiment, dataset: Dataset) -> None:
    names = [model.name for model in experiment.models if model.name not in FOR_TABLES]
    if dataset.kind == "table" and names:
        raise ConfigError(
            f"{experiment.source}: models: '{names[0]}' takes images, and '{dataset.display()}' "
            f"is a table; for a table use {listing(FOR_TABLES)}"
        )


def _refuse_batch_of_one(experiment: Experiment, dataset: Dataset, info: Info) -> None:
    """Refuse what batch norm would refuse in every run by itself."""
    for model in experiment.models if experiment.training.batch_size == 1 else ():
        if model.freeze == "none" and smallest_map(model.name, info.shape) == 1:
            raise ConfigError(
                f"{experiment.source}: dataset '{dataset.display()}': model '{model.name}': "
                f"{BATCH_OF_ONE}"
            )


def _refuse_unfit_metrics(experiment: Experiment, dataset: Dataset, info: Info) -> None:
    for label in (experiment.metric, *experiment.metrics):
        if reason := metric_of(label).unsuitable(info.class_names, info.counts[0]):
            raise ConfigError(
                f"{experiment.source}: metric {label} on '{dataset.display()}': {reason}"
            )


def _refuse_endless(experiment: Experiment) -> None:
    parts = (experiment.seeds, _folds(experiment), experiment.datasets, experiment.models)
    runs = math.prod(len(part) for part in parts) * len(experiment.recipes)
    if runs > MOST_RUNS:
        raise ConfigError(
            f"{experiment.source}: {runs:,} runs, more than {MOST_RUNS:,}; take fewer levels, "
            "seeds or folds, or design: one_at_a_time"
        )


def _refuse_contradictions(experiment: Experiment) -> None:
    problems = []
    for recipe in experiment.recipes:
        reason = contradiction(recipe_of(experiment.base, recipe.strategies))
        if reason:
            problems.append(f"{experiment.source}: recipe '{recipe.name}': {reason}")
    if problems:
        raise ConfigError(_lines(problems))


def _suited(
    experiment: Experiment, dataset: Dataset, info: Info, remarks: _Remarks
) -> list[Recipe]:
    """Return the recipes that can run on a dataset, and note what there is to say of each."""
    name = dataset.display()
    kept = []
    for recipe in experiment.recipes:
        strategies = recipe_of(experiment.base, recipe.strategies)
        facts = _facts(experiment, dataset, info, strategies)
        reasons = [reason for s in strategies if (reason := s.unsuitable(facts))]
        if reasons:
            remarks.unsuitable.append(Remark(name, recipe.name, "; ".join(reasons)))
            continue
        kept.append(recipe)
        for strategy in strategies:
            if reason := strategy.redundant(facts) or _never(strategy, facts.steps):
                remarks.redundant.append(Remark(name, recipe.name, reason))
        if reason := flagged(strategies):
            remarks.flags.append(Remark(name, recipe.name, reason))
    return kept


def _never(strategy: Strategy, steps: int) -> str | None:
    """Return a reason where the window of a strategy, in whole steps, is empty."""
    start, stop = strategy.window()
    if round(start * steps) < round(stop * steps):
        return None
    return f"{strategy.label()} never acts: no step of {steps} is in its window"


def _facts(
    experiment: Experiment, dataset: Dataset, info: Info, strategies: tuple[Strategy, ...]
) -> Facts:
    counts = info.counts[0]
    expanded = counts
    for strategy in strategies:
        expanded = strategy.expanded_counts(expanded)
    training, shape, names = experiment.training, info.shape, info.class_names
    return facts_of(dataset, training, shape, names, counts, np.asarray(expanded, np.int64))


def _refuse_useless(experiment: Experiment, remarks: _Remarks) -> None:
    """Refuse a dataset that suits no recipe, and a recipe that suits no dataset."""
    by_dataset: dict[str, list[str]] = {}
    by_recipe: dict[str, list[str]] = {}
    for remark in remarks.unsuitable:
        by_dataset.setdefault(remark.dataset, []).append(remark.text)
        by_recipe.setdefault(remark.recipe, []).append(remark.text)
    problems = [
        f"{experiment.source}: no recipe can run on '{name}': {reasons[0]}"
        for name, reasons in by_dataset.items()
        if len(reasons) == len(experiment.recipes)
    ] or [
        f"{experiment.source}: recipe '{name}' cannot run: {reasons[0]}"
        for name, reasons in by_recipe.items()
        if len(reasons) == len(experiment.datasets)
    ]
    if problems:
        raise ConfigError(_lines(problems))


def _lines(lines: Sequence[str], limit: int = 5) -> str:
    """Return the first lines, and how many were left out."""
    more = [f"(and {len(lines) - limit} more)"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _first(
    experiment: Experiment, dataset: Dataset, infos: dict[str, Info], recipes: Sequence[Recipe]
) -> list[RunSpec]:
    """Return the runs of a dataset for the first seed and fold."""
    balanced = dataset.model_copy(update={"balanced": True})
    referred = [recipe for recipe in recipes if recipe.name in experiment.references]
    made = {recipe.name: recipe_of(experiment.base, recipe.strategies) for recipe in recipes}
    found = []
    for model in experiment.models:
        for source, members in ((dataset, recipes), (balanced, referred)):
            base = RunSpec(
                dataset=source,
                content=infos[dataset.display()].content,
                strategies=(),
                model=model,
                training=experiment.training,
                metric=experiment.metric,
                seed=experiment.seeds[0],
                fold=_folds(experiment)[0],
                folds=experiment.folds,
                experiment=experiment.name,
                plugins=experiment.plugins,
                metrics=experiment.metrics,
            )
            found += [base.of(r.name, made[r.name], r.levels) for r in members]
    return found


def _unique(runs: Sequence[RunSpec]) -> tuple[list[RunSpec], list[Remark]]:
    """Keep each key once, and name the recipes that are an earlier one under another name."""
    first: dict[str, RunSpec] = {}
    same: dict[tuple[str, str], Remark] = {}
    for spec in runs:
        known = first.setdefault(spec.key, spec)
        if known is not spec:
            other = known.dataset_label
            on = f" on '{other}'" if other != spec.dataset_label else ""
            text = f"the same runs as '{known.recipe}'{on}"
            remark = Remark(spec.dataset_label, spec.recipe, text)
            same.setdefault((remark.dataset, remark.recipe), remark)
    return list(first.values()), list(same.values())
