"""What many tests need: a small experiment, its specs, and a folder for images decoded by tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from harness.datasets import base
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment, load
from harness.experiment.spec import RunSpec
from harness.registry import datasets, rules, strategies

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# torch's threads spin for each other: with a worker per core a small step takes ten times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a shell's `&` and nohup have these ignored, and so would what is tested here
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# CI asks whether this change holds, always the same way; everybody else looks for new examples.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


def tiny(**changes: Any) -> dict[str, Any]:
    """Return the keys of an experiment that trains in a fraction of a second."""
    keys: dict[str, Any] = {
        "name": "tiny",
        "datasets": [{"name": "shapes", "classes": 3, "size": 8, "per_class": 24}],
        "models": [{"name": "tiny_cnn", "width": 4}],
        "seeds": 1,
        "training": {"epochs": 3, "batch_size": 8, "lr": 0.05, "eval_every": 0.5},
    }
    return {**keys, **changes}


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """Return a function that resolves `tiny` with changes."""
    return lambda **changes: load(tiny(**changes))


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    """Return a function that gives the run of one recipe (a list of strategies) of `tiny`."""

    def make(recipe: list[Any] | None = None, **changes: Any) -> RunSpec:
        recipes = {"recipes": {"it": recipe}} if recipe else {}
        plan = expand(load(tiny(**recipes, **changes)))
        return plan.runs[-1]

    return make


@pytest.fixture(autouse=True)
def _fresh_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own cache folder; forget what it registered and read."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    with strategies.temporary(), datasets.temporary(), rules.temporary():
        yield
    base.forget()
