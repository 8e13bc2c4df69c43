import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.analysis.tables import runs_table, stored_specs
from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment
from tests.sealed import reseal


def test_runs_are_read_as_they_were_written(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    specs = expand(make_experiment(factors={"smote": ["none", "smote"]})).runs
    store = Store(tmp_path, "tiny")
    store.create()
    result: dict[str, Any] = {
        "status": "done",
        "cost": {"seconds": 2.0},
        "notes": ["k is lowered"],
        "device": {"name": "cpu", "precision": "fp32"},
        "class_names": ["a", "b", "c"],
        "metrics": {
            "test": {"accuracy": 0.5, "balanced_accuracy": 0.4, "recall_many": None},
            "val": {"accuracy": 0.25},
        },
    }
    for spec, name, content in (
        (specs[0], "result.json", result),
        (specs[1], "error.json", {"message": "no"}),
    ):
        attempt = store.begin(spec)
        (attempt / name).write_text(json.dumps(content))
        store.commit(spec, attempt)
    table = runs_table(store, specs)
    assert table["status"].tolist() == ["done", "failed"]
    assert table["notes"].tolist() == [("k is lowered",), ()]
    assert table["device"].tolist() == ["cpu (fp32)", ""]
    assert table["factor.smote"].tolist() == ["none", "smote"]
    assert (table["test_accuracy"][0], table["val_accuracy"][0]) == (0.5, 0.25)
    assert np.isnan(table["test_recall_many"][0])
    assert np.isnan(table["test_accuracy"][1])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Invalid JSON"),
        ("{}", "result.json: status: Field required"),
        (
            '{"metrics": {}, "status": "done", "cost": {"seconds": 1}, "notes": []}',
            "has no metrics of test",
        ),
        ('{"status": "done", "cost": {}, "notes": [], "metrics": 3}', "result.json: metrics"),
        ('{"status": "done", "cost": {}, "notes": [1], "metrics": {}}', "result.json: notes.0"),
        ("[]", "result.json"),
        ('{"schema": 99}', "is of schema 99, and this version reads 1"),
    ],
)
def test_a_damaged_run_is_a_row_that_says_why(
    make_experiment: Callable[..., Experiment], tmp_path: Path, content: str, why: str
) -> None:
    (spec,) = expand(make_experiment()).runs
    store = Store(tmp_path, "tiny")
    store.create()
    attempt = store.begin(spec)
    (attempt / "result.json").write_text(content)
    path = store.commit(spec, attempt)
    (row,) = runs_table(store, [spec]).to_dict("records")
    assert row["status"] == "damaged"
    assert why in row["reason"]
    assert row["path"] == str(path)
    assert "--retry-failed" in row["reason"]


def test_why_a_run_is_not_done(make: Callable[..., Any]) -> None:
    statuses = {0: "failed", 1: "diverged", 2: "stopped", 3: "done"}
    made = make(fail=lambda spec: statuses[spec.seed], keys={"factors": {}})
    table = runs_table(made.store, made.specs).set_index("status")["reason"]
    assert table["failed"] == "RuntimeError: the disk is full"
    assert table["diverged"] == "the loss is not finite"
    assert table["done"] == ""


def test_results_are_loaded_from_their_folder_alone(make: Callable[..., Any]) -> None:
    made = make(keys={"name": "abc"})
    table = harness.load_results(made.store.path)
    expected = runs_table(made.store, made.specs)
    assert set(table["key"]) == set(expected["key"])
    assert set(table.columns) == set(expected.columns)
    assert sorted(table["factor.mixup"].unique()) == ["mixup", "none"]


def test_a_run_whose_spec_is_gone_is_left_out_with_a_warning(make: Callable[..., Any]) -> None:
    made = make()
    paths = sorted(made.store.path.glob("*-s0-*"))
    (paths[0] / "spec.json").unlink()
    spec = json.loads((paths[1] / "spec.json").read_text())
    (paths[1] / "spec.json").write_text(json.dumps({**spec, "plugins": ["no_such_module"]}))
    reseal(paths[1])
    with pytest.warns(UserWarning, match=r"left out: .*spec\.json is missing"):
        table = harness.load_results(made.store.path)
    assert len(table) == len(made.specs) - 2
    _, unreadable = stored_specs(made.store)
    assert any("no_such_module" in text for text in unreadable)


def test_a_folder_without_runs_names_what_was_meant(make: Callable[..., Any]) -> None:
    made = make()
    with pytest.raises(StoreError, match="give one of its experiments: study"):
        harness.load_results(made.store.results)
    with pytest.raises(StoreError, match="did you mean 'study'"):
        harness.load_results(made.store.results / "stdy")
