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

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.column_doubts import said_of
from harness.datasets.column_kinds import (
    LARGEST,
    Column,
    Writing,
    bare_cells,
    by_type,
    categories_of,
)
from harness.datasets.column_text import Text, apart, column_of, settle_commas
from harness.errors import counted, listing

__all__ = ["Column", "Writing", "one_hot", "standardised", "typed_columns"]

_SAME = 1e-12  # a relative spread that rounding alone can make
_FURTHEST = 1e30


def typed_columns(
    cells: pd.DataFrame,
    categorical: AbstractSet[str],
    writing: Writing = Writing(),  # noqa: B008
) -> tuple[tuple[Column, ...], list[str]]:
    """Return every column as numbers or text, and warnings.

    Args:
        cells: The feature columns.
        categorical: Columns that are categories although they hold numbers.
        writing: How values are written.

    Raises:
        DataError: A column holds infinite values, text that is no category, or commas that may be
            decimal or between thousands.
    """
    found: dict[str, Column] = {}
    waiting: dict[str, Text] = {}
    for name in map(str, cells.columns):
        column = cells[name]
        if name in categorical:
            found[name] = categories_of(name, bare_cells(column), writing)
        elif (typed := by_type(name, column, writing)) is not None:
            found[name] = typed
        else:
            waiting[name] = apart(name, column, writing)
    settle_commas(waiting, writing)
    found |= {name: column_of(text, writing) for name, text in waiting.items()}
    columns = tuple(found[str(name)] for name in cells.columns)
    said = (said_of(column, column.name in categorical) for column in columns)
    return columns, [*_ways(columns), *(text for remarks in said for text in remarks)]


def _ways(columns: Sequence[Column]) -> list[str]:
    """Return how columns were read, where that is not plain, those of one way together."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        for note in column.notes:
            alike.setdefault(note, []).append(f"'{column.name}'")
    return [
        f"{'column' if len(names) == 1 else 'columns'} {listing(names, 10)}: {note}"
        for note, names in alike.items()
    ]


def standardised(column: Column, train: NDArray[np.int64]) -> tuple[NDArray[np.float32], list[str]]:
    """Return ``float32[N, 1]`` with training mean 0 and standard deviation 1, and notes.

    ``float32[N, 0]`` where the training rows hold one value or none.
    """
    values = column.values
    missing = np.isnan(values)
    known = values[train][~missing[train]]
    if not len(known):
        return _nothing(len(values)), [_valueless(column)]
    notes = []
    if missing.any():
        median = np.median(known)
        values = np.where(missing, median, values)
        notes.append(
            f"column '{column.name}': {missing.sum()} of {counted(len(values), 'value')} missing, "
            f"set to {column.shown(float(median))}, the median of the training rows"
        )
    spread = values[train].std()
    if spread <= max(_SAME * np.abs(known).max(), 1 / LARGEST):
        if known.min() == known.max():
            return _nothing(len(values)), [_constant(column.name)]
        return _nothing(len(values)), [
            f"column '{column.name}' differs in the training rows by less than {_SAME:g} of its "
            f"values ({column.shown(known.min())}), as rounding does, and is left out"
        ]
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
    if len(categories) == 1 and categories[0] == "":
        return _nothing(len(values)), [_valueless(column)]
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


def _valueless(column: Column) -> str:
    where = "a row" if column.missing.all() else "a training row"
    return f"column '{column.name}' has no value in {where} and is left out"


def _constant(name: str) -> str:
    return f"column '{name}' is the same in every training row and is left out"
