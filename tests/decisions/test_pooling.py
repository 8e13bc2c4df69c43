from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.decisions.base import log_probabilities, normalised
from harness.decisions.pooling import Part, pooled
from harness.decisions.priors import TrainedPrior


@pytest.fixture
def parts(mixture: Callable[..., Any]) -> list[Part]:
    names = ("a", "b", "c")
    found = []
    for fold, prior in enumerate(([0.8, 0.15, 0.05], [0.5, 0.3, 0.2])):
        data = mixture((20, 10, 5), fold)
        rows = np.arange(35) + 30 * fold
        trained = TrainedPrior.of(prior, names)
        found.append(Part(log_probabilities(data.posterior(prior)), data.labels, rows, trained))
    return found


def test_val_of_all_folds_is_pooled_under_one_prior_without_test_rows_of_the_fold(
    parts: list[Part], mixture: Callable[..., Any]
) -> None:
    log_p, labels = pooled(0, parts, test_rows=np.array([40, 41, 64]))
    assert len(labels) == 35 + 32
    kept = ~np.isin(parts[1].rows, [40, 41, 64])
    assert np.array_equal(labels[35:], parts[1].labels[kept])
    expected = mixture((20, 10, 5), 1).posterior([0.8, 0.15, 0.05])[kept]
    np.testing.assert_allclose(normalised(log_p[35:]), expected, rtol=1e-9)


def test_outputs_of_an_unknown_prior_are_pooled_with_none(parts: list[Part]) -> None:
    unknown = TrainedPrior.unknown("no one knows")
    blind = [parts[0], Part(parts[1].log_p, parts[1].labels, parts[1].rows, unknown)]
    assert len(pooled(0, blind, np.array([]))[1]) == 35
    log_p, labels = pooled(1, blind, np.array([]))
    assert log_p is blind[1].log_p
    assert labels is blind[1].labels
