import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from harness.analysis.effects import POOLED, interactions, levels_of, main_effects
from harness.analysis.images import ImageScores, image_scores
from harness.analysis.intervals import BETTER, SAME, UNDECIDED, WORSE, holm
from harness.analysis.tables import load_results
from tests.analysis.conftest import METRIC, crossed, frame
from tests.benchmarks.generated import by_level

TWO = {"a": ["none", "x"], "b": ["none", "y"]}
THREE = {**TWO, "c": ["none", "z"]}


def row(table, **at):
    """Return the one row of a table at these values."""
    for name, value in at.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def noisy(rng, a=0.0, b=0.0, both=0.0, noise=0.02, block=0.05):
    """Return a cell's value: effects, what two do together, and noise of seeds and of runs."""
    of_seed = {}

    def value(at, seed):
        shift = of_seed.setdefault(seed, rng.normal(0, block))
        on_a, on_b = at["a"] != "none", at["b"] != "none"
        return 0.5 + a * on_a + b * on_b + both * (on_a and on_b) + shift + rng.normal(0, noise)

    return value


def test_main_effects_and_interaction_by_hand():
    cells = {
        ("none", "none"): [0.50, 0.52, 0.49],
        ("x", "none"): [0.60, 0.61, 0.62],
        ("none", "y"): [0.40, 0.44, 0.41],
        ("x", "y"): [0.70, 0.69, 0.72],
    }
    runs = crossed(TWO, lambda at, seed: cells[at["a"], at["b"]][seed], seeds=3)
    v = {cell: np.array(values) for cell, values in cells.items()}
    each = ((v["x", "none"] - v["none", "none"]) + (v["x", "y"] - v["none", "y"])) / 2
    effect = row(main_effects(runs, METRIC), factor="a", level="x")
    assert effect["estimate"] == pytest.approx(each.mean())
    ends = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert (effect["low"], effect["high"]) == pytest.approx((ends.low, ends.high))
    assert (effect["pairs"], effect["possible"], effect["blocks"]) == (2, 2, 3)
    square = (v["x", "y"] - v["none", "y"]) - (v["x", "none"] - v["none", "none"])
    (both,) = interactions(runs, METRIC).to_dict("records")
    assert both["estimate"] == pytest.approx(square.mean())
    ends = stats.ttest_1samp(square, 0).confidence_interval(0.95)
    assert (both["low"], both["high"]) == pytest.approx((ends.low, ends.high))
    assert (both["pairs"], both["possible"]) == (1, 1)


def test_estimates_are_those_of_least_squares_with_blocks():
    """In a complete 2³ the coefficients of ±½ coded factors are main effects; see statsmodels."""
    rng = np.random.default_rng(0)
    runs = crossed(THREE, lambda at, seed: rng.normal(), seeds=4)
    coded = runs.assign(
        y=runs[f"test_{METRIC}"],
        **{f: np.where(runs[f"factor.{f}"] == "none", -0.5, 0.5) for f in THREE},
    )
    fit = smf.ols("y ~ C(seed) + a * b + a * c + b * c", coded).fit()
    effects = main_effects(runs, METRIC).set_index("factor")["estimate"]
    for factor in THREE:
        assert effects[factor] == pytest.approx(fit.params[factor])
    both = interactions(runs, METRIC).set_index(["factor_a", "factor_b"])["estimate"]
    for a, b in itertools.combinations(THREE, 2):
        assert both[a, b] == pytest.approx(fit.params[f"{a}:{b}"])


@pytest.mark.parametrize("seeds", [3, 5])
def test_known_effects_are_found_and_their_intervals_cover(seeds):
    rng = np.random.default_rng(seeds)
    inside, studies = {"a": 0, "b": 0, "a×b": 0}, 100
    for _ in range(studies):
        runs = crossed(TWO, noisy(rng, a=0.10, both=0.06), seeds)
        table = main_effects(runs, METRIC, exploratory=True)
        for factor, truth in (("a", 0.13), ("b", 0.03)):
            found = row(table, factor=factor)
            inside[factor] += found["low"] <= truth <= found["high"]
        both = interactions(runs, METRIC).iloc[0]
        inside["a×b"] += both["low"] <= 0.06 <= both["high"]
    for covered in inside.values():
        assert covered / studies >= 0.88  # 95 % less three standard errors of 100 studies


