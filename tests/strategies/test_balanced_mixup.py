from collections.abc import Callable

import numpy as np
import pytest

from harness.strategies.balanced_mixup import BalancedMixUp
from harness.strategies.base import Batch, Facts

COUNTS = np.array([500, 50, 5])
TRAIN = np.repeat(np.arange(3), COUNTS)


def batch_of(size: int) -> Batch:
    return Batch(np.arange(size), TRAIN[:size], COUNTS, TRAIN, (4,), 0.0)


def test_it_is_the_batch_with_a_share_of_a_balanced_one() -> None:
    """As in the published loop: λ ~ Beta(α, 1), (1 − λ) · instance + λ · balanced."""
    for seed in range(20):
        mix = BalancedMixUp(alpha=0.3).blend(batch_of(8), np.random.default_rng(seed))
        lam = np.random.default_rng(seed).beta(0.3, 1.0)
        np.testing.assert_allclose(mix.weight, 1 - lam, atol=1e-7)
        np.testing.assert_array_equal(mix.weight, mix.label_weight)
        assert mix.source == "train"
        assert mix.box is None


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_partners_are_balanced_and_have_the_share_that_alpha_says(alpha: float) -> None:
    rng = np.random.default_rng(0)
    mixes = [BalancedMixUp(alpha=alpha).blend(batch_of(64), rng) for _ in range(1500)]
    partners = np.bincount(TRAIN[np.concatenate([mix.partner for mix in mixes])], minlength=3)
    np.testing.assert_allclose(partners / partners.sum(), 1 / 3, atol=0.01)
    own = np.mean([mix.weight[0] for mix in mixes])
    assert own == pytest.approx(1 / (1 + alpha), abs=0.02)


def test_it_acts_on_tables_and_says_where_it_need_not(make_facts: Callable[..., Facts]) -> None:
    assert BalancedMixUp().unsuitable(make_facts(kind="table", shape=(4,))) is None
    assert "p is 0" in (BalancedMixUp(p=0.0).redundant(make_facts()) or "")
    assert BalancedMixUp().rebalances()
