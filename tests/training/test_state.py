"""What a loop counts: samples delivered, and the label mass that was left of each class."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.experiment.spec import RunSpec
from harness.strategies.progressive_sampler import ProgressiveSampler
from harness.training.feed import feed
from harness.training.plan import phase_starts
from harness.training.run import drain
from harness.training.run_options import RunOptions

TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 40, "imbalance_factor": 4}
BUDGET = {"max_steps": 150, "epochs": 100, "batch_size": 8, "lr": 0.05, "eval_every": 0.5}


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        ["mixup", {"name": "cutmix", "p": 0.5}],
        [{"name": "remix", "kappa": 1.5}, {"name": "weighted_sampler", "start": 0.8}],
        [{"name": "cmo", "start": 0.3, "stop": 0.9}],
        [{"name": "balanced_mixup", "alpha": 0.5}, "smote"],
    ],
)
def test_label_mass_is_that_of_the_targets(
    recipe: list[Any], make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    spec = make_spec(recipe or None, datasets=[TAIL], training=BUDGET)
    for _ in drain(spec, tmp_path, RunOptions("cpu")):
        pass
    recorded = json.loads((tmp_path / "result.json").read_text())["label_mass"]
    starts = phase_starts(spec.strategies, 150)
    assert [phase["first"] for phase in recorded] == list(starts)
    fed = feed(spec, torch.device("cpu"))
    for phase in recorded:
        mass = np.zeros(3)
        for step in range(phase["first"], phase["last"]):
            _, targets = fed.pipeline.batch(fed.plan.decide(step))
            mass += targets.numpy().sum(axis=0)
        np.testing.assert_allclose(phase["mass"], mass, atol=0.01)
        assert sum(phase["mass"]) == pytest.approx(8 * (phase["last"] - phase["first"]), abs=0.01)


def test_phases_begin_where_labels_come_to_count_otherwise(
    make_spec: Callable[..., RunSpec],
) -> None:
    of = {"name": "augment", "start": 0.1}, {"name": "mixup", "stop": 0.4}
    spec = make_spec([*of, {"name": "class_weights", "start": 0.8}])
    assert phase_starts(spec.strategies, 100) == (0, 40, 80)
    assert phase_starts((), 100) == (0,)
    gradual = ProgressiveSampler(start=0.5)
    assert phase_starts((gradual,), 100) == (0, *range(50, 100, 5))
