"""Scores of single test images, read from stored predictions: what new images would change.

A metric that is a mean over images, or close to one, splits into a number per image; over several
runs these say how much of a difference hangs on which images happened to be in the test set.
"""

from collections.abc import Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.intervals import Floats, ImageSample, Interval, Ints
from harness.analysis.tables import DONE, PANEL
from harness.analysis.words import unreadable
from harness.errors import StoreError
from harness.execution.store import read_json
from harness.training.metrics import groups

RECALLS = ("recall_many", "recall_medium", "recall_few")
SUPPORTED = ("balanced_accuracy", "accuracy", "macro_f1", "nll", *RECALLS)
"""Metrics that split into images; ``macro_f1`` to first order (the delta method)."""

_EPS = float(np.finfo(np.float32).eps)


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
        StoreError: The file is missing or damaged.
    """
    file = Path(path) / "predictions.npz"
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            grouped = "test_groups" in stored.files
            return Predictions(
                stored["test_probabilities"],
                stored["test_labels"],
                stored["test_rows"],
                stored["test_groups"] if grouped else None,
            )
    except Exception as error:  # zipfile and zlib have errors of their own, without a shared base
        raise StoreError(unreadable(file, error)) from None


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
    """

    scores: dict[tuple[str, str, str], ImageScores] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def image_scores(runs: pd.DataFrame, metric: str) -> Read:
    """Read the predictions of runs and score each image.

    Nothing is read for a metric that is not `SUPPORTED`, nor with folds, where every fold has
    other images.

    Args:
        runs: From `runs_table`.
        metric: Name of a summary metric.
    """
    read = Read()
    done = runs[(runs["status"] == DONE) & (runs["fold"] < 0)]
    if metric not in SUPPORTED:
        return read
    for panel, members in done.groupby(PANEL, sort=False):
        scores = _of_panel(members, metric, read.unread)
        if scores is not None:
            read.scores[panel] = scores  # type: ignore[index]
    return read


def _of_panel(members: pd.DataFrame, metric: str, unread: list[str]) -> ImageScores | None:
    first: Predictions | None = None
    counts = np.zeros(0, np.int64)
    scores: dict[str, NDArray[np.float32]] = {}
    for key, path in zip(members["key"], members["path"], strict=True):
        try:
            found = read_predictions(path)
            if first is None:
                counts = np.array(read_json(Path(path) / "result.json")["train_counts"])
                first = found
            elif not np.array_equal(found.rows, first.rows):
                raise StoreError(f"{path} has another test set than the other runs")
        except (StoreError, KeyError) as error:
            unread.append(str(error))
            continue
        scores[key] = score(found, metric)
    if first is None:
        return None
    shares = weights(first.labels, metric, counts)
    if not shares.any():
        return None
    return ImageScores(ImageSample(shares, first.labels, first.groups), scores)


def weights(labels: Ints, metric: str, train_counts: Ints) -> Floats:
    """Return the share of each image in a metric, ``float64[n]``; all zero for an empty group.

    Args:
        labels: ``int64[n]``.
        metric: One of `SUPPORTED`.
        train_counts: ``int64[C]``, original training samples per class.
    """
    if metric in ("accuracy", "nll"):
        return np.full(len(labels), 1 / len(labels))
    support = np.bincount(labels, minlength=len(train_counts))
    counted = support > 0
    if metric in RECALLS:
        counted = counted & groups(train_counts)[metric.removeprefix("recall_")]
    share = np.zeros(len(support))
    share[counted] = 1 / (counted.sum() * support[counted])
    return share[labels]


def score(found: Predictions, metric: str) -> NDArray[np.float32]:
    """Return a number per image whose weighted sum is the metric, ``float32[n]``.

    Right or wrong for accuracy and the recalls, −log p for ``nll``; for ``macro_f1`` the
    derivative by each image, shifted so that the sum is the metric.
    """
    labels, probabilities = found.labels, found.probabilities
    if metric == "nll":
        of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        return np.asarray(-np.log(np.clip(of_truth, _EPS, 1 - _EPS)), np.float32)
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    if metric != "macro_f1":
        return np.asarray(right, np.float32)
    return _f1(labels, predicted, right, probabilities.shape[1])


def _f1(labels: Ints, predicted: Ints, right: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Return the influence of each image on macro-F1, F1_c = 2 h_c / (s_c + p_c).

    With the supports s given, an image of class y that is called ŷ adds 2 / (s_y + p_y) to F1_y if
    it is right and takes 2 h_ŷ / (s_ŷ + p_ŷ)² from F1_ŷ.
    """
    support = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    both = support + np.bincount(predicted, minlength=classes)
    present = support > 0
    gained = np.divide(2.0, both, out=np.zeros(classes), where=both > 0)
    lost = np.where(present, hits * gained**2 / 2, 0.0)
    f1 = (hits * gained)[present].mean()
    each = support[labels] * (right * gained[labels] - lost[predicted])
    shift = f1 - (each / (present.sum() * support[labels])).sum()
    return np.asarray(each + shift, np.float32)
