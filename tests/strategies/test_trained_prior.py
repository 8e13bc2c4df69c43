"""Each strategy's declared prior, against the exact minimiser of its loss on a known problem."""

from typing import Any

import numpy as np
import pytest
import torch

from harness.registry import strategies
from harness.strategies.base import Loss, Strategy, Windowed, strategy
from harness.strategies.losses import normalized_weights, weights_of_counts

COUNTS = np.array([600, 150, 50])
POSTERIORS = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.05, 0.15, 0.8], [1 / 3] * 3])
"""p(class | x) under even shares, at four equally likely places."""


def minimiser(one: Strategy, shares: np.ndarray) -> np.ndarray:
    """Return the softmax that minimises the loss over all functions of the four places."""
    joint = POSTERIORS * shares
    joint /= joint.sum()
    criterion = one.loss(torch.tensor(COUNTS, dtype=torch.float32))
    targets = torch.eye(3).repeat(4, 1)
    logits = torch.zeros(4, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=300, line_search_fn="strong_wolfe")
    mass = torch.tensor(joint.ravel() * 12, dtype=torch.float32)

    def risk() -> torch.Tensor:
        optimizer.zero_grad()
        rows = logits.repeat_interleave(3, dim=0)
        # twelve rows as a batch: what a row weighs is how often it is met
        losses = torch.stack([criterion(rows[i : i + 1], targets[i : i + 1])[0] for i in range(12)])
        weight = getattr(one, "weights", None)
        if weight is not None:  # a batch of one divides its own weight out
            losses = losses * weight(torch.tensor(COUNTS, dtype=torch.float32)).repeat(4)
        total = (mass * losses).mean()
        total.backward()
        return total

    optimizer.step(risk)
    return torch.softmax(logits.detach(), dim=1).double().numpy()


@pytest.mark.parametrize(
    "shares", [COUNTS / COUNTS.sum(), np.full(3, 1 / 3)], ids=["counts", "even"]
)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("balanced_softmax", {}),
        ("class_weights", {}),
        ("class_weights", {"scheme": "effective_number", "beta": 0.99}),
    ],
)
def test_the_minimiser_of_a_loss_is_the_posterior_under_its_declared_prior(
    name: str, parameters: dict[str, Any], shares: np.ndarray
) -> None:
    one = strategies.get(name)(**parameters)
    prior = one.trained_prior(shares, COUNTS)
    expected = POSTERIORS * prior
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(minimiser(one, shares), expected, atol=5e-3)


def test_balanced_softmax_is_even_on_rows_as_they_come_and_corrects_twice_on_balanced_ones() -> (
    None
):
    one = strategies.get("balanced_softmax")()
    even = one.trained_prior(COUNTS / COUNTS.sum(), COUNTS)
    np.testing.assert_allclose(even / even.sum(), [1 / 3] * 3)
    twice = one.trained_prior(np.full(3, 1 / 3), COUNTS)
    np.testing.assert_allclose(twice / twice.sum(), (1 / COUNTS) / (1 / COUNTS).sum())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_softmax_of_focal_loss_is_that_of_no_prior(gamma: float) -> None:
    focal = strategies.get("focal")(gamma=gamma)
    assert "less sure" in focal.trained_prior(COUNTS / COUNTS.sum(), COUNTS)
    p = minimiser(focal, np.full(3, 1 / 3))
    link = p / ((1 - p) ** gamma - gamma * p * (1 - p) ** (gamma - 1) * np.log(p))
    np.testing.assert_allclose(link / link.sum(1, keepdims=True), POSTERIORS, atol=5e-3)
    ratios = np.log(p / POSTERIORS)  # a prior would move every place alike
    assert np.ptp(ratios[:, 0] - ratios[:, 2]) > 0.3


def test_focal_loss_of_gamma_0_is_cross_entropy() -> None:
    shares = COUNTS / COUNTS.sum()
    assert strategies.get("focal")(gamma=0.0).trained_prior(shares, COUNTS) is shares


def test_within_the_margins_of_ldam_a_softmax_says_nothing_of_the_posterior() -> None:
    assert "margins" in strategies.get("ldam")().trained_prior(COUNTS / COUNTS.sum(), COUNTS)
    margins = np.array([15.0, 8.0])
    t = np.linspace(-6, 13, 50)
    odds = np.exp(t) * (np.exp(t) + np.exp(15)) / (np.exp(15) * (np.exp(-8.0) + np.exp(t)))
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    np.testing.assert_allclose(odds, sigmoid(t + margins[1]) / sigmoid(margins[0] - t))
    assert odds.min() > 0.85
    assert odds.max() < 1.2


@pytest.mark.parametrize("name", ["weighted_sampler", "smote", "mixup", "cutmix", "augment"])
def test_what_decides_no_loss_keeps_the_shares_that_it_delivers(name: str) -> None:
    shares = np.array([0.5, 0.3, 0.2])
    assert strategies.get(name)().trained_prior(shares, COUNTS) is shares


def test_a_plugin_with_a_loss_that_declares_nothing_is_unknown() -> None:
    @strategy("plain_loss")
    class PlainLoss(Windowed):
        """Cross-entropy, undeclared."""

        def loss(self, class_counts: torch.Tensor) -> Loss:
            return lambda logits, targets: -(targets * logits.log_softmax(1)).sum(1)

    assert "'plain_loss' does not declare" in PlainLoss().trained_prior(np.ones(3) / 3, COUNTS)


@pytest.mark.parametrize("beta", [None, 0.9, 0.9999])
def test_weights_without_torch_are_those_with_it(beta: float | None) -> None:
    expected = normalized_weights(torch.tensor(COUNTS), beta).numpy()
    np.testing.assert_allclose(weights_of_counts(COUNTS, beta), expected, rtol=1e-5)
    assert weights_of_counts(np.array([3, 0]), beta)[1] == 0.0
