from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from harness.strategies.base import Facts
from harness.strategies.focal import Focal

COUNTS = torch.tensor([9.0, 3.0, 1.0])


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_follows_the_formula_on_soft_targets(gamma: float) -> None:
    torch.manual_seed(0)
    logits, soft = torch.randn(16, 3), torch.rand(16, 3).softmax(1)
    p = logits.double().softmax(1).numpy()
    expected = (soft.numpy() * (1 - p) ** gamma * -np.log(p)).sum(1)
    np.testing.assert_allclose(Focal(gamma=gamma).loss(COUNTS)(logits, soft), expected, rtol=1e-5)


def test_equals_the_published_loss_on_one_hot_targets() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 3), torch.randint(3, (16,))
    ce = cross_entropy(logits, labels, reduction="none")
    expected = (1 - torch.exp(-ce)) ** 2 * ce
    torch.testing.assert_close(Focal().loss(COUNTS)(logits, one_hot(labels, 3)), expected)


def test_gamma_0_is_cross_entropy_and_named(make_facts: Callable[..., Facts]) -> None:
    logits, soft = torch.randn(16, 3), torch.rand(16, 3).softmax(1)
    expected = cross_entropy(logits, soft, reduction="none")
    torch.testing.assert_close(Focal(gamma=0.0).loss(COUNTS)(logits, soft), expected)
    assert "cross-entropy" in (Focal(gamma=0.0).redundant(make_facts()) or "")
    assert Focal().redundant(make_facts()) is None


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_gradients_are_finite_at_certainty(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]], requires_grad=True)
    targets = one_hot(torch.tensor([0, 0]), 3)
    loss = Focal(gamma=gamma).loss(COUNTS)(logits, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
    assert gradient[1, 0] < -0.9  # a hopeless row still pulls
