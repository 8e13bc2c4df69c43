from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, one_hot

from harness.strategies.base import Facts
from harness.strategies.class_weights import ClassWeights

COUNTS = torch.tensor([5000.0, 300.0, 7.0, 1.0])


def published_weights(counts: list[float], beta: float | None) -> np.ndarray:
    """Cui et al.'s code, in float64."""
    n = np.array(counts)
    raw = 1 / n if beta is None else (1 - beta) / (1 - np.power(beta, n))
    return raw / raw.sum() * len(n)


@pytest.mark.parametrize("beta", [None, 0.9, 0.9999, 0.999999])
def test_weights_are_the_published_ones(beta: float | None) -> None:
    ours = (
        ClassWeights() if beta is None else ClassWeights(scheme="effective_number", beta=beta)
    ).weights(COUNTS)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, published_weights(COUNTS.tolist(), beta), rtol=1e-5)


@pytest.mark.parametrize("scheme", ["inverse", "effective_number"])
def test_t08_on_one_hot_targets_the_mean_is_torchs_weighted_mean(scheme: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 4, requires_grad=True)
    labels = torch.randint(4, (64,))
    strategy = ClassWeights(scheme=scheme)
    loss = strategy.loss(COUNTS)(logits, one_hot(labels, 4).float())
    assert loss.shape == (64,)
    expected = cross_entropy(logits, labels, weight=strategy.weights(COUNTS))
    torch.testing.assert_close(loss.mean(), expected)
    ours, theirs = (torch.autograd.grad(x, logits)[0] for x in (loss.mean(), expected))
    torch.testing.assert_close(ours, theirs)


def test_t08_soft_targets_follow_the_written_formula() -> None:
    torch.manual_seed(1)
    logits = torch.randn(16, 4)
    soft = (torch.randn(16, 4) + torch.tensor([4.0, 0.0, 0.0, 0.0])).softmax(1)
    w = ClassWeights().weights(COUNTS).double().numpy()
    y = soft.double().numpy()
    log_p = logits.double().log_softmax(1).numpy()
    expected = 16 * (w * y * -log_p).sum(1) / (w * y).sum()
    np.testing.assert_allclose(ClassWeights().loss(COUNTS)(logits, soft), expected, rtol=1e-5)
    # PyTorch's own mean for probability targets is another loss.
    assert expected.mean() != pytest.approx(
        float(cross_entropy(logits, soft, weight=torch.tensor(w).float())), rel=0.05
    )


def test_equal_classes_leave_cross_entropy(make_facts: Callable[..., Facts]) -> None:
    logits, labels = torch.randn(8, 3), torch.randint(3, (8,))
    loss = ClassWeights().loss(torch.full((3,), 9.0))(logits, one_hot(labels, 3))
    torch.testing.assert_close(loss, cross_entropy(logits, labels, reduction="none"))
    assert "every weight is 1" in (ClassWeights().redundant(make_facts((9, 9))) or "")
    assert ClassWeights().redundant(make_facts()) is None


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.tensor([[40000.0, -40000.0]], dtype=torch.float16)
    loss = ClassWeights().loss(torch.tensor([3.0, 1.0]))(logits, torch.tensor([[0.0, 1.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(80000, rel=1e-3)


def test_beta_without_its_scheme_is_refused() -> None:
    with pytest.raises(ValidationError, match="effective_number"):
        ClassWeights(beta=0.9)


def test_t27_correcting_twice_is_documented() -> None:
    assert "second time" in " ".join((ClassWeights.__doc__ or "").split())
