from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from harness.analysis import effects
from harness.analysis.tuned import COLUMNS, table
from harness.execution.search_results import SearchResult, Value
from tests.analysis.conftest import METRIC, crossed, frame

SEARCHED = SearchResult(
    study="x/d/m/a",
    dataset="d",
    model="m",
    recipe="a",
    best=Value(7, 0.75, None),
    default=Value(0, 0.5, 0.02),
    values={"mixup.alpha": 0.25},
    held={"mixup.p": 1.0},
    states={"complete": 18, "pruned": 0, "failed": 2, "diverged": 0},
    runs=60,
    seconds=90.0,
    own={"mixup.alpha": 1.0, "mixup.p": 1.0},
)
A, B = [0.5, 0.6, 0.55], [0.6, 0.72, 0.64]


def test_a_search_stands_beside_its_gain_over_its_own_default():
    runs = frame({"nothing": [0.9, 0.9, 0.9], "a": A, "a (tuned)": B})
    (row,) = table([SEARCHED], runs, METRIC).to_dict("records")
    assert row["values"] == "mixup.alpha 1 → 0.25, mixup.p 1"
    assert (row["trials"], row["lost"], row["runs"], row["seconds"]) == (20, 2, 60, 90.0)
    assert (row["val_default"], row["val_best"]) == (0.5, 0.75)
    assert row["val_best_sd"] != row["val_best_sd"]  # NaN: a single tuning seed
    paired = stats.ttest_rel(B, A)
    low, high = paired.confidence_interval()
    assert row["gain"] == pytest.approx(sum(B) / 3 - sum(A) / 3)
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["pairs"], row["verdict"]) == (3, "better")


def test_only_seeds_that_both_have_are_paired():
    runs = frame({"a": A, "a (tuned)": [0.6, None, 0.64]})
    (row,) = table([SEARCHED], runs, METRIC).to_dict("records")
    assert row["pairs"] == 2
    assert row["low"] != row["low"]


def test_the_balanced_reference_and_other_datasets_play_no_part():
    here = frame({"a": A, "a (tuned)": B})
    others = [frame({"a": A, "a (tuned)": A}, "other"), frame({"a": A, "a (tuned)": A}, "d", "bal")]
    (alone,) = table([SEARCHED], here, METRIC).to_dict("records")
    (among,) = table([SEARCHED], pd.concat([here, *others]), METRIC).to_dict("records")
    assert among["gain"] == alone["gain"]


def test_own_values_that_won_have_no_gain():
    one = replace(SEARCHED, values=SEARCHED.own)
    (row,) = table([one], frame({"a": A}), METRIC).to_dict("records")
    assert row["own_best"]
    assert row["gain"] != row["gain"]


def test_a_search_without_a_winner_is_told():
    one = replace(
        SEARCHED, values={}, default=None, best=None, states={"complete": 0, "failed": 20}
    )
    (row,) = table([one], frame({"a": A}), METRIC).to_dict("records")
    assert (row["values"], row["lost"]) == ("", 20)
    assert list(table([], frame({"a": A}), METRIC).columns) == COLUMNS


def test_tuned_recipes_have_no_part_in_the_effects_of_a_crossing():
    """Their cells lie outside it: a main effect is of the levels as they come."""
    levels = {"sampler": ["none", "s"], "mixup": ["none", "mixup"]}
    runs = crossed(levels, lambda at, seed: 0.5 + 0.1 * (at["sampler"] == "s") + 0.01 * seed)
    more = pd.concat([runs, frame({"mixup (tuned)": [0.99] * 4})], ignore_index=True)
    for of in (effects.main_effects, effects.interactions):
        before, after = of(runs, METRIC, levels=levels), of(more, METRIC, levels=levels)
        pd.testing.assert_frame_equal(before, after)
