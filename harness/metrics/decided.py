"""Metrics of what was decided: accuracy, recalls, F-scores, costs."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.metrics.base import PLAIN, Floats, Ints, Metric, OfClass, Split, Unit, mean, metric
from harness.metrics.classes import groups


def _even(labels: Ints) -> Floats:
    return np.full(len(labels), 1 / len(labels))


def _by_class(labels: Ints, counted: NDArray[np.bool_]) -> Floats:
    """Return weights that sum to the same for each of the `counted` classes with a sample."""
    support = np.bincount(labels, minlength=len(counted))
    counted = counted & (support > 0)
    share = np.zeros(len(support))
    share[counted] = 1 / (counted.sum() * support[counted])
    return np.asarray(share[labels])


@metric("accuracy")
class Accuracy(Metric):
    """Share of samples that are decided right."""

    quick: ClassVar[bool] = True

    def value(self, split: Split) -> float | None:
        """Return hits over samples."""
        return float(split.hits.sum() / len(split.labels))

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return 1/n for each."""
        return _even(labels)

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return right or wrong."""
        return split.right.astype(np.float32)


@metric("balanced_accuracy")
class BalancedAccuracy(Metric):
    """Mean recall of the classes."""

    quick: ClassVar[bool] = True

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample."""
        return mean(split.recall)

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return the same for each class, evenly among its images."""
        return _by_class(labels, np.ones(len(train_counts), bool))

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return right or wrong."""
        return split.right.astype(np.float32)


class _GroupRecall(Metric):
    """Mean recall of one group of classes by their training samples."""

    group: ClassVar[str] = ""

    def value(self, split: Split) -> float | None:
        """Return the mean over the group's classes with a sample."""
        return mean(split.recall[groups(split.train_counts)[self.group]])

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return the same for each class of the group, zero elsewhere."""
        return _by_class(labels, groups(train_counts)[self.group])

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return right or wrong."""
        return split.right.astype(np.float32)


@metric("recall_many")
class RecallMany(_GroupRecall):
    """Mean recall of the classes with more than 100 training samples."""

    group: ClassVar[str] = "many"
    words: ClassVar[str] = "recall of frequent classes"


@metric("recall_medium")
class RecallMedium(_GroupRecall):
    """Mean recall of the classes with 20 to 100 training samples."""

    group: ClassVar[str] = "medium"
    words: ClassVar[str] = "recall of medium classes"


@metric("recall_few")
class RecallFew(_GroupRecall):
    """Mean recall of the classes with fewer than 20 training samples."""

    group: ClassVar[str] = "few"
    words: ClassVar[str] = "recall of rare classes"


@metric("worst_class_recall")
class WorstClassRecall(Metric):
    """Recall of the class that has the lowest."""

    quick: ClassVar[bool] = True

    def value(self, split: Split) -> float | None:
        """Return the least over classes with a sample."""
        return float(np.nanmin(split.recall))


@metric("g_mean")
class GMean(Metric):
    """Geometric mean of the recalls, 0 where one is 0.

    imbalanced-learn's "multiclass" (Kubat and Matwin 1997; Sun et al. 2006), not the mean of
    sqrt(sensitivity · specificity).
    """

    words: ClassVar[str] = "G-mean"

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample."""
        present = split.recall[~np.isnan(split.recall)]
        with np.errstate(divide="ignore"):
            return float(np.exp(np.log(present).mean()))


@metric("mcc")
class Mcc(Metric):
    """Matthews correlation of truth and decision for C classes (Gorodkin 2004)."""

    unit: ClassVar[Unit] = PLAIN
    words: ClassVar[str] = "Matthews correlation"

    def value(self, split: Split) -> float | None:
        """Return the correlation, 0 where it is 0/0."""
        table = split.confusion.astype(np.float64)
        true, claims, n = table.sum(axis=1), table.sum(axis=0), table.sum()
        together = table.trace() * n - true @ claims
        spread = (n * n - claims @ claims) * (n * n - true @ true)
        return float(together / np.sqrt(spread)) if spread > 0 else 0.0

    def span(self) -> float:
        """Return 2: from −1 to 1."""
        return 2.0


class _FScore(Metric):
    """Mean F-score of the classes."""

    def _beta(self) -> float:
        return 1.0

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample."""
        return mean(split.f_beta(self._beta()))

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return the same for each class, evenly among its images."""
        return _by_class(labels, np.ones(len(train_counts), bool))

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return the influence of each image, from that on each class's F-score."""
        gained, lost, scores = _influence(split, self._beta())
        support, labels = split.support, split.labels
        present = support > 0
        each = support[labels] * (split.right * gained[labels] - lost[split.decisions])
        shift = scores[present].mean() - (each / (present.sum() * support[labels])).sum()
        return np.asarray(each + shift, np.float32)


