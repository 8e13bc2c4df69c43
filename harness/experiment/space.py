"""What a search may move: the tunable parameters of a recipe by path, narrowed by the user.

A path is the strategy's name and the parameter's, ``mixup.alpha``; of a second strategy of the
same name it begins with ``ldam.2``. Learning rate and weight decay are ``training.lr`` and
``training.weight_decay``; they move only where a range is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from harness.errors import ConfigError
from harness.experiment.spec import Training
from harness.strategies.base import Strategy, Tunable, canonical, prefixes

LEARNING = {
    "training.lr": Tunable(1e-4, 1.0, log=True),
    "training.weight_decay": Tunable(1e-6, 1e-1, log=True),
}
"""What else may be tuned, and how; only on demand, so the ranges themselves are never used."""

Bounds = tuple[float, float]
"""Lowest and highest value, both included; equal where a parameter is fixed."""


@dataclass(frozen=True)
class Dimension:
    """One parameter that a search moves.

    Attributes:
        path: Where it stands.
        low: Smallest value, inclusive.
        high: Largest value, inclusive.
        log: On a logarithmic scale.
        integer: Only whole numbers.
        own: The value in the recipe, perhaps outside the range.
    """

    path: str
    low: float
    high: float
    log: bool
    integer: bool
    own: float

    @property
    def holds_own(self) -> bool:
        """Whether the recipe's own value lies in the range."""
        return self.low <= self.own <= self.high

    def __str__(self) -> str:
        scale = " (log)" if self.log else ""
        return f"{self.path} {self.low:g}…{self.high:g}{scale}"


@dataclass(frozen=True)
class Space:
    """What a search of one recipe moves, and what it holds at another value than the recipe's.

    Attributes:
        dimensions: What it moves, in the order of the recipe.
        fixed: Values by path.
        own: The recipe's own values, of what moves and of what is held, by path.
    """

    dimensions: tuple[Dimension, ...]
    fixed: tuple[tuple[str, float], ...] = ()
    own: tuple[tuple[str, float], ...] = ()

    @property
    def holds_own(self) -> bool:
        """Whether the recipe itself is a point of the space: in every range, and as it is held."""
        own = dict(self.own)
        held = all(own[path] == value for path, value in self.fixed)
        return held and all(one.holds_own for one in self.dimensions)


def tunables_of(strategies: tuple[Strategy, ...]) -> dict[str, Tunable]:
    """Return the search range of every parameter of a recipe that has one, by path."""
    return {
        f"{prefix}.{path}": tunable
        for prefix, strategy in zip(prefixes(strategies), strategies, strict=True)
        for path, tunable in strategy.tunables().items()
    }


def space_of(
    strategies: tuple[Strategy, ...], training: Training, given: Mapping[str, Bounds]
) -> Space:
    """Return the space of a recipe.

    Args:
        strategies: The recipe with the experiment's base, in canonical order.
        training: Budget and optimiser.
        given: Ranges that take the place of the strategies' own, by path; those of other recipes
            are passed over.
    """
    ranges = tunables_of(strategies) | {
        path: tunable for path, tunable in LEARNING.items() if path in given
    }
    own = own_values(strategies, training)
    dimensions, fixed = [], []
    for path, tunable in ranges.items():
        low, high = given.get(path, (tunable.low, tunable.high))
        if low == high:
            fixed.append((path, low))
        else:
            scale = (tunable.log, tunable.integer)
            dimensions.append(Dimension(path, low, high, *scale, float(own[path])))
    return Space(tuple(dimensions), tuple(fixed), tuple((path, own[path]) for path in ranges))


def own_values(strategies: tuple[Strategy, ...], training: Training) -> dict[str, float]:
    """Return what stands at every tunable path of a recipe now."""
    values = {path: getattr(training, path.partition(".")[2]) for path in LEARNING}
    for prefix, strategy in zip(prefixes(strategies), strategies, strict=True):
        values |= {f"{prefix}.{path}": strategy.value(path) for path in strategy.tunables()}
    return values


def moved(
    strategies: tuple[Strategy, ...], training: Training, values: Mapping[str, float]
) -> tuple[tuple[Strategy, ...], Training]:
    """Return recipe and training with `values` put in, by path.

    Raises:
        ConfigError: A value, or several together, are not legal.
    """
    changed = []
    try:
        for prefix, strategy in zip(prefixes(strategies), strategies, strict=True):
            inner = {
                path: values[f"{prefix}.{path}"]
                for path in strategy.tunables()
                if f"{prefix}.{path}" in values
            }
            changed.append(strategy.with_values(inner) if inner else strategy)
        learning = {path.partition(".")[2]: values[path] for path in LEARNING if path in values}
        # not a copy with an update, which would check nothing
        training = Training.model_validate(training.model_dump(exclude_unset=True) | learning)
    except ValidationError as error:
        raise ConfigError(reason(error)) from None
    return canonical(tuple(changed)), training


def reason(error: ValidationError) -> str:
    """Return in one line what pydantic has against a value."""
    detail = error.errors(include_url=False)[0]
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return ": ".join([*(str(part) for part in detail["loc"]), message])
