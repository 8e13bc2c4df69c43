"""Feature columns of a table: what they hold, and how they become numbers.

What a column holds (numbers or text) is decided from the whole file; everything fitted (medians,
means, spreads, categories) comes from training rows only, so that no value of a val or test row
reaches a training row.

- Numbers: a missing one becomes the training median; then mean 0, standard deviation 1.
- Text: a column of 0 and 1 for each category that a training row has. A missing value is a
  category of its own (that nobody measured it often tells something); a category that no training
  row has becomes zeros.
- A column that is constant in the training rows is left out and named.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.table_file import Texts, column_numbers, numbers, texts
from harness.errors import DataError, counted, listing

MOST_CATEGORIES = 1000
LARGEST = 1e100  # its square, and a sum of many squares, is still a number
_SAME = 1e-12  # a relative spread that rounding alone can make
_FURTHEST = 1e30


@dataclass(frozen=True)
class Column:
    """A feature column as found, before anything is fitted.

    Attributes:
        name: Its name.
        values: ``float64[N]`` of numbers, NaN where missing; or ``object[N]`` of text, empty
            where missing.
    """

    name: str
    values: NDArray[Any]

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.values.dtype != np.object_


def typed_columns(
    cells: pd.DataFrame, categorical: AbstractSet[str]
) -> tuple[tuple[Column, ...], list[str]]:
    """Return every column as numbers or text, and warnings.

    Args:
        cells: The feature columns.
        categorical: Columns that are categories although they hold numbers.

    Raises:
        DataError: A column holds infinite values, or text that is no category.
    """
    columns, warnings = [], []
    for name in map(str, cells.columns):
        values = None if name in categorical else column_numbers(cells[name])
        if values is None:
            text = texts(cells[name])
            if name not in categorical:
                warnings += _doubts(name, text)
            columns.append(Column(name, text))
            continue
        infinite = int((np.abs(values) > LARGEST).sum())
        if infinite:
            raise DataError(
                f"column '{name}' has {counted(infinite, 'infinite value')} (beyond {LARGEST:g}); "
                "leave the cell empty to have it imputed, or name the column under drop_columns"
            )
        columns.append(Column(name, values))
    return tuple(columns), warnings


def _doubts(name: str, text: Texts) -> list[str]:
    """Return why a column of text may not be meant as categories."""
    different = sorted(set(text) - {""})
    if len(different) > MOST_CATEGORIES:
        raise DataError(
            f"column '{name}' is text with {len(different):,} different values such as "
            f"{listing(map(repr, different), 3)}: more than {MOST_CATEGORIES:,} categories; name "
            "it under drop_columns, or under categorical if that is meant"
        )
    odd = [value for value in different if numbers(np.array([value], dtype=object)) is None]
    if 10 * len(odd) < len(different):
        return [
            f"column '{name}' is taken as text because of {listing(map(repr, odd), 3)}; otherwise "
            "it holds numbers"
        ]
    if len(different) > max(20, len(text) / 2):
        return [
            f"column '{name}' has {len(different)} different texts in {len(text)} rows: if it is "
            "an identifier, name it under drop_columns"
        ]
    return []


def standardised(column: Column, train: NDArray[np.int64]) -> tuple[NDArray[np.float32], list[str]]:
    """Return ``float32[N, 1]`` with training mean 0 and standard deviation 1, and notes.

    ``float32[N, 0]`` where the training rows hold one value or none.
    """
    values = column.values
    missing = np.isnan(values)
    known = values[train][~missing[train]]
    if not len(known):
        return _nothing(len(values)), [f"column '{column.name}' has no value in a training row"]
    notes = []
    if missing.any():
        median = np.median(known)
        values = np.where(missing, median, values)
        notes.append(
            f"column '{column.name}': {missing.sum()} of {counted(len(values), 'value')} missing, "
            f"set to {median:g}, the median of the training rows"
        )
    spread = values[train].std()
    if spread <= max(_SAME * np.abs(known).max(), 1 / LARGEST):
        return _nothing(len(values)), [_constant(column.name)]
    scaled = (values - values[train].mean()) / spread
    # a val or test value may lie further out than a float32 reaches
    scaled = scaled.clip(-_FURTHEST, _FURTHEST)
    return scaled[:, None].astype(np.float32), notes


def one_hot(column: Column, train: NDArray[np.int64]) -> tuple[NDArray[np.float32], list[str]]:
    """Return ``float32[N, categories]`` of 0 and 1, and notes.

    ``float32[N, 0]`` where the training rows hold one category.
    """
    values = column.values.astype(str)
    categories = np.unique(values[train])
    if len(categories) < 2:
        return _nothing(len(values)), [_constant(column.name)]
    at = np.searchsorted(categories, values).clip(max=len(categories) - 1)
    known = categories[at] == values
    encoded = np.zeros((len(values), len(categories)), np.float32)
    encoded[np.flatnonzero(known), at[known]] = 1.0
    unknown = int((~known).sum())
    if not unknown:
        return encoded, []
    return encoded, [
        f"column '{column.name}': {counted(unknown, 'row has', 'rows have')} a category that no "
        "training row has"
    ]


def _nothing(rows: int) -> NDArray[np.float32]:
    return np.zeros((rows, 0), np.float32)


def _constant(name: str) -> str:
    return f"column '{name}' is the same in every training row and is left out"
