from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import recall_score

from harness.decisions.base import Case, Fitted, log_probabilities, rule_from
from harness.errors import ConfigError, DecisionError

TRAINED = np.array([0.8, 0.15, 0.05])


def fit(case: Case, level: float, of: str = "c") -> Fitted:
    return rule_from({"name": "sensitivity", "class": of, "level": level}).fit(case)


@pytest.mark.parametrize("level", [0.3, 0.8, 0.95, 1.0])
def test_the_level_is_reached_by_the_least_offset(
    level: float, make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((300, 100, 40), 1)
    p = data.posterior(TRAINED)
    fitted = fit(make_case(p, data.labels), level)
    scores = np.log(p) - np.log(TRAINED)
    offsets = np.arange(-6, 9, 0.002)
    rare = scores[data.labels == 2]
    recalls = (rare[:, 2] + offsets[:, None] > rare[:, :2].max(axis=1)).mean(axis=1)
    least = offsets[int(np.argmax(recalls >= level))]
    assert fitted.bias[2] == pytest.approx(least, abs=0.003)
    assert fitted.bias[:2] == (0.0, 0.0)
    decided = fitted.decisions(log_probabilities(p))
    assert recall_score(data.labels == 2, decided == 2) == pytest.approx(
        fitted.values["sensitivity"]
    )
    assert fitted.values["sensitivity"] >= level


def test_the_lower_bound_holds_on_new_rows_as_often_as_it_says(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    new = mixture((0, 0, 20000), 99)
    log_p = log_probabilities(new.posterior(TRAINED))
    held = []
    for seed in range(300):
        data = mixture((40, 40, 25), seed)
        fitted = fit(make_case(data.posterior(TRAINED), data.labels), 0.9)
        assert fitted.values["lower_bound"] == pytest.approx(beta.ppf(0.05, 23, 3))
        held.append((fitted.decisions(log_p) == 2).mean() > fitted.values["lower_bound"])
    assert 0.92 < np.mean(held) < 0.98


def test_a_bound_below_the_level_is_said(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((40, 40, 10), 0)
    fitted = fit(make_case(data.posterior(TRAINED), data.labels), 0.9)
    assert "10 val rows of class 'c'" in fitted.notes[-1]
    assert "95 % confidence" in fitted.notes[-1]


def test_a_level_that_val_cannot_reach_is_refused(make_case: Callable[..., Case]) -> None:
    p = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.6, 0.2, 0.2]], np.float32)
    case = make_case(p, [2, 2, 0])
    with pytest.raises(DecisionError, match=r"at most 0.5 for class 'c' \(1 of 2 rows\)"):
        fit(case, 0.9)
    assert fit(case, 0.5).values["sensitivity"] == 0.5


def test_a_temperature_does_not_hide_that_a_probability_is_0(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((60, 40, 20), 0)
    p = data.posterior(TRAINED) ** 3  # too sure, so that the temperature is about 3
    p /= p.sum(axis=1, keepdims=True)
    p[-1] = [1.0, 0.0, 0.0]
    rule = rule_from({"name": "sensitivity", "class": "c", "level": 1.0, "temperature": True})
    with pytest.raises(DecisionError, match=r"at most 0.95 for class 'c' \(19 of 20 rows\)"):
        rule.fit(make_case(p.astype(np.float32), data.labels))


def test_a_class_that_val_lacks_or_nobody_knows_is_refused(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((40, 40, 0), 0)
    case = make_case(data.posterior(TRAINED), data.labels)
    with pytest.raises(DecisionError, match="no row of class 'c'"):
        fit(case, 0.9)
    with pytest.raises(ConfigError, match="unknown class 'd'"):
        fit(case, 0.9, "d")
    for level in (0.0, 1.5):
        with pytest.raises(ConfigError, match="level"):
            fit(case, level)


def test_rows_that_need_the_same_are_won_together(make_case: Callable[..., Case]) -> None:
    p = np.array([[0.6, 0.2, 0.2]] * 4 + [[0.2, 0.2, 0.6]])
    fitted = fit(make_case(p, [2, 2, 2, 2, 2], trained=[1, 1, 1]), 0.4)
    assert fitted.values["sensitivity"] == 1.0
