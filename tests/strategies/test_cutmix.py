from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from harness.strategies.base import Batch, Facts, Mix
from harness.strategies.cutmix import CutMix

MakeBatch = Callable[..., Batch]


class Scripted:
    """A generator that makes the draws of torchvision, in its order, from torch's generator."""

    def __init__(self, alpha: float) -> None:
        self.dist = torch.distributions.Beta(torch.tensor([alpha]), torch.tensor([alpha]))

    def beta(self, a: float, b: float, size: int) -> np.ndarray:
        return np.array([float(self.dist.sample(())) for _ in range(size)])

    def integers(self, high: int, size: int) -> np.ndarray:
        return torch.randint(high, size=(size,)).numpy()

    def permutation(self, size: int) -> np.ndarray:
        return np.roll(np.arange(size), 1)


def apply(mix: Mix, images: np.ndarray) -> np.ndarray:
    """Carry a mix out on ``[B, H, W]`` pixel by pixel, as the contract says."""
    out = images.copy()
    assert mix.box is not None
    for i, (top, bottom, left, right) in enumerate(mix.box):
        for r in range(top, bottom):
            for c in range(left, right):
                w = mix.weight[i]
                out[i, r, c] = w * images[i, r, c] + (1 - w) * images[mix.partner[i], r, c]
    return out


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(6, 10), (13, 5)])
def test_t06_boxes_and_label_weights_equal_torchvisions(
    make_batch: MakeBatch, seed: int, shape: tuple[int, int]
) -> None:
    images, labels = torch.rand(4, 1, *shape), torch.arange(4) % 3
    torch.manual_seed(seed)
    expected, expected_labels = v2.CutMix(alpha=1.0, num_classes=3)(images, labels)

    torch.manual_seed(seed)
    mix = CutMix().blend(make_batch(4, (*shape, 1)), Scripted(1.0))  # type: ignore[arg-type]
    one_hot = np.eye(3, dtype=np.float32)[labels.numpy()]
    y = mix.label_weight[:, None]
    np.testing.assert_array_equal(apply(mix, images[:, 0].numpy()), expected[:, 0].numpy())
    np.testing.assert_allclose(
        y * one_hot + (1 - y) * one_hot[mix.partner], expected_labels.numpy(), atol=1e-6
    )


@given(
    alpha=st.floats(0.05, 2.0),
    size=st.integers(1, 20),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    per_sample=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_t06_boxes_are_clipped_and_labels_follow_the_clipped_area(
    make_batch: MakeBatch,
    alpha: float,
    size: int,
    height: int,
    width: int,
    per_sample: bool,
    seed: int,
) -> None:
    batch = make_batch(size, (height, width, 3))
    mix = CutMix(alpha=alpha, per_sample=per_sample).blend(batch, np.random.default_rng(seed))
    assert mix.box is not None
    assert mix.box.shape == (size, 4)
    top, bottom, left, right = mix.box.T
    assert ((top >= 0) & (top <= bottom) & (bottom <= height)).all()
    assert ((left >= 0) & (left <= right) & (right <= width)).all()
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    np.testing.assert_allclose(mix.label_weight, kept, atol=1e-6)
    assert (mix.weight == 0).all()
    assert sorted(mix.partner) == list(range(size))


def test_t06_mean_label_weight_is_that_of_clipped_boxes(make_batch: MakeBatch) -> None:
    rng = np.random.default_rng(0)
    cutmix = CutMix(per_sample=True)
    kept = np.concatenate([cutmix.blend(make_batch(100), rng).label_weight for _ in range(200)])
    assert kept.mean() == pytest.approx(0.70, abs=0.01)  # and not the 0.50 of λ itself


def test_height_and_width_are_not_swapped(make_batch: MakeBatch) -> None:
    rng = np.random.default_rng(0)
    mix = CutMix(per_sample=True).blend(make_batch(500, (8, 64, 3)), rng)
    assert mix.box is not None
    assert mix.box[:, 1].max() == 8
    assert mix.box[:, 3].max() == 64
    assert (mix.box[:, 3] - mix.box[:, 2]).max() > 8


def test_one_box_for_the_batch_unless_per_sample(make_batch: MakeBatch) -> None:
    one = CutMix().blend(make_batch(16), np.random.default_rng(1))
    each = CutMix(per_sample=True).blend(make_batch(16), np.random.default_rng(1))
    assert one.box is not None
    assert each.box is not None
    assert len(np.unique(one.box, axis=0)) == 1
    assert len(np.unique(each.box, axis=0)) > 10


def test_a_table_has_no_box(make_facts: Callable[..., Facts]) -> None:
    assert "table" in (CutMix().unsuitable(make_facts(kind="table", shape=(4,))) or "")
    assert CutMix().unsuitable(make_facts()) is None
    assert "p is 0" in (CutMix(p=0.0).redundant(make_facts()) or "")
