import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.incomplete import fit


def test_a_complete_table_has_the_plain_mean_of_each_block():
    found = fit(np.ones((3, 4), bool))
    values = np.random.default_rng(0).normal(size=(3, 4))
    assert np.einsum("bdr,dr->b", found.weights, values) == pytest.approx(values.mean(axis=1))
    assert found.widening == 1.0


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 6))
def test_what_adds_up_is_told_exactly(seed, blocks, rows):
    rng = np.random.default_rng(seed)
    there = rng.random((blocks, rows)) < 0.7
    found = fit(there)
    if not len(found.blocks):
        assert not there.any()
        return
    values = rng.normal(size=(blocks, 1)) + rng.normal(size=rows)
    kept = there[np.ix_(found.blocks, found.rows)]
    known = np.where(kept, values[np.ix_(found.blocks, found.rows)], 0.0)
    told = np.einsum("bdr,dr->b", found.weights, known)
    assert told == pytest.approx(values[np.ix_(found.blocks, found.rows)].mean(axis=1))
    assert (found.weights[:, ~kept] == 0).all()
    assert found.widening >= 1.0


def test_the_variance_of_pure_noise_is_told_right():
    there = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1]], bool)
    found = fit(there)
    noise = np.random.default_rng(1).normal(size=(40000, 4, 4)) * there
    blocks = np.einsum("bdr,sdr->sb", found.weights, noise)
    told = found.widening * blocks.var(axis=1, ddof=1).mean() / 4
    assert found.widening > 1.01
    assert told == pytest.approx(blocks.mean(axis=1).var(), rel=0.03)


def test_parts_that_share_no_row_cannot_be_put_together():
    there = np.zeros((4, 5), bool)
    there[:2, :2], there[2:, 2:] = True, True
    found = fit(there)
    assert (found.blocks.tolist(), found.rows.tolist()) == ([2, 3], [2, 3, 4])
