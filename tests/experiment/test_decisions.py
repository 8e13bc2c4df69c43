"""The key `decisions:`: strict, and no part of any run's key."""

from typing import Any

import pytest

from harness.errors import ConfigError
from harness.experiment.expand import expand
from harness.experiment.schema import load
from tests.conftest import tiny


def read(**decisions: Any) -> Any:
    return load(tiny(decisions=decisions)).decisions


def test_by_default_outputs_are_decided_as_they_are_and_adjusted() -> None:
    found = load(tiny()).decisions
    assert [rule.label() for rule in found.rules] == ["argmax", "prior"]
    assert found.primary == "argmax"
    assert found.deploy is None
    assert load(tiny(decisions={})).decisions == found


def test_rules_costs_and_a_prior_are_resolved() -> None:
    found = read(
        rules=["prior", {"name": "thresholds", "shrinkage": 5}],
        primary="thresholds",
        deploy={0: 0.5, "one": 0.5},
        costs={0: {"one": 3}, "one": {0: 1}},
    )
    labels = [rule.label() for rule in found.rules]
    assert labels[:3] == ["argmax", "prior", "thresholds(shrinkage=5)"]
    assert found.rules[3].costs == {"0": {"one": 3}, "one": {"0": 1}}
    assert found.primary == "thresholds(shrinkage=5)"
    assert found.deploy == {"0": 0.5, "one": 0.5}


@pytest.mark.parametrize(
    ("decisions", "said"),
    [
        ({"rule": ["prior"]}, "did you mean 'rules'"),
        ({"rules": ["priors"]}, "did you mean 'prior'"),
        ({"rules": [{"name": "thresholds", "shrink": 1}]}, "did you mean 'shrinkage'"),
        ({"rules": [{"name": "sensitivity", "class": "a"}]}, "level"),
        ({"rules": ["prior", "prior"]}, "stands there twice"),
        ({"rules": []}, "rules"),
        ({"rules": ["costs"]}, "say what mistakes cost"),
        ({"primary": "thresholds"}, "no such rule 'thresholds'"),
        ({"deploy": "balance"}, "did you mean 'balanced'"),
        ({"deploy": 3}, "deploy"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(decisions: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(**decisions)
    assert "decisions" in str(caught.value)


def test_decisions_are_no_part_of_a_key() -> None:
    other = {"rules": ["thresholds"], "deploy": "train", "primary": "thresholds"}
    keys = [[run.key for run in expand(load(tiny(**c))).runs] for c in ({}, {"decisions": other})]
    assert keys[0] == keys[1]