def test_a_large_effect_is_claimed_and_chance_is_not():
    rng = np.random.default_rng(0)
    claimed = {"a": 0, "b": 0}
    for _ in range(25):
        table = main_effects(crossed(TWO, noisy(rng, a=0.10), 5), METRIC)
        for factor in claimed:
            claimed[factor] += row(table, factor=factor)["verdict"] in (BETTER, WORSE)
    assert claimed["a"] == 25
    assert claimed["b"] <= 4


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_of_effects_over_2000_studies(seeds):
    rng = np.random.default_rng(seeds)
    inside = np.zeros(3)
    for _ in range(2000):
        runs = crossed(TWO, noisy(rng, a=0.10, both=0.06), seeds)
        table, both = main_effects(runs, METRIC, exploratory=True), interactions(runs, METRIC)
        for i, (found, truth) in enumerate(
            [(row(table, factor="a"), 0.13), (row(table, factor="b"), 0.03), (both.iloc[0], 0.06)]
        ):
            inside[i] += found["low"] <= truth <= found["high"]
    assert (inside / 2000 > 0.93).all()
    assert (inside / 2000 < 0.97).all()


def test_a_tight_interval_around_nothing_is_no_difference():
    runs = crossed(TWO, lambda at, seed: 0.5 + 0.0001 * seed * len(at["a"]), seeds=5)
    table = main_effects(runs, METRIC)
    assert table["verdict"].unique().tolist() == [SAME]
    assert main_effects(runs, METRIC, margin=0.0)["verdict"].unique().tolist() != [SAME]


def test_p_values_are_adjusted_within_the_family_of_main_effects():
    rng = np.random.default_rng(2)
    runs = crossed(TWO, noisy(rng, a=0.02, b=-0.03))
    table = main_effects(runs, METRIC)
    assert table["p_holm"].to_numpy(float) == pytest.approx(holm(table["p"]))
    explored = main_effects(runs, METRIC, exploratory=True)
    assert explored["p_holm"].isna().all()


def test_an_interval_that_excludes_zero_is_not_enough():
    """Of three p-values the largest may be 0.05, the smallest 0.017."""
    effects = {"x": 0.040, "y": 0.0, "z": 0.0}
    rng = np.random.default_rng(5)
    for _ in range(200):
        runs = crossed(
            THREE,
            lambda at, seed: (
                sum(effects[v] for v in at.values() if v in effects) + rng.normal(0, 0.05)
            ),
        )
        found = row(main_effects(runs, METRIC), factor="a")
        if found["low"] > 0 and found["p_holm"] > 0.05:
            assert found["verdict"] == UNDECIDED
            return
    raise AssertionError("no such study was drawn")


def test_levels_of_one_factor_are_each_compared_with_none():
    levels = {"a": ["none", "x", "xx"], "b": ["none", "y"]}
    worth = {"none": 0.0, "x": 0.1, "xx": 0.2, "y": 0.05}
    runs = crossed(levels, lambda at, seed: sum(worth[v] for v in at.values()))
    table = main_effects(runs, METRIC)
    assert row(table, level="xx")["estimate"] == pytest.approx(0.2)
    assert row(table, level="xx")["possible"] == 2
    assert row(table, level="y")["possible"] == 3
    assert len(interactions(runs, METRIC)) == 2
    assert levels_of(runs) == levels


def test_hand_named_recipes_and_the_reference_play_no_part():
    runs = crossed(TWO, lambda at, seed: 0.5 + 0.1 * (at["a"] == "x"))
    rival = frame({"rival": [9.0] * 4, "nothing": [7.0] * 4}, reference="balanced")
    rival.loc[rival["recipe"] == "rival", "reference"] = ""
    table = main_effects(pd.concat([runs, rival]), METRIC)
    assert row(table, factor="a")["estimate"] == pytest.approx(0.1)


def test_a_pair_that_is_missing_at_a_seed_is_told_by_the_others():
    """Pairs differ in worth: leaving one out, at one seed or at all, would be another effect."""

    def value(at, seed):
        if at == {"a": "x", "b": "y", "c": "none"} and seed == 1:
            return None
        on = at["a"] == "x"
        return 0.5 + on * (0.1 + 0.01 * seed) + 0.5 * (on and at["b"] == "y")

    found = row(main_effects(crossed(THREE, value), METRIC), factor="a")
    assert (found["pairs"], found["possible"], found["blocks"], found["lost"]) == (4, 4, 4, 1)
    of_seeds = 0.1 + 0.5 / 2 + 0.01 * np.arange(4)
    assert found["estimate"] == pytest.approx(of_seeds.mean())
    low, high = stats.ttest_1samp(of_seeds, 0).confidence_interval()
    width = (found["high"] - found["low"]) / (high - low)
    assert 1 - 1e-9 < width < 1.1, "of the same four seeds"


