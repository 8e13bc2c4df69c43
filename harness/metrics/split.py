"""One split with its predictions: what every metric is computed from, counted once.

Every array per class has length C whatever classes the split holds. A class without a sample in
the split has recall, F1, average precision and AUC NaN; precision of a class that is never
predicted is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.classes import rarest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Predictions of one split. Probabilities are taken as they are, not renormalised.

    Attributes:
        probabilities: ``float[n, C]``, rows that sum to 1.
        labels: ``int64[n]``, in ``[0, C)``.
        train_counts: ``int64[C]``, original training samples per class.
        given: ``int64[n]``, the class decided on for each sample; None: the most probable one.
        class_names: C display names, where they are known.
    """

    probabilities: NDArray[np.floating]
    labels: Ints
    train_counts: Ints
    given: Ints | None = None
    class_names: Sequence[str] = ()

    @classmethod
    def checked(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        train_counts: NDArray[np.integer],
        decisions: NDArray[np.integer] | None = None,
        class_names: Sequence[str] = (),
    ) -> "Split":
        """Return a split after a look at what it is made of.

        Raises:
            ValueError: Shapes do not fit, a label or decision lies outside ``[0, C)``, the split is
                empty, or a probability is not finite or outside [0, 1].
        """
        probabilities, labels = np.asarray(probabilities), np.asarray(labels)
        if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
            raise ValueError(
                f"probabilities {probabilities.shape} and labels {labels.shape} do not fit: "
                "[n, C] and [n] are expected"
            )
        if not probabilities.size:
            raise ValueError(f"nothing to evaluate: probabilities have shape {probabilities.shape}")
        low, high = float(probabilities.min()), float(probabilities.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("probabilities are not finite")
        if low < 0.0 or high > 1.0 + 1e-4:  # a softmax in half precision rounds past 1
            raise ValueError(f"probabilities lie in [{low:g}, {high:g}], outside [0, 1]")
        classes = probabilities.shape[1]
        if np.shape(train_counts) != (classes,):
            raise ValueError(f"train_counts has shape {np.shape(train_counts)}, not ({classes},)")
        if class_names and len(class_names) != classes:
            raise ValueError(f"{len(class_names)} class names for {classes} classes")
        given = None
        if decisions is not None:
            given = np.asarray(decisions)
            if given.shape != labels.shape or given.dtype.kind not in "iu":
                raise ValueError(
                    f"decisions are {given.dtype}{list(given.shape)}, not int64[{len(labels)}]"
                )
            given = _inside("decisions", given, classes)
        counts = np.asarray(train_counts, np.int64)
        return cls(probabilities, _inside("labels", labels, classes), counts, given, class_names)

    @property
    def classes(self) -> int:
        """How many classes there are, C."""
        return int(self.probabilities.shape[1])

    @cached_property
    def decisions(self) -> Ints:
        """The class decided on for each sample, ``int64[n]``."""
        return self.probabilities.argmax(axis=1) if self.given is None else self.given

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each decision is the true class, ``bool[n]``."""
        return np.asarray(self.decisions == self.labels)

    @cached_property
    def of_truth(self) -> Floats:
        """The probability given to each true class, ``float64[n]``."""
        return self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)

    @cached_property
    def confusion(self) -> Ints:
        """``int64[C, C]``: rows are true classes, columns decided ones."""
        return confusion_matrix(self.labels, self.decisions, self.classes)

    @cached_property
    def hits(self) -> Ints:
        """Right decisions per true class, ``int64[C]``."""
        return self.confusion.diagonal()

    @cached_property
    def support(self) -> Ints:
        """Samples per true class, ``int64[C]``."""
        return np.asarray(self.confusion.sum(axis=1))

    @cached_property
    def predicted(self) -> Ints:
        """Samples per class decided on, ``int64[C]``."""
        return np.asarray(self.confusion.sum(axis=0))

    @cached_property
    def recall(self) -> Floats:
        """Per class, ``float64[C]``."""
        return _divide(self.hits, self.support, np.nan)

    @cached_property
    def precision(self) -> Floats:
        """Per class, ``float64[C]``."""
        return _divide(self.hits, self.predicted, 0.0)

    @cached_property
    def f1(self) -> Floats:
        """Per class, ``float64[C]``."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> Floats:
        """Return (1 + β²) · hits / (β² · support + predicted) per class, ``float64[C]``."""
        square = beta * beta
        found = _divide((1 + square) * self.hits, square * self.support + self.predicted, np.nan)
        found[self.support == 0] = np.nan
        return found

    @cached_property
    def average_precision(self) -> Floats:
        """Per class, one against the rest, ``float64[C]``."""
        return self._ranked[0]

    @cached_property
    def auc(self) -> Floats:
        """Area under the ROC curve per class, one against the rest, ``float64[C]``."""
        return self._ranked[1]

    @cached_property
    def _ranked(self) -> tuple[Floats, Floats]:
        """Return average precision and one-vs-rest AUC of every class, ties counted right.

        Only the positives of a class need a rank. With s a positive's score and, among all n scores
        of the class, `below` less than s and `upto` at most s, its midrank is
        (below + upto + 1) / 2 and AUC is the Mann–Whitney U of the positives over P · N. Average
        precision is the step sum Σ (R_k − R_{k−1}) P_k over distinct scores: every positive adds
        1/P times the precision at its own score, (positives ≥ s) / (scores ≥ s).
        """
        n, classes = self.probabilities.shape
        scores = np.sort(np.ascontiguousarray(self.probabilities.T), axis=1)
        by_class = np.argsort(self.labels, kind="stable")
        ends = np.cumsum(np.bincount(self.labels, minlength=classes))
        precision, auc = np.full(classes, np.nan), np.full(classes, np.nan)
        for k, end in enumerate(ends):
            rows = by_class[(ends[k - 1] if k else 0) : end]
            positives = len(rows)
            if not positives:
                continue
            own = np.sort(self.probabilities[rows, k])
            below = np.searchsorted(scores[k], own, "left")
            at_least = positives - np.searchsorted(own, own, "left")
            precision[k] = (at_least / (n - below)).mean()
            if positives < n:
                upto = np.searchsorted(scores[k], own, "right")
                wins = (below + upto + 1).sum() / 2 - positives * (positives + 1) / 2
                auc[k] = wins / (positives * (n - positives))
        return precision, auc

    def index_of(self, name: str | int | None) -> int | None:
        """Return the class of a name, or the rarest in training; None where several are as rare.

        Raises:
            ValueError: No class has this name.
        """
        if name is None:
            return rarest(self.train_counts)
        if str(name) not in self.class_names:
            raise ValueError(f"no class is named '{name}'")
        return list(self.class_names).index(str(name))


def confusion_matrix(labels: Ints, decisions: Ints, classes: int) -> Ints:
    """Return ``int64[C, C]``: rows are true classes, columns decided ones.

    One count of pairs, at fixed length: an absent class moves no other.

    Args:
        labels: ``int64[n]``, in ``[0, C)``.
        decisions: ``int64[n]``, in ``[0, C)``.
        classes: C.
    """
    pairs = np.bincount(labels * classes + decisions, minlength=classes * classes)
    return pairs.astype(np.int64, copy=False).reshape(classes, classes)


def mean(values: Floats) -> float | None:
    """Return the mean of what is not NaN, or None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _inside(what: str, values: NDArray[Any], classes: int) -> Ints:
    if values.min() < 0 or values.max() >= classes:
        raise ValueError(f"{what} lie in [{values.min()}, {values.max()}], outside [0, {classes})")
    return values.astype(np.int64, copy=False)


def _divide(above: NDArray[Any], below: NDArray[Any], otherwise: float) -> Floats:
    result = np.full(len(below), otherwise)
    np.divide(above, below, out=result, where=below != 0)
    return result
