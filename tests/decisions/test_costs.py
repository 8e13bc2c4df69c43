import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import FixedThresholdClassifier

from harness.decisions.base import Case, log_probabilities, rule_from
from harness.errors import ConfigError
from tests.decisions.test_plain import Given

TRAINED = np.array([0.8, 0.15, 0.05])
MATRIX = {
    "a": {"b": 1, "c": 2},
    "b": {"a": 10, "c": 1},
    "c": {"a": 50, "b": 3},
}
ARRAY = np.array([[0, 1, 2], [10, 0, 1], [50, 3, 0]])


def test_rows_are_true_and_columns_decided_classes(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture()
    deployed = np.array([0.6, 0.3, 0.1])
    fitted = rule_from({"name": "costs", "costs": MATRIX}).fit(make_case(deployed=deployed))
    found = fitted.decisions(log_probabilities(data.posterior(TRAINED)))
    right, transposed = [], []
    for posterior in data.posterior(deployed):  # brute force, one row and decision at a time
        for matrix, into in ((ARRAY, right), (ARRAY.T, transposed)):
            expected = [sum(posterior[c] * matrix[c, k] for c in range(3)) for k in range(3)]
            into.append(int(np.argmin(expected)))
    assert found.tolist() == right
    assert (found != transposed).mean() > 0.2


def test_the_least_realised_cost_of_all_offsets_is_hardly_less(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture((6000, 3000, 1000), 1)
    fitted = rule_from({"name": "costs", "costs": MATRIX}).fit(make_case(deployed=[0.6, 0.3, 0.1]))
    p = data.posterior(TRAINED)
    paid = ARRAY[data.labels, fitted.decisions(log_probabilities(p))].mean()
    offsets = np.linspace(-3, 6, 19)
    least = min(
        ARRAY[data.labels, (np.log(p) + np.array([0, b, c])).argmax(axis=1)].mean()
        for b, c in itertools.product(offsets, offsets)
    )
    assert paid <= least * 1.03


def test_costs_per_class_are_of_missing_it(
    make_case: Callable[..., Case], mixture: Callable[..., Any]
) -> None:
    data = mixture()
    fitted = rule_from({"name": "costs", "costs": {"c": 5, "a": 1, "b": 2}}).fit(make_case())
    weighted = data.posterior([1, 1, 1]) * [1, 2, 5]
    found = fitted.decisions(log_probabilities(data.posterior(TRAINED)))
    assert np.array_equal(found, weighted.argmax(axis=1))


def test_for_two_classes_it_is_elkans_threshold(make_case: Callable[..., Case]) -> None:
    positive = np.random.default_rng(0).random(500)
    p = np.stack([1 - positive, positive], axis=1)
    # a miss costs 9, a false alarm 1: positive from 1 / (1 + 9)
    given = {"no": {"yes": 1}, "yes": {"no": 9}}
    case = make_case(trained=(0.5, 0.5), names=("no", "yes"))
    fitted = rule_from({"name": "costs", "costs": given}).fit(case)
    theirs = FixedThresholdClassifier(Given().fit(p, positive), threshold=0.1, pos_label=1)
    theirs.fit(p, (positive > 0.5).astype(int))
    assert np.array_equal(fitted.decisions(log_probabilities(p)), theirs.predict(p))


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({"a": 1, "b": 2}, "nothing is given for class c"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "unknown class 'd'"),
        ({"a": 1, "b": -2, "c": 3}, "'b' costs -2; costs are not negative"),
        ({"a": 0, "b": 0, "c": 0}, "no mistake costs anything"),
        ({"a": 1, "b": {"a": 1, "c": 1}, "c": 1}, "not both"),
        ({**MATRIX, "c": {"a": 50}}, "true class 'c': nothing is given for class b"),
        ({**MATRIX, "x": {"a": 50}}, "unknown true class 'x'"),
        ({"a": MATRIX["a"], "b": MATRIX["b"]}, "no row for true class c"),
        ({**MATRIX, "b": {"a": -1, "c": 1}}, "deciding 'a' for true 'b' costs -1"),
        ({"a": "1", "b": 2, "c": 3}, "'a' has '1', not a finite number"),
        ({"a": float("inf"), "b": 2, "c": 3}, "'a' has inf"),
    ],
)
def test_costs_that_are_none_are_refused(
    costs: Any, said: str, make_case: Callable[..., Case]
) -> None:
    with pytest.raises(ConfigError, match=said):
        rule_from({"name": "costs", "costs": costs}).fit(make_case())
