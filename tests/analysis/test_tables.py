import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.tables import leaderboard, runs_table
from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment


def frame(scores: dict[str, list[float | None]], dataset: str = "d") -> pd.DataFrame:
    """Return a table of runs; None is a run that failed."""
    rows = [
        {
            "key": f"{dataset}{recipe}{seed}",
            "dataset": dataset,
            "reference": "",
            "model": "m",
            "recipe": recipe,
            "seed": seed,
            "fold": -1,
            "folds": 0,
            "status": "failed" if value is None else "done",
            "seconds": 1.0,
            "val_balanced_accuracy": value,
            "test_balanced_accuracy": None if value is None else value - 0.1,
            "test_recall_many": np.nan,
            "test_worst_class_recall": 0.0,
        }
        for recipe, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_gains_are_paired_by_seed_with_a_t_interval() -> None:
    nothing, smote = [0.5, 0.9, 0.7], [0.6, 0.95, 0.85]
    board = leaderboard(frame({"nothing": nothing, "smote": smote}), "balanced_accuracy")
    row = board.set_index("recipe").loc["smote"]
    difference = np.subtract(smote, nothing)
    expected = stats.ttest_rel(smote, nothing).confidence_interval(0.95)
    assert row["gain"] == pytest.approx(difference.mean())
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((expected.low, expected.high))
    assert row["sd"] == pytest.approx(np.std(np.subtract(smote, 0.1), ddof=1))
    assert np.isnan(board.set_index("recipe").loc["nothing", "gain"])


def test_only_seeds_that_both_have_are_compared_and_two_give_no_interval() -> None:
    board = leaderboard(
        frame({"nothing": [0.5, None, 0.7], "mixup": [0.6, 0.9, 0.9]}), "balanced_accuracy"
    )
    row = board.set_index("recipe").loc["mixup"]
    assert (row["pairs"], row["gain"]) == (2, pytest.approx(0.15))
    assert np.isnan(row["gain_low"])


def test_folds_share_training_rows_and_have_the_corrected_interval() -> None:
    nothing, smote = [0.5, 0.9, 0.7, 0.6, 0.8], [0.6, 0.95, 0.85, 0.6, 0.9]
    runs = frame({"nothing": nothing, "smote": smote}).assign(folds=5)
    runs["fold"], runs["seed"] = runs["seed"], 0
    row = leaderboard(runs, "balanced_accuracy").set_index("recipe").loc["smote"]
    difference = np.subtract(smote, nothing)
    spread = difference.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    half = stats.t.ppf(0.975, 4) * spread
    assert row["gain_high"] - row["gain"] == pytest.approx(half)
    assert row["gain"] - row["gain_low"] == pytest.approx(half)


def test_a_pair_without_the_metric_is_none() -> None:
    runs = frame({"nothing": [0.5, 0.6, 0.7], "mixup": [0.6, 0.9, 0.9]})
    runs.loc[runs["key"] == "dmixup2", "test_balanced_accuracy"] = np.nan
    row = leaderboard(runs, "balanced_accuracy").set_index("recipe").loc["mixup"]
    assert row["pairs"] == 2
    assert np.isnan(row["gain_low"])


def test_the_order_is_of_val_and_recipes_with_failures_stand_last() -> None:
    scores: dict[str, list[float | None]] = {
        "nothing": [0.5, 0.5],
        "best": [0.9, 0.9],
        "half": [0.99, None],
        "worst": [0.1, 0.1],
    }
    runs = frame(scores)
    runs["test_balanced_accuracy"] = runs["test_balanced_accuracy"] * -1  # test must not decide
    board = leaderboard(runs, "balanced_accuracy")
    assert board["recipe"].tolist() == ["best", "nothing", "worst", "half"]
    assert board["failed"].tolist() == [0, 0, 0, 1]
    assert board["n"].tolist() == [2, 2, 2, 1]


def test_a_metric_that_is_better_lower_is_ordered_so() -> None:
    runs = frame({"nothing": [0.5], "a": [0.2], "b": [0.9]}).rename(
        columns=lambda name: name.replace("balanced_accuracy", "nll")
    )
    assert leaderboard(runs, "nll")["recipe"].tolist() == ["a", "nothing", "b"]


def test_without_val_the_order_is_of_test() -> None:
    runs = frame({"nothing": [0.5], "a": [0.9]}).drop(columns="val_balanced_accuracy")
    assert leaderboard(runs, "balanced_accuracy")["recipe"].tolist() == ["a", "nothing"]


def test_nothing_done_and_nothing_at_all_are_tables_too() -> None:
    board = leaderboard(frame({"nothing": [None], "a": [None]}), "balanced_accuracy")
    assert board["failed"].tolist() == [1, 1]
    assert leaderboard(pd.DataFrame(), "balanced_accuracy").empty


@pytest.mark.parametrize("recipe", ["nothing", "a"])
def test_one_recipe_alone_is_a_table_without_a_gain(recipe: str) -> None:
    board = leaderboard(frame({recipe: [0.5, 0.6, 0.7]}), "balanced_accuracy")
    assert board["n"].tolist() == [3]
    assert board["gain"].isna().all()


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
        "metrics": {"test": {"accuracy": 0.5, "recall_many": None}, "val": {"accuracy": 0.25}},
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


def test_a_damaged_run_is_named(make_experiment: Callable[..., Experiment], tmp_path: Path) -> None:
    (spec,) = expand(make_experiment()).runs
    store = Store(tmp_path, "tiny")
    store.create()
    attempt = store.begin(spec)
    (attempt / "result.json").write_text("{")
    store.commit(spec, attempt)
    with pytest.raises(StoreError, match="is damaged"):
        runs_table(store, [spec])
