"""Cells of any type as bare text, and which of them hold no value.

What stands for "no value" depends on what a column is. In a label or group, ``NA`` may be Namibia
and ``None`` a class: in a table only an empty cell and what nobody calls a class (``?``, ``nan``)
are missing, in a list of images only an empty cell. A column of text loses a few marks more, a
column of numbers every mark (`numerals.MARKS`). Where a user names the marks (`na_values`), those
are missing in every column, and no others in a label, a group or a column of text.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.numerals import MARKS
from harness.errors import counted, listing

Texts = NDArray[np.object_]
"""``object[N]`` of str; a missing cell is the empty text."""

NEVER_A_CLASS = frozenset({"", "?", "nan", "#n/a", "<na>", "nat"})
"""Cells of a label or group that hold no value, in any case."""

MISSING = NEVER_A_CLASS | {"na", "n/a", "null"}
"""Cells of a column of text that hold no value, in any case."""

PLAIN = frozenset({"", "?", "na", "n/a", "nan", "null"})
"""Those of them that need no word."""


def bare(cell: str) -> str:
    """Return a cell without blanks around it and without a pair of quotes around that."""
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "'\"":
        cell = cell[1:-1].strip()
    return cell


def as_text(column: "pd.Series[Any]") -> Texts:
    """Return the cells of a column as text without blanks around, ``object[N]`` of str.

    What is null, NaN, NaT or None in a column of any type is empty. Whole floats lose their point
    (a class number with gaps is a float in Parquet).
    """
    if pd.api.types.is_float_dtype(column.dtype):
        numbers = column.to_numpy(float, na_value=np.nan)
        found = [
            "" if np.isnan(n) else f"{n:.0f}" if float(n).is_integer() else str(n) for n in numbers
        ]
    else:
        found = [
            "" if missing else _text_of(value)
            for value, missing in zip(column, column.isna(), strict=True)
        ]
    return np.array(found, dtype=object)


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value).strip()


def without_marks(
    cells: Texts, marks: Collection[str] | None, usual: Collection[str] = NEVER_A_CLASS
) -> Texts:
    """Return cells with those that stand for "no value" emptied.

    Args:
        cells: Text.
        marks: What the user says stands for it (`na_values`), or None for `usual`.
        usual: In lower case, what does otherwise.
    """
    missing = is_missing(cells, usual) if marks is None else np.isin(cells, [*marks, ""])
    found = cells.copy()
    found[missing] = ""
    return found


def label_cells(column: "pd.Series[Any]", marks: Collection[str] | None) -> Texts:
    """Return the cells of a label or group, bare of blanks and quotes; missing ones are empty.

    Args:
        column: Of any type.
        marks: What the user says stands for "no value", or None for the usual.
    """
    return without_marks(np.array([bare(cell) for cell in as_text(column)], dtype=object), marks)


def texts(column: "pd.Series[Any]", marks: Collection[str] | None = None) -> Texts:
    """Return the cells of a column of text, bare of blanks and quotes; missing ones are empty.

    Args:
        column: Of any type.
        marks: What the user says stands for "no value", or None for the usual.
    """
    found = np.array([bare(cell) for cell in as_text(column)], dtype=object)
    return without_marks(found, marks, MISSING)


def is_missing(cells: Texts, usual: Collection[str] = MISSING) -> NDArray[np.bool_]:
    """Return which cells hold no value, ``bool[N]``."""
    return np.fromiter((cell.lower() in usual for cell in cells), bool, len(cells))


def doubtful_values(cells: Texts, what: str, column: str) -> list[str]:
    """Return a remark where a label or group is called like a missing value.

    Args:
        cells: The labels or groups.
        what: ``class`` or ``group``.
        column: Its name.
    """
    found = Counter(cell for cell in cells if cell and cell.lower() in MARKS)
    if not found:
        return []
    named = listing((f"'{cell}' ({counted(n, 'row')})" for cell, n in found.most_common()), 5)
    one = "is taken as the name of a" if len(found) == 1 else "are taken as names of"
    many = what if len(found) == 1 else {"class": "classes", "group": "groups"}[what]
    return [
        f"column '{column}': {named} {one} {many}; where that stands for a missing value, say "
        f"`na_values: [{', '.join(repr(cell) for cell in found)}]`"
    ]