def _influence(split: Split, beta: float) -> tuple[Floats, Floats, Floats]:
    """Return what an image that is right adds to its class's F, what one called so takes, and F.

    With F_c = (1 + β²) h_c / (β² s_c + p_c) and the supports s given, an image of class y that is
    called ŷ adds (1 + β²) / (β² s_y + p_y) to F_y if it is right and takes
    (1 + β²) h_ŷ / (β² s_ŷ + p_ŷ)² from F_ŷ.
    """
    above, both = 1 + beta * beta, beta * beta * split.support + split.predicted
    gained = np.divide(above, both, out=np.zeros(split.classes), where=both > 0)
    lost = np.where(split.support > 0, split.hits * gained**2 / above, 0.0)
    return gained, lost, split.hits * gained


@metric("macro_f1")
class MacroF1(_FScore):
    """Mean F1 of the classes."""

    quick: ClassVar[bool] = True
    words: ClassVar[str] = "macro-F1"


@metric("f_beta")
class FBeta(_FScore):
    """Mean F-score of the classes that counts recall `beta` times as much as precision.

    Attributes:
        beta: Weight of recall (van Rijsbergen 1979): 2 where a miss is worse than a false alarm.
        positive: Name of a class, for its own F-score rather than the mean over classes.
    """

    quick: ClassVar[bool] = True
    beta: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    positive: str | int | None = None

    def _beta(self) -> float:
        return self.beta

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample, or that of the class."""
        if self.positive is None:
            return super().value(split)
        k = split.index_of(self.positive)
        found = split.f_beta(self.beta)[k]
        return None if np.isnan(found) else float(found)

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return the same for each class, or for a named class the same for every image."""
        if self.positive is None:
            return super().image_weights(labels, train_counts, class_names)
        return _even(labels)

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return the influence of each image."""
        if self.positive is None:
            return super().image_scores(split)
        return _class_influence(split, split.index_of(self.positive), self.beta)

    def unsuitable(self, class_names: Sequence[str], train_counts: Ints) -> str | None:
        """Return that there is no such class."""
        if self.positive is None:
            return None
        return OfClass(positive=self.positive).unsuitable(class_names, train_counts)

    def in_words(self) -> str:
        """Return ``macro-F2``, or ``F2 of NAME``."""
        name = f"F{self.beta:g}"
        return f"macro-{name}" if self.positive is None else f"{name} of {self.positive}"


def _class_influence(split: Split, k: int | None, beta: float) -> NDArray[np.float32]:
    """Return the influence of each image on one class's F-score, for weights of 1/n."""
    n = len(split.labels)
    if k is None:
        return np.full(n, np.nan, np.float32)
    gained, lost, scores = _influence(split, beta)
    each = split.right * (split.labels == k) * gained[k] - (split.decisions == k) * lost[k]
    return np.asarray(n * each + (scores[k] - each.sum()), np.float32)


@metric("rare_precision")
class RarePrecision(OfClass):
    """Precision of the rarest class in training, or of the one that `positive` names."""

    quick: ClassVar[bool] = True
    words: ClassVar[str] = "precision of the rare class"

    def of_class(self, split: Split, k: int) -> float | None:
        """Return hits over samples that are called so; 0 where none is."""
        return float(split.precision[k])


@metric("rare_recall")
class RareRecall(OfClass):
    """Recall of the rarest class in training, or of the one that `positive` names."""

    quick: ClassVar[bool] = True
    words: ClassVar[str] = "recall of the rare class"

    def of_class(self, split: Split, k: int) -> float | None:
        """Return hits over samples of the class."""
        return float(split.recall[k])


@metric("rare_f1")
class RareF1(OfClass):
    """F1 of the rarest class in training, or of the one that `positive` names."""

    quick: ClassVar[bool] = True
    words: ClassVar[str] = "F1 of the rare class"

    def of_class(self, split: Split, k: int) -> float | None:
        """Return the harmonic mean of precision and recall."""
        return float(split.f1[k])


@metric("expected_cost")
class ExpectedCost(Metric):
    """Mean cost of a sample, by a matrix of what each decision costs.

    Attributes:
        costs: C × C numbers, none negative: rows are true classes, columns decided ones, both in
            label order. What is decided right mostly costs 0.
    """

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[Unit] = PLAIN
    quick: ClassVar[bool] = True

    costs: tuple[tuple[Annotated[float, Field(ge=0.0)], ...], ...]

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        if not self.costs or any(len(row) != len(self.costs) for row in self.costs):
            sizes = [len(row) for row in self.costs]
            raise ValueError(
                f"costs has {len(sizes)} rows of {sizes} columns; it is square: a row for each "
                "true class, a column for each decided one"
            )
        return self

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return 1/n for each."""
        return _even(labels)

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return what each decision costs."""
        return np.asarray(np.array(self.costs)[split.labels, split.decisions])

    def span(self) -> float:
        """Return the dearest decision less the cheapest."""
        return float(np.max(self.costs) - np.min(self.costs))

    def unsuitable(self, class_names: Sequence[str], train_counts: Ints) -> str | None:
        """Return that the matrix has another size."""
        size, classes = len(self.costs), len(class_names)
        if size == classes:
            return None
        return f"costs is {size} × {size}, for {classes} classes ({listing_of(class_names)})"


def listing_of(names: Sequence[str]) -> str:
    """Return names in label order, cut to a few."""
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
