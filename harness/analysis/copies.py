"""Test samples that stand in train or val too: a gain on them is not certain of new ones."""

from dataclasses import dataclass

import pandas as pd

from harness.analysis.compare import Panel
from harness.analysis.tables import DONE, PANEL
from harness.errors import StoreError
from harness.training.run_result import recall_run

_MOST = 0.01


@dataclass(frozen=True)
class Copies:
    """Test samples of one dataset that were trained or chosen on.

    Attributes:
        count: How many, in the run that has most.
        of: Test samples there are.
    """

    count: int
    of: int

    @property
    def certain(self) -> bool:
        """Whether they are so few that a gain may be called certain."""
        return self.count <= _MOST * self.of

    def said(self, sample: str) -> str:
        """Return how many are copies, as the start of a sentence.

        Args:
            sample: What a sample is called, such as ``image``.
        """
        are = "is" if self.count == 1 else "are"
        return f"{self.count:,} of {self.of:,} test {sample}s {are} in train or val too"


def copies(runs: pd.DataFrame) -> dict[Panel, Copies]:
    """Return the copies in test of each panel that has some, in the run that has most.

    Args:
        runs: From `runs_table`.
    """
    found: dict[Panel, Copies] = {}
    for panel, members in runs[runs["status"] == DONE].groupby(PANEL, sort=False):
        # the same for every recipe: val, and so the copies, change with seed and fold alone
        once = members.drop_duplicates(["seed", "fold"])
        counted = [_of_run(path) for path in once["path"]]
        most = max(counted, key=lambda item: item.count, default=Copies(0, 0))
        if most.count:
            found[panel] = most  # type: ignore[index]
    return found


def _of_run(path: str) -> Copies:
    try:
        said = recall_run(path).values.get("copies", {})
        return Copies(int(said["test"]), int(said["of"]))
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return Copies(0, 0)  # none, or who reads the file for its figures says what is wrong
