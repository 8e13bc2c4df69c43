"""Tables: a CSV or Parquet file with a label column."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from harness.datasets.base import (
    Features,
    Index,
    NotIdentity,
    TableDataset,
    dataset,
)
from harness.datasets.columns import filled, one_spelling, split_codes
from harness.datasets.table_columns import Column, one_hot, standardised, typed_columns
from harness.datasets.table_file import Texts, numbers, read_cells, texts
from harness.errors import DataError, did_you_mean, listing

ColumnName = str | int
"""A column's name, or its position from 0 (from −1 backwards)."""

_FEW_CLASSES = 20
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Parsed:
    """A table file taken apart."""

    index: Index
    columns: tuple[Column, ...]


@dataset("table")
class Table(TableDataset):
    """A CSV or Parquet file with a label column."""

    file: Annotated[Path, NotIdentity()]
    """The table; a header is found by itself."""
    label_column: ColumnName = -1
    """Column of the class; the last one by default."""
    header: bool | Literal["auto"] = "auto"
    """Whether the first row holds names; by default that is found out."""
    column_names: tuple[str, ...] = ()
    """Names in place of the file's own (without a header: column_0, column_1, …)."""
    delimiter: Annotated[str, Field(pattern="^(auto|.|\t)$")] = "auto"
    """What stands between cells."""
    drop_columns: tuple[ColumnName, ...] = ()
    """Columns to leave out, such as an identifier."""
    categorical: tuple[ColumnName, ...] = ()
    """Columns of numbers that are names, such as a code; columns of text always are."""
    split_column: ColumnName | None = None
    """Column of train, val and test."""
    group_column: ColumnName | None = None
    """Rows of one group (a patient) never straddle a split."""
    fold_column: ColumnName | None = None
    """Column of the fold a row belongs to."""
    normalize_labels: bool = False
    """Whether labels that differ only in case and blanks are one class."""

    def index(self) -> Index:
        """Return labels, splits and fingerprint.

        Raises:
            DataError: The file, a column or a value is not what it should be.
        """
        return self._parsed().index

    def read(self, index: Index) -> NDArray[np.float64]:
        """Return the columns as found, ``float64[N, columns]``.

        NaN where a value is missing; text as the position of its value among the sorted values.
        """
        found = []
        for column in self._parsed().columns:
            values = column.values
            if not column.numeric:
                _, codes = np.unique(values.astype(str), return_inverse=True)
                values = np.where(values == "", np.nan, codes)
            found.append(values.astype(np.float64))
        return np.stack(found, axis=1)

    def features(self, index: Index, train: NDArray[np.int64]) -> Features:
        """Return ``float32[N, D]``, imputed, standardised and one-hot as fitted on `train`."""
        values: list[NDArray[np.float32]] = []
        continuous: list[bool] = []
        notes: list[str] = []
        for column in self._parsed().columns:
            encode = standardised if column.numeric else one_hot
            encoded, remarks = encode(column, train)
            values.append(encoded)
            continuous += [column.numeric] * encoded.shape[1]
            notes += remarks
        stacked = np.concatenate(values, axis=1)
        if not stacked.shape[1]:
            raise DataError(
                f"dataset '{self.display()}': every column is constant in the training rows"
            )
        return Features(stacked, np.array(continuous, bool), tuple(notes))

    def _parsed(self) -> Parsed:
        path = self.file.expanduser().absolute()
        status = path.stat() if path.is_file() else None
        state = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        try:
            return _parse(self, path, state)
        except DataError as error:
            raise error.within(str(path)) from None


@functools.lru_cache(maxsize=2)
def _parse(table: Table, path: Path, _state: tuple[int, int]) -> Parsed:
    """Take the file of `table` apart, once for each state of the file."""
    cells, rows = read_cells(path, table.header, table.column_names, table.delimiter)
    label = _resolve(cells, table.label_column, "label_column")
    roles = {
        role: _resolve(cells, wanted, role)
        for role in ("split_column", "group_column", "fold_column")
        if (wanted := getattr(table, role)) is not None
    }
    dropped = {_resolve(cells, name, "drop_columns") for name in table.drop_columns}
    named = {_resolve(cells, name, "categorical") for name in table.categorical}
    taken = {label, *roles.values(), *dropped}
    if named & taken:
        raise DataError(f"categorical names what is no feature: {listing(sorted(named & taken))}")
    columns, warnings = typed_columns(cells.drop(columns=sorted(taken)), named)
    if not columns:
        raise DataError(f"no feature column besides {listing(sorted(taken))}")
    labels, names, remarks = _labels(texts(cells[label]), label, rows, table.normalize_labels)
    found = {role: filled(texts(cells[name]), rows, name) for role, name in roles.items()}
    index = Index(
        labels=labels,
        class_names=names,
        content=hashlib.sha256(path.read_bytes()).hexdigest(),
        shape=(len(columns),),
        ids=[str(row) for row in rows],
        split=split_codes(found["split_column"], rows, roles["split_column"])
        if "split_column" in found
        else None,
        group=_codes(found["group_column"])[0] if "group_column" in found else None,
        fold=_codes(found["fold_column"])[0] if "fold_column" in found else None,
        warnings=(*remarks, *warnings),
    )
    return Parsed(index, columns)


def _resolve(cells: pd.DataFrame, wanted: ColumnName, role: str) -> str:
    """Return the name of a column given by name or position."""
    names = [str(name) for name in cells.columns]
    if isinstance(wanted, int):
        if not -len(names) <= wanted < len(names):
            raise DataError(f"{role} {wanted}: there are {len(names)} columns, from 0 on")
        return names[wanted]
    if wanted not in names:
        raise DataError(
            f"{role} '{wanted}': no such column{did_you_mean(wanted, names)} "
            f"(there are: {listing(names)})"
        )
    return wanted


def _labels(
    cells: Texts, name: str, rows: NDArray[np.int64], normalize: bool
) -> tuple[NDArray[np.int64], tuple[str, ...], list[str]]:
    """Return labels, class names in numeric or else alphabetic order, and warnings."""
    cells, warnings = one_spelling(filled(cells, rows, name), normalize)
    labels, names = _codes(cells)
    if len(names) > _MOST_CLASSES or len(names) > max(_FEW_CLASSES, len(cells) / 2):
        raise DataError(
            f"column '{name}' has {len(names)} different values in {len(cells)} rows: that is no "
            "class; say which column is, with label_column"
        )
    return labels, names, warnings


def _codes(cells: Texts) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return each cell's position among the sorted values, ``int64[N]``, and the values."""
    names = sorted(set(cells))
    values = numbers(np.array(names, dtype=object))
    if values is not None:
        names = [names[k] for k in np.argsort(values, kind="stable")]
    position = {name: k for k, name in enumerate(names)}
    return np.array([position[cell] for cell in cells], dtype=np.int64), tuple(names)
