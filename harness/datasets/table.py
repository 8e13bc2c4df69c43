"""Tables: a CSV or Parquet file with a label column."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import (
    Features,
    Index,
    NotIdentity,
    TableDataset,
    dataset,
)
from harness.datasets.file_options import Delimiter, Encoding, NaValues
from harness.datasets.numerals import Decimal, Thousands
from harness.datasets.table_columns import one_hot, standardised
from harness.datasets.table_parts import ColumnName, Parsed, parse
from harness.errors import DataError


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
    delimiter: Delimiter = "auto"
    """What stands between cells."""
    encoding: Encoding = "auto"
    """Encoding of a text file; by default as its byte-order mark says, else UTF-8."""
    decimal: Decimal = "auto"
    """What stands before decimals; by default that is found out where the values show it."""
    thousands: Thousands = "auto"
    """What groups digits by three; ``none`` where nothing does."""
    na_values: NaValues | None = None
    """Cells that hold no value, in every column and besides empty ones, in place of the usual: of a
    label or group ``?``, ``nan``, ``#N/A``; of text ``NA``, ``n/a``, ``null`` besides. In a column
    of numbers the usual marks are always missing."""
    unlabelled: Literal["error", "drop"] = "error"
    """What to do with rows without a label."""
    drop_columns: tuple[ColumnName, ...] = ()
    """Columns to leave out, such as an identifier."""
    keep_columns: tuple[ColumnName, ...] = ()
    """Features that would be left out because they count or name the rows."""
    categorical: tuple[ColumnName, ...] = ()
    """Columns of numbers that are names, such as a code; columns of text always are."""
    split_column: ColumnName | None = None
    """Column of train, val and test."""
    group_column: ColumnName | None = None
    """Rows of one group (a patient) never straddle a split."""
    fold_column: ColumnName | None = None
    """Column of the fold a row belongs to."""
    normalize_labels: bool = False
    """Whether labels that look alike are one class, and groups one group: they differ in case,
    blanks, invisible characters, the form of an accent, or in how a number is written."""

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

    def columns(self) -> Mapping[str, str]:
        """Return what became of each column of the file, by name."""
        return self._parsed().became

    def _parsed(self) -> Parsed:
        path = self.file.expanduser().absolute()
        status = path.stat() if path.is_file() else None
        state = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        try:
            return parse(self, path, state)
        except DataError as error:
            raise error.within(str(path)) from None
