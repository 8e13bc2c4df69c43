"""Each interval against a hand-worked case, and its coverage over 2,000 simulated studies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.intervals import (
    BETTER,
    EXPLORATORY,
    SAME,
    UNDECIDED,
    WORSE,
    ImageSample,
    holm,
    of_blocks,
    pooled,
    ratio,
    verdicts,
    wilson,
)

STUDIES = 2000


def covered(interval, truth):
    """Return the share of intervals that hold the truth."""
    return float(((interval.low <= truth) & (truth <= interval.high)).mean())


def test_it_is_scipys_one_sample_t_interval():
    values = np.array([0.1, 0.05, 0.15, 0.2])
    expected = stats.ttest_1samp(values, 0)
    interval = of_blocks(values)
    ends = expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((ends.low, ends.high))
    assert interval.p == pytest.approx(expected.pvalue)
    assert interval.df == 3


def test_two_seeds_have_an_estimate_and_no_interval():
    interval = of_blocks([0.1, 0.3])
    assert interval.estimate == pytest.approx(0.2)
    assert np.isnan([interval.low, interval.high, interval.p]).all()
    assert np.isnan(of_blocks([]).estimate)


def test_a_difference_that_never_varies_is_certain_only_where_there_is_none():
    interval = of_blocks([0.0] * 3)
    assert (interval.low, interval.high, interval.p) == (0.0, 0.0, 1.0)
    one_image = of_blocks([1 / 7] * 3)
    assert one_image.estimate == pytest.approx(1 / 7)
    assert np.isnan([one_image.low, one_image.high, one_image.p]).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_over_seeds(seeds):
    rng = np.random.default_rng(seeds)
    assert 0.93 < covered(of_blocks(rng.normal(0.04, 0.02, (STUDIES, seeds))), 0.04) < 0.97


def test_folds_have_the_corrected_resampled_interval():
    values = np.array([0.1, 0.05, 0.15, 0.2, 0.12])
    half = stats.t.ppf(0.975, 4) * values.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    interval = of_blocks(values, folds=5)
    assert interval.high - interval.estimate == pytest.approx(half)


@pytest.mark.parametrize(("folds", "repeats"), [(5, 1), (5, 3), (10, 1)])
def test_coverage_with_folds_that_share_training_rows(folds, repeats):
    """Differences of two folds correlate by 1/folds, as the correction assumes."""
    rng = np.random.default_rng(folds)
    shared = rng.normal(size=(STUDIES, 1)) * np.sqrt(1 / folds)
    own = rng.normal(size=(STUDIES, folds * repeats)) * np.sqrt(1 - 1 / folds)
    assert 0.93 < covered(of_blocks(shared + own, folds), 0.0) < 0.97
    assert covered(of_blocks(shared + own), 0.0) < 0.9


def test_the_mean_over_datasets_is_welchs_interval():
    """Of a and −b it is half their difference, which scipy's test of unequal variances knows."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.2, 0.9, 0.1])
    parts = [of_blocks(a), of_blocks(-b)]
    columns = [[getattr(part, name) for part in parts] for name in ("estimate", "low", "high")]
    interval = pooled(*columns, [part.df for part in parts])
    expected = stats.ttest_ind(a, b, equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert (2 * interval.low, 2 * interval.high) == pytest.approx((ends.low, ends.high))
    assert interval.df == pytest.approx(expected.df)
    assert interval.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spreads", [(0.02, 0.02), (0.01, 0.02, 0.03)])
def test_coverage_over_datasets(seeds, spreads):
    rng = np.random.default_rng(seeds)
    parts = [of_blocks(rng.normal(k, sd, (STUDIES, seeds))) for k, sd in enumerate(spreads)]
    columns = [np.stack([p[i] for p in parts], axis=-1) for i in (0, 1, 2, 4)]
    truth = np.arange(len(spreads)).mean()
    assert 0.93 < covered(pooled(*columns), truth) < 0.975


def studies(rng, seeds, per_class, spread, classes=5):
    """Return differences of a score, ``[studies, seeds, images]``, with images drawn anew."""
    of_seed, of_image, rest = spread
    n = classes * per_class
    return (
        rng.normal(0.1, of_seed, (STUDIES, seeds, 1))
        + rng.normal(0, of_image, (STUDIES, 1, n))
        + rng.normal(0, rest, (STUDIES, seeds, n))
    )


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("per_class", [10, 40])
@pytest.mark.parametrize("spread", [(0.0, 0.4, 0.3), (0.05, 0.4, 0.3), (0.1, 0.2, 0.3)])
def test_coverage_on_new_images(seeds, per_class, spread):
    rng = np.random.default_rng(1)
    scores = studies(rng, seeds, per_class, spread)
    classes = np.repeat(np.arange(5), per_class)
    images = ImageSample(np.full(len(classes), 1 / len(classes)), classes)
    assert 0.93 < covered(images.interval(scores), 0.1) < 0.97
    if spread[0] == 0:
        seeds_alone = of_blocks(scores.mean(axis=-1))
        assert covered(seeds_alone, 0.1) < 0.8


def test_coverage_on_new_images_of_right_and_wrong():
    """Right or wrong, with classes of unequal size and of unequal difficulty."""
    rng = np.random.default_rng(2)
    classes = np.repeat(np.arange(4), [10, 20, 40, 80])
    ease = np.array([0.3, 0.8, 1.2, 1.6])[classes]
    seeds = 5

    def logistic(x):
        return 1 / (1 + np.exp(-3 * x))

    def right(gain, studies, of_image):
        of_seed = rng.normal(0, 0.2, (studies, seeds, 1))
        return logistic(ease + gain + of_seed + of_image)

    weights = 1 / (4 * np.bincount(classes)[classes])
    truth = 0.0
    for _ in range(20):  # the expected gain, over seeds and images
        shared, extra = rng.normal(size=(2, STUDIES, 1, len(classes)))
        truth += ((right(0.2, STUDIES, shared + 0.7 * extra) - right(0, STUDIES, shared)) @ weights
                  ).mean() / 20  # fmt: skip
    shared, extra = rng.normal(size=(2, STUDIES, 1, len(classes)))
    with_gain = rng.random((STUDIES, seeds, len(classes))) < right(
        0.2, STUDIES, shared + 0.7 * extra
    )
    without = rng.random((STUDIES, seeds, len(classes))) < right(0, STUDIES, shared)
    interval = ImageSample(weights, classes).interval(with_gain.astype(float) - without)
    assert 0.93 < covered(interval, truth) < 0.97


@pytest.mark.parametrize("straddling", [False, True])
def test_coverage_on_new_patients_with_several_images(straddling):
    rng = np.random.default_rng(3)
    classes = np.repeat(np.arange(4), 60)
    groups = np.arange(240) % 60 // 3 if straddling else np.arange(240) // 3
    of_group = rng.normal(0, 0.4, (STUDIES, 1, groups.max() + 1))[..., groups]
    scores = 0.1 + of_group + rng.normal(0, 0.3, (STUDIES, 5, 240))
    weights = np.full(240, 1 / 240)
    assert 0.93 < covered(ImageSample(weights, classes, groups).interval(scores), 0.1) < 0.97
    assert covered(ImageSample(weights, classes).interval(scores), 0.1) < 0.91


def test_new_images_by_hand():
    """Two classes of three and two images, three seeds, by loops."""
    rng = np.random.default_rng(4)
    classes, weights = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 1, 1.5, 1.5]) / 6
    scores = rng.normal(size=(3, 5)) + rng.normal(size=5)
    totals = [sum(weights[i] * scores[s, i] for i in range(5)) for s in range(3)]
    a = np.var(totals, ddof=1) / 3
    b = sum(0.5**2 * np.var(scores.mean(0)[classes == k], ddof=1) / (3 - k) for k in (0, 1))
    c = 0.0
    for k in (0, 1):
        block = scores[:, classes == k]
        rest = block - block.mean(0) - block.mean(1, keepdims=True) + block.mean()
        c += 0.5**2 * (rest**2).sum() / (2 * (2 - k)) / ((3 - k) * 3)
    interval = ImageSample(weights, classes).interval(scores)
    variance = a + max(b - c, 0)
    assert interval.estimate == pytest.approx(np.mean(totals))
    assert b > c
    df_of_images = b**2 / sum(
        (0.5**2 * np.var(scores.mean(0)[classes == k], ddof=1) / (3 - k)) ** 2 / (2 - k)
        for k in (0, 1)
    )
    df = variance**2 / (a**2 / 2 + (b - c) ** 2 / df_of_images)
    half = max(
        stats.t.ppf(0.975, df) * np.sqrt(variance),
        stats.t.ppf(0.975, 2) * np.sqrt(a),
    )
    assert interval.high - interval.estimate == pytest.approx(half)


