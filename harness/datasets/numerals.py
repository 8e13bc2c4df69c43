"""How numbers, dates and durations are written in text: marks, commas, units. Opens nothing.

Only texts that are no plain number come here, each different one once.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import DataError, listing

Decimal = Literal["auto", ".", ","]
Thousands = Literal["auto", "none", ",", ".", " ", "'"]

MARKS = frozenset(
    {
        *("", "?", "??", "na", "n/a", "n.a.", "n.a", "nan", "-nan", "nat", "<na>", "null"),
        *("(null)", "none", "nil", "nd", "n.d.", "n/d", "no data", "tbd", "empty", "\\n"),
        *("#n/a", "#n/a!", "#na", "#value!", "#div/0!", "#ref!", "#name?", "#num!", "#null!"),
        *("-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "**"),
        *("missing", "(missing)", "unknown", "unk", "blank", "(blank)", "not available"),
        *("not applicable", "not recorded", "not measured"),
    }
)
"""What stands for "no value" in a column of numbers, in any case."""

_DIGITS = r"\d{1,3}"
_POWER = r"(?:[eE][+-]?\d+)?"
_DECIMAL = re.compile(rf"\d*,\d+{_POWER}")
_EITHER = re.compile(r"[1-9]\d{0,2},\d{3}")
_GROUPED = {
    ",": re.compile(rf"{_DIGITS}(?:,\d{{3}})+(?:\.\d+)?{_POWER}"),
    ".": re.compile(rf"{_DIGITS}(?:\.\d{{3}})+(?:,\d+)?{_POWER}"),
    " ": re.compile(rf"{_DIGITS}(?: \d{{3}})+(?:[.,]\d+)?{_POWER}"),
    "'": re.compile(rf"{_DIGITS}(?:'\d{{3}})+(?:[.,]\d+)?{_POWER}"),
}
_PLAIN = re.compile(rf"(?:\d+\.?\d*|\.\d+){_POWER}")
_UNIT = re.compile(
    r"(?P<sign>[+-]?) ?(?P<before>[$€£¥₹]|USD|EUR|GBP|CHF)? ?(?P<inner>[+-]?)"
    r"(?P<number>[\d.,][\d.,' ]*(?:[eE][+-]?\d+)?) ?(?P<after>[%‰$€£¥₹]|USD|EUR|GBP|CHF)?"
)
_BLANKS = str.maketrans(
    {**dict.fromkeys("\u00a0\u2007\u2009\u202f", " "), "\u2212": "-", "\u2019": "'"}
)

_ISO = re.compile(
    r"\d{4}[-/]\d{2}(?:[-/]\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
    r"(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?)?"
)
_DAY_MONTH = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?: \d{1,2}:\d{2}(?::\d{2})?)?")
_LENGTH = re.compile(r"(-?\d+ days?)?(?:,? ?([+-]?\d{1,3}:\d{2}(?::\d{2}(?:\.\d+)?)?))?")


@dataclass(frozen=True)
class Style:
    """What a comma and a point mean.

    Attributes:
        decimal: What stands before the decimals, ``.`` or ``,``.
        thousands: What groups digits by three; empty where nothing but a blank or an apostrophe
            (which cannot be anything else) does.
    """

    decimal: str = "."
    thousands: str = ""


def simple(text: str) -> str:
    """Return text with every kind of blank, minus and apostrophe as the plain one."""
    return text.translate(_BLANKS).strip()


def style_of(texts: Iterable[str], decimal: Decimal, thousands: Thousands) -> Style | None:
    """Return what commas in numbers mean, as told or as the texts show; None where either may be.

    ``1,5`` and ``0,123`` have a decimal comma, ``1,234,567`` and ``1,234.5`` have thousands;
    ``1,234`` alone may be either.

    Args:
        texts: Cells that are no plain number.
        decimal: As the user said, or ``auto``.
        thousands: As the user said, or ``auto``.

    Raises:
        DataError: Some show one thing and some the other.
    """
    group = "" if thousands in ("auto", "none") else thousands
    if decimal != "auto":
        return Style(decimal, group or ("." if decimal == "," else ",") * (thousands == "auto"))
    if group:
        return Style("," if group == "." else ".", group)
    comma, grouped, either = "", "", ""
    for text in texts:
        number = _number(simple(text))[1]
        if number is None or "," not in number:
            continue
        if _EITHER.fullmatch(number):
            either = either or text
        elif _DECIMAL.fullmatch(number) or _GROUPED["."].fullmatch(number):
            comma = comma or text
        elif _GROUPED[","].fullmatch(number):
            grouped = grouped or text
        elif number.count(",") == 1 and re.search(r"[ ']", number):
            comma = comma or text
    if comma and grouped:
        raise DataError(
            f"'{comma}' has a decimal comma and '{grouped}' has commas between thousands: write "
            "both alike in the file, or name the column under categorical or drop_columns"
        )
    if comma:
        return Style(",", "." * (thousands == "auto"))
    if grouped or not either:
        return Style(".", "," * (thousands == "auto"))
    return None


def _number(text: str) -> tuple[str, str | None, str]:
    """Return sign, digits and unit of a text, None as digits where it holds something else."""
    found = _UNIT.fullmatch(text)
    if found is None or (found["sign"] and found["inner"]):
        return "", None, ""
    sign = found["sign"] or found["inner"]
    return sign, found["number"].strip(), (found["before"] or found["after"] or "")


def value_of(text: str, style: Style) -> tuple[float, str]:
    """Return the number that a text writes, NaN where it is none, and its unit (``%``, ``€``)."""
    plain = simple(text)
    negative = plain.startswith("(") and plain.endswith(")")  # as accountants write it
    sign, number, unit = _number(plain[1:-1] if negative else plain)
    if number is None or not any(c.isdigit() for c in number):
        return math.nan, ""
    for group in dict.fromkeys((style.thousands, " ", "'")):
        if group and _GROUPED[group].fullmatch(number):
            number = number.replace(group, "").replace(",", ".")
            break
    else:
        if style.decimal == "," and _DECIMAL.fullmatch(number):
            number = number.replace(",", ".")
    if not _PLAIN.fullmatch(number):
        return math.nan, ""
    value = float(number)
    return (-value if (sign == "-") != negative else value), unit


def grouped_by(text: str, sign: str) -> bool:
    """Return whether a text is a number with a sign between its thousands."""
    return _GROUPED[sign].fullmatch(_number(simple(text))[1] or "") is not None


def looks_numeric(text: str) -> bool:
    """Return whether a text may be a number in some way of writing it."""
    number = _number(simple(text).strip("()"))[1]
    return number is not None and any(c.isdigit() for c in number)


def moments_of(texts: Sequence[str]) -> tuple[NDArray[np.float64], str] | None:
    """Return dates or durations as ``float64[N]`` and what they are; None where some are neither.

    Dates are microseconds since 1970 (``dates``), durations microseconds (``durations``). Dates
    are written year first, or with a four-figure year last where some day is beyond 12.

    Args:
        texts: N different cells, none of them missing.
    """
    plain = [simple(text) for text in texts]
    if not plain:
        return None
    if all(_ISO.fullmatch(text) for text in plain):
        whole = [text.replace("/", "-", 2).replace(" UTC", "Z") for text in plain]
        return _dates(whole, "ISO8601")
    parts = [_DAY_MONTH.fullmatch(text) for text in plain]
    if all(parts):
        order = _day_first(plain)
        if order is None:
            return None
        days, months = (1, 3) if order else (3, 1)
        iso = [
            f"{m[4]}-{int(m[months]):02}-{int(m[days]):02}{text[m.end(4) :]}"
            for text, m in zip(plain, parts, strict=True)
            if m is not None
        ]
        return _dates(iso, "mixed")
    if all(text and (m := _LENGTH.fullmatch(text)) and (m[1] or m[2]) for text in plain):
        clock = [
            re.sub(r"((?:^|[ +-])\d{1,3}:\d{2})$", r"\1:00", t.replace(",", "")) for t in plain
        ]
        spans = pd.to_timedelta(pd.Series(clock), errors="coerce").to_numpy().astype("m8[us]")
        return None if np.isnat(spans).any() else (spans.astype(np.float64), "durations")
    return None


def _day_first(texts: Sequence[str]) -> bool | None:
    """Return whether days come before months, None where that cannot be told."""
    found = [_DAY_MONTH.fullmatch(text) for text in texts]
    first = max((int(m[1]) for m in found if m), default=0)
    second = max((int(m[3]) for m in found if m), default=0)
    return None if (first > 12) == (second > 12) else first > 12


def undecided_dates(texts: Sequence[str]) -> bool:
    """Return whether all are dates of which nobody can tell day from month."""
    plain = [simple(text) for text in texts]
    return bool(plain) and all(map(_DAY_MONTH.fullmatch, plain)) and _day_first(plain) is None


def _dates(texts: Sequence[str], how: str) -> tuple[NDArray[np.float64], str] | None:
    found = pd.to_datetime(pd.Series(texts, dtype=object), utc=True, format=how, errors="coerce")
    if found.isna().any():
        return None
    moments = found.dt.tz_localize(None).to_numpy().astype("M8[us]")
    return moments.astype(np.int64).astype(np.float64), "dates"


def cannot_tell(column: str, texts: Iterable[str]) -> DataError:
    """Return the error about commas that may be either."""
    return DataError(
        f"column '{column}' holds {listing(map(repr, texts), 3)}: say what the "
        "comma is, `decimal: ','` (1,234 is 1.234) or `thousands: ','` (1,234 is 1234); or name "
        "the column under categorical"
    )
