from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from harness.strategies.balanced_softmax import BalancedSoftmax
from harness.strategies.base import Facts
from harness.strategies.logit_adjusted import LogitAdjusted

COUNTS = torch.tensor([90.0, 9.0, 1.0])


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_equals_equation_10_of_the_paper(tau: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 3), torch.randint(3, (16,))
    prior = (COUNTS / COUNTS.sum()).double().numpy()
    f = logits.double().numpy()
    rows = np.arange(16)
    own = f[rows, labels] + tau * np.log(prior[labels])
    expected = -own + np.log(np.exp(f + tau * np.log(prior)).sum(1))
    found = LogitAdjusted(tau=tau).loss(COUNTS)(logits, one_hot(labels, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_at_tau_1_it_is_balanced_softmax() -> None:
    torch.manual_seed(0)
    logits, soft = torch.randn(8, 3), torch.rand(8, 3).softmax(1)
    one = LogitAdjusted().loss(COUNTS)(logits, soft)
    torch.testing.assert_close(one, BalancedSoftmax().loss(COUNTS)(logits, soft))


def test_its_outputs_carry_what_the_shift_left() -> None:
    counts = np.array([90, 9, 1])
    shares = counts / counts.sum()
    np.testing.assert_allclose(LogitAdjusted().trained_prior(shares, counts), 0.01)
    mass = np.asarray(LogitAdjusted(tau=0.5).trained_prior(shares, counts))
    np.testing.assert_allclose(mass / mass.sum(), np.sqrt(counts) / np.sqrt(counts).sum())


def test_equal_classes_are_said_to_change_nothing(make_facts: Callable[..., Facts]) -> None:
    assert "changes nothing" in (LogitAdjusted().redundant(make_facts((9, 9))) or "")
    assert LogitAdjusted().redundant(make_facts()) is None
