from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from harness.strategies.base import Facts, Synthesis
from harness.strategies.smote import Smote


class Legacy:
    """The draws of a legacy `RandomState` under the names of a `Generator`."""

    def __init__(self, seed: int) -> None:
        self.state = np.random.RandomState(seed)

    def integers(self, low: int, high: int, size: int) -> NDArray[np.int64]:
        return self.state.randint(low=low, high=high, size=size)

    def random(self, size: int) -> NDArray[np.float64]:
        return self.state.uniform(size=size)


def rows_of(made: Synthesis, features: NDArray[Any]) -> NDArray[np.float64]:
    x = features.astype(np.float64)
    return x[made.base] + made.gap[:, None] * (x[made.neighbour] - x[made.base])


def sample(
    counts: list[int], width: int = 5, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return rng.normal(size=(len(labels), width)) + labels[:, None], labels


@pytest.mark.parametrize("width", [5, 40])  # a tree search and a brute one
@pytest.mark.parametrize("k", [1, 5])
def test_equals_imbalanced_learn_draw_for_draw(width: int, k: int) -> None:
    features, labels = sample([60, 25, 9, 40], width)
    theirs, their_labels = SMOTE(k_neighbors=k, random_state=np.random.RandomState(3)).fit_resample(
        features, labels
    )
    made = Smote(k=k).synthesize(features, labels, Legacy(3))  # type: ignore[arg-type]
    np.testing.assert_array_equal(labels[made.base], their_labels[len(labels) :])
    np.testing.assert_allclose(rows_of(made, features), theirs[len(labels) :], atol=1e-5)
    assert not made.notes


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 20), min_size=2, max_size=5),
    k=st.integers(1, 10),
    target=st.floats(0.05, 1.0),
    seed=st.integers(0, 2**32),
)
def test_rows_are_of_one_class_and_as_many_as_announced(
    counts: list[int], k: int, target: float, seed: int
) -> None:
    features, labels = sample(counts)
    smote = Smote(k=k, target=target)
    made = smote.synthesize(features, labels, np.random.default_rng(seed))
    before = np.bincount(labels, minlength=len(counts))
    after = before + np.bincount(labels[made.base], minlength=len(counts))
    assert np.array_equal(after, smote.expanded_counts(before))
    assert np.array_equal(labels[made.base], labels[made.neighbour])
    alone = before[labels[made.base]] == 1
    assert np.array_equal(made.base == made.neighbour, alone)
    assert (made.gap[alone] == 0).all()
    assert ((made.gap >= 0) & (made.gap <= 1)).all()
    assert made.base.dtype == made.neighbour.dtype == np.int64
    assert made.gap.dtype == np.float32


def test_the_target_is_a_fraction_of_the_largest_class() -> None:
    counts = np.array([100, 40, 10])
    assert Smote().expanded_counts(counts).tolist() == [100, 100, 100]
    assert Smote(target=0.5).expanded_counts(counts).tolist() == [100, 50, 50]
    assert Smote(target=0.29).expanded_counts(counts).tolist() == [100, 40, 29]


def test_t13_k_is_lowered_where_a_class_is_small_and_a_single_row_is_copied() -> None:
    features, labels = sample([30, 6, 5, 2, 1])
    made = Smote(k=5).synthesize(features, labels, np.random.default_rng(0))
    assert set(made.notes) == {2, 3, 4}  # 6 rows are just enough
    assert made.notes[2] == "k lowered from 5 to 4: 5 rows"
    assert "k lowered from 5 to 1: 2 rows" in made.notes[3]
    assert "copies" in made.notes[4]
    of_five = labels[made.base] == 2
    pairs = set(zip(made.base[of_five], made.neighbour[of_five], strict=True))
    assert len({neighbour for _, neighbour in pairs}) == 5
    np.testing.assert_array_equal(
        rows_of(made, features)[labels[made.base] == 4],
        np.repeat(features[labels == 4], 29, axis=0),
    )


def test_t13_a_lowered_k_equals_imbalanced_learn_with_that_k() -> None:
    features, labels = sample([30, 4])
    theirs, _ = SMOTE(k_neighbors=3, random_state=np.random.RandomState(5)).fit_resample(
        features, labels
    )
    made = Smote(k=5).synthesize(features, labels, Legacy(5))  # type: ignore[arg-type]
    np.testing.assert_allclose(rows_of(made, features), theirs[34:], atol=1e-5)


def test_t14_uint8_does_not_wrap_around() -> None:
    # In wrapped arithmetic 250 is nearer to 3 (9 steps) than 40 is.
    features = np.array([[3], [40], [250], [0], [0], [0], [0], [0]], np.uint8)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    nearest = {}
    for seed in range(10):
        made = Smote(k=1).synthesize(features, labels, np.random.default_rng(seed))
        nearest |= dict(zip(made.base.tolist(), made.neighbour.tolist(), strict=True))
    assert nearest == {0: 1, 1: 0, 2: 1}


def test_t14_uint8_images_have_the_neighbours_of_their_float_copies() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 256, (80, 192)).astype(np.uint8)
    labels = np.repeat([0, 1], [50, 30])
    a = Smote().synthesize(features, labels, np.random.default_rng(1))
    b = Smote().synthesize(features.astype(np.float64), labels, np.random.default_rng(1))
    np.testing.assert_array_equal(a.neighbour, b.neighbour)


def test_neighbours_are_the_nearest_of_the_class_even_among_duplicates() -> None:
    features = np.array([[0.0], [0.0], [0.0], [9.0], [0.1], [0.1], [0.1], [0.1], [0.1]])
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
    for seed in range(20):
        made = Smote(k=2).synthesize(features, labels, np.random.default_rng(seed))
        base, neighbour = int(made.base[0]), int(made.neighbour[0])
        assert neighbour in ({0, 1, 2} - {base})


def test_the_number_of_threads_does_not_decide_between_ties() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (1500, 20)).astype(np.uint8)
    labels = np.repeat([0, 1], [800, 700])
    results = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            made = Smote().synthesize(features, labels, np.random.default_rng(0))
        results.append(made.neighbour)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_equal_classes_create_nothing(make_facts: Callable[..., Facts]) -> None:
    features, labels = sample([5, 5])
    made = Smote().synthesize(features, labels, np.random.default_rng(0))
    assert len(made.base) == len(made.neighbour) == len(made.gap) == 0
    assert "no row is created" in (Smote().redundant(make_facts((7, 7))) or "")
    assert "no row is created" in (Smote(target=0.1).redundant(make_facts((100, 10))) or "")
    assert Smote().redundant(make_facts()) is None
