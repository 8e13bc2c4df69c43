"""Tables as they lie in files: bytes, encoding, delimiter, rows of cells. Decides nothing else.

Cells are read as text, so that "01" stays "01" where it is a label, and become numbers column by
column. Rows keep their number in the file, counted from 1 with the header, as a spreadsheet shows
it.
"""

import bz2
import codecs
import csv
import functools
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, Any, Literal, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.cells import bare
from harness.datasets.header import a_number_in_the_first_row, has_header
from harness.errors import DataError, counted, did_you_mean, listing

_SAMPLE_ROWS = 50
_PARQUET, _ZIP, _ZSTD = b"PAR1", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
_MARKED = (  # the longer marks first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TOLD = re.compile(r"sep=(.)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a file is laid out, as far as the user says.

    Attributes:
        header: Whether the first row of a text holds names; ``auto`` looks (`has_header`).
        names: Names in place of the file's; columns of a text without a header are otherwise
            ``column_0``, ``column_1``, ….
        delimiter: One character, or ``auto``.
        encoding: Of a text, or ``auto``: as its byte-order mark says, else UTF-8.
    """

    header: bool | Literal["auto"] = "auto"
    names: Sequence[str] = ()
    delimiter: str = "auto"
    encoding: str = "auto"


@dataclass(frozen=True)
class Cells:
    """A file taken apart.

    Attributes:
        frame: The cells, with named columns.
        rows: ``int64[N]``: each row's number in the file.
        index: What a Parquet file keeps as the index of its rows, by name.
        notes: What the user should know.
        nameless: Whether the first column of a text has no name where others have one.
        header: Whether the first row held names.
        anew: Whether the cells are others than the first version of this reader gave.
    """

    frame: pd.DataFrame
    rows: NDArray[np.int64]
    index: "Mapping[str, pd.Series[Any]]" = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    nameless: bool = False
    header: bool = True
    anew: bool = False

    def column(self, name: str) -> "pd.Series[Any]":
        """Return a column, or a part of the index."""
        return self.frame[name] if name in self.frame.columns else self.index[name]

    def take(self, kept: NDArray[np.bool_]) -> Self:
        """Return some of the rows."""
        index = {name: part[kept] for name, part in self.index.items()}
        return replace(self, frame=self.frame[kept], rows=self.rows[kept], index=index)


@dataclass
class _Raw:
    frame: pd.DataFrame
    rows: NDArray[np.int64]
    index: "dict[str, pd.Series[Any]]" = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    header: bool = True
    anew: bool = False


def read_cells(path: Path, layout: Layout = Layout()) -> Cells:
    """Return the cells of a file.

    Args:
        path: A Parquet file, or delimited text, also packed by gzip, bzip2 or xz.
        layout: How it is laid out.

    Raises:
        DataError: The file is missing, empty or no table, or the names do not fit.
    """
    if not path.is_file():
        near = did_you_mean(path.name, _siblings(path))
        raise DataError(f"there is no such file{near}")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET) or path.suffix.lower() in {".parquet", ".pq"}:
        raw = _read_parquet(path)
    else:
        raw = _read_text(path, layout, start)
    if not len(raw.frame):
        raise DataError("it has a header and no rows" if raw.header else "it has no rows")
    if raw.frame.shape[1] < 2:
        raise DataError(
            "it has one column; a table needs a label and a feature (is the delimiter right?)"
        )
    nameless = raw.header and not layout.names and not str(raw.frame.columns[0])
    frame = _named(raw.frame, layout.names)
    index = {name: part for name, part in raw.index.items() if name not in frame.columns}
    return Cells(frame, raw.rows, index, tuple(raw.notes), nameless, raw.header, raw.anew)


def _siblings(path: Path) -> list[str]:
    return [p.name for p in islice(path.parent.iterdir(), 1000)] if path.parent.is_dir() else []


def _read_parquet(path: Path) -> _Raw:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"not a readable Parquet file ({error})") from None
    rows = np.arange(1, len(frame) + 1, dtype=np.int64)
    plain = frame.reset_index(drop=True)
    named = [str(name) for name in frame.index.names if name is not None]
    parts = {name: pd.Series(frame.index.get_level_values(name)) for name in named}
    return _Raw(plain, rows, parts)


def _open(path: Path, start: bytes) -> IO[bytes]:
    """Return the bytes of a text, unpacked."""
    if start.startswith(_ZIP):
        raise DataError("a ZIP archive or a spreadsheet (.xlsx); unpack it, or save it as CSV")
    if start.startswith(_ZSTD):
        raise DataError("packed by Zstandard; unpack it, or pack it by gzip")
    opener = next((open_ for magic, open_ in _PACKED.items() if start.startswith(magic)), open)
    return cast("IO[bytes]", opener(path, "rb"))


def _read_text(path: Path, layout: Layout, start: bytes) -> _Raw:
    try:
        encoding = layout.encoding
        if encoding == "auto":
            with _open(path, start) as packed:
                encoding = _encoding(packed.read(4))

        def reopen(skip: int = 0) -> IO[str]:
            reader = io.TextIOWrapper(_open(path, start), encoding, newline="")
            for _ in range(skip):
                reader.readline()
            return reader

        with reopen() as reader:
            lines = [line for line in islice(reader, _SAMPLE_ROWS) if line.strip()]
        told = _TOLD.fullmatch(lines[0]) if lines else None  # as Excel writes and reads it
        delimiter, anew = layout.delimiter, False
        if delimiter == "auto":
            delimiter, anew = (told[1], True) if told else _delimiter(lines)
        skipped = 1 if told else 0
        with _below_comments(lines):
            raw = _parsed(functools.partial(reopen, skipped), delimiter, skipped)
    except _BROKEN as error:
        raise DataError(f"cannot be read ({error})") from None
    except (UnicodeError, LookupError):
        raise DataError(_not_in(layout.encoding, start)) from None
    raw.anew |= anew
    _without_blank(raw)
    _head(raw, layout.header)
    return raw


@contextmanager
def _below_comments(lines: Sequence[str]) -> Iterator[None]:
    """Say that lines of comment stand above a table, where it cannot be read."""
    try:
        yield
    except DataError:
        comments = len(list(takewhile(lambda line: line.startswith(("#", "%", "//")), lines)))
        if not comments:
            raise
        raise DataError(
            f"it begins with {counted(comments, 'line')} of comment, and the first line has to "
            "name the columns: delete what stands above the table"
        ) from None


def _encoding(start: bytes) -> str:
    return next((name for mark, name in _MARKED if start.startswith(mark)), "utf-8")


def _not_in(encoding: str, start: bytes) -> str:
    if encoding != "auto":
        return f"not {encoding} text; say another encoding"
    if start[1::2].count(0) > 1 or start[::2].count(0) > 1:
        return "not UTF-8 text; it looks like UTF-16: `encoding: utf-16-le` or `utf-16-be`"
    return "not UTF-8 text; save the file as UTF-8, or say what it is, such as `encoding: cp1252`"


def _parsed(reopen: Callable[[], IO[str]], delimiter: str, skipped: int) -> _Raw:
    """Return every row of a text; a row that is shorter than others is filled up, and named."""
    names: list[int] | None = None
    for _ in range(2):
        try:
            with reopen() as reader:
                frame = pd.read_csv(
                    reader,
                    sep=delimiter,
                    header=None,
                    names=names,
                    dtype=str,
                    na_filter=False,
                    skip_blank_lines=False,  # they count where rows are named
                    skipinitialspace=True,
                    index_col=False,
                )
            break
        except pd.errors.EmptyDataError:
            raise DataError("the file is empty") from None
        except pd.errors.ParserError as error:
            wider = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
            if names or not wider or int(wider[3]) - int(wider[1]) != 1:
                raise DataError(_unequal(str(error))) from None
            names = list(range(int(wider[3])))  # perhaps a header that names all columns but one
    frame.columns = pd.RangeIndex(frame.shape[1])
    raw = _Raw(frame, np.arange(1, len(frame) + 1, dtype=np.int64) + skipped)
    if names is not None or (frame.iloc[:, -1] == "").any():
        with reopen() as reader:
            rows = csv.reader(reader, delimiter=delimiter, skipinitialspace=True)
            lengths = np.array([len(row) for row in rows], dtype=np.int64)[: len(frame)]
        _fit(raw, lengths, moved=names is not None)
    return raw


def _unequal(error: str) -> str:
    reason = error.removeprefix("Error tokenizing data. C error: ").strip()
    if open_quote := re.search(r"EOF inside string starting at row (\d+)", reason):
        return f"a quotation mark in row {int(open_quote[1]) + 1} has no second one"
    return f"rows of different lengths ({reason})"


def _fit(raw: _Raw, lengths: NDArray[np.int64], moved: bool) -> None:
    """Name rows that are shorter than others; put a header that lacks a name where it belongs.

    Above all columns but the last where that is empty (each row ends with a delimiter), above all
    but the first otherwise (R writes the names of rows so).

    Raises:
        DataError: The rows are of other lengths than that.
    """
    wide = raw.frame.shape[1]
    blank = (raw.frame == "").all(axis=1).to_numpy(bool)
    short = np.flatnonzero((lengths < wide) & ~blank)
    if not moved:
        if len(short):
            raw.notes.append(
                f"{counted(len(short), 'row has', 'rows have')} fewer cells than the others, and "
                f"what is not there is missing: row {listing(raw.rows[short], 5)}"
            )
        return
    if list(short) != [0]:
        first = int(np.flatnonzero((lengths != lengths[0]) & ~blank)[0])
        raise DataError(
            f"rows of different lengths (Expected {lengths[0]} fields in line {first + 1}, saw "
            f"{lengths[first]})"
        )
    raw.anew = True
    if not (raw.frame.iloc[1:, -1] == "").all():
        raw.frame.iloc[0] = ["", *raw.frame.iloc[0, :-1]]


def _without_blank(raw: _Raw) -> None:
    """Leave out empty rows, and a last column without a name or a value."""
    filled = (raw.frame != "").any(axis=1).to_numpy(bool)
    raw.frame, raw.rows = raw.frame[filled], raw.rows[filled]
    if raw.frame.shape[1] > 2 and len(raw.frame) and (raw.frame.iloc[:, -1] == "").all():
        raw.frame = raw.frame.iloc[:, :-1]
        raw.anew = True
        raw.notes.append("each row ends with a delimiter, behind which nothing stands: left out")


def _head(raw: _Raw, header: bool | Literal["auto"]) -> None:
    """Take the names of the columns from the first row, where they stand there."""
    is_header = header is True
    if header == "auto":
        is_header = has_header(raw.frame)
        raw.anew |= is_header and a_number_in_the_first_row(raw.frame)
    raw.header = is_header
    if is_header:
        raw.frame.columns = pd.Index([bare(cell) for cell in raw.frame.iloc[0]])
        raw.frame, raw.rows = raw.frame.iloc[1:], raw.rows[1:]
    else:
        raw.frame.columns = pd.Index([""] * raw.frame.shape[1])


def _delimiter(lines: Sequence[str]) -> tuple[str, bool]:
    """Return what cuts every one of the first rows into equally many cells, and whether it is new.

    The comma comes last: where another one fits, commas are decimal or part of a text. It comes
    first where it cuts into more than twice as many cells: the other is part of a text then.
    """
    comma = _width(lines, ",")
    for delimiter in "\t;|":
        width = _width(lines, delimiter)
        if width > 1:
            return (",", True) if comma > 2 * width else (delimiter, False)
    return ",", False


def _width(lines: Sequence[str], delimiter: str) -> int:
    try:
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0


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
    return cells.set_axis(pd.Index(found), axis=1)
