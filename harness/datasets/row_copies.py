"""Rows of a table that equal each other: which do, and whether that is more than chance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.column_kinds import Column

_CODED = 50
"""Different values up to which a column holds codes, each as likely as it is frequent."""
_OFTEN = 5
"""Times the average frequency from which on a value of a column of many is frequent by itself."""


def row_digests(columns: Sequence[Column]) -> list[str]:
    """Return a digest of the features of each row, the same where these are the same.

    Numbers are the same to about six digits: a table that was written and read again by another
    program differs in the last ones.
    """
    frame = pd.DataFrame({str(k): _rounded(column) for k, column in enumerate(columns)})
    return [f"{value:016x}" for value in pd.util.hash_pandas_object(frame, index=False)]


def _rounded(column: Column) -> NDArray[Any]:
    """Return the values of a column, numbers in millionths of their usual distance, ``[N]``."""
    if not column.numeric:
        return column.values
    known = column.values[~np.isnan(column.values)]
    if not len(known):
        return column.values
    low, middle, high = np.quantile(known, (0.1, 0.5, 0.9))
    spread = (high - low) or np.ptp(known) or 1.0
    return np.asarray(np.round((column.values - middle) / spread * 1e6))


def equal_by_chance(columns: Sequence[Column], digests: Sequence[str]) -> bool:
    """Return whether there are no more pairs of equal rows than chance would give.

    Chance is that of columns that do not depend on each other: twice as many pairs, and three, are
    let pass.

    Args:
        columns: The features, N rows.
        digests: N digests of rows.
    """
    rows = len(digests)
    expected = rows * (rows - 1) / 2
    for column in columns:
        expected *= _equal(column)
    same = np.unique(digests, return_counts=True)[1]
    return bool((same * (same - 1) / 2).sum() <= 2 * expected + 3)


def _equal(column: Column) -> float:
    """Return how likely two values of a column are to be equal, were none a copy.

    Values of a column of many are as likely as each other on their grid (days, thousandths), but
    for those that are frequent by themselves: how often they come would count copies, too.
    """
    values = column.values if column.numeric else column.values.astype(str)
    different, counts = np.unique(values, return_counts=True)
    share = counts / len(values)
    often = counts > _OFTEN * counts.mean()
    if len(different) <= _CODED or often.all():
        return float((share**2).sum())
    places = int((~often).sum())
    if column.numeric and places > 1:
        known = different[~often & ~np.isnan(different)]
        gaps = np.diff(known)
        if len(gaps):
            places = max(places, round((known[-1] - known[0]) / gaps.min()))
    return float((share[often] ** 2).sum() + share[~often].sum() ** 2 / places)