def test_where_images_add_nothing_the_degrees_of_freedom_are_those_of_the_seeds():
    """Scores without an effect of the image: B − C is clipped at 0 in half of the studies."""
    rng = np.random.default_rng(7)
    classes = np.repeat(np.arange(3), 20)
    scores = rng.normal(0, 0.3, (500, 3, 60)) + rng.normal(0, 0.01, (500, 3, 1))
    here = of_blocks(scores.mean(-1))
    anew = ImageSample(np.full(60, 1 / 60), classes).interval(scores)
    clipped = np.isclose(anew.high - anew.low, here.high - here.low)
    assert 0.2 < clipped.mean() < 1
    assert np.unique(anew.df[clipped]) == [2]
    assert anew.df.min() >= 2


LONG_TAILED = np.array([200, 100, 40, 20, 10])
"""Test images per class."""


def right_or_wrong(rng, studies, seeds, of_seed, of_image):
    """Return which of two equal recipes is right more often, ``[studies, seeds, images]``."""
    classes = np.repeat(np.arange(5), LONG_TAILED)
    ease = np.array([1.6, 1.2, 0.9, 0.5, 0.2])[classes]
    shared = of_image * rng.normal(size=(studies, 1, len(classes)))

    def right():
        at = ease + shared + rng.normal(0, of_seed, (studies, seeds, 1))
        return rng.random((studies, seeds, len(classes))) < 1 / (1 + np.exp(-3 * at))

    return right().astype(np.float32) - right()


