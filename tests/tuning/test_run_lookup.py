from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import fbeta_score

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
