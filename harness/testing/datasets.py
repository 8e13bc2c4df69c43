"""The contract of a dataset as checks: what it says, what it reads, how it splits, a real run."""

import dataclasses
import json
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from harness.datasets import base
from harness.datasets.base import TEST, TRAIN, VAL, Data, Dataset, ImageDataset, Index, TableDataset
from harness.errors import DataError, listing
from harness.registry import datasets
from harness.testing import samples
from harness.testing.report import Call, CheckResult, Report, called, same

_READ = {"image": ("uint8", "uint16", "float32"), "table": ("float32", "float64")}
_STEPS = 3
_KINDS = {"labels": "int64", "split": "int8", "group": "int64", "fold": "int64"}


def check_dataset(dataset: Dataset, changed: Dataset | None = None) -> list[CheckResult]:
    """Check a dataset against its contract, and train on it for a few steps on the CPU.

    Args:
        dataset: With the parameters that it needs.
        changed: The same dataset over a source in which something differs; its content must.

    Returns:
        Every check that was made; those with a `problem` are worth knowing.

    Raises:
        ContractError: The contract is broken; all that is wrong is named.
    """
    report = Report(f"dataset '{dataset.name or type(dataset).__name__}'")
    check_into(report, dataset, changed)
    return report.raise_if_broken()


def check_into(report: Report, dataset: Dataset, changed: Dataset | None = None) -> None:
    """Make every check, noting what it finds."""
    base.forget()
    _definition(report, dataset)
    with mock.patch.object(type(dataset), "read", _refused):
        index = called(report, Call("index (without reading)", dataset.index))
        if not isinstance(index, Index):
            report.expect("index: returns an Index", False, f"returned {type(index).__name__}")
            return
        if not _index(report, dataset, index):
            return
    if changed is not None:
        report.expect(
            "content changes with the source",
            changed.index().content != index.content,
            "content is the same although the source is another one: finished runs would be taken "
            "for what they are not; hash everything that is read",
        )
    if _read(report, dataset, index):
        _splits(report, dataset, index)
        _loads(report, dataset)
        _json(report, dataset)
        _trains(report, dataset)
    base.forget()


def _refused(self: Dataset, index: Index) -> Any:
    raise AssertionError("index() calls read(): a plan must not read samples")


def _definition(report: Report, dataset: Dataset) -> None:
    cls, config = type(dataset), type(dataset).model_config
    report.expect("is registered", datasets_know(cls), "put @dataset('its_name') above the class")
    report.expect(
        "is frozen and strict",
        bool(config.get("frozen")) and config.get("extra") == "forbid",
        "keep frozen=True and extra='forbid' in model_config",
    )
    report.expect(
        "has a docstring",
        cls.__doc__ is not None and cls.summary() != "",
        "say in the first line of the docstring what it holds; lists show it",
    )
    base_class = ImageDataset if dataset.kind == "image" else TableDataset
    report.expect(
        "is of its kind",
        isinstance(dataset, base_class),
        f"kind is '{dataset.kind}': derive it from {base_class.__name__}",
    )


def datasets_know(cls: type[Dataset]) -> bool:
    """Return whether the registry finds this class under its name."""
    return cls.name in datasets and datasets.get(cls.name) is cls


def _index(report: Report, dataset: Dataset, index: Index) -> bool:
    """Check what the index says; return whether the rest can be checked at all."""
    size = len(index.labels)
    problems = [
        f"{name} is {values.dtype}{list(values.shape)}; {dtype}[{size}] is needed"
        for name, dtype in _KINDS.items()
        if (values := getattr(index, name)) is not None
        and (values.dtype != dtype or values.shape != (size,))
    ]
    problems += [
        f"{name} has {len(getattr(index, name))} entries for {size} samples"
        for name in ("ids", "files", "digests")
        if len(getattr(index, name)) not in (0, size)
    ]
    if index.split is not None and not set(np.unique(index.split)) <= {TRAIN, VAL, TEST}:
        problems.append(
            f"split holds {sorted(set(index.split.tolist()))}; TRAIN, VAL and TEST only"
        )
    if len(index.ids) != len(set(index.ids)):
        problems.append("ids name two samples alike")
    dimensions = 3 if dataset.kind == "image" else 1
    if len(index.shape) != dimensions or min(index.shape, default=0) < 1:
        problems.append(f"shape is {index.shape}; {dimensions} positive numbers are needed")
    if not report.expect("index: arrays fit together", not problems, "; ".join(problems)):
        return False
    problem = _class_problem(index)
    report.expect(
        "index: has a content fingerprint",
        isinstance(index.content, str) and len(index.content) >= 8,
        f"content is {index.content!r}; use content_of on everything that is read",
    )
    return report.expect("index: classes", not problem, problem)