def test_with_missing_runs_estimates_are_those_of_least_squares():
    """Of differences on pairs and seeds, see statsmodels."""
    rng = np.random.default_rng(5)
    lost = {("x", "y", "z", 1), ("none", "none", "z", 2), ("x", "none", "none", 2)}
    runs = crossed(
        THREE,
        lambda at, seed: None if (*at.values(), seed) in lost else rng.normal(0, 0.1),
        seeds=4,
    )
    wide = runs.pivot(
        index=["factor.b", "factor.c", "seed"], columns="factor.a", values=f"test_{METRIC}"
    ).astype(float)
    each = (wide["x"] - wide["none"]).dropna().rename("d").reset_index()
    each["pair"] = each["factor.b"] + each["factor.c"]
    fit = smf.ols("d ~ C(pair, Sum) + C(seed, Sum)", each).fit()
    found = row(main_effects(runs, METRIC), factor="a")
    assert found["estimate"] == pytest.approx(fit.params["Intercept"])
    assert found["lost"] == 3


def failing(rng, seeds, both, share):
    """Return runs of a 2³ of which a share failed, with an interaction of two factors."""
    value = noisy(rng, a=0.1, both=both)
    return crossed(THREE, lambda at, seed: None if rng.random() < share else value(at, seed), seeds)


def coverage_with_failures(rng, seeds, studies):
    inside = []
    for _ in range(studies):
        table = main_effects(failing(rng, seeds, 0.2, 0.06), METRIC, exploratory=True)
        found = row(table, factor="a")
        if np.isfinite(found["low"]):
            inside.append(found["low"] <= 0.2 <= found["high"])
    assert len(inside) > 0.95 * studies
    return np.mean(inside)


def test_intervals_cover_where_runs_failed_and_factors_depend_on_each_other():
    rng = np.random.default_rng(1)
    assert coverage_with_failures(rng, 5, 200) >= 0.91  # 95 % less nearly three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_over_2000_studies_with_failures(seeds):
    assert 0.93 < coverage_with_failures(np.random.default_rng(seeds), seeds, 2000) < 0.97


def test_no_interval_of_a_share_is_wider_than_a_share():
    cells = {"none": [0.1, 0.9, 0.5], "x": [0.8, 0.2, 0.6]}
    runs = crossed(TWO, lambda at, seed: cells[at["a"]][seed], seeds=3)
    runs["test_nll"] = runs[f"test_{METRIC}"]
    effect = row(main_effects(runs, METRIC), factor="a")
    assert (effect["low"], effect["high"]) == (-1.0, 1.0)
    assert row(main_effects(runs, "nll"), factor="a")["high"] > 1.5, "this is no share"


def test_a_seed_that_has_hardly_begun_is_left_out_instead_of_the_pairs():
    def value(at, seed):
        return None if seed == 3 and at != {"a": "none", "b": "none"} else 0.5

    found = row(main_effects(crossed(TWO, value), METRIC), factor="a")
    assert (found["pairs"], found["possible"], found["blocks"]) == (2, 2, 3)


def test_an_effect_without_a_matching_pair_cannot_be_estimated():
    runs = crossed(TWO, lambda at, seed: None if at["a"] == "x" else 0.5)
    found = row(main_effects(runs, METRIC), factor="a")
    assert np.isnan(found["estimate"])
    assert (found["pairs"], found["possible"]) == (0, 2)
    assert interactions(runs, METRIC)["pairs"].tolist() == [0]


def test_one_at_a_time_compares_with_nothing_alone():
    runs = crossed(TWO, lambda at, seed: 0.5 + 0.1 * (at["a"] == "x") * (1 + 5 * (at["b"] == "y")))
    alone = runs[runs["recipe"] != "x+y"]
    table = main_effects(alone, METRIC, "one_at_a_time", TWO)
    assert row(table, factor="a")["estimate"] == pytest.approx(0.1)
    assert row(table, factor="a")["possible"] == 1
    both = main_effects(runs, METRIC, "one_at_a_time", TWO)
    assert row(both, factor="a")["estimate"] == pytest.approx(0.1)


