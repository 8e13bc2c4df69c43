from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.analysis.classes import class_differences, class_table
from harness.analysis.tables import load_results
from tests.benchmarks.generated import by_level


@pytest.fixture
def runs(make):
    made = make(worth=by_level({"mixup": 0.8}), names=("a,b", "c\nd", "é"), per_class=(40, 25, 10))
    return load_results(made.store.path)


def test_one_row_per_run_and_class_of_test(runs):
    table = class_table(runs).table
    assert len(table) == 3 * len(runs)
    assert table["name"].unique().tolist() == ["a,b", "c\nd", "é"]
    means = table.groupby(["recipe", "seed"])["recall"].mean()
    for row in runs.to_dict("records"):
        assert means[row["recipe"], row["seed"]] == pytest.approx(row["test_balanced_accuracy"])


def test_differences_are_paired_with_a_t_interval_and_no_stars(runs):
    table = class_table(runs).table
    found = class_differences(table).set_index(["recipe", "class"])
    recall = table.set_index(["recipe", "seed", "class"])["recall"].unstack("seed")
    gains = recall.loc["mixup", 1] - recall.loc["nothing", 1]
    row = found.loc["mixup", 1]
    assert row["gain"] == pytest.approx(gains.mean())
    ends = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert (row["pairs"], row["support"]) == (4, 25)
    assert not {"p", "verdict"} & set(found.columns)
    assert found.loc["nothing", "gain"].isna().all()
    assert row["nothing"] == pytest.approx(recall.loc["nothing", 1].mean())


def test_classes_with_few_test_images_are_flagged_with_wilsons_interval(runs):
    found = class_differences(class_table(runs).table).set_index(["recipe", "class"])
    assert found["few_images"].groupby("class").all().tolist() == [False, False, True]
    row = found.loc["mixup", 2]
    expected = proportion_confint(row["value"] * 10, 10, method="wilson")
    assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(expected)
    assert np.isnan(found.loc["mixup", 0]["wilson_low"])
    precision = class_differences(class_table(runs).table, "precision")
    assert precision["wilson_low"].isna().all()


def test_a_class_without_a_test_image_has_no_recall(make):
    made = make(per_class=(20, 0, 20, 20))
    found = class_differences(class_table(load_results(made.store.path)).table)
    absent = found[found["class"] == 1]
    assert absent["support"].unique().tolist() == [0]
    assert absent[["value", "gain", "low", "wilson_low"]].isna().all().all()


def test_test_images_of_folds_are_added_up(runs):
    table = class_table(runs).table
    table["fold"], table["folds"], table["seed"] = table["seed"], 4, 0
    found = class_differences(table)
    assert found.loc[found["class"] == 2, "support"].unique().tolist() == [40]


@pytest.mark.parametrize("content", [None, "", "split,class\n", "split,name\ntest,a\n"])
def test_a_table_that_is_gone_or_torn_is_named(runs, content):
    file = Path(runs["path"].iloc[0], "per_class.csv")
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    read = class_table(runs)
    assert len(read.unread) == 1
    assert f"{file.parent.name}/{file.name} " in read.unread[0]
    assert str(file.parent.parent) not in read.unread[0]
    assert len(read.table) == 3 * (len(runs) - 1)


def test_nothing_done_is_an_empty_table(runs):
    assert class_table(runs.assign(status="failed")).table.empty
    assert class_differences(class_table(runs.assign(status="failed")).table).empty
