"""Tables as they lie in files: cells, header, delimiter, missing values. Decides nothing else.

Cells are read as text, so that "01" stays "01" where it is a label, and become numbers column by
column. Rows keep their number in the file, counted from 1 with the header, as a spreadsheet shows
it.
"""

import csv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import DataError, did_you_mean, listing

Texts = NDArray[np.object_]

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
"""Cells that hold no value, in any case."""

_SAMPLE_ROWS = 50


def read_cells(
    path: Path, header: bool | Literal["auto"], names: Sequence[str], delimiter: str
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the cells with named columns, and each row's number in the file.

    Args:
        path: A Parquet file (``.parquet``, ``.pq``) or delimited text in UTF-8.
        header: Whether the first row of a text holds names; ``auto`` looks (`has_header`).
        names: Names to use in place of the file's; columns of a text without a header are
            otherwise ``column_0``, ``column_1``, ….
        delimiter: One character, or ``auto``.

    Raises:
        DataError: The file is missing, empty or no table, or the names do not fit.
    """
    if not path.is_file():
        near = did_you_mean(path.name, _siblings(path))
        raise DataError(f"there is no such file{near}")
    if path.suffix.lower() in {".parquet", ".pq"}:
        cells = _read_parquet(path)
        rows = np.arange(1, len(cells) + 1, dtype=np.int64)
    else:
        cells, rows = _read_text(path, header, delimiter)
    if not len(cells):
        raise DataError("it has no rows")
    if cells.shape[1] < 2:
        raise DataError(
            "it has one column; a table needs a label and a feature (is the delimiter right?)"
        )
    return _named(cells, names), rows


def _siblings(path: Path) -> list[str]:
    return [p.name for p in islice(path.parent.iterdir(), 1000)] if path.parent.is_dir() else []


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path).reset_index(drop=True)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"not a readable Parquet file ({error})") from None


def _read_text(
    path: Path, header: bool | Literal["auto"], delimiter: str
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    try:
        cells = pd.read_csv(
            path,
            sep=_delimiter(path) if delimiter == "auto" else delimiter,
            header=None,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,  # they count where rows are named
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        raise DataError("the file is empty") from None
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"rows of different lengths ({reason})") from None
    except UnicodeDecodeError:
        raise DataError("not UTF-8 text; save the file as UTF-8") from None
    rows = np.arange(1, len(cells) + 1, dtype=np.int64)
    filled = (cells != "").any(axis=1).to_numpy(bool)
    cells, rows = cells[filled], rows[filled]
    if header is True or (header == "auto" and has_header(cells)):
        cells.columns = pd.Index([bare(cell) for cell in cells.iloc[0]])
        return cells.iloc[1:], rows[1:]
    cells.columns = pd.Index([""] * cells.shape[1])
    return cells, rows


def _delimiter(path: Path) -> str:
    """Return which delimiter cuts every one of the first rows into equally many cells.

    The comma comes last: where another one fits, commas are decimal or part of a text.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = [line for line in islice(file, _SAMPLE_ROWS) if line.strip()]
    for delimiter in "\t;|":
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return ","


def has_header(cells: pd.DataFrame) -> bool:
    """Return whether the first row holds names.

    It does if none of its cells is a number and it is unlike what lies below: some column holds
    numbers from there on, or no cell occurs again in its own column.

    Args:
        cells: The whole file as text, first row included.
    """
    if len(cells) < 2:
        return False
    first = np.array([bare(cell) for cell in cells.iloc[0]], dtype=object)
    if is_missing(first).all() or not np.isnan(_as_float(first)).all():
        return False
    below = [cells.iloc[1:, k] for k in range(cells.shape[1])]
    if any(column_numbers(column) is not None for column in below):
        return True
    return not any(cell in set(texts(column)) for cell, column in zip(first, below, strict=True))


def _named(cells: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    if names and len(names) != cells.shape[1]:
        raise DataError(f"{len(names)} column_names for {cells.shape[1]} columns")
    found = list(names) or [
        str(name) or f"column_{position}" for position, name in enumerate(cells.columns)
    ]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise DataError(
            f"columns of the same name: {listing(twice)}; rename them, give column_names, or "
            "say header: false if the first row is data"
        )
    cells.columns = pd.Index(found)
    return cells


def bare(cell: str) -> str:
    """Return a cell without blanks around it and without a pair of quotes around that."""
    cell = cell.strip()
    if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "'\"":
        cell = cell[1:-1].strip()
    return cell


def texts(column: "pd.Series[Any]") -> Texts:
    """Return the cells of a column as bare text, ``object[N]`` of str; missing ones are empty.

    Whole numbers are written without a decimal point, whatever the type of a Parquet column is.
    """
    if pd.api.types.is_float_dtype(column.dtype):
        cells = [f"{v:.0f}" if float(v).is_integer() else str(v) for v in column.to_numpy(float)]
    else:
        cells = ["" if value is None or value is pd.NA else bare(str(value)) for value in column]
    found = np.array(cells, dtype=object)
    found[is_missing(found)] = ""
    return found


def is_missing(cells: Texts) -> NDArray[np.bool_]:
    """Return which cells hold no value, ``bool[N]``."""
    return np.fromiter((cell.lower() in MISSING for cell in cells), bool, len(cells))


def column_numbers(column: "pd.Series[Any]") -> NDArray[np.float64] | None:
    """Return a column as ``float64[N]``, NaN where missing; None if a cell is no number.

    None as well where every cell of a text is missing.
    """
    if pd.api.types.is_bool_dtype(column.dtype):
        return None  # two categories, as in a text file
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = _as_float(column)
    if not np.isnan(values).any():
        return values
    return numbers(texts(column))


def numbers(cells: Texts) -> NDArray[np.float64] | None:
    """Return bare text as ``float64[N]``, NaN where missing; None if a cell is no number.

    None as well where every cell is missing.
    """
    missing = is_missing(cells)
    values = _as_float(cells)
    return None if missing.all() or np.isnan(values[~missing]).any() else values


def _as_float(cells: "Texts | pd.Series[Any]") -> NDArray[np.float64]:
    return np.asarray(pd.to_numeric(pd.Series(cells), errors="coerce"), dtype=np.float64)
