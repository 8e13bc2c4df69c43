from typing import Annotated, ClassVar

import numpy as np
import pytest
from pydantic import Field

from harness.metrics.base import Metric, Source, metric, metric_of
from harness.registry import metrics
from harness.testing import ContractError, check_metric


@pytest.fixture(autouse=True)
def _own_registry():
    with metrics.temporary():
        yield


@pytest.mark.parametrize("name", list(metrics))
def test_the_built_in_ones_keep_it(name):
    cls = metrics.get(name)
    found = check_metric(
        cls if name != "expected_cost" else metric_of(f"{name}(costs=[[0,1],[5,0]])")
    )
    assert not [item for item in found if item.failed]
    assert any(item.check == "value: returns a number or None" for item in found)


def test_one_that_needs_parameters_is_passed_over_and_says_how_to_check_it():
    (found,) = check_metric(metrics.get("expected_cost"))
    assert "it needs costs" in found.problem


def test_what_is_wrong_is_named():
    @metric("sums")
    class Sums(Metric):
        """Weights that sum to two."""

        share: Annotated[float, Field(gt=0.0)] = 1.0

        def image_weights(self, labels, train_counts, class_names=()):
            return np.full(len(labels), 2 / len(labels))

        def image_scores(self, split):
            return split.right.astype(float)

    with pytest.raises(ContractError, match="weights sum to 2"):
        check_metric(Sums)

    @metric("says")
    class Says(Metric):
        """From decisions, it is said not to be."""

        source: ClassVar[Source] = "probabilities"

        def value(self, split):
            return float(split.right.mean())

    with pytest.raises(ContractError, match="other decisions change it"):
        check_metric(Says)

    class Nothing(Metric):
        pass

    with pytest.raises(ContractError, match=r"(?s)put @metric.*override value"):
        check_metric(Nothing)
