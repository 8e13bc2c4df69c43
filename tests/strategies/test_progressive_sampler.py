from collections.abc import Callable

import numpy as np
import pytest

from harness.strategies.base import Facts
from harness.strategies.progressive_sampler import ProgressiveSampler
from harness.streams import Stream

COUNTS = np.array([600, 100, 20])
LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(3), COUNTS))


@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_classes_are_drawn_by_equation_3_of_the_paper(t: float) -> None:
    order = ProgressiveSampler().order_pass(0, t, LABELS, 400, 100, Stream(0, "order"))
    share = np.bincount(LABELS[order.ravel()]) / order.size
    np.testing.assert_allclose(share, (1 - t) * COUNTS / COUNTS.sum() + t / 3, atol=0.01)


def test_equal_classes_need_no_sampler(make_facts: Callable[..., Facts]) -> None:
    assert "already" in (ProgressiveSampler().redundant(make_facts((9, 9))) or "")
    assert ProgressiveSampler().redundant(make_facts()) is None
    assert ProgressiveSampler().rebalances()
