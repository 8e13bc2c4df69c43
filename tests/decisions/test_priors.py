import numpy as np
import pytest

from harness.decisions.priors import TrainedPrior, deployment
from harness.errors import ConfigError

NAMES = ("cat", "dog", "owl")
COUNTS = np.array([60, 30, 10])


def test_the_deployment_prior_is_named_or_given_in_any_order() -> None:
    np.testing.assert_allclose(deployment("balanced", COUNTS, NAMES), [1 / 3] * 3)
    np.testing.assert_allclose(deployment("train", COUNTS, NAMES), [0.6, 0.3, 0.1])
    given = deployment({"owl": 0.2, "cat": 0.5, "dog": 0.3}, COUNTS, NAMES)
    np.testing.assert_allclose(given, [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"cat": 0.5, "dog": 0.3, "owl": 0.3}, "sum to 1.1, not to 1"),
        ({"cat": 0.5, "dog": 0.5}, "nothing is given for class owl"),
        ({"cat": 0.5, "dog": 0.3, "owl": 0.1, "dgo": 0.1}, "unknown class 'dgo'.*'dog'"),
        ({"cat": 1.1, "dog": -0.3, "owl": 0.2}, "'dog' is -0.3; it must be above 0"),
        ({"cat": 0.7, "dog": 0.3, "owl": 0.0}, "'owl' is 0; it must be above 0"),
        ({"cat": float("nan"), "dog": 0.3, "owl": 0.2}, "'cat' has nan"),
        ({"cat": True, "dog": 0.3, "owl": 0.2}, "'cat' has True"),
        ("balance", "unknown prior 'balance'.*did you mean 'balanced'"),
    ],
)
def test_a_deployment_prior_that_is_none_is_refused(wanted: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        deployment(wanted, COUNTS, NAMES)  # type: ignore[arg-type]


def test_train_without_a_row_of_a_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="no training row of class owl"):
        deployment("train", np.array([3, 1, 0]), NAMES)


def test_a_class_that_was_never_delivered_is_moved_as_the_rarest_and_named() -> None:
    prior = TrainedPrior.of([90, 10, 0], NAMES)
    assert prior.shares is not None
    assert prior.shares[2] == prior.shares[1]
    assert prior.shares.sum() == pytest.approx(1.0)
    assert "'owl' was never trained" in prior.notes[0]


@pytest.mark.parametrize("mass", [[0, 0, 0], [1, -1, 2], [1, np.nan, 1], [1, np.inf, 1]])
def test_what_is_no_mass_is_refused(mass: list[float]) -> None:
    with pytest.raises(ValueError, match="label mass"):
        TrainedPrior.of(mass, NAMES)
