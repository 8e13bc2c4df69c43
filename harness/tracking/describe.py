"""What MLflow is told of a run's spec, as plain values: name, parameters, tags, a note."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.experiment.spec import RunSpec
from harness.strategies.base import prefixes
from harness.tracking.keys import safe_name

MAIN = ("epochs", "batch_size", "lr")

VALUE_LENGTH = 500
"""Longest parameter that every MLflow server stores; ``spec.json`` has it whole."""


def run_name(spec: RunSpec) -> str:
    """Return what the run is called in the UI: ``smote+mixup · digits-lt20 · tiny_cnn · s0``."""
    fold = [f"f{spec.fold}"] if spec.fold is not None else []
    return " · ".join([recipe_name(spec), f"s{spec.seed}", *fold])


def recipe_name(spec: RunSpec) -> str:
    """Return what the summary of its recipe is called: ``smote+mixup · digits-lt20 · tiny_cnn``."""
    dataset = f"{spec.dataset_label} ({spec.reference})" if spec.reference else spec.dataset_label
    return " · ".join([spec.recipe, dataset, spec.model.label()])


def params(spec: RunSpec, steps: int | None) -> dict[str, str]:
    """Return the run's parameters: columns of the UI."""
    training = spec.training.model_dump(mode="json")
    values: dict[str, Any] = {
        "recipe": spec.recipe,
        "dataset": spec.dataset_label,
        "model": spec.model.label(),
        "seed": spec.seed,
        "reference": spec.reference or "none",
        **{name: training[name] for name in MAIN},
        "training.optimizer": spec.training.optimizer,
        "training.schedule.name": spec.training.schedule.name,
    }
    if spec.fold is not None:
        values["fold"] = spec.fold
    if steps is not None:
        values["steps"] = steps
    own = spec.training.model_dump(mode="json", exclude_defaults=True)
    for name, value in _flat({k: v for k, v in own.items() if k not in MAIN}):
        values[f"training.{name}"] = value
    for name, value in _flat(spec.dataset.identity()):
        if name not in ("name", "version"):
            values[f"dataset.{name}"] = value
    values |= _strategies(spec)
    for factor, level in spec.levels:  # a column `mixup`, unless something else has that name
        values[factor if factor not in values else f"factor.{factor}"] = level
    return {safe_name(key): _text(value) for key, value in values.items()}


def _strategies(spec: RunSpec) -> dict[str, Any]:
    """Return every parameter that was set, as ``<strategy>.<param>``."""
    return {
        f"{prefix}.{name}": value
        for prefix, strategy in zip(prefixes(spec.strategies), spec.strategies, strict=True)
        for name, value in strategy.parameters().items()
    }


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", item) for inner, item in _flat(value))
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"


def tags(spec: RunSpec, key: str) -> dict[str, str]:
    """Return the tags by which runs are found, grouped and told apart."""
    return {
        "harness.key": key,
        "harness.settings": spec.settings,
        "harness.recipe": spec.recipe,
        "recipe": spec.recipe,
        "harness.dataset": spec.dataset_label,
        "harness.reference": spec.reference or "none",
        "harness.seed": str(spec.seed),
        "harness.fold": "none" if spec.fold is None else str(spec.fold),
        "harness.dataset_digest": dataset_digest(spec),
        **{f"factor.{safe_name(factor)}": level for factor, level in spec.levels},
    }


def note(spec: RunSpec, key: str, source: str, status: str, reason: str = "") -> str:
    """Return one line that says what the run was, and the command that does it again."""
    fold = f", fold {spec.fold}" if spec.fold is not None else ""
    reference = f" ({spec.reference} reference)" if spec.reference else ""
    return (
        f"{spec.recipe} on {spec.dataset_label}{reference}, {spec.model.label()}, "
        f"seed {spec.seed}{fold}: {status}{': ' + reason if reason else ''}. "
        f"To do it again: `harness run {source} --only {key} --force`"
    )


def dataset_source(spec: RunSpec) -> str:
    """Return where the data comes from, as MLflow stores it: what it is, and no path of a machine.

    The kind of dataset, what the file says of it, and the digest of what it holds.
    """
    told = {name: _text(value) for name, value in _flat(spec.dataset.identity())}
    return json.dumps({"tags": {"dataset": spec.dataset_label, **told, "content": spec.content}})


def dataset_digest(spec: RunSpec) -> str:
    """Return 36 digits, as many as MLflow takes, of what the dataset holds and how it is cut."""
    identity = json.dumps([spec.dataset.identity(), spec.content], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:36]
