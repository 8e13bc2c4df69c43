"""Least expected cost: what each mistake costs is given, and the cheapest decision is taken."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.decisions.base import Case, Fitted, Floats, rule
from harness.decisions.plain import Adjusting
from harness.decisions.priors import by_class, check_classes
from harness.errors import ConfigError

Given = Mapping[str, Any]
"""A number for each class, or a row of numbers for each."""


@rule("costs")
class Costs(Adjusting):
    """Decide the class of least expected cost under the deployment prior.

    Elkan 2001, "The Foundations of Cost-Sensitive Learning", eq. 1: the decision k has the least
    Σ_c p(c | x) · cost[c][k] (his own matrix has decided classes as rows). Costs are given as one
    number per class, what it costs to miss it whatever is decided instead; or as a matrix by class
    names, first the *true* class (a row), then the *decided* one (a column)::

        {name: costs, costs: {healthy: 1, ill: 20}}
        {name: costs, costs: {healthy: {ill: 1}, ill: {healthy: 20}}}

    Deciding right costs 0 unless the matrix says otherwise.
    """

    costs: Given

    def fit(self, case: Case) -> Fitted:
        """Return the shift between the priors, with the matrix."""
        matrix = cost_matrix(self.costs, case.class_names)
        case, found = self.scaled(case)
        return self.fitted(case, offsets=case.shift(), costs=matrix, **found)


def cost_matrix(given: Given, class_names: tuple[str, ...]) -> Floats:
    """Return the costs, ``float64[C, C]``: rows are true classes, columns decided ones.

    Raises:
        ConfigError: A class is unknown or left out, a cost is negative or no number, the two ways
            of giving costs are mixed, or nothing costs anything.
    """
    rows = [isinstance(value, Mapping) for value in given.values()]
    if any(rows) and not all(rows):
        raise ConfigError("costs: give either one number per class or a row for each, not both")
    if any(rows):
        matrix = _matrix(given, class_names)
    else:
        missed = by_class(given, class_names, "costs")
        matrix = missed[:, None] * (1 - np.eye(len(class_names)))
    if (matrix < 0).any():
        true, decided = np.argwhere(matrix < 0)[0]
        raise ConfigError(
            f"costs: deciding '{class_names[decided]}' for true '{class_names[true]}' costs "
            f"{matrix[true, decided]:g}; costs are not negative"
        )
    if not matrix.any():
        raise ConfigError("costs: no mistake costs anything, so every decision is as good")
    return matrix


def _matrix(given: Mapping[str, Mapping[str, float]], class_names: tuple[str, ...]) -> Floats:
    check_classes(given, class_names, "costs: unknown", "costs: no row for", "true class")
    rows = []
    for name in class_names:
        row = {name: 0.0, **given[name]}
        rows.append(by_class(row, class_names, f"costs: true class '{name}'"))
    return np.stack(rows)
