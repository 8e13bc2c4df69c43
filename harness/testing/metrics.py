"""The contract of a metric as checks: its definition, its label, what it makes of small splits."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.errors import listing
from harness.metrics import Metric, Split, metric_of
from harness.registry import metrics
from harness.streams import stream
from harness.testing.report import Call, CheckResult, Report, called, told


def check_metric(metric: type[Metric] | Metric) -> list[CheckResult]:
    """Check a metric against its contract.

    Args:
        metric: A class that can be made without parameters, or one with its parameters.

    Returns:
        Every check that was made; those with a `problem` are worth knowing.

    Raises:
        ContractError: The contract is broken; all that is wrong is named.
    """
    name = getattr(metric, "name", "") or getattr(metric, "__name__", type(metric).__name__)
    report = Report(f"metric '{name}'")
    check_into(report, metric)
    return report.raise_if_broken()


def check_into(report: Report, metric: Any) -> None:
    """Make every check, noting what it finds."""
    made = _made(report, metric)
    if made is None:
        return
    _definition(report, made)
    _label(report, made)
    if type(made).value is Metric.value and not made.splits_into_images():
        report.expect("computes something", False, "override value, or image_weights and scores")
        return
    suited = 0
    for split in _splits():
        reason = made.unsuitable(split.class_names, split.train_counts)
        if reason is None:
            suited += 1
            _on(report, made, split)
    if not suited:
        named = "well, ill; or alder, birch, cedar, dogwood"
        report.note("is computed", f"it suits none of the sample classes ({named}), so it was not")


def _made(report: Report, metric: Any) -> Metric | None:
    if isinstance(metric, Metric):
        return metric
    what = "is a metric that can be made with its defaults"
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        report.expect(what, False, "derive it from harness.metrics.base.Metric")
        return None
    needed = [name for name, info in metric.model_fields.items() if info.is_required()]
    if needed:
        report.note(
            what,
            f"it needs {listing(needed)}; check it in a test of yours with "
            f"harness.testing.check_metric({metric.__name__}({needed[0]}=…))",
        )
        return None
    try:
        made = metric()
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        report.expect(what, False, f"give every parameter a valid default: {'; '.join(reasons)}")
        return None
    except Exception as error:
        report.expect(what, False, told(error))
        return None
    report.expect(what, True, "")
    return made


def _definition(report: Report, metric: Metric) -> None:
    cls, config = type(metric), type(metric).model_config
    report.expect(
        "is registered",
        cls.name in metrics and metrics.get(cls.name) is cls,
        "put @metric('its_name') above the class",
    )
    report.expect(
        "is frozen and strict",
        bool(config.get("frozen")) and config.get("extra") == "forbid",
        "keep frozen=True and extra='forbid' in model_config: an unknown parameter is an error",
    )
    own = cls.__doc__ is not None and cls.summary() != ""
    report.expect(
        "has a docstring", own, "say in the first line of the docstring what it is; lists show it"
    )
    report.expect(
        "says what it is computed from",
        cls.source in ("decisions", "probabilities"),
        f"source is {cls.source!r}, not 'decisions' or 'probabilities'",
    )
    report.expect(
        "has a version",
        isinstance(cls.version, int) and cls.version >= 1,
        f"version is {cls.version!r}; it is a whole number from 1 on, raised when it changes",
    )


def _label(report: Report, metric: Metric) -> None:
    check = "its label is read back"
    with report.attempt(check):
        label = metric.label()
        report.expect(
            check,
            metric_of(label) == metric,
            f"{label} is read back as another; parameters must be plain values",
        )


def _splits() -> Iterator[Split]:
    """Yield small splits: two classes and four, some with ties, one with a class absent."""
    for names, counts, levels in (
        (("well", "ill"), (300, 12), 1000),
        (("well", "ill"), (300, 12), 4),
        (("alder", "birch", "cedar", "dogwood"), (200, 60, 19, 5), 1000),
        (("alder", "birch", "cedar", "dogwood"), (200, 60, 19, 5), 3),
    ):
        rng = stream(0, "check/metric", len(names) * 10_000 + levels)
        present = np.arange(len(names) - (len(names) > 2 and levels == 3))
        labels = np.concatenate([present, rng.choice(present, 60)])
        weight = rng.integers(1, levels + 1, (len(labels), len(names))).astype(np.float64)
        weight[np.arange(len(labels)), labels] *= 1.7
        probabilities = (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)
        yield Split.checked(probabilities, labels, np.array(counts), class_names=names)


def _on(report: Report, metric: Metric, split: Split) -> None:
    """Check what a metric makes of one split."""
    arrays = {"probabilities": split.probabilities, "labels": split.labels}
    call = Call("value", functools.partial(_value, metric, split), arrays)
    value = called(report, call)
    holds = value is None or (isinstance(value, float) and bool(np.isfinite(value)))
    said = f"returned {value!r}; a finite float is needed, or None where it is not defined"
    if not report.expect("value: returns a number or None", holds, said) or value is None:
        return
    order = np.random.default_rng(0).permutation(len(split.labels))
    turned = _again(split, split.probabilities[order], split.labels[order])
    with report.attempt("value: samples may stand in any order"):
        report.expect(
            "value: samples may stand in any order",
            _close(metric.value(turned), value),
            f"{metric.value(turned)} where the same samples in another order give {value}",
        )
    _source(report, metric, split, value)
    _direction(report, metric, split, value)
    if metric.splits_into_images():
        _images(report, metric, split, value)


def _value(metric: Metric, split: Split) -> float | None:
    return metric.value(_again(split, split.probabilities, split.labels))


def _again(split: Split, probabilities: Any, labels: Any, decisions: Any = None) -> Split:
    """Return a split of the same classes, with nothing counted yet."""
    return Split.checked(probabilities, labels, split.train_counts, decisions, split.class_names)


def _source(report: Report, metric: Metric, split: Split, value: float) -> None:
    """Check that a metric is computed from what it says."""
    check = "value: is computed from its source"
    with report.attempt(check):
        if metric.source == "probabilities":
            others = (split.decisions + 1) % split.classes
            found = metric.value(_again(split, split.probabilities, split.labels, others))
            hint = "other decisions change it, and its source is 'probabilities'"
        else:
            flat = np.full_like(split.probabilities, 1 / split.classes)
            found = metric.value(_again(split, flat, split.labels, split.decisions))
            hint = (
                "other probabilities with the same decisions change it; set "
                "source: ClassVar[Source] = 'probabilities', or use split.decisions"
            )
        report.expect(check, _close(found, value), hint)


def _direction(report: Report, metric: Metric, split: Split, value: float) -> None:
    """Note a metric by which perfect predictions are worse than poor ones."""
    perfect = np.eye(split.classes, dtype=np.float32)[split.labels]
    best = metric.value(_again(split, perfect, split.labels))
    better = best is None or (best >= value if metric.higher_is_better else best <= value)
    way = "higher" if metric.higher_is_better else "lower"
    remark = f"perfect predictions have {best}, poor ones {value}, and {way} is said to be better"
    report.note("perfect predictions are best", "" if better else remark)


def _images(report: Report, metric: Metric, split: Split, value: float) -> None:
    check = "image_weights and image_scores: sum up to the metric"
    with report.attempt(check):
        weights = metric.image_weights(split.labels, split.train_counts, split.class_names)
        scores = np.asarray(metric.image_scores(split), np.float64)
        if weights is None or np.shape(weights) != split.labels.shape or (weights < 0).any():
            report.expect(check, False, "weights are to be float64[n], none negative")
            return
        total = float(weights @ scores)
        close = bool(np.isclose(weights.sum(), 1.0)) and _close(total, value, 1e-4)
        said = f"weights sum to {weights.sum():g}, weighted scores to {total:g} and not {value:g}"
        report.expect(check, close, said)


def _close(a: float | None, b: float | None, within: float = 1e-9) -> bool:
    return a == b if a is None or b is None else bool(np.isclose(a, b, rtol=within, atol=within))