def _class_problem(index: Index) -> str:
    names = index.class_names
    if not (isinstance(names, tuple) and all(isinstance(name, str) and name for name in names)):
        return f"class_names is {names!r}; a tuple of non-empty texts is needed"
    if len(names) < 2 or len(set(names)) != len(names):
        return f"class_names must be two or more, all different; they are {listing(names)}"
    if not len(index.labels) or index.labels.min() < 0 or index.labels.max() >= len(names):
        return f"labels must lie in 0..{len(names) - 1}"
    counts = np.bincount(index.labels, minlength=len(names))
    empty = [names[k] for k in np.flatnonzero(counts == 0)]
    return f"classes without a sample: {listing(empty)}" if empty else ""


def _read(report: Report, dataset: Dataset, index: Index) -> bool:
    values = called(report, Call("read", lambda: dataset.read(index), {"labels": index.labels}))
    if values is None:
        return False
    values = np.asarray(values)
    wanted = (len(index.labels), *index.shape)
    return report.expect(
        "read: returns what index promises",
        values.shape == wanted and values.dtype.name in _READ[dataset.kind],
        f"returned {values.dtype}{list(values.shape)}; index promises {list(wanted)}, as one of "
        f"{', '.join(_READ[dataset.kind])}",
    )


def _splits(report: Report, dataset: Dataset, index: Index) -> None:
    check = "splits are disjoint and leave every class a training sample"
    tests = []
    with report.attempt(check):
        for seed in (0, 1):
            rows = dataset.split(index, seed, *index.first_fold())
            parts = (rows.train, rows.val, rows.test)
            every = np.concatenate(parts)
            inside = len(every) == 0 or (every.min() >= 0 and every.max() < len(index.labels))
            report.expect(
                check,
                bool(inside) and len(np.unique(every)) == len(every),
                "a sample stands in two of train, val and test, or does not exist",
            )
            found = np.bincount(index.labels[rows.train], minlength=len(index.class_names))
            report.expect(check, bool((found > 0).all()), "a class has no training sample")
            tests.append(np.sort(rows.test))
        report.expect(
            "the test set is the same for every seed",
            same(*tests),
            "seeds are compared on one test set; leave splitting to the base class, or do not let "
            "the seed decide it",
        )


def _loads(report: Report, dataset: Dataset) -> None:
    def load() -> dict[str, Any]:
        base.forget()  # or the second time would only be remembered
        return _plain(dataset.load(0, *dataset.indexed().first_fold()))

    loaded = called(report, Call("load", load))
    if loaded is None:
        return
    values, kind = loaded["features"], dataset.kind
    wanted = ("uint8", "uint16", "float32") if kind == "image" else ("float32",)
    problem = "" if values.dtype.name in wanted else f"features are {values.dtype}, not {wanted}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        problem = "features hold NaN or infinite values"
    if len(values) != len(loaded["labels"]):
        problem = f"{len(values)} features for {len(loaded['labels'])} labels"
    report.expect("load: features fit", not problem, problem)


def _plain(data: Data) -> dict[str, Any]:
    parts = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    features: NDArray[Any] = np.asarray(data.features)
    return {**parts, "features": features, "index": data.index.content}


def _json(report: Report, dataset: Dataset) -> None:
    check = "survives the way through JSON"
    if not datasets_know(type(dataset)):
        return
    with report.attempt(check):
        config = json.loads(json.dumps(dataset.config()))
        back = datasets.get(config.pop("name")).model_validate(config)
        report.expect(
            check,
            back.config() == dataset.config() and back.identity() == dataset.identity(),
            f"{dataset.config()} comes back as {back.config()}; parameters must be plain values",
        )


def _trains(report: Report, dataset: Dataset) -> None:
    with report.attempt("trains"):
        try:
            spec = samples.spec_of(dataset, (), _STEPS)
        except DataError as error:
            report.expect("trains", False, str(error))
            return
        problem, _ = samples.train(spec)
        report.expect("trains", not problem, problem)
