"""Why a gain is not certain of samples that nobody has seen, however many seeds repeat it.

One list for all that say so: the answer of a report, `harness run` and `harness confirm`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.compare import Panel
from harness.analysis.copies import copies
from harness.analysis.resting import Resting, resting


@dataclass(frozen=True)
class Doubt:
    """One reason.

    Attributes:
        said: What is the case, as the start of a sentence.
        of: What a gain is not certain of: ``new images``, ``other groups``.
        certain: Whether it concerns so little that a gain may be called certain all the same.
        mend: What would mend it.
    """

    said: str
    of: str
    certain: bool
    mend: str

    def short(self) -> str:
        """Return it as the end of a sentence."""
        return f"not certain of {self.of}: {self.said}"

    def sentence(self) -> str:
        """Return it as a sentence, without the full stop."""
        if self.certain:
            return f"A small part is not certain of {self.of}: {self.said}"
        return f"Not certain of {self.of}, however many the seeds: {self.said}"


Doubts = Mapping[Panel, Sequence[Doubt]]


def doubts(
    runs: pd.DataFrame,
    metric: str,
    sample: str = "sample",
    rests: Mapping[Panel, Resting] | None = None,
) -> dict[Panel, list[Doubt]]:
    """Return the doubts about each panel that there are some about.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
        metric: Label of the primary metric.
        sample: What a sample is called.
        rests: `harness.analysis.resting.resting` of the runs, where that is known.
    """
    found: dict[Panel, list[Doubt]] = {}
    for panel, copied in copies(runs).items():
        mend = "delete the copies, or keep them together with a group"
        told = Doubt(copied.said(sample), f"new {sample}s", copied.certain, mend)
        found.setdefault(panel, []).append(told)
    for panel, rested in (resting(runs, metric) if rests is None else rests).items():
        if rested.few:
            units = f"{rested.unit or sample}s"
            of = f"{'other' if rested.unit else 'new'} {units}"
            told = Doubt(rested.said(sample), of, rested.certain, f"test on more {units}")
            found.setdefault(panel, []).append(told)
    return found


def uncertain(found: Doubts, panel: Panel) -> list[Doubt]:
    """Return the doubts for which a gain is not called certain."""
    return [doubt for doubt in found.get(panel, ()) if not doubt.certain]
