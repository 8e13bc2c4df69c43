"""The experiment file: strict keys, resolved names, nothing run.

`load` returns an `Experiment` whose datasets, strategies and models are validated objects.
"""

import copy
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.datasets.base import Dataset
from harness.errors import ConfigError, did_you_mean, listing
from harness.experiment.decisions import Decisions, read_decisions
from harness.experiment.design import (
    NONE,
    NOTHING,
    Design,
    Level,
    Recipe,
    problems_of,
    recipes_of,
)
from harness.experiment.keys import REQUIRED, File, KeepWeights, Tracking
from harness.experiment.model_names import (
    SIZED,
    check_model_name,
    is_published,
    published_hint,
)
from harness.experiment.spec import Model, Training
from harness.experiment.tree import Place, Tree
from harness.experiment.tune import Tuning, read_tuning
from harness.experiment.validate import Problems
from harness.registry import datasets, load_plugins, metrics, strategies
from harness.strategies.base import Strategy

__all__ = ["Experiment", "KeepWeights", "Tracking", "load", "resolve"]


@dataclass(frozen=True)
class Experiment:
    """An experiment file with every name resolved.

    Attributes:
        name: Name of the experiment, also in MLflow.
        source: The file it came from, for messages.
        description: What it is for.
        datasets: What to train on.
        base: Strategies in every recipe.
        factors: Levels by factor.
        design: How the factors are crossed.
        recipes: Every recipe, do-nothing first.
        references: Names of the recipes to run on the balanced reference, or empty.
        models: What to train.
        seeds: One run of everything for each.
        folds: Number of folds, or None.
        training: Budget and optimiser.
        metric: Label of the primary metric; `harness.metrics.metric_of` returns the metric.
        metrics: Labels of further ones to show.
        keep_weights: Which runs' weights stay.
        weights_gb: Disk cap of the weights that stay, in GB.
        tracking: The mirror.
        plugins: Modules and files to import.
        tuning: What `harness tune` searches, or None.
        given: Options of the command line that are a part of it: assignments and plugins.
        decisions: How finished runs are decided.
    """

    name: str
    source: str
    description: str
    datasets: tuple[Dataset, ...]
    base: tuple[Strategy, ...]
    factors: Mapping[str, tuple[Level, ...]]
    design: Design
    recipes: tuple[Recipe, ...]
    references: tuple[str, ...]
    models: tuple[Model, ...]
    seeds: tuple[int, ...]
    folds: int | None
    training: Training
    metric: str
    keep_weights: KeepWeights
    weights_gb: float
    tracking: Tracking
    plugins: tuple[str, ...]
    tuning: Tuning | None = None
    given: tuple[tuple[str, str], ...] = ()
    metrics: tuple[str, ...] = ()
    decisions: Decisions = field(default_factory=Decisions.default)

    @property
    def called(self) -> str:
        """How a command names it, quoted: the file and what was given beside it.

        A folder of this machine is nobody's business, nor is where runs are tracked.
        """
        path = Path(self.source)
        words = [path.name if path.is_absolute() else path.as_posix()]
        for option, value in self.given:
            if not value.startswith("tracking"):
                words += [option, _ABSOLUTE.sub(r"\1…", value)]
        return shlex.join(words)


_ABSOLUTE = re.compile(r"(^|=\s*|[\[{,:]\s*)[\"']?(?:[/~]|[A-Za-z]:[/\\]).*", re.DOTALL)
"""An absolute path in an assignment, and what follows it."""