def test_leave_one_out_compares_with_all_others_on():
    runs = crossed(TWO, lambda at, seed: 0.5 + 0.1 * (at["a"] == "x") * (1 + 5 * (at["b"] == "y")))
    table = main_effects(runs, METRIC, "leave_one_out", TWO)
    assert row(table, factor="a")["estimate"] == pytest.approx(0.6)
    assert row(table, factor="a")["possible"] == 1
    more = {"a": ["none", "x", "xx"], "b": ["none", "y"]}
    assert len(main_effects(runs, METRIC, "leave_one_out", more)) == 3
    assert row(main_effects(runs, METRIC, "leave_one_out", more), level="xx")["possible"] == 0


def test_folds_are_blocks_with_the_corrected_interval():
    rng = np.random.default_rng(3)
    runs = crossed(TWO, noisy(rng, a=0.1), seeds=5).assign(folds=5)
    runs["fold"], runs["seed"] = runs["seed"], 0
    plain = crossed(TWO, noisy(np.random.default_rng(3), a=0.1), seeds=5)
    wide = row(main_effects(runs, METRIC), factor="a")
    narrow = row(main_effects(plain, METRIC), factor="a")
    assert wide["blocks"] == 5
    ratio = (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])
    assert ratio == pytest.approx(np.sqrt(1 / 5 + 1 / 4) / np.sqrt(1 / 5))


def test_datasets_stand_by_themselves_and_together():
    rng = np.random.default_rng(4)
    runs = pd.concat(
        [
            crossed(TWO, noisy(rng, a=0.1, noise=0.01), 4, "one"),
            crossed(TWO, noisy(rng, a=0.3, noise=0.05), 4, "two"),
        ]
    )
    table = main_effects(runs, METRIC)
    parts = [row(table, factor="a", dataset=name) for name in ("one", "two")]
    pooled = row(table, factor="a", dataset=POOLED)
    assert pooled["estimate"] == pytest.approx(np.mean([part["estimate"] for part in parts]))
    errors = [(p["high"] - p["low"]) / 2 / stats.t.ppf(0.975, p["df"]) for p in parts]
    variance = sum((e / 2) ** 2 for e in errors)
    df = variance**2 / sum((e / 2) ** 4 / p["df"] for e, p in zip(errors, parts, strict=True))
    half = stats.t.ppf(0.975, df) * np.sqrt(variance)
    assert pooled["high"] - pooled["estimate"] == pytest.approx(half)
    assert (pooled["blocks"], pooled["pairs"], pooled["possible"]) == (8, 4, 4)
    apart = table[table["dataset"] != POOLED]
    assert apart["p_holm"].to_numpy(float) == pytest.approx(holm(apart["p"]))
    assert len(interactions(runs, METRIC)) == 3


def test_a_table_without_factors_has_no_effects():
    runs = frame({"nothing": [0.5], "a": [0.6]})
    assert main_effects(runs, METRIC).empty
    assert interactions(runs, METRIC).empty
    assert main_effects(crossed(TWO, lambda at, seed: 1.0), "nll").empty


def test_effects_on_new_images_use_what_is_there_too(make):
    def fail(spec):
        return "failed" if (spec.recipe, spec.seed) == ("mixup", 1) else "done"

    runs = load_results(make(fail=fail, worth=by_level({"mixup": 0.6})).store.path)
    found = row(
        main_effects(runs, METRIC, images=image_scores(runs, METRIC).scores), factor="mixup"
    )
    assert (found["pairs"], found["lost"], found["blocks"]) == (2, 1, 4)
    middle = (found["new_low"] + found["new_high"]) / 2
    assert middle == pytest.approx(found["estimate"], abs=1e-6)


def test_effects_on_new_images_average_over_the_same_cells(make):
    made = make(worth=by_level({"mixup": 0.6}), noise=(0.05, 1.0, 0.5))
    runs = load_results(made.store.path)
    read = image_scores(runs, METRIC)
    ((_, scores),) = read.scores.items()
    assert isinstance(scores, ImageScores)
    table = main_effects(runs, METRIC, images=read.scores)
    found = row(table, factor="mixup")
    assert found["new_high"] - found["new_low"] > found["high"] - found["low"]
    middle = (found["new_low"] + found["new_high"]) / 2
    assert middle == pytest.approx(found["estimate"], abs=1e-6)
    fewer = {panel: ImageScores(s.sample, {}) for panel, s in read.scores.items()}
    assert main_effects(runs, METRIC, images=fewer)["new_low"].isna().all()
