"""Tables of runs and results of experiments with known effects, without training."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment, load
from harness.experiment.spec import RunSpec
from tests.benchmarks.generated import Generator

METRIC = "balanced_accuracy"


def frame(
    scores: Mapping[str, Sequence[float | None]],
    dataset: str = "d",
    reference: str = "",
    levels: Mapping[str, Mapping[str, str]] | None = None,
) -> pd.DataFrame:
    """Return a table of runs, one per recipe and seed; None is a run that failed."""
    rows = [
        {
            "key": f"{dataset}{reference}{recipe}{seed}",
            "dataset": dataset,
            "reference": reference,
            "model": "m",
            "recipe": recipe,
            "seed": seed,
            "fold": -1,
            "folds": 0,
            "status": "failed" if value is None else "done",
            "reason": "" if value is not None else "no",
            "path": f"nowhere/{recipe}-{seed}",
            "seconds": 1.0,
            f"val_{METRIC}": value,
            f"test_{METRIC}": None if value is None else value - 0.1,
            "test_recall_many": np.nan,
            "test_worst_class_recall": 0.0,
            **{f"factor.{f}": level for f, level in (levels or {}).get(recipe, {}).items()},
        }
        for recipe, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def crossed(
    levels: Mapping[str, Sequence[str]],
    value: Callable[[Mapping[str, str], int], float | None],
    seeds: int = 4,
    dataset: str = "d",
) -> pd.DataFrame:
    """Return a table of a full factorial; `value` gives the metric of a cell at a seed."""
    scores: dict[str, list[float | None]] = {}
    cells: dict[str, dict[str, str]] = {}
    for combination in itertools.product(*levels.values()):
        at = dict(zip(levels, combination, strict=True))
        name = "+".join(level for level in combination if level != "none") or "nothing"
        cells[name] = at
        scores[name] = [value(at, seed) for seed in range(seeds)]
    table = frame(scores, dataset, levels=cells)
    table[f"test_{METRIC}"] += 0.1  # the value itself
    return table


FILE: dict[str, Any] = {
    "name": "study",
    "datasets": [{"name": "digits", "imbalance_factor": 20}],
    "factors": {"sampler": ["none", "weighted_sampler"], "mixup": ["none", "mixup"]},
    "seeds": 4,
    "training": {"epochs": 4, "batch_size": 32},
}


@dataclass
class Made:
    """An experiment with generated runs."""

    experiment: Experiment
    specs: tuple[RunSpec, ...]
    store: Store


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Return a function that generates the runs of an experiment.

    Keys of the file can be changed; `skip` leaves out runs, `fail` makes them fail, and the rest
    goes to the generator.
    """

    def build(
        skip: Callable[[RunSpec], bool] = lambda spec: False,
        fail: Callable[[RunSpec], str] = lambda spec: "done",
        keys: dict[str, Any] | None = None,
        **options: Any,
    ) -> Made:
        experiment = load({**FILE, **(keys or {})})
        specs = expand(experiment).runs
        store = Store(tmp_path / "results", experiment.name)
        generator = Generator(store, **options)
        for spec in specs:
            if not skip(spec):
                generator.write(spec, fail(spec))
        return Made(experiment, specs, store)

    return build
