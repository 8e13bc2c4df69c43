"""What a rule is fitted for: a number of the decisions on val, the larger the better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Objective:
    """What decisions on the rows of val are worth.

    Attributes:
        value: From decisions ``int64[n]`` to a number, the larger the better.
        weights: ``float64[n]`` where the value is the sum of the weights of the rows that are
            right, as accuracy and balanced accuracy are; a fit is then exact and fast.
    """

    value: Callable[[Ints], float]
    weights: Floats | None = None

    @classmethod
    def linear(cls, weights: Floats, labels: Ints) -> "Objective":
        """Return the objective that sums the weights of the rows that are right."""
        weights = np.asarray(weights, np.float64)
        return cls(lambda decided: float(weights[decided == labels].sum()), weights)


def balanced_accuracy(labels: Ints) -> Objective:
    """Return the mean recall over the classes that val holds."""
    support = np.bincount(labels)
    return Objective.linear(1 / ((support > 0).sum() * support[labels]), labels)


def accuracy(labels: Ints, deployed: NDArray[np.floating[Any]]) -> Objective:
    """Return the share that is right where classes have the shares `deployed`, ``float64[C]``.

    Rows of a class stand for its share there, not for the one in val; classes without a row are
    left out.
    """
    support = np.bincount(labels, minlength=len(deployed))
    each = np.divide(deployed, support, out=np.zeros(len(deployed)), where=support > 0)
    return Objective.linear(each[labels] / each[labels].sum(), labels)