def load(
    path: str | Path | Mapping[str, Any],
    edits: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> Experiment:
    """Read and resolve an experiment.

    Args:
        path: A file, or the same keys as a mapping.
        edits: Assignments ``a.b=value`` made before validation.
        plugins: Modules and files to import besides those the file names.

    Raises:
        ConfigError: Something in it is wrong; every problem is named with its place.
    """
    if isinstance(path, Mapping):
        tree = Tree("experiment", "{}")
        tree.values.update(copy.deepcopy(dict(path)))  # which edits would change
    else:
        tree = Tree.read(Path(path))
    for edit in edits:
        tree.set(edit)
    return resolve(tree, plugins)


def resolve(tree: Tree, plugins: Sequence[str] = ()) -> Experiment:
    """Return the experiment that a tree describes.

    Raises:
        ConfigError: As in `load`.
    """
    problems = Problems(tree)
    file = _read(problems, tree)
    _import(problems, file.plugins, plugins)
    sources = [
        problems.named(datasets, item, ("datasets", i)) for i, item in enumerate(file.datasets)
    ]
    models = [_model(problems, item, ("models", i)) for i, item in enumerate(file.models)]
    training = problems.build(Training, file.training, ("training",), "training")
    tracking = problems.build(Tracking, file.tracking, ("tracking",), "tracking")
    base = _strategies(problems, file.base, ("base",))
    factors, recipes = _recipes(problems, file)
    metric = _metric(problems, file.metric, ("metric",))
    further = [_metric(problems, item, ("metrics", i)) for i, item in enumerate(file.metrics)]
    decisions = read_decisions(problems, file.decisions)
    _check_rest(problems, file, sources, models)
    references = _references(problems, file, recipes)
    seeds = tuple(range(file.seeds)) if isinstance(file.seeds, int) else tuple(file.seeds)
    tuning = None
    if file.tune is not None and recipes and training is not None and metric:
        tuning = read_tuning(problems, file.tune, base, recipes, training, metric, seeds, decisions)
    problems.raise_if_any()
    assert training is not None
    assert tracking is not None
    return Experiment(
        name=file.name,
        source=tree.name,
        description=file.description,
        datasets=tuple(sources),
        base=base,
        factors=factors,
        design=file.design,
        recipes=recipes,
        references=references,
        models=tuple(model for model in models if model is not None),
        seeds=seeds,
        folds=file.folds,
        training=training,
        metric=metric,
        keep_weights=file.keep_weights,
        weights_gb=file.weights_gb,
        tracking=tracking,
        plugins=(*file.plugins, *plugins),
        tuning=tuning,
        decisions=decisions,
        metrics=tuple(dict.fromkeys(label for label in further if label != metric)),
        given=(*(("--set", edit) for edit in tree.edits), *(("--plugin", p) for p in plugins)),
    )


def _read(problems: Problems, tree: Tree) -> File:
    """Return the keys that are sound, after noting what is wrong with the others."""
    sound = {
        key: value
        for key, value in tree.values.items()
        if problems.build(File, {key: value}, (), "an experiment") is not None
    }
    for key in REQUIRED:
        if key not in tree.values:
            problems.add((key,), "an experiment needs it")
    return File.model_validate(sound)


def _import(problems: Problems, named: Sequence[str], given: Sequence[str]) -> None:
    """Import the plugins; without them, every name of theirs would be reported as unknown."""
    missing = False
    for i, plugin in enumerate(named):
        try:
            load_plugins([plugin])
        except ConfigError as error:
            problems.add(("plugins", i), str(error))
            missing = True
    if missing:
        problems.raise_if_any()
    load_plugins(given)


def _recipes(
    problems: Problems, file: File
) -> tuple[dict[str, tuple[Level, ...]], tuple[Recipe, ...]]:
    """Return the levels of each factor and the recipes, none where something is wrong."""
    before = len(problems)
    factors = {factor: _levels(problems, factor, levels) for factor, levels in file.factors.items()}
    extras = {
        name: _strategies(problems, items, ("recipes", name))
        for name, items in file.recipes.items()
    }
    if len(problems) > before:
        return factors, ()
    for place, problem in problems_of(factors, file.design, file.exclude, extras):
        problems.add(place, problem)
    if len(problems) > before:
        return factors, ()
    return factors, recipes_of(factors, file.design, file.exclude, extras)


def _strategies(problems: Problems, items: list[Any], place: Place) -> tuple[Strategy, ...]:
    built = [problems.named(strategies, item, (*place, i)) for i, item in enumerate(items)]
    return tuple(built)


def _levels(problems: Problems, factor: str, items: list[Any]) -> tuple[Level, ...]:
    levels = []
    for i, item in enumerate(items):
        place = ("factors", factor, i)
        if item == NONE or item is None:
            levels.append(Level(NONE))
            continue
        default = factor if factor in strategies else None
        built = problems.named(strategies, item, place, default)
        if built is not None:
            levels.append(Level(built.label(), built))
    return tuple(_told_apart(problems, levels, ("factors", factor)))


def _told_apart(problems: Problems, levels: list[Level], place: Place) -> list[Level]:
    """Number the levels of one label, such as two explicit lists of transforms."""
    known: dict[str, list[Level]] = {}
    for i, level in enumerate(levels):
        alike = known.setdefault(level.label, [])
        if any(other.strategy == level.strategy for other in alike):
            problems.add(place, f"level '{level.label}' stands there twice")
        alike.append(level)
        if len(alike) > 1:
            levels[i] = replace(level, label=f"{level.label}#{len(alike)}")
    return levels


def _model(problems: Problems, item: Any, place: Place) -> Model | None:
    model = problems.build(Model, {"name": item} if isinstance(item, str) else item, place, "model")
    if model is None:
        return None
    try:
        check_model_name(model.name)
    except ConfigError as error:
        problems.add(place, str(error))
        return model
    if model.freeze == "backbone" and model.weights is None:
        problems.add(place, "freeze: backbone needs weights; a random backbone would stay random")
    if model.width is not None and model.name not in SIZED:
        problems.add((*place, "width"), f"only {listing(SIZED)} have a width to choose")
    # os.path.isfile answers False where pathlib raises: a name too long
    file = None if model.weights is None else os.path.expanduser(model.weights)
    if model.weights is not None and file is not None and not os.path.isfile(file):
        if os.path.splitext(file)[1] and "_Weights." not in file:
            problems.add((*place, "weights"), f"no such file: {os.path.abspath(file)}")
        elif not is_published(model.name, model.weights):
            hint = published_hint(model.name, model.weights)
            problems.add((*place, "weights"), f"'{model.weights}' is no file, and {hint}")
    return model


def _metric(problems: Problems, item: Any, place: Place) -> str:
    """Return the label of a metric, empty where something is wrong."""
    built = problems.named(metrics, item, place)
    return "" if built is None else str(built.label())


def _check_rest(
    problems: Problems,
    file: File,
    sources: Sequence[Dataset | None],
    models: Sequence[Model | None],
) -> None:
    if isinstance(file.seeds, list) and len(set(file.seeds)) != len(file.seeds):
        problems.add(("seeds",), "a seed stands there twice")
    if isinstance(file.seeds, list) and not file.seeds:
        problems.add(("seeds",), "at least one seed is needed")
    labels = [source.display() for source in sources if source is not None]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            problems.add(
                ("datasets", i), f"another dataset is shown as '{label}' too; give one a label"
            )
    for i, model in enumerate(models):
        if model is not None and model in models[:i]:
            problems.add(("models", i), f"'{model.label()}' stands there twice")
    if file.training.get("select") == "best":
        for i, source in enumerate(sources):
            if source is not None and source.val_fraction == 0:
                problems.add(("datasets", i), "select: best needs val, and val_fraction is 0")


def _references(problems: Problems, file: File, recipes: Sequence[Recipe]) -> tuple[str, ...]:
    if "balanced" not in file.references:
        return ()
    known = [recipe.name for recipe in recipes]
    for i, name in enumerate(file.references["balanced"]):
        if known and name not in known:
            problems.add(
                ("references", "balanced", i),
                f"no such recipe '{name}'{did_you_mean(name, known)} (recipes: {listing(known)})",
            )
    return tuple(dict.fromkeys([NOTHING, *file.references["balanced"]]))
