from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.strategies.base import Facts, Tunable
from harness.strategies.weighted_sampler import WeightedSampler

COUNTS = np.array([600, 100, 20, 3])


def labels_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


def shares(sampler: WeightedSampler) -> NDArray[np.float64]:
    labels = labels_of(COUNTS)
    order = sampler.order(labels, 400, 100, np.random.default_rng(0))
    return np.bincount(labels[order.ravel()], minlength=4) / order.size


def test_beta_1_delivers_every_class_equally_often() -> None:
    np.testing.assert_allclose(shares(WeightedSampler()), 0.25, atol=0.01)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_beta_goes_from_instances_over_the_square_root_to_classes(beta: float) -> None:
    mass = COUNTS ** (1 - beta)
    np.testing.assert_allclose(shares(WeightedSampler(beta=beta)), mass / mass.sum(), atol=0.01)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.999999])
def test_the_effective_number_weighs_rows_as_published(beta: float) -> None:
    row = (1 - beta) / (1 - beta**COUNTS)
    mass = COUNTS * row
    sampler = WeightedSampler(effective_number=beta)
    np.testing.assert_allclose(shares(sampler), mass / mass.sum(), atol=0.01)


def test_rows_within_a_class_are_drawn_uniformly_and_with_replacement() -> None:
    labels = labels_of(COUNTS)
    order = WeightedSampler().order(labels, 400, 100, np.random.default_rng(0)).ravel()
    for c, n in enumerate(COUNTS):
        rows = np.flatnonzero(labels == c)
        drawn = np.bincount(order, minlength=len(labels))[rows]
        assert drawn.mean() == pytest.approx(10_000 / n, rel=0.05)
        spread = np.sqrt(10_000 / n)
        assert np.abs(drawn - drawn.mean()).max() < 5 * spread + 5


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any),
    steps=st.integers(1, 6),
    batch_size=st.integers(1, 16),
    beta=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_t23_order_is_in_range_and_skips_absent_classes(
    counts: list[int], steps: int, batch_size: int, beta: float, seed: int
) -> None:
    labels = labels_of(np.array(counts))
    sampler = WeightedSampler(beta=beta)
    order = sampler.order(labels, steps, batch_size, np.random.default_rng(seed))
    assert order.shape == (steps, batch_size)
    assert order.dtype == np.int64
    assert ((order >= 0) & (order < len(labels))).all()
    probability = sampler.class_probabilities(np.array(counts))
    assert probability.dtype == np.float64
    assert probability.sum() == pytest.approx(1.0)
    assert np.array_equal(probability > 0, np.array(counts) > 0)


def test_t17_more_rows_than_a_multinomial_can_hold() -> None:
    # torch.multinomial stops at 2^24 categories; float32 weights blur long before.
    size = 2**24 + 3
    labels = np.zeros(size, np.int8)
    labels[-2:] = 1
    order = WeightedSampler().order(labels, 20, 100, np.random.default_rng(0)).ravel()  # type: ignore[arg-type]
    rare = np.bincount(order[order >= size - 2] - (size - 2), minlength=2)
    assert rare.sum() == pytest.approx(1000, abs=100)
    assert rare[0] == pytest.approx(500, abs=100)
    assert len(np.unique(order[order < size - 2] % 2)) == 2


def test_two_rules_at_once_are_refused_and_only_open_ranges_are_searched() -> None:
    with pytest.raises(ValidationError, match="give one"):
        WeightedSampler(beta=0.5, effective_number=0.99)
    assert WeightedSampler().tunables() == {"beta": Tunable(0, 1), "start": Tunable(0, 0.9)}
    effective = WeightedSampler(effective_number=0.99, stop=0.5)
    assert effective.tunables() == {"start": Tunable(0, 0.45)}
    assert effective.with_values({"start": 0.4}).effective_number == 0.99


def test_equal_classes_make_it_redundant(make_facts: Callable[..., Facts]) -> None:
    assert WeightedSampler().redundant(make_facts()) is None
    filled = make_facts(expanded_counts=np.array([100, 100, 100]))
    assert "equally many" in (WeightedSampler().redundant(filled) or "")
