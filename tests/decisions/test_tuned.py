import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import TunedThresholdClassifierCV

from harness.decisions.base import Case, Fitted, log_probabilities, rule_from
from harness.decisions.objective import Objective, accuracy, balanced_accuracy
from tests.decisions.test_plain import Given

TRAINED = np.array([0.8, 0.15, 0.05])


def on(fitted: Fitted, p: np.ndarray, labels: np.ndarray) -> float:
    return float(balanced_accuracy_score(labels, fitted.decisions(log_probabilities(p))))


def test_tau_finds_how_far_outputs_are_off(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((2000, 2000, 2000), 2)
    for off in (0.4, 1.0, 1.6):
        p = data.posterior(TRAINED**off)
        fitted = rule_from("prior_tuned").fit(make_case(p, data.labels))
        assert fitted.values["tau"] == pytest.approx(off, abs=0.2)
        assert on(fitted, p, data.labels) >= on(
            rule_from("prior").fit(make_case(p, data.labels)), p, data.labels
        )


def test_of_equally_good_taus_the_nearest_to_1_is_taken(make_case: Callable[..., Case]) -> None:
    p = np.array([[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]])
    assert rule_from("prior_tuned").fit(make_case(p, [0, 1, 2])).values["tau"] == 1.0


def test_for_two_classes_the_threshold_is_as_good_as_scikit_learns_and_exact(
    make_case: Callable[..., Case],
) -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        labels = rng.permutation(np.repeat([0, 1], [60, 15]))
        positive = 1 / (1 + np.exp(-(rng.standard_normal(75) + 1.2 * labels - 2)))
        p = np.stack([1 - positive, positive], axis=1)
        case = make_case(p, labels, trained=(0.8, 0.2), names=("no", "yes"))
        fitted = rule_from({"name": "thresholds", "shrinkage": 0}).fit(case)
        theirs = TunedThresholdClassifierCV(
            Given().fit(p, labels), cv="prefit", refit=False, thresholds=2000
        ).fit(p, labels)
        best = max(
            balanced_accuracy_score(labels, positive > at) for at in np.r_[0, np.sort(positive)]
        )
        assert on(fitted, p, labels) == pytest.approx(best)
        assert on(fitted, p, labels) >= theirs.best_score_ - 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_three_classes_come_near_brute_force_and_never_below_prior(
    seed: int, make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((14, 7, 4), seed)
    p = data.posterior(TRAINED)
    case = make_case(p, data.labels)
    fitted = rule_from({"name": "thresholds", "shrinkage": 0}).fit(case)
    scores = np.log(p) - np.log(TRAINED)
    offsets = np.array([(0, *pair) for pair in itertools.product(np.linspace(-4, 4, 81), repeat=2)])
    decided = (scores[None] + offsets[:, None]).argmax(axis=2)
    right = decided == data.labels
    best = np.mean([right[:, data.labels == k].mean(axis=1) for k in range(3)], axis=0).max()
    assert on(fitted, p, data.labels) >= best - 1 / 3 / 7 - 1e-9  # one row of the middle class
    assert on(fitted, p, data.labels) >= on(rule_from("prior").fit(case), p, data.labels)


def test_any_metric_of_decisions_can_be_fitted_for(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((60, 30, 12), 5)
    p = data.posterior([1 / 3] * 3)

    def macro_f1(labels: np.ndarray) -> Objective:
        return Objective(lambda decided: float(f1_score(labels, decided, average="macro")))

    case = make_case(p, data.labels, trained=[1, 1, 1], objective=macro_f1)
    fitted = rule_from({"name": "thresholds", "shrinkage": 0}).fit(case)
    before = f1_score(data.labels, p.argmax(axis=1), average="macro")
    decided = fitted.decisions(log_probabilities(p))
    assert f1_score(data.labels, decided, average="macro") > before


def test_offsets_are_shrunk_the_more_the_fewer_val_rows_a_class_has(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((60, 30, 12), 6)
    p = data.posterior([0.98, 0.01, 0.01])  # off: every offset has far to go
    case = make_case(p, data.labels)
    fit = {s: rule_from({"name": "thresholds", "shrinkage": s}).fit(case) for s in (0, 20, 1e9)}
    free, shrunk = np.array(fit[0].bias), np.array(fit[20].bias)
    assert (np.abs(free[1:]) > 0.1).all()
    np.testing.assert_allclose(shrunk / np.where(free, free, 1), [0, 30 / 50, 12 / 32], atol=1e-12)
    np.testing.assert_allclose(fit[1e9].bias, 0, atol=1e-6)
    log_p = log_probabilities(p)
    prior = rule_from("prior").fit(case)
    assert np.array_equal(fit[20].probabilities(log_p), prior.probabilities(log_p))


def test_a_class_that_val_lacks_keeps_the_offset_of_prior_and_is_named(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((60, 30, 0), 7)
    case = make_case(data.posterior(TRAINED), data.labels)
    fitted = rule_from("thresholds").fit(case)
    assert fitted.bias[2] == 0.0
    assert fitted.offsets == rule_from("prior").fit(case).offsets
    assert "no val row of class c" in fitted.notes[0]


def test_accuracy_is_that_under_the_deployment_prior() -> None:
    labels = np.array([0, 0, 0, 1])
    objective = accuracy(labels, np.array([0.5, 0.5]))
    assert objective.value(np.array([0, 0, 0, 0])) == pytest.approx(0.5)
    assert objective.value(np.array([0, 1, 1, 1])) == pytest.approx(0.5 / 3 + 0.5)
    even = balanced_accuracy(labels)
    assert even.value(np.array([0, 0, 1, 1])) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("name", ["prior_tuned", "thresholds"])
def test_outputs_of_0_and_1_are_fitted_on(name: str, make_case: Callable[..., Case]) -> None:
    p = np.eye(3, dtype=np.float32)[[0, 0, 1, 2, 1, 0]]
    fitted = rule_from(name).fit(make_case(p, [0, 0, 1, 2, 0, 1]))
    assert np.isfinite(fitted.bias).all()
    assert np.isfinite(fitted.probabilities(log_probabilities(p))).all()
