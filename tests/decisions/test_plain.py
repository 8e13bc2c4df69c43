from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import FixedThresholdClassifier

from harness.decisions.base import Case, log_probabilities, rule_from
from harness.decisions.priors import TrainedPrior
from harness.errors import DecisionError

TRAINED = np.array([0.8, 0.15, 0.05])


@pytest.mark.parametrize("deployed", [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.5, 0.3), (0.8, 0.15, 0.05)])
def test_prior_gives_bayes_posterior_under_the_deployment_prior(
    deployed: tuple[float, ...], make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture()
    fitted = rule_from("prior").fit(make_case(deployed=deployed))
    log_p = log_probabilities(data.posterior(TRAINED))
    np.testing.assert_allclose(fitted.probabilities(log_p), data.posterior(deployed), rtol=1e-9)
    assert np.array_equal(fitted.decisions(log_p), data.posterior(deployed).argmax(axis=1))


class Given(ClassifierMixin, BaseEstimator):
    """Says what it is given: rows are their own probabilities."""

    classes_ = np.array([0, 1])

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Given":
        self.fitted_ = True
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x


def test_for_two_classes_prior_is_the_threshold_at_the_trained_share(
    make_case: Callable[..., Case],
) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(500)
    p = np.stack([1 - positive, positive], axis=1)
    fitted = rule_from("prior").fit(make_case(trained=(0.9, 0.1), names=("no", "yes")))
    theirs = FixedThresholdClassifier(Given().fit(p, positive), threshold=0.1, pos_label=1)
    theirs.fit(p, (positive > 0.5).astype(int))
    assert np.array_equal(fitted.decisions(log_probabilities(p)), theirs.predict(p))


def test_an_unknown_trained_prior_is_never_adjusted(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((30, 30, 30))
    case = make_case(data.posterior(TRAINED), data.labels, TrainedPrior.unknown("margins of LDAM"))
    given = [
        "prior",
        "prior_tuned",
        "thresholds",
        {"name": "prior", "temperature": True},
        {"name": "costs", "costs": {"a": 1, "b": 1, "c": 1}},
        {"name": "sensitivity", "class": "a", "level": 0.5},
    ]
    for wanted in given:
        with pytest.raises(DecisionError, match="margins of LDAM"):
            rule_from(wanted).fit(case)  # type: ignore[arg-type]
    for name in ("argmax", "temperature"):
        rule_from(name).fit(case)


def test_what_is_fitted_needs_val(make_case: Callable[..., Case]) -> None:
    given = [
        "temperature",
        "prior_tuned",
        "thresholds",
        {"name": "prior", "temperature": True},
        {"name": "sensitivity", "class": "a", "level": 0.5},
    ]
    for wanted in given:
        with pytest.raises(DecisionError, match="val_fraction above 0"):
            rule_from(wanted).fit(make_case())  # type: ignore[arg-type]
    rule_from("argmax").fit(make_case())
    rule_from({"name": "costs", "costs": {"a": 1, "b": 1, "c": 1}}).fit(make_case())


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 2.5])
def test_a_temperature_makes_up_for_outputs_that_are_too_sure(
    too_sure: float, make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    # rows drawn as the trained prior has it: their posterior is calibrated, to a power it is not
    data = mixture((3200, 600, 200), 3)
    p = data.posterior(TRAINED) ** too_sure
    p /= p.sum(axis=1, keepdims=True)
    alone = rule_from("temperature").fit(make_case(p, data.labels))
    assert alone.temperature == pytest.approx(too_sure, rel=0.08)
    log_p = log_probabilities(p)
    assert np.array_equal(alone.decisions(log_p), p.argmax(axis=1))


def test_before_prior_a_temperature_does_not_make_up_for_another_val_prior(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((3200, 600, 200), 3)  # the outputs carry the prior of another world than val
    prior = [0.2, 0.3, 0.5]
    p = data.posterior(prior)
    case = make_case(p, data.labels, trained=prior)
    assert rule_from({"name": "prior", "temperature": True}).fit(case).temperature == pytest.approx(
        1.0, abs=0.08
    )
    assert abs(rule_from("temperature").fit(case).temperature - 1.0) > 0.1


def test_a_temperature_that_val_does_not_tell_is_said(make_case: Callable[..., Case]) -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    fitted = rule_from("temperature").fit(make_case(p, [0, 1, 2]))
    assert fitted.temperature == 1.0
    assert "val (3 rows) does not tell the temperature" in fitted.notes[0]


def test_notes_of_a_prior_stand_with_what_was_moved_by_it(make_case: Callable[..., Case]) -> None:
    case = make_case(trained=[9, 1, 0])
    assert "'c' was never trained" in rule_from("prior").fit(case).notes[0]
    assert rule_from("argmax").fit(case).notes == ()
