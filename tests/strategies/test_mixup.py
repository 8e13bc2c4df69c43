from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.transforms import v2

from harness.strategies.base import Batch, Facts
from harness.strategies.mixup import MixUp

MakeBatch = Callable[..., Batch]
MakeFacts = Callable[..., Facts]


class Scripted:
    """A generator that returns what another library drew."""

    def __init__(self, lam: float, size: int) -> None:
        self.lam, self.size = lam, size

    def beta(self, a: float, b: float, size: int) -> np.ndarray:
        return np.full(size, self.lam)

    def permutation(self, size: int) -> np.ndarray:
        return np.roll(np.arange(size), 1)


def test_equals_torchvision_for_the_same_draws(make_batch: MakeBatch) -> None:
    torch.manual_seed(3)
    images, labels = torch.rand(6, 3, 5, 7), torch.arange(6) % 3
    theirs = v2.MixUp(alpha=0.4, num_classes=3)
    torch.manual_seed(4)
    lam = theirs.make_params([images])["lam"]
    torch.manual_seed(4)
    expected, expected_labels = theirs(images, labels)

    mix = MixUp(alpha=0.4).blend(make_batch(6, (5, 7, 3)), Scripted(lam, 6))  # type: ignore[arg-type]
    w = mix.weight[:, None, None, None]
    x = images.numpy()
    one_hot = np.eye(3, dtype=np.float32)[labels.numpy()]
    y = mix.label_weight[:, None]
    np.testing.assert_allclose(w * x + (1 - w) * x[mix.partner], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(
        y * one_hot + (1 - y) * one_hot[mix.partner], expected_labels.numpy(), atol=1e-6
    )


@given(
    alpha=st.floats(0.05, 2.0),
    size=st.integers(1, 40),
    per_sample=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_shares_lie_in_0_1_and_partners_are_a_permutation(
    make_batch: MakeBatch, alpha: float, size: int, per_sample: bool, seed: int
) -> None:
    mix = MixUp(alpha=alpha, per_sample=per_sample).blend(
        make_batch(size), np.random.default_rng(seed)
    )
    assert mix.weight.dtype == mix.label_weight.dtype == np.float32
    assert mix.weight.shape == (size,)
    assert ((mix.weight >= 0) & (mix.weight <= 1)).all()
    assert np.array_equal(mix.weight, mix.label_weight)
    assert sorted(mix.partner) == list(range(size))
    assert mix.box is None


def test_t05_per_sample_gives_each_row_its_own_share(make_batch: MakeBatch) -> None:
    batch = make_batch(64)
    one = MixUp().blend(batch, np.random.default_rng(0))
    each = MixUp(per_sample=True).blend(batch, np.random.default_rng(0))
    assert len(np.unique(one.weight)) == 1
    assert len(np.unique(each.weight)) == 64


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(make_batch: MakeBatch, alpha: float) -> None:
    rng = np.random.default_rng(0)
    mixup = MixUp(alpha=alpha, per_sample=True)
    drawn = np.concatenate([mixup.blend(make_batch(100), rng).weight for _ in range(200)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.015)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)


def test_t09_partners_come_from_the_batch_that_the_sampler_delivered(
    make_batch: MakeBatch,
) -> None:
    mix = MixUp().blend(make_batch(512), np.random.default_rng(0))
    assert mix.source == "batch"
    assert "same batch" in (MixUp.__doc__ or "")
    assert (mix.partner != np.arange(512)).sum() > 500


def test_blend_leaves_it_to_the_pipeline_whether_to_fire(make_batch: MakeBatch) -> None:
    shares = [MixUp(p=p).blend(make_batch(), np.random.default_rng(7)).weight for p in (0.1, 1.0)]
    assert np.array_equal(*shares)


def test_p_of_0_is_named_and_alpha_must_be_positive(make_facts: MakeFacts) -> None:
    assert "p is 0" in (MixUp(p=0.0).redundant(make_facts()) or "")
    assert MixUp(p=0.1).redundant(make_facts()) is None
    assert MixUp().unsuitable(make_facts(kind="table", shape=(4,))) is None
    with pytest.raises(ValidationError):
        MixUp(alpha=0.0)
