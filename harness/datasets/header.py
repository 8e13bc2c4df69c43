"""Whether the first row of a text file holds the names of its columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.cells import Texts, as_text, bare, is_missing, texts
from harness.datasets.numerals import MARKS

_ENOUGH = 10
"""Rows from which on a first row of numbers can be told from the others."""


def has_header(cells: pd.DataFrame) -> bool:
    """Return whether the first row holds names.

    It does if none of its cells is a number and it is unlike what lies below: some column holds
    numbers from there on, or no cell occurs again in its own column. A row with numbers in it
    (years as names) does if these count up or are unlike those below, no name comes twice, and a
    word stands above numbers or occurs nowhere else in its column.

    Args:
        cells: The whole file as text, first row included.
    """
    if not len(cells):
        return False
    first = np.array([bare(cell) for cell in cells.iloc[0]], dtype=object)
    if is_missing(first).all():
        return False
    if len(cells) == 1:
        return bool(np.isnan(as_float(first)).all())
    below = [cells.iloc[1:, k] for k in range(cells.shape[1])]
    if not np.isnan(as_float(first)).all():
        return _names_with_numbers(first, below)
    if any(all_numbers(column) for column in below):
        return True
    return not any(cell in set(texts(column)) for cell, column in zip(first, below, strict=True))


def _names_with_numbers(first: Texts, below: "Sequence[pd.Series[Any]]") -> bool:
    named = [cell for cell in first if cell]
    if len(set(named)) < len(named) or len(first) - len(named) > 1:
        return False
    found = as_float(first)
    word = np.array([bool(cell) and cell.lower() not in MARKS for cell in first]) & np.isnan(found)
    known = found[~np.isnan(found)]
    if len(below[0]) < _ENOUGH:
        return False
    if (known % 1 != 0).any() or (known < 0).any():
        return False
    values = np.stack([as_float(column) for column in below], axis=1)[:, ~np.isnan(found)]
    count_up = len(known) > 2 and bool((np.diff(known) == 1).all())
    if count_up:
        count_up = not (np.diff(values, axis=1) == 1).all(axis=1).any()
    if not word.any():
        return count_up
    low, high = np.nanmin(values, 0, initial=np.inf), np.nanmax(values, 0, initial=-np.inf)
    unlike = (known < low) | (known > high) | (np.nan_to_num(values) % 1 != 0).any(axis=0)
    if not count_up and unlike.mean() < 0.5:
        return False
    numeric = [all_numbers(column) for column in below]
    if any(w and n for w, n in zip(word, numeric, strict=True)):
        return True
    return not any(
        w and cell in set(texts(column)) for cell, column, w in zip(first, below, word, strict=True)
    )


def a_number_in_the_first_row(cells: pd.DataFrame) -> bool:
    """Return whether a number stands in the first row."""
    first = np.array([bare(cell) for cell in cells.iloc[0]], dtype=object)
    return not np.isnan(as_float(first)).all()


def all_numbers(column: "pd.Series[Any]") -> bool:
    """Return whether every cell of a text column is a number or missing, and one is a number."""
    values = as_float(column)
    if not np.isnan(values).any():
        return True
    cells = np.array([bare(cell) for cell in as_text(column)], dtype=object)
    values = as_float(cells)
    odd = np.isnan(values)
    return not odd.all() and bool(is_missing(cells[odd], MARKS).all())


def as_float(cells: "Texts | pd.Series[Any]") -> NDArray[np.float64]:
    """Return plain numbers as ``float64[N]``, NaN where a cell is none."""
    return np.asarray(pd.to_numeric(pd.Series(cells), errors="coerce"), dtype=np.float64)
