"""How much of a metric rests on one or two test images, or groups: on single patients or people.

Images of one group vary together, so that what is measured on them is of that group. Where much of
a metric is, a gain in it is certain of these groups and of no others, on however many seeds. Where
there are no groups, each image is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis.images import read_predictions
from harness.analysis.intervals import MOST_ALONE
from harness.analysis.tables import DONE, PANEL
from harness.datasets.remarks import FEW_GROUPS
from harness.errors import StoreError, counted, listing
from harness.metrics import metric_of
from harness.training.run_result import recall_run

Panel = tuple[str, str, str]


@dataclass(frozen=True)
class Resting:
    """The groups of one dataset.

    Attributes:
        names: Display names of the classes.
        groups: Of how many groups each class is in ``train``, ``val`` and ``test``; empty where
            there are none.
        few: Of classes that are tested on few: the name, and how many.
        share: Share of the metric that these classes have.
        unit: ``group``, or empty where each sample stands for itself.
    """

    names: Sequence[str]
    groups: Mapping[str, Sequence[int]]
    few: Sequence[tuple[str, str]]
    share: float
    unit: str = "group"

    @property
    def certain(self) -> bool:
        """Whether a gain in the metric may be called certain beyond these groups."""
        return self.share <= MOST_ALONE

    def said(self, sample: str = "sample") -> str:
        """Return what rests on what, as the start of a sentence.

        Args:
            sample: What a sample is called, such as ``image``.
        """
        on = listing((f"{name} on {what}" for name, what in self.few), 5)
        rests = f"{100 * self.share:.0f} % of the metric rests on one or two test"
        return f"{rests} {self.unit or sample}s ({on})"


def resting(runs: pd.DataFrame, metric: str) -> dict[Panel, Resting]:
    """Return how much rests on few groups, or samples, of each panel.

    Read off one run of each, or one for each fold.

    Args:
        runs: From `runs_table`.
        metric: Name of a summary metric.
    """
    found = {}
    for panel, members in runs[runs["status"] == DONE].groupby(PANEL, sort=False):
        first = members.iloc[0]
        same = (members["recipe"] == first["recipe"]) & (members["seed"] == first["seed"])
        try:
            found[panel] = _of_panel([Path(path) for path in members.loc[same, "path"]], metric)
        except (StoreError, KeyError, TypeError, ValueError):
            continue  # who reads these files for their figures says what is wrong with them
    return found  # type: ignore[return-value]


def _of_panel(folders: Sequence[Path], metric: str) -> Resting:
    read = [read_predictions(folder) for folder in folders]
    result = recall_run(folders[0]).values
    groups = [found.groups for found in read if found.groups is not None]
    grouped = len(groups) == len(read)
    labels = np.concatenate([found.labels for found in read])
    of = np.concatenate(groups) if grouped else np.arange(len(labels))
    names, counts = [str(name) for name in result["class_names"]], np.array(result["train_counts"])
    share = metric_of(metric).image_weights(labels, counts, tuple(names))
    if share is None:  # it does not split into images: as if each class counted the same
        share = metric_of("balanced_accuracy").image_weights(labels, counts, tuple(names))
    assert share is not None
    few, rests = [], 0.0
    for k in np.flatnonzero(np.bincount(labels, weights=share, minlength=len(names))):
        sizes = np.unique(of[labels == k], return_counts=True)[1]
        if len(sizes) <= FEW_GROUPS:
            few.append((names[k], counted(len(sizes), "group") if grouped else str(len(sizes))))
        elif 2 * sizes.max() > sizes.sum():
            few.append((names[k], f"one of {len(sizes)} groups mostly"))
        else:
            continue
        rests += float(share[labels == k].sum())
    known: Mapping[str, Sequence[int]] = result.get("groups", {})
    share_of_few = rests / float(share.sum() or 1.0)
    return Resting(names, known, few, share_of_few, "group" if grouped else "")
