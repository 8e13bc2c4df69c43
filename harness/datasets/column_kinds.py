"""What each feature column of a table holds: numbers, dates, durations or categories.

Decided from the whole file. A cell that stands for "no value" is missing in whatever type a column
has; a column of numbers stays one where some cells hold such a mark.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.cells import MISSING, Texts, as_text, bare, without_marks
from harness.datasets.header import as_float
from harness.datasets.numerals import Decimal, Thousands
from harness.errors import DataError, counted

Kind = Literal["numbers", "dates", "durations", "categories"]

MOST_CATEGORIES = 1000
LARGEST = 1e100  # its square, and a sum of many squares, is still a number
EXACT = 2**53
"""Beyond it a float64 does not hold every whole number."""

_FEW = 20
_MOSTLY = 0.9
_CODES = {9.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
"""Numbers by which people write "no value", whatever their sign."""

_WHOLE = re.compile(r"[+-]?\d+")
_ZEROS = re.compile(r"0\d+")


@dataclass(frozen=True)
class Column:
    """A feature column as found, before anything is fitted.

    Attributes:
        name: Its name.
        values: ``float64[N]`` of numbers (dates are microseconds since 1970, durations
            microseconds), NaN where missing; or ``object[N]`` of text, empty where missing.
        kind: What it holds; by default as its values are.
        notes: How it was read, where that is not plain.
        anew: Whether the first version of this reader read it otherwise.
    """

    name: str
    values: NDArray[Any]
    kind: Kind | None = None
    notes: tuple[str, ...] = ()
    anew: bool = False

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.values.dtype != np.object_

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which values are missing, ``bool[N]``."""
        found: NDArray[np.bool_] = np.isnan(self.values) if self.numeric else self.values == ""
        return found

    def became(self) -> str:
        """Return in words what it is taken for."""
        absent = int(self.missing.sum())
        if absent == len(self.values):
            return "no value in any row: left out"
        if not absent and (self.values == self.values[0]).all():
            return "the same in every row: left out"
        what: str = self.kind or "numbers"
        if not self.numeric:
            what = counted(len(set(self.values) - {""}), "category", "categories")
        gaps = f"{absent:,} of {len(self.values):,} missing" if absent else ""
        return "; ".join(filter(None, (what, gaps, *self.notes)))

    def shown(self, value: float) -> str:
        """Return one of its numbers as a person writes it."""
        if self.kind == "dates":
            return str(pd.Timestamp(int(value), unit="us")).removesuffix(" 00:00:00")
        if self.kind == "durations":
            return str(pd.Timedelta(int(value), unit="us"))
        return f"{value:g}"


@dataclass(frozen=True)
class Writing:
    """How values are written, as far as the user says.

    Attributes:
        decimal: What stands before decimals.
        thousands: What groups digits by three.
        marks: What stands for "no value", or None for the usual.
    """

    decimal: Decimal = "auto"
    thousands: Thousands = "auto"
    marks: tuple[str, ...] | None = None

    def without(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return numbers with those that stand for "no value" as NaN."""
        marks = as_float(np.array(self.marks or (), dtype=object))
        return np.where(np.isin(values, marks), np.nan, values) if len(marks) else values


def bare_cells(column: "pd.Series[Any]") -> Texts:
    """Return the cells of a column as text, without blanks and quotes around."""
    return np.array([bare(cell) for cell in as_text(column)], dtype=object)


def by_type(name: str, column: "pd.Series[Any]", writing: Writing) -> Column | None:
    """Return a column whose type tells what it holds; None for text, categories and objects."""
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind):
        return categories_of(name, bare_cells(column), writing)  # as in a text file
    if pd.api.types.is_integer_dtype(kind):
        known = column.dropna()
        if len(known) and max(abs(int(known.max())), abs(int(known.min()))) > EXACT:
            absent = column.isna().to_numpy(bool)
            whole = [0 if m else int(v) for v, m in zip(column, absent, strict=True)]
            return whole_numbers(name, whole, absent)
    if pd.api.types.is_numeric_dtype(kind):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers_of(name, writing.without(values))
    return _moments(name, column)


def _moments(name: str, column: "pd.Series[Any]") -> Column | None:
    """Return a column of dates, periods or durations; None if it is another."""
    kind, absent = column.dtype, column.isna().to_numpy(bool)
    if isinstance(kind, pd.ArrowDtype):
        arrow = str(kind.pyarrow_dtype)
        if arrow.startswith(("timestamp", "date")):
            column = pd.to_datetime(column.astype(object), errors="coerce", utc=True)
        elif arrow.startswith("duration"):
            column = pd.to_timedelta(column.astype(object), errors="coerce")
    elif isinstance(kind, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    lengths = pd.api.types.is_timedelta64_dtype(column.dtype)
    if not lengths and not pd.api.types.is_datetime64_any_dtype(column.dtype):
        return None
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    unit = "m8[us]" if lengths else "M8[us]"
    # without blanks as the first version had them, in the unit of the column
    moments = column.to_numpy().astype(unit) if absent.any() else column.to_numpy()
    values = np.where(absent, np.nan, moments.astype(np.int64).astype(np.float64))
    what: Kind = "durations" if lengths else "dates"
    return Column(name, values, what, anew=bool(absent.any()) or kind != column.dtype)


def numbers_of(
    name: str, values: NDArray[np.float64], notes: Sequence[str] = (), anew: bool = False
) -> Column:
    """Return a column of numbers; categories where the only thing to tell is whether there is one.

    Raises:
        DataError: Some are infinite.
    """
    infinite = int((np.abs(values) > LARGEST).sum())
    if infinite:
        raise DataError(
            f"column '{name}' has {counted(infinite, 'infinite value')} (beyond {LARGEST:g}); "
            "leave the cell empty to have it imputed, or name the column under drop_columns"
        )
    missing = np.isnan(values)
    known = values[~missing]
    if missing.any() and len(known) and known.min() == known.max():
        there = np.where(missing, "", f"{known[0]:g}").astype(object)
        return Column(name, there, "categories", (*notes, "there or not there"), True)
    return Column(name, values, "numbers", tuple(notes), anew)


def whole_numbers(name: str, whole: Sequence[int], missing: NDArray[np.bool_]) -> Column:
    """Return whole numbers beyond what a float64 holds, counted from the smallest of them."""
    smallest = min(n for n, absent in zip(whole, missing, strict=True) if not absent)
    values = np.array([float(n - smallest) for n in whole])
    values[missing] = np.nan
    note = f"counted from the smallest, {smallest}, for they are beyond 2**53"
    return numbers_of(name, values, [note], anew=True)


def categories_of(name: str, cells: Texts, writing: Writing) -> Column:
    """Return a column of categories."""
    values = without_marks(cells, writing.marks, MISSING)
    # what the first version did not take for missing in text
    other = {cell.lower() for cell in cells[values == ""]} & {"#n/a", "<na>", "nat"}
    return Column(name, values, "categories", anew=bool(other) or writing.marks is not None)
