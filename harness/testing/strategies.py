"""The contract of a strategy as checks: its definition, its parameters, a real run of it.

What its hooks return is checked by `harness.testing.hooks`.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from harness.registry import strategies
from harness.strategies.base import Strategy, Tunable
from harness.testing import samples
from harness.testing.hooks import HOOKS, check_hooks
from harness.testing.report import (
    Call,
    CheckResult,
    Report,
    called,
    global_states,
    restore,
    same,
    told,
)


def check_strategy(strategy: type[Strategy] | Strategy) -> list[CheckResult]:
    """Check a strategy against its contract, and train it for a few steps on the CPU.

    Args:
        strategy: A class that can be made without parameters, or one with its parameters.

    Returns:
        Every check that was made; those with a `problem` are worth knowing.

    Raises:
        ContractError: The contract is broken; all that is wrong is named.
    """
    name = getattr(strategy, "name", "") or getattr(strategy, "__name__", type(strategy).__name__)
    report = Report(f"strategy '{name}'")
    check_into(report, strategy)
    return report.raise_if_broken()


def check_into(report: Report, strategy: Any) -> None:
    """Make every check, noting what it finds."""
    made = _made(report, strategy)
    if made is None:
        return
    _definition(report, made)
    _parameters(report, made)
    _json(report, made)
    suited: list[tuple[int, ...]] = [
        shape for shape in (samples.IMAGE, samples.TABLE) if _suits(report, made, shape, True)
    ]
    for variant in (made, *_ends(report, made)):
        for shape in suited:
            if _suits(report, variant, shape, False):
                check_hooks(report, variant, shape)
    _training(report, made, suited)


def _made(report: Report, strategy: Any) -> Strategy | None:
    if isinstance(strategy, Strategy):
        return strategy
    what = "is a strategy that can be made with its defaults"
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        report.expect(what, False, "derive it from harness.strategies.base.Strategy or Windowed")
        return None
    try:
        made = strategy()
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        report.expect(what, False, f"give every parameter a valid default: {fields or error}")
        return None
    except Exception as error:
        report.expect(what, False, told(error))
        return None
    report.expect(what, True, "")
    return made


def _definition(report: Report, strategy: Strategy) -> None:
    cls, config = type(strategy), type(strategy).model_config
    report.expect(
        "is registered", strategies_know(cls), "put @strategy('its_name') above the class"
    )
    report.expect(
        "is frozen and strict",
        bool(config.get("frozen")) and config.get("extra") == "forbid",
        "keep frozen=True and extra='forbid' in model_config: a run is found again by its "
        "parameters, and an unknown one must be an error",
    )
    own = cls.__doc__ is not None and cls.summary() != ""
    report.expect(
        "has a docstring", own, "say in the first line of the docstring what it does; lists show it"
    )
    version = cls.version
    report.expect(
        "has a version",
        isinstance(version, int) and version >= 1,
        f"version is {version!r}; it is a whole number from 1 on, raised when behaviour changes",
    )
    decided = [hook for hook in HOOKS if cls.decides(hook)]
    report.expect(
        "decides something", bool(decided), f"override at least one of {', '.join(HOOKS)}"
    )
    _window(report, strategy)


def strategies_know(cls: type[Strategy]) -> bool:
    """Return whether the registry finds this class under its name."""
    return cls.name in strategies and strategies.get(cls.name) is cls


def _window(report: Report, strategy: Strategy) -> None:
    with report.attempt("window and firing are fractions"):
        start, stop = strategy.window()
        share = strategy.firing()
        report.expect(
            "window and firing are fractions",
            0.0 <= start < stop <= 1.0 and 0.0 <= share <= 1.0,
            f"window() is ({start}, {stop}) and firing() {share}; 0 ≤ start < stop ≤ 1 and a share "
            "in [0, 1] are needed",
        )


def _parameters(report: Report, strategy: Strategy) -> None:
    check = "every parameter can stand at its legal bounds"
    report.expect(check, True, "")
    for field, info in type(strategy).model_fields.items():
        bounds = [
            value
            for marker in info.metadata
            for side in ("ge", "le")
            if (value := getattr(marker, side, None)) is not None
        ]
        for value in bounds:
            try:
                strategy.with_values({info.alias or field: value})
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                report.expect(check, False, f"{field} = {value} is refused: {reason}")
        unbounded = info.annotation in (int, float) and not any(
            hasattr(marker, side) for marker in info.metadata for side in ("ge", "le", "gt", "lt")
        )
        if unbounded:
            report.note(
                "every number has a legal range",
                f"'{field}' has none: Annotated[float, Field(ge=0.0)] refuses a mistyped value",
            )
    report.note("every number has a legal range", "")
    _tunables(report, strategy)


def _tunables(report: Report, strategy: Strategy) -> None:
    check = "search ranges are legal and values can be put in"
    report.expect(check, True, "")
    with report.attempt(check):
        report.expect(
            check, strategy.with_values({}) == strategy, "with_values({}) is not the same strategy"
        )
        for path, tunable in strategy.tunables().items():
            sane = tunable.low < tunable.high and (tunable.low > 0 or not tunable.log)
            report.expect(
                check, sane, f"{path}: {tunable}; low < high, and low > 0 where log, are needed"
            )
            own = strategy.value(path)
            same_again = strategy.with_values({path: own}).value(path) == own
            report.expect(check, same_again, f"value('{path}') is not what with_values puts in")
    try:
        strategy.with_values({"no_such_parameter": 1})
    except ValidationError:
        report.expect(check, True, "")
    except Exception as error:
        report.expect(check, False, f"with_values of an unknown path {told(error)}")
    else:
        report.expect(check, False, "with_values takes a path that does not exist")


def _ends(report: Report, strategy: Strategy) -> Iterator[Strategy]:
    """Yield the strategy with each tunable parameter at the ends of its search range."""
    for path, tunable in strategy.tunables().items():
        for end in (tunable.low, tunable.high):
            value = _as_value(tunable, end)
            check = "search ranges are legal and values can be put in"
            try:
                variant = strategy.with_values({path: value})
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                report.expect(check, False, f"{path} = {value} is not legal: {reason}")
                continue
            again = variant.with_values({path: value})
            report.expect(check, again == variant, f"{path} = {value} does not come back")
            yield variant


def _as_value(tunable: Tunable, end: float) -> float | int:
    return int(end) if tunable.integer else end


def _json(report: Report, strategy: Strategy) -> None:
    from harness.experiment.spec import RunSpec

    check = "survives the way through JSON"
    if not strategies_know(type(strategy)):
        return
    with report.attempt(check):
        spec = samples.spec_of(samples.sample_dataset("image"), (strategy,))
        back = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
        report.expect(
            check,
            back.strategies == (strategy,) and back.key == spec.key,
            f"{strategy.parameters()} comes back as {back.strategies[0].parameters()}; parameters "
            "must be plain values",
        )


def _suits(report: Report, strategy: Strategy, shape: tuple[int, ...], note: bool) -> bool:
    """Return whether a strategy can run on samples of a shape, by its own word."""
    kind = samples.facts(shape).kind
    told_why: list[Any] = []
    for hook in ("unsuitable", "redundant"):
        if not type(strategy).decides(hook):
            told_why.append(None)
            continue
        call = Call(hook, functools.partial(getattr(strategy, hook), samples.facts(shape)))
        reason = called(report, call)
        report.expect(
            f"{hook}: returns a reason or None",
            reason is None or (isinstance(reason, str) and bool(reason)),
            f"returned {reason!r} for a {kind}",
        )
        told_why.append(reason)
    if told_why[0] and note:
        report.note(f"suits a {kind}", str(told_why[0]))
    return told_why[0] is None


def _training(report: Report, strategy: Strategy, suited: list[tuple[int, ...]]) -> None:
    if not suited:
        shapes = " and ".join(str(shape) for shape in (samples.IMAGE, samples.TABLE))
        report.note("trains", f"it suits neither of {shapes}, so no hook of it was tried")
        return
    dataset = samples.sample_dataset(samples.facts(suited[0]).kind)
    with report.attempt("trains"):
        spec = samples.spec_of(dataset, (strategy,))
        states = global_states()
        results = [samples.train(spec) for _ in range(2)]
        restore(states)
        problem = next((problem for problem, _ in results if problem), "")
        if report.expect("trains", not problem, problem):
            report.expect(
                "trains the same twice",
                same(results[0][1], results[1][1]),
                "two runs of one spec have different test probabilities; some hook keeps state or "
                "draws random numbers of its own",
            )
