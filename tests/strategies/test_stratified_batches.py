from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.strategies.base import Facts
from harness.strategies.stratified_batches import StratifiedBatches


def order_of(
    counts: list[int], steps: int, batch_size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    rng = np.random.default_rng(seed)
    return labels, StratifiedBatches().order(labels, steps, batch_size, rng)


CASES = {
    "counts": st.lists(st.integers(1, 30), min_size=1, max_size=7),
    "steps": st.integers(1, 12),
    "over": st.integers(0, 20),
    "seed": st.integers(0, 2**32),
}


@given(**CASES)
def test_every_batch_holds_every_class_and_the_remainder_goes_around(
    counts: list[int], steps: int, over: int, seed: int
) -> None:
    batch_size = len(counts) + over
    labels, order = order_of(counts, steps, batch_size, seed)
    assert order.shape == (steps, batch_size)
    per_batch = np.stack([np.bincount(labels[b], minlength=len(counts)) for b in order])
    share = batch_size // len(counts)
    assert np.isin(per_batch, (share, share + 1)).all()
    total = np.cumsum(per_batch, axis=0)
    # At no point of the pass is a class more than one row ahead of another.
    assert (total.max(axis=1) - total.min(axis=1) <= 1).all()


@given(**CASES)
def test_no_row_comes_again_before_its_class_is_used_up(
    counts: list[int], steps: int, over: int, seed: int
) -> None:
    labels, order = order_of(counts, steps, len(counts) + over, seed)
    times = np.bincount(order.ravel(), minlength=len(labels))
    for c in range(len(counts)):
        of_class = times[labels == c]
        assert of_class.max() - of_class.min() <= 1


def test_classes_do_not_stand_in_blocks_and_passes_differ() -> None:
    labels, order = order_of([50, 50], 20, 10, 0)
    _, other = order_of([50, 50], 20, 10, 1)
    assert len({tuple(labels[batch]) for batch in order}) > 10
    assert not np.array_equal(order, other)


def test_absent_classes_are_left_out() -> None:
    labels = np.array([0, 0, 3, 3, 3])
    order = StratifiedBatches().order(labels, 5, 4, np.random.default_rng(0))
    assert all(sorted(labels[batch]) == [0, 0, 3, 3] for batch in order)


def test_more_classes_than_places_are_refused(make_facts: Callable[..., Facts]) -> None:
    assert StratifiedBatches().unsuitable(make_facts(batch_size=3)) is None
    message = StratifiedBatches().unsuitable(make_facts(batch_size=2))
    assert message is not None
    assert "3 classes" in message
    assert "batch_size to 3" in message
