import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.decisions.base import Case, Fitted, Rule, log_probabilities, rule, rule_from
from harness.errors import ConfigError
from harness.registry import rules

PARAMETERS: dict[str, dict[str, Any]] = {
    "costs": {"costs": {"a": 1, "b": 2, "c": 30}},
    "sensitivity": {"class": "c", "level": 0.9},
}
ALL = [{"name": name, **PARAMETERS.get(name, {})} for name in rules.names()]
COOLED = [
    {**wanted, "temperature": True}
    for wanted in ALL
    if wanted["name"] not in ("argmax", "temperature")
]


@pytest.mark.parametrize("wanted", ALL + COOLED, ids=str)
def test_a_fitted_rule_is_plain_data(
    wanted: dict[str, Any], make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    val, test = mixture((80, 40, 20), 1), mixture()
    trained = np.array([0.8, 0.15, 0.05])
    case = make_case(val.posterior(trained), val.labels)
    fitted = rule_from(wanted).fit(case)
    again = Fitted.from_json(json.loads(json.dumps(fitted.to_json())))
    log_p = log_probabilities(test.posterior(trained).astype(np.float32))
    assert np.array_equal(fitted.decisions(log_p), again.decisions(log_p))
    assert np.array_equal(fitted.probabilities(log_p), again.probabilities(log_p))
    np.testing.assert_allclose(fitted.probabilities(log_p).sum(axis=1), 1.0)
    assert fitted.rule == rule_from(wanted).label()
    assert rule_from({"name": wanted["name"], **rule_from(wanted).parameters()}).label() == (
        fitted.rule
    )


def test_rules_are_given_by_name_or_with_parameters() -> None:
    assert rule_from("prior").label() == "prior"
    assert rule_from({"name": "prior", "temperature": True}).label() == "prior(temperature=true)"
    with pytest.raises(ConfigError, match=r"unknown decision rule 'priors'.*did you mean 'prior'"):
        rule_from("priors")
    with pytest.raises(ConfigError, match="'prior': tau"):
        rule_from({"name": "prior", "tau": 2})
    with pytest.raises(ConfigError, match="'thresholds': shrinkage"):
        rule_from({"name": "thresholds", "shrinkage": -1})
    with pytest.raises(ConfigError, match="needs a name"):
        rule_from({"temperature": True})


def test_a_rule_of_ones_own_is_one_class(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    @rule("halfway")
    class Halfway(Rule):
        """Move half the way."""

        def fit(self, case: Case) -> Fitted:
            return self.fitted(case, offsets=0.5 * case.shift())

    fitted = rule_from("halfway").fit(make_case())
    data = mixture()
    p = data.posterior([0.8, 0.15, 0.05])
    expected = p / np.sqrt([0.8, 0.15, 0.05])
    found = fitted.probabilities(log_probabilities(p))
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)


def softmaxes() -> st.SearchStrategy[np.ndarray]:
    logits = arrays(np.float32, (6, 4), elements=st.floats(-200, 200, width=32))
    return logits.map(lambda z: np.exp(z - z.max(1, keepdims=True))).map(
        lambda e: (e / e.sum(1, keepdims=True)).astype(np.float32)
    )


@given(softmaxes())
def test_argmax_decides_what_numpy_does_also_where_outputs_round_to_0_and_1(
    p: np.ndarray,
) -> None:
    names = ("a", "b", "c", "d")
    fitted = Fitted(rule="argmax", class_names=names, offsets=(0,) * 4, bias=(0,) * 4)
    assert np.array_equal(fitted.decisions(log_probabilities(p)), p.argmax(axis=1))


@given(softmaxes(), st.lists(st.floats(-50, 50), min_size=4, max_size=4))
def test_adjusted_probabilities_are_finite_whatever_underflowed(
    p: np.ndarray, offsets: list[float]
) -> None:
    names = ("a", "b", "c", "d")
    fitted = Fitted(rule="x", class_names=names, offsets=tuple(offsets), bias=(0,) * 4)
    adjusted = fitted.probabilities(log_probabilities(p))
    assert np.isfinite(adjusted).all()
    np.testing.assert_allclose(adjusted.sum(axis=1), 1.0)


def test_of_equals_the_first_class_is_decided() -> None:
    fitted = Fitted(rule="x", class_names=("a", "b"), offsets=(0, 0), bias=(0, 0))
    assert fitted.decisions(log_probabilities(np.array([[0.5, 0.5]]))).tolist() == [0]


@pytest.mark.parametrize(
    "p", [[[np.nan, 0.5]], [[-0.1, 1.1]], [[np.inf, 0.0]], [0.5, 0.5], [[1.2, 0.0]]]
)
def test_what_is_no_probability_is_refused(p: Any) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        log_probabilities(np.array(p))


def test_outputs_of_other_classes_are_refused() -> None:
    fitted = Fitted(rule="x", class_names=("a", "b"), offsets=(0, 0), bias=(0, 0))
    with pytest.raises(ValueError, match="3 classes; 2 expected"):
        fitted.decisions(log_probabilities(np.full((2, 3), 1 / 3)))


def test_rules_import_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from harness.registry import rules\n"
        "[rules.get(name) for name in rules.names()]\n"
        "heavy = ('scipy', 'torch', 'sklearn', 'pandas', 'mlflow', 'optuna', 'albumentations')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
