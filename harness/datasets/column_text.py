"""Columns of text that may be numbers, dates or durations in one of the ways people write them."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets import numerals
from harness.datasets.cells import PLAIN, Texts
from harness.datasets.column_kinds import (
    EXACT,
    Column,
    Kind,
    Writing,
    bare_cells,
    categories_of,
    numbers_of,
    whole_numbers,
)
from harness.datasets.header import as_float
from harness.datasets.numerals import MARKS, Style
from harness.errors import DataError, counted, listing

_MEASURES = 50
"""Different numbers from which on a column is one of measurements."""
_MOSTLY = 0.9
_WHOLE = re.compile(r"[+-]?\d+")
_ZEROS = re.compile(r"0\d+")


@dataclass
class Text:
    """A column of text on its way to numbers.

    Attributes:
        name: Its name.
        cells: Bare of blanks and quotes.
        plain: Plain numbers, NaN elsewhere.
        odd: Different cells that are neither a plain number nor a mark, with their counts.
        style: What its commas are, None where they may be either.
    """

    name: str
    cells: Texts
    plain: NDArray[np.float64]
    odd: Counter[str] = field(default_factory=Counter)
    style: Style | None = field(default_factory=Style)

    @property
    def commas(self) -> list[str]:
        """Cells that may be numbers with a comma in them."""
        return [text for text in self.odd if "," in text and numerals.looks_numeric(text)]


def apart(name: str, column: "pd.Series[Any]", writing: Writing) -> Text:
    """Take a column of text apart.

    Raises:
        DataError: Its cells hold lists or the like.
    """
    nested = next((v for v in column if isinstance(v, list | dict | set | np.ndarray)), None)
    if nested is not None:
        raise DataError(
            f"column '{name}' holds {type(nested).__name__}s, no numbers or text; name it under "
            "drop_columns"
        )
    cells = bare_cells(column)
    plain = as_float(cells)
    marks = {*(mark.lower() for mark in writing.marks or ())} | MARKS
    odd = Counter(cell for cell in cells[np.isnan(plain)] if cell.lower() not in marks)
    return Text(name, cells, writing.without(plain), odd)


def settle_commas(columns: Mapping[str, Text], writing: Writing) -> None:
    """Find out what commas are: a column shows it, or the others of the file do.

    Raises:
        DataError: It cannot be told, or one column shows both.
    """
    for text in columns.values():
        try:
            text.style = numerals.style_of(text.commas, writing.decimal, writing.thousands)
        except DataError as error:
            raise DataError(f"column '{text.name}': {error}") from None
    told = {text.style for text in columns.values() if text.commas and text.style is not None}
    usual = told.pop() if len(told) == 1 else None
    for text in columns.values():
        if usual is not None and (text.style is None or not text.commas):
            text.style = usual
        if text.style is None:
            words = [t for t in text.odd if not numerals.looks_numeric(t)]
            if not words:
                raise numerals.cannot_tell(text.name, text.commas)
            text.style = Style()


def column_of(text: Text, writing: Writing) -> Column:
    """Return a column of text as what it holds."""
    assert text.style is not None
    values, notes = text.plain.copy(), []
    if text.style.decimal == "," and _by_thousands(text):
        texts, at = np.unique(text.cells.astype(str), return_inverse=True)
        values = np.array([numerals.value_of(t, text.style)[0] for t in texts])[at]
    read = {cell: numerals.value_of(cell, text.style) for cell in text.odd}
    units = Counter(unit for _, unit in read.values() if unit)
    known = {cell: value for cell, (value, _) in read.items() if not np.isnan(value)}
    plain = int((~np.isnan(values)).sum())
    if units and (len(units) > 1 or sum(text.odd[c] for c in known if read[c][1]) < plain):
        known = {cell: value for cell, value in known.items() if not read[cell][1]}
        units.clear()
    words = {cell: count for cell, count in text.odd.items() if cell not in known}
    numbers_ = plain + sum(text.odd[cell] for cell in known)
    if not numbers_ or (words and not _a_few_words(text, values, known, words)):
        return _moments_of_text(text) or categories_of(text.name, text.cells, writing)
    if known:
        values = np.array([known.get(c, v) for c, v in zip(text.cells, values, strict=True)])
        notes.append(_way_of_writing(text.style, units, known))
    absent = text.cells[np.isnan(values)]
    marks = Counter(cell for cell in absent if cell.lower() not in PLAIN)
    if marks:
        notes.append(f"no value in {_cells(marks)}")
    zeros = next((c for c in text.cells if _ZEROS.fullmatch(c)), None)
    if zeros is not None:
        notes.append(f"leading zeros as in '{zeros}' are lost: a code goes under categorical")
    whole = _exactly(text, values)
    if whole is not None:
        return replace(whole, notes=(*notes, *whole.notes))
    return numbers_of(
        text.name, values, notes, anew=bool(known or marks) or writing.marks is not None
    )


def numbers(cells: Texts) -> NDArray[np.float64] | None:
    """Return a column of text as ``float64[N]``, NaN where missing; None if it holds no numbers.

    As `column_of` reads it where nothing is said of how it is written.

    Args:
        cells: Text; a missing cell may be the empty text.
    """
    text = apart("", pd.Series(cells, dtype=object), Writing())
    try:
        settle_commas({"": text}, Writing())
        column = column_of(text, Writing())
    except DataError:  # numbers, of which something else is to be said
        return text.plain
    return column.values if column.kind == "numbers" else None


def _by_thousands(text: Text) -> bool:
    """Whether the points in plain numbers of a file with decimal commas are between thousands."""
    pointed = [cell for cell in text.cells if "." in cell]
    return bool(pointed) and all(numerals.grouped_by(cell, ".") for cell in pointed)


def _a_few_words(
    text: Text, values: NDArray[np.float64], known: Collection[str], words: Mapping[str, int]
) -> bool:
    """Whether so few cells of a column of measurements are words that they are no categories."""
    numbers_ = int((~np.isnan(values)).sum()) + sum(text.odd[cell] for cell in known)
    different = len(np.unique(values[~np.isnan(values)])) + len(known)
    share = numbers_ / (numbers_ + sum(words.values()))
    return share >= _MOSTLY and different >= _MEASURES and different > 5 * len(words)


def _cells(marks: Counter[str]) -> str:
    named = listing((f"'{cell}' ({n:,})" for cell, n in marks.most_common()), 5)
    return f"{counted(sum(marks.values()), 'cell')}: {named}"


def _way_of_writing(style: Style, units: Mapping[str, int], known: Mapping[str, float]) -> str:
    ways = []
    if any("," in cell for cell in known):
        ways.append("a decimal comma" if style.decimal == "," else "commas between thousands")
    if units:
        ways.append(f"{next(iter(units))} as a unit")
    example, value = next(iter(known.items()))
    return f"read with {', '.join(ways)}" if ways else f"{example!r} is read as {value:g}"


def _exactly(text: Text, values: NDArray[np.float64]) -> Column | None:
    """Return whole numbers that a float64 would blur, or None where there are none."""
    missing = np.isnan(values)
    if missing.all() or np.abs(values[~missing]).max() <= EXACT or np.isinf(values).any():
        return None
    if not all(_WHOLE.fullmatch(cell) for cell in text.cells[~missing]):
        return None
    whole = [0 if m else int(c) for c, m in zip(text.cells, missing, strict=True)]
    return whole_numbers(text.name, whole, missing)


def _moments_of_text(text: Text) -> Column | None:
    """Return dates or durations that are written as text, or None where they are neither."""
    if not np.isnan(text.plain).all() or not text.odd:
        return None
    texts = list(text.odd)
    found = numerals.moments_of(texts)
    if found is None:
        return None
    value = dict(zip(texts, found[0], strict=True))
    values = np.array([value.get(cell, np.nan) for cell in text.cells])
    kind: Kind = "durations" if found[1] == "durations" else "dates"
    return Column(text.name, values, kind, anew=True)
