"""The contracts as tests: what `harness check` runs, for plugin authors to run in theirs.

In a test of your own::

    from harness.testing import check_dataset, check_strategy

    def test_halfmix() -> None:
        check_strategy(HalfMix)

    def test_noise() -> None:
        check_dataset(Noise())
"""

from harness.testing.datasets import check_dataset
from harness.testing.report import CheckResult, ContractError
from harness.testing.strategies import check_strategy

__all__ = ["CheckResult", "ContractError", "check_dataset", "check_strategy"]
