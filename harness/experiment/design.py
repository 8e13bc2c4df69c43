"""From factors to recipes: the designs, what is excluded, and which recipes contradict themselves.

A recipe's *levels* say at which level each factor stands; ``none`` leaves the factor out. The
do-nothing recipe, the experiment's base and no more, is always there: everything is compared
with it.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from harness.errors import ConfigError, did_you_mean, listing
from harness.experiment.tree import Place, dotted
from harness.strategies.base import Strategy, deciding

Design = Literal["factorial", "one_at_a_time", "leave_one_out"]

NONE = "none"
NOTHING = "nothing"

MOST = 10_000
"""Recipes beyond which a design is taken for a mistake."""

MOST_FACTORS = 100


@dataclass(frozen=True)
class Level:
    """One choice of a factor: what tables call it, and its strategy (None for ``none``)."""

    label: str
    strategy: Strategy | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Recipe:
    """A named set of strategies on top of the experiment's base."""

    name: str
    strategies: tuple[Strategy, ...]
    levels: tuple[tuple[str, str], ...] = ()


Factors = Mapping[str, Sequence[Level]]


def recipes_of(
    factors: Factors,
    design: Design,
    exclude: Sequence[Mapping[str, str]] = (),
    extras: Mapping[str, tuple[Strategy, ...]] | None = None,
) -> tuple[Recipe, ...]:
    """Return the recipes of a design, do-nothing first, hand-named ones last.

    Args:
        factors: Levels by factor, in the order of the file.
        design: ``factorial``: every combination. ``one_at_a_time``: each level alone.
            ``leave_one_out``: the first level of every factor together, then without each.
        exclude: Combinations of levels to leave out, by label or strategy name.
        extras: Strategies of the hand-named recipes, by name.

    Raises:
        ConfigError: As `problems_of` says.
    """
    for place, problem in problems_of(factors, design, exclude, extras or {}):
        raise ConfigError(f"{dotted(place)}: {problem}")
    return (
        *_crossed(factors, design, exclude),
        *(Recipe(name, chosen) for name, chosen in (extras or {}).items()),
    )


def problems_of(
    factors: Factors,
    design: Design,
    exclude: Sequence[Mapping[str, str]],
    extras: Mapping[str, tuple[Strategy, ...]],
) -> Iterator[tuple[Place, str]]:
    """Yield where in the experiment and why the arguments of `recipes_of` make no design.

    An exclusion names an unknown factor or level, there are too many combinations, or a hand-named
    recipe has the name of another.
    """
    wrong = list(_wrong_exclusions(factors, exclude))
    yield from wrong
    size = _size(factors, design)
    if len(factors) > MOST_FACTORS:
        yield ("factors",), f"{len(factors):,} factors, more than {MOST_FACTORS}"
    elif size > MOST:
        other = ", or design: one_at_a_time or leave_one_out" if design == "factorial" else ""
        yield ("factors",), f"{size:,} combinations, more than {MOST:,}; take fewer levels{other}"
    elif len(exclude) * size > 100 * MOST:
        yield ("exclude",), f"{len(exclude):,} exclusions from {size:,} combinations are too many"
    elif len(extras) > MOST:
        yield ("recipes",), f"{len(extras):,} recipes, more than {MOST:,}"
    elif not wrong and extras:
        names = {recipe.name for recipe in _crossed(factors, design, exclude)}
        for name in sorted(names & extras.keys()):
            yield ("recipes", name), "the design already has a recipe of this name"


def _size(factors: Factors, design: Design) -> int:
    """Return how many combinations a design has, counted rather than made."""
    sizes = [len(levels) for levels in factors.values()]
    if design == "factorial":
        return math.prod(sizes)
    return sum(sizes) if design == "one_at_a_time" else len(sizes) + 1


def _crossed(
    factors: Factors, design: Design, exclude: Sequence[Mapping[str, str]]
) -> list[Recipe]:
    nothing = tuple(Level(NONE) for _ in factors)
    shared = _shared_labels(factors)
    rules = [_levels_of(factors, rule) for rule in exclude]
    return [
        _recipe(factors, combination, shared)
        for combination in dict.fromkeys([nothing, *_DESIGNS[design](factors)])
        if combination == nothing or not _excluded(combination, rules)
    ]


def _shared_labels(factors: Factors) -> set[str]:
    """Return the labels of several factors, which alone would not tell two recipes apart."""
    found = Counter(label for levels in factors.values() for label in {x.label for x in levels})
    return {label for label, number in found.items() if number > 1}


def _factorial(factors: Factors) -> list[tuple[Level, ...]]:
    return list(itertools.product(*factors.values()))


