"""Every shipped experiment loads, plans, and trains a few steps on data of the right shape."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.app import compose
from harness.cli.shared import shipped
from harness.datasets.base import TEST, Index, content_of
from harness.execution.executors.inline import Inline
from harness.execution.runner import run
from harness.execution.store import Store
from harness.experiment.design import NOTHING
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.registry import datasets
from harness.training.run_options import RunOptions
from harness.tuning.searches import check_possible, searches_of

Keys = Callable[[pytest.MonkeyPatch, Path], list[str]]


def drawn(classes: int, size: int) -> Any:
    """Return index and read of a generated set: 30 images of noise for each class."""
    labels = np.repeat(np.arange(classes), 30)
    split = np.where(np.arange(len(labels)) % 30 < 5, TEST, 0).astype(np.int8)
    names = tuple(f"c{k:03}" for k in range(classes))

    def index(self: Any) -> Index:
        return Index(labels, names, content_of(labels), (size, size, 3), split=split)

    def read(self: Any, index: Index) -> Any:
        shape = (len(labels), size, size, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    return index, read


def cifar(name: str, classes: int) -> Keys:
    def prepare(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
        index, read = drawn(classes, 32)
        patch.setattr(datasets.get(name), "index", index)
        patch.setattr(datasets.get(name), "read", read)
        return ["datasets.0.imbalance_factor=10"]

    return prepare


def table(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((300, 6)), columns=list("abcdef"))
    frame["label"] = np.where(np.arange(300) < 40, "rare", "common")
    frame.to_csv(folder / "t.csv", index=False)
    return [f"datasets.0.file={folder / 't.csv'}"]


def photos(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    import cv2

    rng = np.random.default_rng(0)
    for name, count in (("common", 60), ("rare", 20)):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "photos" / name / f"{i:03}.png"), image)
    return [f"datasets.0.path={folder / 'photos'}", "training.batch_size=16"]


DATA: dict[str, Keys] = {
    "quickstart": lambda patch, folder: [],
    "cifar10_lt": cifar("cifar10", 10),
    "cifar100_lt": cifar("cifar100", 100),
    "tabular": table,
    "your_images": photos,
    "tune_quickstart": lambda patch, folder: [],
    "tune_cifar10_lt": cifar("cifar10", 10),
}


def test_every_shipped_experiment_is_tested_here() -> None:
    assert shipped().keys() == DATA.keys()


@pytest.mark.parametrize("name", sorted(DATA))
def test_it_starts_with_its_command_and_what_to_expect(name: str) -> None:
    text = shipped()[name].read_text(encoding="utf-8")
    verb = "tune" if name.startswith("tune_") else "run"
    assert text.startswith(f"# harness {verb} {name}")
    assert "Expect" in text.split("name:")[0]


@pytest.mark.parametrize("name", sorted(DATA))
def test_it_plans_and_every_recipe_trains(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    edits = DATA[name](monkeypatch, tmp_path)
    experiment = compose.smoke(load(shipped()[name], [*edits, "keep_weights=none"]))
    few = experiment.training.model_copy(update={"max_steps": 5, "batch_size": 16})
    experiment = experiment.__class__(**{**vars(experiment), "training": few})
    specs = expand(experiment).runs
    if len(specs) > 12:
        specs = specs[::3]
    store = Store(tmp_path / "results", experiment.name)
    store.create()
    summary = run(specs, store, Inline(RunOptions("cpu", keep_weights=False)))
    assert not summary.failures
    for path in summary.paths.values():
        assert json.loads((path / "result.json").read_text())["steps"] == 5
    assert bool(experiment.tuning) == name.startswith("tune_")


@pytest.mark.parametrize("name", sorted(name for name in DATA if name.startswith("tune_")))
def test_its_searches_can_be_made_and_every_recipe_is_searched(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    edits = [*DATA[name](monkeypatch, tmp_path), "training.batch_size=16"]
    plan = expand(load(shipped()[name], edits))
    check_possible(plan)
    found = searches_of(plan)
    assert [search.recipe for search in found] == [
        recipe.name for recipe in plan.experiment.recipes if recipe.name != NOTHING
    ]
    for search in found:
        seeds = [spec.seed for spec in search.specs(dict(search.space.own), 0)]
        assert seeds == list(plan.experiment.tuning.seeds)
