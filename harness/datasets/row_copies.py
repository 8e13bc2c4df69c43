"""Rows of a table that equal each other: which do, and whether that is more than chance."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.datasets.column_kinds import Column

_CODED = 50
"""Different values up to which a column holds codes, each as likely as it is frequent."""
_OFTEN = 5
"""Times the average frequency from which on a value of a column of many is frequent by itself."""


def row_digests(columns: Sequence[Column]) -> list[str]:
    """Return a digest of the features of each row, the same where these are the same."""
    frame = pd.DataFrame({str(k): column.values for k, column in enumerate(columns)})
    return [f"{value:016x}" for value in pd.util.hash_pandas_object(frame, index=False)]


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
