"""Three overlapping classes of known posterior, and what a rule is fitted on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.decisions.base import Case, Val, log_probabilities
from harness.decisions.objective import balanced_accuracy
from harness.decisions.priors import TrainedPrior

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [0.5, 1.6]])
TRAINED = np.array([0.8, 0.15, 0.05])


class Mixture:
    """Rows of three normal distributions, and Bayes' posteriors written out."""

    def __init__(self, counts: tuple[int, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.labels = np.repeat(np.arange(3), counts)
        x = MEANS[self.labels] + rng.standard_normal((len(self.labels), 2))
        self.likelihood = np.exp(-0.5 * ((x[:, None] - MEANS) ** 2).sum(axis=2))

    def posterior(self, prior: Any) -> np.ndarray:
        joint = self.likelihood * np.asarray(prior)
        return joint / joint.sum(axis=1, keepdims=True)


@pytest.fixture(scope="session")
def mixture() -> Callable[..., Mixture]:
    return lambda counts=(400, 400, 400), seed=0: Mixture(counts, seed)


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    """Return a function from val probabilities and labels to a case; balanced deployment."""

    def make(
        probabilities: Any = None,
        labels: Any = None,
        trained: Any = TRAINED,
        deployed: Any = None,
        names: tuple[str, ...] = ("a", "b", "c"),
        objective: Any = balanced_accuracy,
    ) -> Case:
        val = None
        if probabilities is not None:
            labels = np.asarray(labels)
            val = Val(log_probabilities(np.asarray(probabilities)), labels, objective(labels))
        prior = trained if isinstance(trained, TrainedPrior) else TrainedPrior.of(trained, names)
        even = np.full(len(names), 1 / len(names))
        return Case(names, prior, even if deployed is None else np.asarray(deployed), val)

    return make
