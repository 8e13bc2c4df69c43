"""The contracts as tests: what `harness check` runs, for plugin authors to run in theirs.

In a test of your own::

    from harness.testing import check_dataset, check_metric, check_strategy

    def test_halfmix() -> None:
        check_strategy(HalfMix)

    def test_noise() -> None:
        check_dataset(Noise())

    def test_recall_at_least() -> None:
        check_metric(RecallAtLeast(least=0.8))
"""

from harness.testing.datasets import check_dataset
from harness.testing.metrics import check_metric
from harness.testing.report import CheckResult, ContractError
from harness.testing.strategies import check_strategy

__all__ = ["CheckResult", "ContractError", "check_dataset", "check_metric", "check_strategy"]
