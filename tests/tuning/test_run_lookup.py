import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, fbeta_score

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.tuning.run_lookup import RunLookup, scored
from tests.benchmarks.generated import Generator


def test_a_run_of_another_primary_metric_is_scored_by_the_one_that_is_searched_by(
    tmp_path: Path,
) -> None:
    experiment = load({"name": "it", "datasets": ["digits"], "seeds": 1})
    (spec,) = expand(experiment).runs
    store = Store(tmp_path, "it")
    path = Generator(store).write(spec)
    label = "f_beta(beta=3)"
    assert label not in scored(path).val
    found = RunLookup(Store(tmp_path, "it/trials"), store, label).find(spec.key)
    assert found is not None
    with np.load(path / "predictions.npz") as stored:
        called, labels = stored["val_probabilities"].argmax(axis=1), stored["val_labels"]
    want = fbeta_score(labels, called, beta=3, average="macro", zero_division=0)
    assert found.val[label] == pytest.approx(want)
    assert found.val["accuracy"] == scored(path).val["accuracy"]


def test_a_trial_is_scored_under_the_rule_that_the_file_names(tmp_path: Path) -> None:
    keys = {"name": "it", "datasets": ["digits"], "seeds": 1, "recipes": {"focal": ["focal"]}}
    tune = {"recipes": ["focal"], "rule": "prior", "space": {"focal.gamma": [0.0, 3.0]}}
    experiment = load({**keys, "tune": tune})
    nothing, focal = expand(experiment).runs
    store, label = Store(tmp_path, "it"), "balanced_accuracy"
    generator = Generator(store)
    paths = {spec.recipe: generator.write(spec) for spec in (nothing, focal)}
    lookup = RunLookup(Store(tmp_path, "it/trials"), store, label, experiment.tuning)
    found = lookup.find(nothing.key)
    assert found is not None
    result = json.loads((paths["nothing"] / "result.json").read_text())
    with np.load(paths["nothing"] / "predictions.npz") as stored:
        p, labels = stored["val_probabilities"], stored["val_labels"]
    moved = (p / np.array(result["delivered"])).argmax(axis=1)
    assert found.val[label] == balanced_accuracy_score(labels, moved)
    assert found.val[label] != scored(paths["nothing"]).val[label]
    unknown = lookup.find(focal.key)  # the prior that focal's outputs carry is not known
    assert unknown is not None
    assert unknown.val[label] is None
    assert unknown.reason.startswith("rule prior: its outputs are not adjusted")
