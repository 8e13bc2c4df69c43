"""A sensitivity that one class must reach, at the least loss elsewhere."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from harness.decisions.base import Case, Fitted, Floats, rule
from harness.decisions.plain import Adjusting
from harness.errors import ConfigError, DecisionError, counted, did_you_mean, listing

_NEVER = math.log(1e-44)
"""Log-probability of what single precision rounds to 0: such a row is like any other."""


@rule("sensitivity")
class Sensitivity(Adjusting):
    """Move one class from `prior` just so far that its recall on val reaches a level.

    Its recall rises with its offset, and the others' fall: the least offset that reaches the level
    costs them least. It is negative where `prior` alone exceeds the level.

    The recall that the offset has on new rows is less than on val, on which it was chosen. Set
    between order statistics m and m + 1 of n exchangeable rows, it is Beta(m, n − m + 1)
    distributed (Wilks 1941, "Determination of Sample Sizes for Setting Tolerance Limits"), and
    ``values`` has the lower end of its one-sided interval as ``lower_bound``.
    """

    class_name: Annotated[str, Field(alias="class")]
    """Which class."""
    level: Annotated[float, Field(gt=0.0, le=1.0)]
    """The recall that it must reach on val."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Of the lower bound."""

    def fit(self, case: Case) -> Fitted:
        """Fit the offset of the class."""
        from scipy.special import betaincinv

        if self.class_name not in case.class_names:
            raise ConfigError(
                f"sensitivity: unknown class '{self.class_name}'"
                f"{did_you_mean(self.class_name, case.class_names)} "
                f"(the classes: {listing(case.class_names)})"
            )
        k = case.class_names.index(self.class_name)
        never = case.validation().log_p[:, k] <= _NEVER  # before a temperature divides it
        case, found = self.scaled(case)
        val, shift = case.validation(), case.shift()
        own = val.labels == k
        rows = int(own.sum())
        if not rows:
            raise DecisionError(f"val has no row of class '{self.class_name}'")
        scores = val.log_p[own] + shift
        rivals = scores.copy()
        rivals[:, k] = -np.inf
        needed = rivals.max(axis=1, initial=-np.inf) - scores[:, k]
        needed[never[own]] = np.inf
        needed.sort()
        wanted = math.ceil(self.level * rows - 1e-9)
        if not np.isfinite(needed[wanted - 1]):
            most = int(np.isfinite(needed).sum())
            raise DecisionError(
                f"val reaches a sensitivity of at most {most / rows:.3g} for class "
                f"'{self.class_name}' ({most} of {counted(rows, 'row')}): the others have a "
                f"probability of 0; {self.level:g} was asked for"
            )
        bias = np.zeros(len(case.class_names))
        bias[k] = _above(needed, wanted)
        reached = int((needed < bias[k]).sum())
        lower = float(betaincinv(reached, rows - reached + 1, 1 - self.confidence))
        found["values"] = {
            **found["values"],
            "sensitivity": reached / rows,
            "lower_bound": lower,
            "rows": float(rows),
        }
        if lower < self.level:
            found["notes"] = (
                *found["notes"],
                f"sensitivity {reached / rows:.3g} on {counted(rows, 'val row')} of class "
                f"'{self.class_name}'; on new rows it is above {lower:.3g} with "
                f"{100 * self.confidence:g} % confidence, not above {self.level:g}",
            )
        return self.fitted(case, offsets=shift, bias=bias, **found)


def _above(needed: Floats, wanted: int) -> float:
    """Return an offset just above the `wanted`-th need, below the next where it is larger."""
    at = float(needed[wanted - 1])
    larger = needed[needed > at]
    step = 1e-6 * max(1.0, abs(at))
    if len(larger) and np.isfinite(larger[0]):
        step = min(step, float(larger[0] - at) / 2)
    return at + step
