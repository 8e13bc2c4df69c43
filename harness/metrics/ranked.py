"""Metrics of the probabilities themselves: ranking, calibration, likelihood.

No decision rule changes them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.metrics.base import (
    PLAIN,
    Floats,
    Ints,
    Metric,
    OfClass,
    Source,
    Split,
    Unit,
    mean,
    metric,
)
from harness.metrics.calibration import ECE_BINS, bin_of

_EPS = float(np.finfo(np.float32).eps)


@metric("macro_auc")
class MacroAuc(Metric):
    """Mean area under the ROC curve, each class against the rest."""

    source: ClassVar[Source] = "probabilities"
    words: ClassVar[str] = "macro AUC"

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample."""
        return mean(split.auc)


@metric("macro_average_precision")
class MacroAveragePrecision(Metric):
    """Mean average precision, each class against the rest (mAP)."""

    source: ClassVar[Source] = "probabilities"
    words: ClassVar[str] = "mean average precision"

    def value(self, split: Split) -> float | None:
        """Return the mean over classes with a sample."""
        return mean(split.average_precision)


@metric("ece")
class Ece(Metric):
    """Calibration error: top-label ECE over 15 bins of equal width (Guo et al. 2017)."""

    source: ClassVar[Source] = "probabilities"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[Unit] = PLAIN
    words: ClassVar[str] = "calibration error"

    def value(self, split: Split) -> float | None:
        """Return the mean gap between confidence and accuracy, weighted by the bins' samples."""
        confidence = split.probabilities.max(axis=1).astype(np.float64)
        right = split.probabilities.argmax(axis=1) == split.labels
        place = bin_of(confidence, ECE_BINS)
        gap = np.bincount(place, weights=right - confidence, minlength=ECE_BINS)
        return float(np.abs(gap).sum() / len(split.labels))

    def span(self) -> float:
        """Return 1: it is a mean of differences of probabilities."""
        return 1.0


@metric("nll")
class Nll(Metric):
    """Mean negative log of the probability given to the true class."""

    source: ClassVar[Source] = "probabilities"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[Unit] = PLAIN
    words: ClassVar[str] = "negative log-likelihood"
    quick: ClassVar[bool] = True

    def value(self, split: Split) -> float | None:
        """Return the mean over samples."""
        return float(self._each(split).mean())

    @staticmethod
    def _each(split: Split) -> Floats:
        # scikit-learn's clipping for float32, so that an underflow costs 15.9 and not infinity
        return np.asarray(-np.log(np.clip(split.of_truth, _EPS, 1.0 - _EPS)))

    def image_weights(
        self, labels: Ints, train_counts: Ints, class_names: Sequence[str] = ()
    ) -> Floats | None:
        """Return 1/n for each."""
        return np.full(len(labels), 1 / len(labels))

    def image_scores(self, split: Split) -> NDArray[np.floating]:
        """Return −log p of each true class."""
        return self._each(split).astype(np.float32)


@metric("rare_average_precision")
class RareAveragePrecision(OfClass):
    """Average precision of the rarest class in training, or of the one that `positive` names."""

    source: ClassVar[Source] = "probabilities"
    words: ClassVar[str] = "average precision of the rare class"

    def of_class(self, split: Split, k: int) -> float | None:
        """Return the step sum over the precision-recall curve."""
        return float(split.average_precision[k])


@metric("rare_roc_auc")
class RareRocAuc(OfClass):
    """Area under the ROC curve of the rarest class in training, or of the `positive` one."""

    source: ClassVar[Source] = "probabilities"
    words: ClassVar[str] = "ROC AUC of the rare class"

    def of_class(self, split: Split, k: int) -> float | None:
        """Return the chance that a positive is ranked above a negative; half for equals."""
        return None if np.isnan(split.auc[k]) else float(split.auc[k])


def _roc(split: Split, k: int) -> tuple[Floats, Floats] | None:
    """Return false and true positive rates at every distinct score, from (0, 0) to (1, 1)."""
    own = split.labels == k
    if own.all():
        return None
    scores, inverse = np.unique(split.probabilities[:, k], return_inverse=True)
    hits = np.bincount(inverse[own], minlength=len(scores))[::-1].cumsum()
    alarms = np.bincount(inverse[~own], minlength=len(scores))[::-1].cumsum()
    return (
        np.concatenate([[0.0], alarms / (~own).sum()]),
        np.concatenate([[0.0], hits / own.sum()]),
    )


@metric("sensitivity_at_specificity")
class SensitivityAtSpecificity(OfClass):
    """Highest recall of a class at a threshold that keeps the specificity at least so high.

    The threshold is read off the split itself, without interpolation between scores.

    Attributes:
        specificity: Least share of the other classes' samples that are not called so.
        positive: Name of the class; the rarest in training by default.
    """

    source: ClassVar[Source] = "probabilities"
    specificity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95

    def of_class(self, split: Split, k: int) -> float | None:
        """Return the largest true positive rate with 1 − false positive rate high enough."""
        curve = _roc(split, k)
        if curve is None:
            return None
        false, true = curve
        return float(true[1.0 - false >= self.specificity - 1e-12].max())

    def in_words(self) -> str:
        """Return it with the level."""
        of = "" if self.positive is None else f" of {self.positive}"
        return f"sensitivity{of} at {100 * self.specificity:g} % specificity"


@metric("partial_auc")
class PartialAuc(OfClass):
    """Area under the ROC curve of a class up to a false positive rate; 0.5 is chance, 1 the best.

    McClish (1989), as scikit-learn's ``roc_auc_score(max_fpr=…)``. The curve is interpolated at
    `max_fpr`.

    Attributes:
        max_fpr: Largest false positive rate that counts.
        positive: Name of the class; the rarest in training by default.
    """

    source: ClassVar[Source] = "probabilities"
    words: ClassVar[str] = "partial AUC"
    max_fpr: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1

    def of_class(self, split: Split, k: int) -> float | None:
        """Return (1 + (area − least) / (most − least)) / 2."""
        curve = _roc(split, k)
        if curve is None:
            return None
        false, true = curve
        stop = int(np.searchsorted(false, self.max_fpr, "right"))
        last = float(np.interp(self.max_fpr, false, true))
        false = np.concatenate([false[:stop], [self.max_fpr]])
        true = np.concatenate([true[:stop], [last]])
        area, least = float(np.trapezoid(true, false)), 0.5 * self.max_fpr**2
        return 0.5 * (1 + (area - least) / (self.max_fpr - least)) if self.max_fpr < 1 else area


@metric("precision_at_k")
class PrecisionAtK(OfClass):
    """Share of a class among the k samples that are most probably of it.

    Equal scores at the k-th place count by their share, as drawing among them would on average.
    Fewer than k samples: all of them.

    Attributes:
        k: How many samples are looked at.
        positive: Name of the class; the rarest in training by default.
    """

    source: ClassVar[Source] = "probabilities"
    k: Annotated[int, Field(ge=1)] = 100

    def of_class(self, split: Split, k: int) -> float | None:
        """Return hits over k."""
        scores, own = split.probabilities[:, k], split.labels == k
        most = min(self.k, len(scores))
        edge = np.partition(scores, len(scores) - most)[len(scores) - most]
        above, at = scores > edge, scores == edge
        hits = own[above].sum() + (most - above.sum()) * own[at].mean()
        return float(hits / most)

    def in_words(self) -> str:
        """Return it with k."""
        of = "" if self.positive is None else f" of {self.positive}"
        return f"precision{of} at {self.k}"
