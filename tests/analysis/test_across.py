import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.across import FEWEST, means, ranks, why_no_test
from harness.analysis.intervals import holm
from tests.analysis.conftest import METRIC, frame


def several(scores):
    """Return runs on one dataset per entry; each gives the mean of recipes."""
    return pd.concat(
        [
            frame({recipe: [value] for recipe, value in of.items()}, dataset=f"d{i}")
            for i, of in enumerate(scores)
        ]
    )


def test_ranks_within_datasets_and_their_means():
    runs = several([{"nothing": 0.5, "a": 0.6, "b": 0.55}, {"nothing": 0.7, "a": 0.6, "b": 0.7}])
    table = means(runs, METRIC)
    rank = table.set_index(["dataset", "recipe"])["rank"]
    assert rank["d0"].to_dict() == {"nothing": 3, "a": 1, "b": 2}
    assert rank["d1"].to_dict() == {"nothing": 1.5, "a": 3, "b": 1.5}
    found = ranks(table).set_index("recipe")["mean_rank"]
    assert found.to_dict() == {"b": 1.75, "a": 2.0, "nothing": 2.25}


def test_a_failure_is_ranked_worst_whatever_else_the_recipe_did():
    runs = pd.concat(
        [several([{"nothing": 0.5, "a": 0.4}]), frame({"b": [0.9, None]}, dataset="d0")]
    )
    rank = means(runs, METRIC).set_index("recipe")["rank"]
    assert rank.to_dict() == {"nothing": 1, "a": 2, "b": 3}


def test_lower_can_be_better():
    runs = several([{"nothing": 0.5, "a": 0.4}])
    runs["test_nll"] = runs[f"test_{METRIC}"]
    assert means(runs, "nll").set_index("recipe")["rank"].to_dict() == {"nothing": 2, "a": 1}


def test_a_recipe_that_is_missing_on_a_dataset_has_no_mean_rank():
    runs = several([{"nothing": 0.5, "a": 0.6}, {"nothing": 0.5}])
    assert ranks(means(runs, METRIC))["recipe"].tolist() == ["nothing"]


@pytest.mark.parametrize("count", [2, 5])
def test_few_datasets_are_not_tested_and_told_why(count):
    table = ranks(means(several([{"nothing": 0.5, "a": 0.6}] * count), METRIC))
    assert table["p"].isna().all()
    assert f"With {count} datasets" in why_no_test(count)
    assert f"{2 / 2**count:.2g}" in why_no_test(count)


def test_from_six_datasets_on_wilcoxon_with_holm():
    rng = np.random.default_rng(0)
    scores = [
        {"nothing": 0.5, "a": 0.6 + 0.01 * rng.normal(), "b": 0.5 + 0.05 * rng.normal()}
        for _ in range(FEWEST)
    ]
    table = ranks(means(several(scores), METRIC)).set_index("recipe")
    for recipe in "ab":
        expected = stats.wilcoxon([s[recipe] - s["nothing"] for s in scores]).pvalue
        assert table.loc[recipe, "p"] == pytest.approx(expected)
    assert table.loc["a", "p"] == pytest.approx(0.03125)
    adjusted = holm(table.loc[["a", "b"], "p"])
    assert table.loc[["a", "b"], "p_holm"].to_numpy() == pytest.approx(adjusted)
    assert np.isnan(table.loc["nothing", "p"])
    assert why_no_test(FEWEST) == ""


def test_a_failure_counts_as_the_largest_loss_in_the_test():
    scores = [{"nothing": 0.5, "a": 0.6 + 0.01 * i} for i in range(FEWEST)]
    runs = several(scores)
    runs.loc[(runs["dataset"] == "d0") & (runs["recipe"] == "a"), "status"] = "failed"
    table = ranks(means(runs, METRIC)).set_index("recipe")
    expected = stats.wilcoxon([-9, 0.11, 0.12, 0.13, 0.14, 0.15]).pvalue
    assert table.loc["a", "p"] == pytest.approx(expected)


def test_nothing_to_rank():
    assert means(pd.DataFrame(columns=["reference"]), METRIC).empty
    assert ranks(means(pd.DataFrame(columns=["reference"]), METRIC)).empty