def coverage_of_right_and_wrong(rng, chunks, *spreads):
    classes = np.repeat(np.arange(5), LONG_TAILED)
    sample = ImageSample(1 / (5 * LONG_TAILED[classes]), classes)
    inside = []
    for _ in range(chunks):
        interval = sample.interval(right_or_wrong(rng, 200, *spreads))
        assert (interval.high - interval.low).max() < 2, "a share's difference cannot be as wide"
        inside.append(covered(interval, 0.0))
    return np.mean(inside)


@pytest.mark.parametrize("spreads", [(3, 0.0, 0.3), (3, 0.2, 1.0)])
def test_few_seeds_and_a_rare_class_cover_and_are_no_wider_than_a_share(spreads):
    assert 0.93 < coverage_of_right_and_wrong(np.random.default_rng(0), 5, *spreads) < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("of_seed", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("of_image", [0.0, 0.3, 1.0])
def test_coverage_of_right_and_wrong_over_4000_studies(seeds, of_seed, of_image):
    found = coverage_of_right_and_wrong(np.random.default_rng(0), 20, seeds, of_seed, of_image)
    assert 0.93 < found < 0.97


def test_an_interval_holds_nothing_that_cannot_be():
    wild = of_blocks([0.9, -0.5, 0.8])
    assert wild.high > 1
    kept = wild.within(1.0)
    assert (kept.low, kept.high) == (-1.0, 1.0)
    assert kept.p == wild.p
    assert np.isnan(of_blocks([0.1]).within(1.0).low)


def test_the_harder_question_has_no_narrower_interval():
    rng = np.random.default_rng(6)
    classes = np.repeat(np.arange(3), 200)
    sample = ImageSample(np.full(600, 1 / 600), classes)
    scores = rng.normal(0, 0.3, (200, 3, 600)) + rng.normal(0, 0.02, (200, 3, 1))
    scores += rng.normal(0, 0.5, (200, 1, 600))
    here, anew = of_blocks(scores.mean(-1)), sample.interval(scores)
    width = (anew.high - anew.low) - (here.high - here.low)
    assert width.min() > -1e-12
    assert (width > 1e-3).any()


def test_an_image_alone_in_its_class_borrows_the_variance_of_the_others():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(4, 21)) + 2 * rng.normal(size=21)
    classes = np.repeat([0, 1, 2], [10, 10, 1])
    weights = np.array([0.046, 0.046, 0.08])[classes]
    images = ImageSample(weights, classes)
    without = ImageSample(weights * (classes < 2), classes)
    assert (images.alone, without.alone) == (pytest.approx(0.08), 0)
    width = [np.ptp([i.interval(scores).low, i.interval(scores).high]) for i in (images, without)]
    assert width[0] > 1.03 * width[1]
    third = ImageSample(1 / (3 * np.bincount(classes)[classes]), classes)
    assert np.isnan(third.interval(scores).low), "a third of the metric hangs on one image"
    nobody = ImageSample(np.array([0.5, 0.5]), np.array([0, 1])).interval(rng.normal(size=(4, 2)))
    assert np.isnan(nobody.low)


