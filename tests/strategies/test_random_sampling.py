from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray

from harness.strategies.base import Facts
from harness.strategies.random_sampling import RandomOverSampling, RandomUnderSampling
from harness.streams import Stream

COUNTS = np.array([60, 17, 5])
LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(3), COUNTS))


def passes(sampler: Any, number: int, steps: int = 9, size: int = 10) -> NDArray[np.int64]:
    stream = Stream(0, "order")
    return np.concatenate(
        [sampler.order_pass(n, 0.0, LABELS, steps, size, stream).ravel() for n in range(number)]
    )


@pytest.mark.parametrize("target", [1.0, 0.5, 0.1])
def test_over_sampling_has_the_class_sizes_of_imbalanced_learn(target: float) -> None:
    rows = RandomOverSampling(target=target).resampled(LABELS, np.random.default_rng(0))
    wanted = {k: max(n, round(target * 60)) for k, n in enumerate(COUNTS.tolist())}
    theirs, _ = RandomOverSampler(sampling_strategy=wanted, random_state=0).fit_resample(
        np.arange(len(LABELS))[:, None], LABELS
    )
    counts = np.bincount(LABELS[rows])
    np.testing.assert_array_equal(counts, np.bincount(LABELS[theirs[:, 0]]))
    repeats = np.bincount(rows, minlength=len(LABELS))
    for k, n in enumerate(COUNTS):  # whole rounds before random repeats
        own = repeats[k == LABELS]
        assert own.min() == counts[k] // n
        assert own.max() == -(-counts[k] // n)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 20.0])
def test_under_sampling_has_the_class_sizes_of_imbalanced_learn(ratio: float) -> None:
    rows = RandomUnderSampling(ratio=ratio).resampled(LABELS, np.random.default_rng(0))
    wanted = {k: min(n, round(ratio * 5)) for k, n in enumerate(COUNTS.tolist())}
    theirs, _ = RandomUnderSampler(sampling_strategy=wanted, random_state=0).fit_resample(
        np.arange(len(LABELS))[:, None], LABELS
    )
    np.testing.assert_array_equal(np.bincount(LABELS[rows]), np.bincount(LABELS[theirs[:, 0]]))
    assert len(np.unique(rows)) == len(rows)


def test_what_is_left_out_is_left_out_for_the_whole_run() -> None:
    order = passes(RandomUnderSampling(), 40)
    kept = np.unique(order)
    np.testing.assert_array_equal(np.bincount(LABELS[kept]), [5, 5, 5])
    seen = np.bincount(order)[kept]
    assert seen.max() - seen.min() <= 1  # shuffle after shuffle, without a gap


def test_other_seeds_leave_others_out() -> None:
    subsets = {
        tuple(sorted(RandomUnderSampling().resampled(LABELS, Stream(seed, "order").at(0))))
        for seed in range(5)
    }
    assert len(subsets) == 5


def test_over_sampling_delivers_classes_equally_within_the_budget() -> None:
    order = passes(RandomOverSampling(), 20)
    assert len(order) == 20 * 90
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), 1 / 3, atol=0.02)


@given(
    number=st.integers(0, 50),
    steps=st.integers(1, 7),
    size=st.integers(1, 20),
    over=st.booleans(),
)
def test_a_pass_depends_on_its_number_alone(number: int, steps: int, size: int, over: bool) -> None:
    sampler = RandomOverSampling() if over else RandomUnderSampling()
    stream = Stream(3, "order")
    one = sampler.order_pass(number, 0.1, LABELS, steps, size, stream)
    stream.at(7).random(100)
    np.testing.assert_array_equal(one, sampler.order_pass(number, 0.9, LABELS, steps, size, stream))
    assert one.shape == (steps, size)
    assert sampler.order(LABELS, steps, size, np.random.default_rng(0)).shape == (steps, size)


def test_equal_classes_need_no_resampling(make_facts: Callable[..., Facts]) -> None:
    for sampler in (RandomOverSampling(), RandomUnderSampling()):
        assert sampler.rebalances()
        assert "already" in (sampler.redundant(make_facts((9, 9))) or "")
        assert sampler.redundant(make_facts()) is None
