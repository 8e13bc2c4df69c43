from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from harness.strategies.balanced_softmax import BalancedSoftmax
from harness.strategies.base import Facts

COUNTS = torch.tensor([90.0, 9.0, 1.0])


def test_equals_equation_4_of_the_paper() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 3), torch.randint(3, (16,))
    n, e = COUNTS.double().numpy(), np.exp(logits.double().numpy())
    rows = np.arange(16)
    expected = -np.log((n * e)[rows, labels] / (n * e).sum(1))
    np.testing.assert_allclose(
        BalancedSoftmax().loss(COUNTS)(logits, one_hot(labels, 3)), expected, rtol=1e-5
    )


def test_soft_targets_are_weighed_linearly() -> None:
    torch.manual_seed(0)
    loss = BalancedSoftmax().loss(COUNTS)
    logits, a, b = torch.randn(16, 3), torch.randint(3, (16,)), torch.randint(3, (16,))
    mixed = 0.3 * one_hot(a, 3) + 0.7 * one_hot(b, 3)
    expected = 0.3 * loss(logits, one_hot(a, 3)) + 0.7 * loss(logits, one_hot(b, 3))
    torch.testing.assert_close(loss(logits, mixed), expected)


def test_a_model_that_knows_nothing_but_the_prior_is_best_at_equal_logits() -> None:
    loss = BalancedSoftmax().loss(COUNTS)
    targets = one_hot(torch.repeat_interleave(torch.arange(3), COUNTS.long()), 3).float()
    logits = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logits.expand(100, 3), targets).mean(), logits)
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-6, rtol=0)


def test_equal_classes_leave_cross_entropy(make_facts: Callable[..., Facts]) -> None:
    logits, soft = torch.randn(8, 3), torch.rand(8, 3).softmax(1)
    loss = BalancedSoftmax().loss(torch.full((3,), 50.0))(logits, soft)
    torch.testing.assert_close(loss, cross_entropy(logits, soft, reduction="none"))
    assert "changes nothing" in (BalancedSoftmax().redundant(make_facts((9, 9))) or "")
    assert BalancedSoftmax().redundant(make_facts()) is None
