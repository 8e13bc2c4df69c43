"""Scores of single test images, read from stored predictions: what new images would change.

A metric that is a mean over images, or close to one, splits into a number per image; over several
runs these say how much of a difference hangs on which images happened to be in the test set.
"""

from collections.abc import Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.formatting import in_words
from harness.analysis.intervals import FEWEST_SEEDS, MOST_ALONE, ImageSample, Interval, Ints
from harness.analysis.tables import DONE, PANEL
from harness.errors import StoreError, listing
from harness.metrics import Metric, Split, metric_of
from harness.training.run_result import DamagedRunError, recall_run


@dataclass(frozen=True)
class Predictions:
    """What a run said of its test set.

    Attributes:
        probabilities: ``float32[n, C]``.
        labels: ``int64[n]``.
        rows: ``int64[n]``: which samples of the dataset they are.
        groups: ``int64[n]`` or None: which samples belong together.
    """

    probabilities: NDArray[np.float32]
    labels: Ints
    rows: Ints
    groups: Ints | None


def read_predictions(path: str | Path) -> Predictions:
    """Return the stored test predictions of a run.

    Raises:
        DamagedRunError: They are not as they were written.
    """
    found = recall_run(path).predictions()
    return Predictions(found["probabilities"], found["labels"], found["rows"], found.get("groups"))


class ImageScores:
    """The score of each test image in each of several runs on one test set.

    Args:
        sample: The images.
        scores: ``float32[n]`` by the run's key; the metric is their weighted sum.
    """

    def __init__(self, sample: ImageSample, scores: Mapping[str, NDArray[np.float32]]) -> None:
        self.sample = sample
        self._scores = dict(scores)

    def keys(self) -> KeysView[str]:
        """Return the keys of the runs."""
        return self._scores.keys()

    def of(self, keys: Iterable[str]) -> NDArray[np.float32]:
        """Return the scores of several runs, ``float32[S, n]``."""
        return np.stack([self._scores[key] for key in keys])

    def interval(self, blocks: Sequence[Mapping[str, float]], widening: float = 1.0) -> Interval:
        """Return the mean of a contrast of runs, with its interval on new images.

        Args:
            blocks: The contrast within each seed: the weight of each run by its key.
            widening: As of `ImageSample.interval`.
        """
        scores = [sum(w * self._scores[key] for key, w in block.items()) for block in blocks]
        return self.sample.interval(np.stack(scores), widening)


@dataclass
class Read:
    """What `image_scores` found.

    Attributes:
        scores: By panel.
        unread: Why predictions of single runs could not be used.
        none: Why there can be no interval on new images, by panel.
    """

    scores: dict[tuple[str, str, str], ImageScores] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    none: dict[tuple[str, str, str], str] = field(default_factory=dict)


def image_scores(runs: pd.DataFrame, metric: str) -> Read:
    """Read the predictions of runs and score each image.

    Nothing is read for a metric that does not split into images, nor with folds, where every fold
    has other images.

    Args:
        runs: From `runs_table`.
        metric: Label of a metric.
    """
    read = Read()
    done = runs[(runs["status"] == DONE) & (runs["fold"] < 0)]
    panels = runs[PANEL].drop_duplicates().itertuples(index=False, name=None)
    if not metric_of(metric).splits_into_images():
        read.none = dict.fromkeys(panels, f"{in_words(metric)} does not split into single samples")
        return read
    if len(runs) and (runs["fold"] >= 0).all():
        read.none = dict.fromkeys(panels, "with folds the interval speaks of new samples already")
        return read
    for panel, members in done.groupby(PANEL, sort=False):
        scores = _of_panel(members, metric_of(metric), read.unread)
        if scores is None:
            read.none[panel] = "it is undefined on this test set, or no predictions could be read"  # type: ignore[index]
            continue
        read.scores[panel] = scores  # type: ignore[index]
        if why := _too_few(scores.sample, members):
            read.none[panel] = why  # type: ignore[index]
    return read


def _too_few(sample: ImageSample, members: pd.DataFrame) -> str:
    """Return why test images cannot tell of new ones, or nothing where they can."""
    if sample.alone > MOST_ALONE:
        names = _class_names(members)
        single = listing((names.get(int(k), f"class {k}") for k in sample.single), 5)
        what = "group" if sample.grouped else "sample"
        return (
            f"{100 * sample.alone:.0f} % of the metric rests on classes with a single test {what} "
            f"({single}), and one {what} does not tell how others vary"
        )
    if members.groupby("recipe")["seed"].nunique().max() < FEWEST_SEEDS:
        return f"fewer than {FEWEST_SEEDS} seeds"
    return ""


def _class_names(members: pd.DataFrame) -> dict[int, str]:
    try:
        names = recall_run(members["path"].iloc[0]).values["class_names"]
    except (StoreError, KeyError):
        return {}
    return dict(enumerate(map(str, names)))


def _of_panel(members: pd.DataFrame, metric: Metric, unread: list[str]) -> ImageScores | None:
    first: Predictions | None = None
    counts, names = np.zeros(0, np.int64), ()
    scores: dict[str, NDArray[np.float32]] = {}
    for key, path in zip(members["key"], members["path"], strict=True):
        try:
            found = read_predictions(path)
            if first is None:
                result = recall_run(path).values
                counts, names = np.array(result["train_counts"]), tuple(result["class_names"])
                first = found
            elif not np.array_equal(found.rows, first.rows):
                raise StoreError(f"{path} has another test set than the other runs")
        except (StoreError, KeyError) as error:
            unread.append(error.short if isinstance(error, DamagedRunError) else str(error))
            continue
        split = Split(found.probabilities, found.labels, counts, class_names=names)
        scores[key] = np.asarray(metric.image_scores(split), np.float32)
    if first is None:
        return None
    shares = metric.image_weights(first.labels, counts, names)
    if shares is None or not shares.any():
        return None
    return ImageScores(ImageSample(shares, first.labels, first.groups), scores)
