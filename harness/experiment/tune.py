"""The key ``tune:`` of an experiment file: which recipes a search moves, in which space.

Whether a search can be made at all (val, folds) is asked by the verb that makes it, so that a file
with this key runs like any other.
"""

import importlib.util
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.decisions.base import Rule
from harness.decisions.priors import Deployment
from harness.errors import ConfigError, did_you_mean, listing
from harness.experiment.decisions import ARGMAX, Decisions
from harness.experiment.design import NOTHING, Recipe
from harness.experiment.keys import Pruner, Sampler, Tune
from harness.experiment.space import LEARNING, Bounds, Space, moved, space_of, tunables_of
from harness.experiment.spec import Training, recipe_of
from harness.experiment.tree import Place
from harness.experiment.validate import Problems
from harness.metrics import STANDARD, metric_of
from harness.strategies.base import Strategy, Tunable

FIRST_SEED = 100
"""Where the seeds of a search begin by default: beyond most experiments' own."""

_PLACE = ("tune",)


@dataclass(frozen=True)
class Tuning:
    """The key ``tune:`` with every name resolved.

    Attributes:
        trials: Trials of each study, in total.
        seeds: Seeds of each trial; none is a report seed.
        sampler: Name of the sampler.
        pruner: Name of the pruner.
        spaces: What is moved, by recipe, do-nothing first; recipes without anything to move are
            left out.
        notes: What the user should know of it.
        rule: Under which a trial is scored on val; None: argmax.
        deploy: The prior that it decides for; None: it follows the metric.
    """

    trials: int
    seeds: tuple[int, ...]
    sampler: Sampler
    pruner: Pruner
    spaces: Mapping[str, Space]
    notes: tuple[str, ...] = ()
    rule: Rule | None = None
    deploy: Deployment | None = None


def tuned_name(recipe: str) -> str:
    """Return what a recipe is called once it is tuned."""
    return f"{recipe} (tuned)"


def read_tuning(
    problems: Problems,
    values: Mapping[str, Any],
    base: tuple[Strategy, ...],
    recipes: Sequence[Recipe],
    training: Training,
    metric: str,
    seeds: Sequence[int],
    decisions: Decisions | None = None,
) -> Tuning | None:
    """Resolve the key ``tune:``; note what is wrong and return None where something is.

    Args:
        problems: Where problems are noted.
        values: What stands under the key.
        base: Strategies in every recipe.
        recipes: Every recipe, do-nothing first.
        training: Budget and optimiser.
        metric: The primary metric, which a search goes by.
        seeds: The report seeds.
        decisions: The rules that a trial may be scored under.
    """
    before = len(problems)
    keys = problems.build(Tune, values, _PLACE, "tune")
    if keys is None:
        return None
    _check_recipes(problems, keys, recipes)
    _check_helpers(problems, keys, metric, training)
    decisions = decisions or Decisions.default()
    rule = _rule(problems, keys, decisions)
    chosen = _seeds(problems, keys, seeds)
    if len(problems) > before:
        return None
    wanted = keys.recipes or [recipe.name for recipe in recipes]
    parts = {
        recipe.name: recipe_of(base, recipe.strategies)
        for recipe in recipes
        if recipe.name in wanted or recipe.name == NOTHING
    }
    given = _given(problems, keys.space, parts, training)
    if len(problems) > before:
        return None
    spaces = {name: space_of(found, training, given) for name, found in parts.items()}
    moving = {name: space for name, space in spaces.items() if space.dimensions}
    _check_empty(problems, keys, moving)
    if len(problems) > before:
        return None
    notes = tuple(_notes(keys, chosen, spaces))
    deploy = None if rule is None else decisions.deploy
    return Tuning(keys.trials, chosen, keys.sampler, keys.pruner, moving, notes, rule, deploy)


def _check_recipes(problems: Problems, keys: Tune, recipes: Sequence[Recipe]) -> None:
    known = [recipe.name for recipe in recipes]
    for i, name in enumerate(keys.recipes or ()):
        place = (*_PLACE, "recipes", i)
        if name not in known:
            near = did_you_mean(name, known)
            problems.add(place, f"no such recipe '{name}'{near} (recipes: {listing(known)})")
        elif name in (keys.recipes or ())[:i]:
            problems.add(place, f"'{name}' stands there twice")
    for name in known:
        if tuned_name(name) in known:
            what = f"'{tuned_name(name)}' is what '{name}' is called once it is tuned"
            problems.add(("recipes", tuned_name(name)), f"{what}; choose another name")


def _check_helpers(problems: Problems, keys: Tune, metric: str, training: Training) -> None:
    if keys.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        problems.add((*_PLACE, "sampler"), "cmaes needs the package cmaes: pip install cmaes")
    if keys.pruner != "none" and not metric_of(metric).quick and training.select == "last":
        problems.add(
            (*_PLACE, "pruner"),
            f"'{metric}' is not measured during training, so nothing can be pruned by it; take "
            f"pruner: none, training.select: best, or one of {listing(_quick())} as metric",
        )


def _rule(problems: Problems, keys: Tune, decisions: Decisions) -> Rule | None:
    """Return the rule that trials are scored under, or None where it is argmax."""
    found = {rule.name: rule for rule in reversed(decisions.rules)}
    found |= {rule.label(): rule for rule in decisions.rules}
    if keys.rule not in found:
        near = did_you_mean(keys.rule, found)
        known = listing(rule.label() for rule in decisions.rules)
        what = f"no such rule '{keys.rule}'{near} (decisions: rules: has {known})"
        problems.add((*_PLACE, "rule"), what)
        return None
    if keys.rule == ARGMAX:
        return None
    if keys.pruner != "none":
        what = "what is measured during training is decided by argmax; take pruner: none"
        problems.add((*_PLACE, "pruner"), f"trials are scored under rule {keys.rule}, and {what}")
    return found[keys.rule]