def _one_at_a_time(factors: Factors) -> list[tuple[Level, ...]]:
    found = []
    for place, levels in enumerate(factors.values()):
        for level in levels:
            row = [Level(NONE)] * len(factors)
            row[place] = level
            found.append(tuple(row))
    return found


def _leave_one_out(factors: Factors) -> list[tuple[Level, ...]]:
    full = [
        next((level for level in levels if level.strategy is not None), Level(NONE))
        for levels in factors.values()
    ]
    without = [
        tuple(Level(NONE) if i == place else level for i, level in enumerate(full))
        for place in range(len(full))
    ]
    return [tuple(full), *without]


_DESIGNS = {
    "factorial": _factorial,
    "one_at_a_time": _one_at_a_time,
    "leave_one_out": _leave_one_out,
}


def _recipe(factors: Factors, combination: tuple[Level, ...], shared: set[str]) -> Recipe:
    at = list(zip(factors, combination, strict=True))
    used = [(factor, level) for factor, level in at if level.strategy is not None]
    parts = [
        f"{factor}:{level.label}" if level.label in shared else level.label
        for factor, level in used
    ]
    levels = tuple((factor, level.label) for factor, level in at)
    strategies = tuple(s for _, level in used if (s := level.strategy))
    return Recipe("+".join(parts) or NOTHING, strategies, levels)


_Rule = Sequence[tuple[int, Set[Level]]]
"""Positions of factors, and the levels there, of which an exclusion is made."""


def _levels_of(factors: Factors, rule: Mapping[str, str]) -> _Rule:
    at = {factor: place for place, factor in enumerate(factors)}
    every = {factor: {Level(NONE), *levels} for factor, levels in factors.items()}
    return [
        (at[factor], {level for level in every[factor] if wanted in _names(level)})
        for factor, wanted in rule.items()
    ]


def _excluded(combination: tuple[Level, ...], rules: Sequence[_Rule]) -> bool:
    return any(all(combination[place] in levels for place, levels in rule) for rule in rules)


def _names(level: Level) -> set[str]:
    return {level.label} | ({level.strategy.name} if level.strategy else set())


def _wrong_exclusions(
    factors: Factors, exclude: Sequence[Mapping[str, str]]
) -> Iterator[tuple[Place, str]]:
    for i, rule in enumerate(exclude):
        if not rule:
            yield ("exclude", i), "an empty exclusion would leave out everything"
        for factor, wanted in rule.items():
            known = set().union(*(_names(level) for level in factors.get(factor, ())))
            if factor not in factors:
                yield (
                    ("exclude", i, factor),
                    f"no such factor{did_you_mean(factor, factors)} (factors: {listing(factors)})",
                )
            elif wanted not in known:
                yield (
                    ("exclude", i, factor),
                    f"no such level '{wanted}'{did_you_mean(wanted, known)} "
                    f"(levels: {listing(sorted(known))})",
                )


def contradiction(strategies: tuple[Strategy, ...]) -> str | None:
    """Return why a recipe contradicts itself, or None.

    At most one strategy may decide the order, and one the loss, at any moment of the budget; rows
    are synthesized once; the last layer is of one kind.
    """
    for hook, what in (("order", "the order of samples"), ("loss", "the loss")):
        for a, b in itertools.combinations(deciding(strategies, hook), 2):
            if _overlap(a, b):
                return (
                    f"'{a.label()}' and '{b.label()}' both decide {what} at the same time; give "
                    "them windows (start, stop) that do not overlap, or exclude the combination"
                )
    makers = [s.label() for s in deciding(strategies, "synthesize")]
    if len(makers) > 1:
        return f"{listing(makers)} would each synthesize rows; keep one of them"
    heads = {type(s).head: f"'{s.label()}'" for s in deciding(strategies, "loss")}
    if len(heads) > 1:
        return f"the losses {listing(heads.values())} need last layers of different kinds"
    return None


def flagged(strategies: tuple[Strategy, ...]) -> str | None:
    """Return what a reader should know of a recipe that is allowed but often a mistake, or None."""
    for a, b in itertools.combinations((s for s in strategies if s.rebalances()), 2):
        if _overlap(a, b):
            return (
                f"{a.label()} and {b.label()} each correct the imbalance; together they may "
                "over-correct"
            )
    for a, b in itertools.combinations(deciding(strategies, "blend"), 2):
        if a.name == b.name and _overlap(a, b):
            return f"{a.name} stands there twice, and both act: is one of them in the base?"
    return None


def _overlap(a: Strategy, b: Strategy) -> bool:
    """Whether both act at some moment of the budget."""
    (start_a, stop_a), (start_b, stop_b) = a.window(), b.window()
    return start_a < stop_b and start_b < stop_a