def test_new_images_need_three_seeds_too():
    images = ImageSample(np.full(4, 0.25), np.array([0, 0, 1, 1]))
    assert np.isnan(images.interval(np.ones((2, 4))).low)
    same = images.interval(np.zeros((3, 4)))
    assert (same.low, same.high) == (0.0, 0.0)
    assert np.isnan(images.interval(np.ones((3, 4))).low), "nothing varies, which proves nothing"


def test_the_share_of_a_gap_is_fiellers_interval():
    above, below = np.array([0.04, 0.05, 0.03, 0.05]), np.array([0.1, 0.12, 0.09, 0.1])
    interval = ratio(above, below)
    assert interval.estimate == pytest.approx(above.mean() / below.mean())
    for end in (interval.low, interval.high):  # where above − end·below is just told from zero
        edge = stats.ttest_1samp(above - end * below, 0)
        assert edge.pvalue == pytest.approx(0.05)


def test_a_gap_that_may_be_zero_has_no_share():
    interval = ratio([0.1, 0.2, 0.1], [0.1, -0.1, 0.2])
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(ratio([0.1, 0.1], [0.2, 0.2]).low)
    assert np.isnan(ratio([], []).estimate)


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_of_the_share(seeds):
    rng = np.random.default_rng(seeds)
    gap = rng.normal(0.2, 0.02, (STUDIES, seeds))
    gain = 0.3 * gap + rng.normal(0.0, 0.02, (STUDIES, seeds))
    found = [ratio(a, b) for a, b in zip(gain, gap, strict=True)]
    inside = [f.low <= 0.3 <= f.high for f in found if not np.isnan(f.low)]
    assert len(inside) > 0.95 * STUDIES
    assert 0.93 < np.mean(inside) < 0.97


@pytest.mark.parametrize("n", [5, 10, 19])
def test_coverage_of_wilson_for_few_images(n):
    rng = np.random.default_rng(n)
    truth = rng.uniform(0.05, 0.95, STUDIES)
    low, high = wilson(rng.binomial(n, truth), n)
    assert 0.93 < ((low <= truth) & (truth <= high)).mean() < 0.97


def test_wilson_of_no_images_is_nothing():
    low, high = wilson([0, 5], [0, 5])
    assert np.isnan([low[0], high[0]]).all()
    assert (high[1], low[1]) == (1.0, pytest.approx(0.5655, abs=1e-4))


def test_holm_by_hand_with_a_missing_one():
    adjusted = holm([0.01, np.nan, 0.04, 0.03])
    assert adjusted[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted[1])
    assert np.isnan(holm([np.nan])).all()


@settings(max_examples=10)  # statsmodels collects garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()


@pytest.mark.parametrize(
    ("low", "high", "higher", "said"),
    [
        (0.01, 0.03, True, BETTER),
        (0.01, 0.03, False, WORSE),
        (-0.03, -0.01, True, WORSE),
        (-0.03, -0.01, False, BETTER),
        (-0.004, 0.004, True, SAME),
        (0.001, 0.004, True, SAME),
        (-0.01, 0.004, True, UNDECIDED),
        (-0.01, 0.03, True, UNDECIDED),
        (np.nan, np.nan, True, EXPLORATORY),
    ],
)
def test_what_an_interval_says(low, high, higher, said):
    assert verdicts(low, high, 0.005, higher) == [said]


def test_a_claim_among_several_needs_its_adjusted_p_value():
    assert verdicts([0.01, 0.01], [0.03, 0.03], 0.005, p=[0.04, 0.06]) == [BETTER, UNDECIDED]
