"""Rules that are fitted on val for the primary metric: one number for all classes, or one each."""

from typing import Annotated

import numpy as np
from pydantic import Field

from harness.decisions.base import Case, Fitted, Floats, Ints, Val, rule
from harness.decisions.objective import Objective
from harness.decisions.plain import Adjusting
from harness.errors import listing

_TAUS = np.linspace(0.0, 2.0, 21)
_SWEEPS = 10
"""Most passes over the classes; a fit ends as soon as one changes nothing."""
_CANDIDATES = 24
"""Most values tried per class where an objective is no sum over rows."""
_GAIN = 1e-9
"""Gains below this are of rounding."""


@rule("prior_tuned")
class PriorTuned(Adjusting):
    """Move τ of the way from the prior of training to that of deployment, τ fitted on val.

    Post-hoc logit adjustment with a tuned τ (Menon et al. 2021): of 0, 0.1, …, 2 the
    best by the primary metric on val, of equals the nearest to 1.
    """

    def fit(self, case: Case) -> Fitted:
        """Fit τ."""
        case, found = self.scaled(case)
        val, shift = case.validation(), case.shift()
        worth = np.array([_value(val, tau * shift) for tau in _TAUS])
        best = np.flatnonzero(worth >= worth.max() - _GAIN)
        tau = float(_TAUS[best[np.abs(_TAUS[best] - 1.0).argmin()]])
        found["values"] = {**found["values"], "tau": tau}
        return self.fitted(case, offsets=tau * shift, **found)


def _value(val: Val, offsets: Floats) -> float:
    return val.objective.value((val.log_p + offsets).argmax(axis=1))


@rule("thresholds")
class Thresholds(Adjusting):
    """One offset per class, fitted on val for the primary metric and shrunk towards `prior`.

    From the offsets of `prior`, one class after the other gets the offset that is best on val with
    the others held (coordinate ascent); of equals the nearest to that of `prior`. What a class of
    n val rows was moved, relative to the largest, is then multiplied by n / (n + `shrinkage`): an
    offset read off few rows is mostly chance. A class without a val row keeps the offset of
    `prior`. Adjusted probabilities are those of `prior`.
    """

    shrinkage: Annotated[float, Field(ge=0.0)] = 20.0
    """Val rows at which a class keeps half of what it was moved."""

    def fit(self, case: Case) -> Fitted:
        """Fit an offset per class."""
        case, found = self.scaled(case)
        val, shift = case.validation(), case.shift()
        counts = val.counts()
        moved = _ascent(val.log_p + shift, val.labels, val.objective)
        moved -= moved[counts.argmax()]  # only differences between classes decide
        with np.errstate(invalid="ignore"):  # 0 / 0 without shrinkage
            keep = np.where(counts > 0, counts / (counts + self.shrinkage), 0.0)
        found["notes"] = (*found["notes"], *_absent(case, counts))
        return self.fitted(case, offsets=shift, bias=moved * keep, **found)


def _absent(case: Case, counts: Ints) -> tuple[str, ...]:
    names = [case.class_names[k] for k in np.flatnonzero(counts == 0)]
    if not names:
        return ()
    return (f"no val row of class {listing(names)}: the offset of `prior` is kept for it",)


def _ascent(scores: Floats, labels: Ints, objective: Objective) -> Floats:
    """Return what each class is moved, ``float64[C]``, for the largest objective.

    Args:
        scores: ``float64[n, C]`` to start from.
        labels: ``int64[n]``.
        objective: Of decisions on these rows.
    """
    scores = scores.copy()
    classes = scores.shape[1]
    moved = np.zeros(classes)
    best = objective.value(scores.argmax(axis=1))
    present = np.flatnonzero(np.bincount(labels, minlength=classes))
    first, second = _leaders(scores)
    rows = np.arange(len(labels))
    for _ in range(_SWEEPS):
        before = best
        for k in present.tolist():
            other = np.where(first == k, second, first)
            needed = scores[rows, other] - scores[:, k]
            tried = _sweep if objective.weights is not None else _tries
            by, value = tried(needed, other, k, labels, objective, -moved[k])
            if value > best + _GAIN:
                best = value
                moved[k] += by
                scores[:, k] += by
                first, second = _leaders(scores)
        if best <= before + _GAIN:
            break
    return moved


def _leaders(scores: Floats) -> tuple[Ints, Ints]:
    """Return the classes of the largest and of the second largest score, ``int64[n]`` each."""
    rows, first = np.arange(len(scores)), scores.argmax(axis=1)
    rest = scores.copy()
    rest[rows, first] = -np.inf
    return first, rest.argmax(axis=1)


def _between(needed: Floats) -> tuple[Ints, Floats]:
    """Return an order of rows by what they need, and the values between neighbours.

    A class that is moved by the j-th value wins the first j rows of the order. Between equal
    needs there is no such value, and it is NaN.
    """
    order = np.argsort(needed, kind="stable")
    sorted_needs = needed[order]
    middle = (sorted_needs[1:] + sorted_needs[:-1]) / 2
    middle[np.diff(sorted_needs) <= 0] = np.nan
    ends = (sorted_needs[0] - 1.0, sorted_needs[-1] + 1.0)
    return order, np.concatenate([ends[:1], middle, ends[1:]])


def _sweep(
    needed: Floats, other: Ints, k: int, labels: Ints, objective: Objective, home: float
) -> tuple[float, float]:
    """Return the best move of class `k` and its value, for an objective that is a sum over rows."""
    assert objective.weights is not None
    order, moves = _between(needed)
    own = np.where(labels == k, objective.weights, 0.0)
    lost = np.where(other == labels, objective.weights, 0.0)
    values = lost.sum() + np.concatenate([[0.0], np.cumsum((own - lost)[order])])
    values[np.isnan(moves)] = -np.inf
    return _nearest(moves, values, home)


def _tries(
    needed: Floats, other: Ints, k: int, labels: Ints, objective: Objective, home: float
) -> tuple[float, float]:
    """Return the same for any objective, from moves spread over the rows of the class."""
    _, moves = _between(needed)
    moves = moves[~np.isnan(moves)]
    if len(moves) > _CANDIDATES:
        low, high = np.quantile(needed[labels == k], [0.0, 1.0])
        near = moves[(moves >= low - 1.0) & (moves <= high + 1.0)]
        moves = near[np.unique(np.linspace(0, len(near) - 1, _CANDIDATES).astype(np.int64))]
    values = np.array([objective.value(np.where(needed < by, k, other)) for by in moves])
    return _nearest(moves, values, home)


def _nearest(moves: Floats, values: Floats, home: float) -> tuple[float, float]:
    """Return the best move, of equals the nearest to `home`, and its value."""
    best = np.flatnonzero(values >= values.max() - _GAIN)
    at = best[np.abs(moves[best] - home).argmin()]
    return float(moves[at]), float(values[at])
