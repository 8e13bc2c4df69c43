"""Rules on stored predictions of generated runs: values by hand, nothing of test in a fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from harness.analysis.deciding import Decided, Setting, decide_runs
from harness.analysis.decompose import decomposition
from harness.analysis.tables import runs_table
from harness.decisions.base import rule_from
from harness.errors import ConfigError
from harness.execution.store import Store
from harness.experiment.spec import RunSpec
from harness.metrics import metric_of
from tests.benchmarks.decisions import generate
from tests.sealed import reseal

SMALL = {"factors": {}, "recipes": {"sampled": ["weighted_sampler"], "mix": ["mixup"]}}
RULES = tuple(
    rule_from(wanted)  # type: ignore[arg-type]
    for wanted in (
        "prior",
        "prior_tuned",
        "thresholds",
        "temperature",
        {"name": "thresholds", "temperature": True},
        {"name": "sensitivity", "class": "class 4", "level": 0.9},
    )
)


def made(results: Path, **changes: Any) -> tuple[Store, list[RunSpec]]:
    specs = generate(results, 99, 300, 5, 800, **{"seeds": 3, **SMALL, **changes})
    return Store(results, "decided"), specs


def decide(
    store: Store, specs: list[RunSpec], metric: str = "balanced_accuracy", **options: Any
) -> Decided:
    setting = Setting(metric_of(metric), **{"rules": RULES, **options})
    return decide_runs(runs_table(store, specs), specs, setting)


@pytest.fixture
def results(tmp_path: Path) -> tuple[Store, list[RunSpec]]:
    return made(tmp_path)


def predictions(store: Store, spec: RunSpec) -> dict[str, np.ndarray]:
    with np.load(store.runs()[spec.key].path / "predictions.npz") as stored:
        return {name: stored[name] for name in stored.files}


def change(store: Store, spec: RunSpec, **arrays: np.ndarray) -> None:
    """Replace arrays of a run's predictions (the files of generated runs are shared)."""
    kept = {**predictions(store, spec), **arrays}
    file = store.runs()[spec.key].path / "predictions.npz"
    file.unlink()
    np.savez_compressed(file, **kept)
    reseal(file.parent)


def test_values_are_those_of_bayes_rule_and_of_scikit_learn(
    results: tuple[Store, list[RunSpec]],
) -> None:
    store, specs = results
    metrics = (metric_of("macro_f1"), metric_of("nll"))
    found = decide(store, specs, metrics=metrics).table
    found = found.set_index(["key", "rule", "metric"]).sort_index()
    for spec in specs:
        stored = predictions(store, spec)
        result = json.loads((store.runs()[spec.key].path / "result.json").read_text())
        moved = stored["test_probabilities"] / np.array(result["delivered"])
        moved /= moved.sum(axis=1, keepdims=True)
        for rule, p in (("argmax", stored["test_probabilities"]), ("prior", moved)):
            labels, decided = stored["test_labels"], p.argmax(axis=1)
            value = found["value"].loc[spec.key, rule]
            assert value["balanced_accuracy"] == balanced_accuracy_score(labels, decided)
            assert value["macro_f1"] == pytest.approx(f1_score(labels, decided, average="macro"))
            exact = p.astype(float) / p.astype(float).sum(axis=1, keepdims=True)
            assert value["nll"] == pytest.approx(log_loss(labels, exact), rel=1e-4)


def test_permuted_test_labels_and_outputs_leave_every_fitted_rule_as_it_is(
    results: tuple[Store, list[RunSpec]],
) -> None:
    store, specs = results
    before = decide(store, specs)
    rng = np.random.default_rng(0)
    for spec in specs:
        kept = predictions(store, spec)
        order = rng.permutation(len(kept["test_labels"]))
        outputs = rng.dirichlet(np.ones(5), len(order)).astype(np.float32)
        change(store, spec, test_labels=kept["test_labels"][order], test_probabilities=outputs)
    after = decide(store, specs)
    assert len(before.fitted) == len(specs) * 7
    assert before.fitted == after.fitted
    assert not before.table["value"].equals(after.table["value"])


def test_permuted_val_labels_do_change_what_is_fitted(
    results: tuple[Store, list[RunSpec]],
) -> None:
    store, specs = results
    before = decide(store, specs).fitted
    for spec in specs:
        change(store, spec, val_labels=predictions(store, spec)["val_labels"][::-1])
    after = decide(store, specs).fitted
    changed = {rule for key, rule in before if before[key, rule] != after[key, rule]}
    assert {"thresholds", "temperature"} <= changed
    assert not changed & {"argmax", "prior"}