def _quick() -> list[str]:
    """Return the metrics without parameters that are measured during training."""
    return [name for name in STANDARD if metric_of(name).quick]


def _seeds(problems: Problems, keys: Tune, report: Sequence[int]) -> tuple[int, ...]:
    free = (seed for seed in itertools.count(FIRST_SEED) if seed not in report)
    place = (*_PLACE, "seeds")
    if isinstance(keys.seeds, int):
        return tuple(itertools.islice(free, keys.seeds))
    if len(set(keys.seeds)) != len(keys.seeds):
        problems.add(place, "a seed stands there twice")
    shared = sorted(set(keys.seeds) & set(report))
    if shared:
        others = list(itertools.islice(free, len(keys.seeds)))
        are = "is a report seed" if len(shared) == 1 else "are report seeds"
        problems.add(
            place,
            f"{listing(map(str, shared))} {are} too, on which a winner chosen by it would look "
            f"better than it is; take others, such as {others}",
        )
    return tuple(keys.seeds)


def _given(
    problems: Problems,
    space: Mapping[str, Any],
    parts: Mapping[str, tuple[Strategy, ...]],
    training: Training,
) -> dict[str, Bounds]:
    """Return the ranges that the file gives, by path."""
    ranges: dict[str, Tunable] = dict(LEARNING)
    for strategies in parts.values():
        ranges |= tunables_of(strategies)
    given: dict[str, Bounds] = {}
    for path, inner, value in _leaves(space):
        place = (*_PLACE, "space", *inner)
        if path not in ranges:
            problems.add(place, _unknown(path, ranges))
        elif path in given:
            problems.add(place, f"'{path}' stands there twice")
        elif isinstance(found := _bounds(value, ranges[path]), str):
            problems.add(place, found)
        elif wrong := _illegal(path, found, parts, training):
            problems.add(place, wrong)
        else:
            given[path] = found
    return given


def _leaves(values: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[str, Place, Any]]:
    """Yield path, place and value of everything under ``space``, dotted or nested."""
    for key, value in values.items():
        here = (*place, key)
        if isinstance(value, Mapping):
            yield from _leaves(value, here)
        else:
            yield ".".join(map(str, here)), here, value


def _unknown(path: str, ranges: Mapping[str, Tunable]) -> str:
    names = sorted({known.partition(".")[0] for known in ranges})
    owner = path.partition(".")[0]
    if owner not in names:
        near = did_you_mean(path, ranges) or did_you_mean(owner, names)
        return f"no recipe that is tuned has '{owner}'{near} (paths: {listing(sorted(ranges))})"
    own = sorted(known for known in ranges if known.startswith(f"{owner}."))
    return f"no such parameter to tune{did_you_mean(path, own)} (of {owner}: {listing(own)})"


def _bounds(value: Any, tunable: Tunable) -> Bounds | str:
    """Return the range that a value of the file stands for, or what is wrong with it."""
    ends = value if isinstance(value, list) and len(value) == 2 else [value, value]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return f"expected [low, high], or the number to hold, not {value!r}"
    low, high = numbers
    if isinstance(value, list) and not low < high:
        return f"the range is empty: expected [low, high] with low < high, not {value!r}"
    if tunable.integer and not (float(low).is_integer() and float(high).is_integer()):
        return f"expected whole numbers, not {value!r}"
    if tunable.log and low < high and low <= 0:
        return f"it is searched on a logarithmic scale, so a range begins above 0, not at {low:g}"
    return (int(low), int(high)) if tunable.integer else (float(low), float(high))


def _illegal(
    path: str, bounds: Bounds, parts: Mapping[str, tuple[Strategy, ...]], training: Training
) -> str | None:
    """Return why an end of a range is not legal for some recipe that has the path, or None."""
    for strategies in parts.values():
        if path not in LEARNING and path not in tunables_of(strategies):
            continue
        for end in dict.fromkeys(bounds):
            try:
                moved(strategies, training, {path: end})
            except ConfigError as error:
                return f"{end:g} is not legal: {error}"
    return None


def _check_empty(problems: Problems, keys: Tune, moving: Mapping[str, Space]) -> None:
    """Refuse a recipe asked for by name, and a file, without anything to move."""
    for i, name in enumerate(keys.recipes or ()):
        if name not in moving and name != NOTHING:
            problems.add(
                (*_PLACE, "recipes", i),
                f"'{name}' has nothing to tune: no parameter of it has a search range, or all are "
                "held; a learning rate is tuned with space: {training.lr: [0.01, 0.5]}",
            )
    if not moving:
        problems.add(_PLACE, "no recipe has anything to tune")


def _notes(keys: Tune, seeds: tuple[int, ...], spaces: Mapping[str, Space]) -> Iterator[str]:
    for name, space in spaces.items():
        if not space.dimensions:
            yield f"'{name}' has nothing to tune and stands as it is"
        for one in space.dimensions:
            if not one.holds_own:
                yield (
                    f"{one.path}: the {one.own:g} of '{name}' lies outside {one.low:g}…"
                    f"{one.high:g}: only its first trial, of its own values, takes it"
                )
    if len(seeds) < 3:
        yield "fewer than 3 tuning seeds: which trial is best is mostly luck"
