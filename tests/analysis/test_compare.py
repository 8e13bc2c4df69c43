import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.compare import chosen, differences, gap_closed, leaderboard, on_balanced
from harness.analysis.images import ImageScores
from harness.analysis.intervals import BETTER, EXPLORATORY, SAME, UNDECIDED, WORSE, ImageSample
from tests.analysis.conftest import METRIC, frame


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


def test_a_difference_has_its_interval_p_value_and_verdict() -> None:
    scores = {
        "nothing": [0.50, 0.60, 0.55, 0.52],
        "better": [0.60, 0.71, 0.66, 0.61],
        "worse": [0.40, 0.51, 0.44, 0.43],
        "same": [0.501, 0.601, 0.549, 0.52],
        "open": [0.7, 0.5, 0.6, 0.4],
    }
    table = differences(frame(scores), METRIC).set_index("recipe")
    assert table["verdict"].to_dict() == {
        "better": BETTER,
        "worse": WORSE,
        "same": SAME,
        "open": UNDECIDED,
    }
    expected = stats.ttest_rel(scores["better"], scores["nothing"])
    row = table.loc["better"]
    assert row["p"] == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
    assert np.isnan(row["new_low"])
    assert table["metric"].unique().tolist() == [METRIC]


def test_the_margin_tells_no_difference_from_undecided() -> None:
    runs = frame({"nothing": [0.50, 0.60, 0.55], "a": [0.51, 0.605, 0.555]})
    assert differences(runs, METRIC)["verdict"].tolist() == [UNDECIDED]
    assert differences(runs, METRIC, margin=0.03)["verdict"].tolist() == [SAME]


def test_a_lower_metric_can_be_the_better_one() -> None:
    runs = frame({"nothing": [0.5, 0.6, 0.55], "a": [0.3, 0.42, 0.34]})
    runs["test_nll"] = runs[f"test_{METRIC}"]
    assert differences(runs, "nll")["verdict"].tolist() == [BETTER]
    assert differences(runs, METRIC)["verdict"].tolist() == [WORSE]


def test_several_metrics_at_once_are_each_by_itself() -> None:
    runs = frame({"nothing": [0.5, 0.6, 0.55], "a": [0.6, 0.72, 0.64]})
    runs["test_accuracy"] = runs[f"test_{METRIC}"] * 2
    both = differences(runs, [METRIC, "accuracy", "g_mean"]).set_index("metric")
    assert both.index.tolist() == [METRIC, "accuracy"]
    assert both.loc["accuracy", "gain"] == pytest.approx(2 * both.loc[METRIC, "gain"])
    alone = differences(runs, METRIC)
    assert both.loc[METRIC, "p"] == pytest.approx(alone["p"].iloc[0])


def test_any_recipe_can_be_the_one_to_compare_with() -> None:
    runs = frame({"a": [0.5, 0.6, 0.55], "a (tuned)": [0.6, 0.72, 0.64]})
    table = differences(runs, METRIC, baseline="a")
    assert table["recipe"].tolist() == ["a (tuned)"]
    assert table["gain"].iloc[0] == pytest.approx(np.mean([0.1, 0.12, 0.09]))


def test_two_seeds_are_exploratory() -> None:
    table = differences(frame({"nothing": [0.5, 0.6], "a": [0.6, 0.72]}), METRIC)
    assert table["verdict"].tolist() == [EXPLORATORY]
    assert np.isnan(table["p"].iloc[0])


def test_the_interval_on_new_images_is_of_the_same_pairs() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    right = {
        f"d{recipe}{seed}": (rng.random(60) < p).astype(np.float32)
        for recipe, p in (("nothing", 0.5), ("a", 0.8))
        for seed in range(4)
    }
    values = {
        recipe: [float(right[f"d{recipe}{seed}"].mean()) for seed in range(4)]
        for recipe in ("nothing", "a")
    }
    runs = frame(values)
    runs[f"test_{METRIC}"] += 0.1
    sample = ImageSample(np.full(60, 1 / 60), labels)
    scores = ImageScores(sample, right)
    row = differences(runs, METRIC, images={("d", "", "m"): scores}).iloc[0]
    stacked = np.stack([right[f"da{s}"] - right[f"dnothing{s}"] for s in range(4)])
    expected = sample.interval(stacked)
    assert (row["new_low"], row["new_high"]) == (expected.low, expected.high)
    assert expected.estimate == pytest.approx(row["gain"])
    partly = ImageScores(sample, {key: v for key, v in right.items() if key != "da2"})
    row = differences(runs, METRIC, images={("d", "", "m"): partly}).iloc[0]
    assert np.isnan(row["new_low"])


def test_the_order_as_if_failures_had_never_been_started() -> None:
    runs = frame({"nothing": [0.5, 0.5], "half": [0.99, None]})
    assert leaderboard(runs, METRIC)["recipe"].tolist() == ["nothing", "half"]
    apart = leaderboard(runs[runs["status"] == "done"], METRIC, failures_last=False)
    assert apart["recipe"].tolist() == ["half", "nothing"]
    assert leaderboard(runs, METRIC, failures_last=False)["recipe"].tolist() == ["half", "nothing"]


def test_t02_the_choice_is_vals_among_recipes_with_all_their_runs() -> None:
    scores: dict[str, list[float | None]] = {
        "nothing": [0.5, 0.5, 0.5],
        "a": [0.7, 0.7, 0.7],
        "lucky": [0.9, 0.9, None],
    }
    runs = frame(scores)
    runs[f"test_{METRIC}"] *= -1  # test must not choose
    panel = ("d", "", "m")
    assert chosen(leaderboard(runs, METRIC)) == {panel: "a"}
    partial = runs[~((runs["recipe"] == "lucky") & (runs["seed"] == 2))]
    assert chosen(leaderboard(partial, METRIC)) == {panel: "a"}
    assert chosen(leaderboard(frame({"nothing": [None]}), METRIC)) == {}
    assert chosen(pd.DataFrame()) == {}


def test_the_share_of_the_gap_that_is_closed() -> None:
    here = frame({"nothing": [0.50, 0.60, 0.55, 0.50], "a": [0.60, 0.69, 0.66, 0.61]})
    there = frame({"nothing": [0.71, 0.80, 0.74, 0.70]}, reference="balanced")
    row = gap_closed(pd.concat([here, there]), METRIC).set_index("recipe").loc["a"]
    assert row["gap"] == pytest.approx(np.mean([0.21, 0.20, 0.19, 0.20]))
    assert row["gain"] == pytest.approx(np.mean([0.10, 0.09, 0.11, 0.11]))
    assert row["share"] == pytest.approx(row["gain"] / row["gap"])
    assert row["low"] < row["share"] < row["high"]
    assert row["pairs"] == 4


def test_without_a_balanced_reference_there_is_no_gap() -> None:
    assert gap_closed(frame({"nothing": [0.5], "a": [0.6]}), METRIC).empty
    assert on_balanced(frame({"nothing": [0.5], "a": [0.6]}), METRIC).empty


def test_a_gain_from_regularisation_is_told_from_one_on_imbalance() -> None:
    here = frame({"nothing": [0.50, 0.60, 0.55], "a": [0.60, 0.71, 0.64]})
    there = frame({"nothing": [0.80, 0.81, 0.79], "a": [0.90, 0.90, 0.90]}, reference="balanced")
    (row,) = on_balanced(pd.concat([here, there]), METRIC).to_dict("records")
    first, second = np.array([0.10, 0.11, 0.09]), np.array([0.10, 0.09, 0.11])
    assert row["balanced_gain"] == pytest.approx(second.mean())
    expected = stats.ttest_1samp(first - second, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
