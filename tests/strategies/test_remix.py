from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.strategies.base import Batch, Facts
from harness.strategies.cutmix import CutMix
from harness.strategies.mixup import MixUp
from harness.strategies.remix import Remix

COUNTS = np.array([90, 31, 30, 8, 2])


def batch_of(size: int, rng: np.random.Generator, shape: tuple[int, ...] = (8, 8, 1)) -> Batch:
    labels = rng.integers(0, len(COUNTS), size)
    return Batch(np.arange(size), labels, COUNTS, labels, shape, 0.0)


@given(
    alpha=st.floats(0.1, 2.0),
    kappa=st.floats(1.0, 12.0),
    tau=st.floats(0.0, 1.0),
    cut=st.booleans(),
    per_sample=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_each_pair_is_decided_by_equation_7_of_the_paper(
    alpha: float, kappa: float, tau: float, cut: bool, per_sample: bool, seed: int
) -> None:
    batch = batch_of(12, np.random.default_rng(seed))
    given_ = {"alpha": alpha, "per_sample": per_sample}
    remix = Remix(kappa=kappa, tau=tau, cut=cut, **given_)
    mix = remix.blend(batch, np.random.default_rng(seed))
    plain = (CutMix if cut else MixUp)(**given_).blend(batch, np.random.default_rng(seed))
    np.testing.assert_array_equal(mix.partner, plain.partner)
    np.testing.assert_array_equal(mix.weight, plain.weight)  # images are mixed as ever
    for i, j in enumerate(mix.partner):
        own, other = COUNTS[batch.labels[i]], COUNTS[batch.labels[j]]
        share = plain.label_weight[i]
        if own / other >= kappa and share < tau:
            share = 0.0
        elif own / other <= 1 / kappa and 1 - share < tau:
            share = 1.0
        # n_i / n_j and n_i ≥ κ n_j may round apart at the very border
        if abs(own / other - kappa) > 1e-9 and abs(other / own - kappa) > 1e-9:
            assert mix.label_weight[i] == share


def test_without_a_threshold_it_is_mixup_to_the_bit() -> None:
    batch = batch_of(64, np.random.default_rng(1))
    mix = Remix(tau=0.0).blend(batch, np.random.default_rng(2))
    plain = MixUp().blend(batch, np.random.default_rng(2))
    np.testing.assert_array_equal(mix.label_weight, plain.label_weight)


def test_rare_classes_get_more_of_the_labels_than_of_the_images() -> None:
    batch = batch_of(5000, np.random.default_rng(3))
    mix = Remix(per_sample=True).blend(batch, np.random.default_rng(4))
    for share, more in ((mix.weight, False), (mix.label_weight, True)):
        mass = np.bincount(batch.labels, weights=share, minlength=5)
        mass += np.bincount(batch.labels[mix.partner], weights=1 - share, minlength=5)
        assert (mass[4] > 1.1 * 1000) == more


def test_it_says_where_it_cannot_or_need_not_act(make_facts: Callable[..., Facts]) -> None:
    table = make_facts(kind="table", shape=(4,))
    assert Remix().unsuitable(table) is None
    assert "area" in (Remix(cut=True).unsuitable(table) or "")
    assert "it is mixup" in (Remix().redundant(make_facts((50, 20))) or "")
    assert "it is cutmix" in (Remix(tau=0.0, cut=True).redundant(make_facts()) or "")
    assert "tau is 0" in (Remix(tau=0.0).redundant(make_facts()) or "")
    assert "p is 0" in (Remix(p=0.0).redundant(make_facts()) or "")
    assert Remix().redundant(make_facts()) is None
    with pytest.raises(ValueError, match="kappa"):
        Remix(kappa=0.5)