def test_folds_are_fitted_on_val_of_all_folds_without_rows_of_the_own_test(
    tmp_path: Path,
) -> None:
    source = {"name": "digits", "val_fraction": 0.2}
    store, specs = made(tmp_path, datasets=[source], folds=3, seeds=1)
    alone = [s for s in specs if s.recipe == specs[0].recipe]
    for place, spec in enumerate(alone):  # the first val row of each fold is a test row of the next
        rows = np.arange(800) + 1000 * place
        kept = predictions(store, spec)
        tested = kept["test_rows"].copy() + 100_000 * (place + 1)
        tested[0] = 1000 * ((place - 1) % 3)
        change(store, spec, val_rows=rows, test_rows=tested)
    found = decide(store, alone)
    counted = [found.fitted[s.key, "sensitivity(class=class 4,level=0.9)"] for s in alone]
    val = [predictions(store, s)["val_labels"] for s in alone]
    for place, fitted in enumerate(counted):
        total = sum(int((v == 4).sum()) for v in val) - int(val[(place - 1) % 3][0] == 4)
        assert fitted.values["rows"] == total
    assert not found.images


def test_a_rule_that_cannot_be_fitted_says_why_and_has_no_value(tmp_path: Path) -> None:
    recipes = {"margins": ["ldam"]}
    store, specs = made(tmp_path, recipes=recipes)
    found = decide(store, specs)
    of = found.table[found.table["recipe"] == "margins"].set_index("rule")["value"]
    assert of["prior"].isna().all()
    assert of["argmax"].notna().all()
    note = found.notes["digits-lt30", "margins", "prior"]
    assert len(note) == 1
    assert "margins of LDAM" in note[0]
    table = decomposition(found.table, images=found.images).set_index(["recipe", "rule"])
    assert ("margins", "prior") not in table.index
    assert table.loc[("margins", "argmax"), "pairs"] == 3


def test_without_val_what_is_fitted_says_so(tmp_path: Path) -> None:
    store, specs = made(tmp_path)
    for spec in specs:
        folder = store.runs()[spec.key].path
        result = json.loads((folder / "result.json").read_text())
        reseal(folder, metrics={"test": result["metrics"]["test"]})
    found = decide(store, specs)
    known = found.table.groupby("rule")["value"].count()
    assert known["prior"] == len(specs)
    assert known["thresholds"] == 0
    assert "val_fraction" in found.notes["digits-lt30", "mix", "thresholds"][0]


def test_an_old_result_that_does_not_tell_the_prior_is_not_adjusted(
    results: tuple[Store, list[RunSpec]],
) -> None:
    store, specs = results
    file = store.runs()[specs[0].key].path / "result.json"
    old = json.loads(file.read_text())
    del old["delivered"]
    file.write_text(json.dumps(old))
    reseal(file.parent)
    found = decide(store, specs)
    assert (specs[0].key, "prior") not in found.fitted
    assert (specs[0].key, "argmax") in found.fitted
    assert "does not record 'delivered'" in found.notes["digits-lt30", "nothing", "prior"][0]
    assert not found.unread


def test_damaged_predictions_are_said_and_left_out(results: tuple[Store, list[RunSpec]]) -> None:
    store, specs = results
    broken = store.runs()[specs[0].key].path / "predictions.npz"
    broken.unlink()
    broken.write_bytes(b"PK")
    found = decide(store, specs)
    assert len(found.unread) == 1
    assert f"{broken.parent.name} is damaged: predictions.npz" in found.unread[0]
    assert specs[0].key not in set(found.table["key"])


def test_the_deployment_prior_follows_the_metric_unless_it_is_named(
    results: tuple[Store, list[RunSpec]],
) -> None:
    store, specs = results
    one = next(s for s in specs if s.recipe == "nothing")
    outputs = predictions(store, one)["test_probabilities"]
    by_class = decide(store, [one]).fitted[one.key, "prior"]
    assert np.ptp(by_class.offsets) > 1.0
    costs = (1 - np.eye(5, dtype=int)).tolist()
    for metric in ("accuracy", f"expected_cost(costs={costs})"):
        by_sample = decide(store, [one], metric).fitted[one.key, "prior"]
        np.testing.assert_allclose(by_sample.offsets, 0.0, atol=1e-9)
    names = [f"class {k}" for k in range(5)]
    given = dict(zip(names, (0.1, 0.1, 0.1, 0.1, 0.6), strict=True))
    named = decide(store, [one], deploy=given).fitted[one.key, "prior"]
    even = np.array(named.offsets) - np.array(by_class.offsets)
    assert even[4] - even[0] == pytest.approx(np.log(6))
    assert outputs.shape == (300, 5)
    with pytest.raises(ConfigError, match="nothing is given for class class 4"):
        decide(store, [one], deploy={n: 0.25 for n in names[:4]})


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "g_mean", "mcc", "nll"])
def test_rules_are_fitted_for_any_metric(metric: str, results: tuple[Store, list[RunSpec]]) -> None:
    found = decide(*results, metric)
    assert found.table["value"].notna().all()
    table = decomposition(found.table, images=found.images)
    splits = metric_of(metric).splits_into_images()
    assert table["rest_new_low"].notna().any() == splits


def test_nothing_done_is_an_empty_table() -> None:
    found = decide_runs(pd.DataFrame(), [], Setting(metric_of("accuracy")))
    assert found.table.empty
    assert decomposition(found.table).empty
