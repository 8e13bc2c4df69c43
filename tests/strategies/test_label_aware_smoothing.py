from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from harness.strategies.base import Facts
from harness.strategies.label_aware_smoothing import LabelAwareSmoothing

COUNTS = torch.tensor([90.0, 30.0, 6.0])


@pytest.mark.parametrize("curve", ["concave", "linear", "convex"])
def test_equals_the_published_loss(curve: Any) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 3), torch.randint(3, (16,))
    head, tail, n = 0.4, 0.1, COUNTS.double().numpy()
    along = (n - n.min()) / (n.max() - n.min())
    share = {
        "concave": tail + (head - tail) * np.sin(along * np.pi / 2),
        "linear": tail + (head - tail) * along,
        "convex": head + (head - tail) * np.sin(1.5 * np.pi + along * np.pi / 2),
    }[curve]
    log_p = log_softmax(logits.double(), dim=1).numpy()
    rows = np.arange(16)
    own = share[labels]
    expected = -(1 - own) * log_p[rows, labels] - own * log_p.mean(1)
    smoothed = LabelAwareSmoothing(smooth_head=head, smooth_tail=tail, curve=curve)
    found = smoothed.loss(COUNTS)(logits, one_hot(labels, 3).float())
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_soft_targets_are_weighed_linearly() -> None:
    torch.manual_seed(0)
    loss = LabelAwareSmoothing().loss(COUNTS)
    logits, a, b = torch.randn(9, 3), one_hot(torch.arange(9) % 3), one_hot(torch.arange(9) // 3)
    expected = 0.3 * loss(logits, a) + 0.7 * loss(logits, b)
    torch.testing.assert_close(loss(logits, 0.3 * a + 0.7 * b), expected)


def test_without_smoothing_it_is_cross_entropy(make_facts: Callable[..., Facts]) -> None:
    nothing = LabelAwareSmoothing(smooth_head=0.0)
    logits, labels = torch.randn(8, 3), torch.randint(3, (8,))
    expected = cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(nothing.loss(COUNTS)(logits, one_hot(labels, 3)), expected)
    assert nothing.redundant(make_facts()) == "nothing is smoothed"
    with pytest.raises(ValidationError, match="must not be below smooth_tail"):
        LabelAwareSmoothing(smooth_head=0.1, smooth_tail=0.2)


def test_equal_classes_are_smoothed_alike() -> None:
    share = LabelAwareSmoothing(smooth_tail=0.1).smoothing(np.array([7, 7, 7]))
    np.testing.assert_allclose(share, 0.1)


def test_the_prior_is_that_of_the_smoothed_labels() -> None:
    counts = np.array([90, 30, 6])
    shares = counts / counts.sum()
    targets = torch.eye(3)
    smoothing = LabelAwareSmoothing()
    share = smoothing.smoothing(counts)
    spread = targets.numpy() * (1 - share)[:, None] + (share / 3)[:, None]
    np.testing.assert_allclose(smoothing.trained_prior(shares, counts), shares @ spread)
