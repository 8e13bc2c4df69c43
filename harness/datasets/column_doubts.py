"""What a user should know of columns before anything is trained on them."""

import itertools
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.datasets import numerals
from harness.datasets.cells import Texts
from harness.datasets.column_kinds import Column
from harness.datasets.header import as_float
from harness.errors import DataError, listing

MOST_CATEGORIES = 1000
_FEW = 20
_ENOUGH = 30
"""Rows from which on a column that counts them is no coincidence."""
_TELLS = 0.98
"""Mean recall from which on one column alone is suspected to tell the label."""
_MOST_ROWS = 20_000
_CODED = 50
"""Different values up to which equal rows are no copies to be wary of."""
_FEWEST_OF_A_CLASS = 5
_INDEX = re.compile(
    r"unnamed:? ?\d*|index|level_\d+|__index_level_\d+__|row_?(names?|no|num(ber)?|id)"
)
_IDENTIFIER = re.compile(r"(.*[_\W])?(id|uuid|guid|key|nr|no)|.*[a-z]Id|.*[a-z]ID")
_CODES = {9.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0}
"""Numbers by which people write "no value", whatever their sign."""


def said_of(column: Column, meant: bool) -> Iterator[str]:
    """Return what to say of a column: how it was read, and why it may not be meant so.

    Args:
        column: The column.
        meant: Whether the user says that it holds categories.

    Raises:
        DataError: It is text that is no category.
    """
    if column.numeric:
        yield from _far_apart(column)
    elif not meant:
        yield from _doubts(column.name, column.values)


def _far_apart(column: Column) -> Iterator[str]:
    """Name a number such as −999 that lies far from all others and comes again and again."""
    values = column.values[~column.missing]
    if column.kind != "numbers" or not len(values):
        return
    for code in (values.min(), values.max()):
        rest = values[values != code]
        often = len(values) - len(rest)
        if abs(code) not in _CODES or often < max(3, len(values) / 500) or len(rest) < _FEW:
            continue
        gap = min(abs(rest.min() - code), abs(rest.max() - code))
        if gap > rest.max() - rest.min():
            yield (
                f"column '{column.name}' holds {code:g} in {often:,} of {len(values):,} rows, far "
                f"from all others ({rest.min():g} to {rest.max():g}): where it stands for a "
                f"missing value, say `na_values: [{code:g}]`"
            )


def _doubts(name: str, text: Texts) -> list[str]:
    """Return why a column of text may not be meant as categories."""
    different = sorted(set(text) - {""})
    if len(different) > MOST_CATEGORIES:
        raise DataError(
            f"column '{name}' is text with {len(different):,} different values such as "
            f"{listing(map(repr, different), 3)}: more than {MOST_CATEGORIES:,} categories; name "
            "it under drop_columns, or under categorical if that is meant"
        )
    odd = [
        value
        for value, number in zip(different, as_float(np.array(different, object)), strict=True)
        if np.isnan(number)
    ]
    if different and 10 * len(odd) < len(different):
        return [
            f"column '{name}' is taken as text because of {listing(map(repr, odd), 3)}; otherwise "
            "it holds numbers"
        ]
    if numerals.undecided_dates(different):
        return [
            f"column '{name}' holds dates such as {different[0]!r}, of which nobody can tell day "
            "from month, and is taken as text: write them as YYYY-MM-DD"
        ]
    if len(different) > max(_FEW, len(text) / 2):
        return [
            f"column '{name}' has {len(different)} different texts in {len(text)} rows: if it is "
            "an identifier, name it under drop_columns"
        ]
    return []


def saved_index(column: Column, nameless: bool) -> str:
    """Return why a column names or counts the rows and is no feature, or an empty text.

    Args:
        column: As found.
        nameless: Whether it is the first one and has no name where others have one.
    """
    rows = len(column.values)
    if rows < _ENOUGH:
        return ""
    whole = column.numeric and not column.missing.any() and not (column.values % 1 != 0).any()
    if whole and column.kind == "numbers":
        ordered = np.sort(column.values)
        if (np.diff(ordered) == 1).all():
            steps = np.diff(column.values)
            if (steps == 1).all() or (steps == -1).all() or ordered[0] in (0, 1):
                return "counts the rows"
    if not nameless and not _INDEX.fullmatch(column.name.casefold()):
        return ""
    different = len(np.unique(column.values.astype(str) if not column.numeric else column.values))
    if different > rows / 2 and (whole or column.kind != "numbers"):
        return "names the rows"
    # tables put one below another, each with its index
    if whole and column.values.min() == 0 and _FEW < different == column.values.max() + 1:
        return "counts the rows of tables that were put one below another"
    return ""


def an_identifier(column: Column) -> str:
    """Return why a column called like an identifier is one, or an empty text."""
    if not column.numeric or column.kind != "numbers" or len(column.values) < _ENOUGH:
        return ""
    values = column.values
    if column.missing.any() or (values % 1 != 0).any() or len(np.unique(values)) < len(values):
        return ""
    return "another whole number in every row" if _IDENTIFIER.fullmatch(column.name) else ""


def telling(
    column: Column, labels: NDArray[np.int64], classes: int, once: NDArray[np.int64]
) -> tuple[float, str] | tuple[None, str]:
    """Return the mean recall of the classes that one column alone gives, and how it tells them.

    None where it does not tell them apart almost perfectly. Categories (and numbers of few
    different values) are judged by the others of the same value, so that a column of texts that
    never come again tells nothing; numbers by whether the classes lie one behind the other. Classes
    of fewer than five rows are passed over: a few rows are put in order by chance.

    Args:
        column: The column.
        labels: ``int64[N]`` in ``[0, C)``.
        classes: C.
        once: Rows that are no copies of earlier ones.
    """
    if len(np.unique(column.values if column.numeric else column.values.astype(str))) <= _CODED:
        once = np.arange(len(labels))
    rows = once[:: -(-len(once) // _MOST_ROWS)]
    values, labels = column.values[rows], labels[rows]
    known = ~column.missing[rows]
    counts = np.bincount(labels, minlength=classes)
    many = np.flatnonzero(counts >= _FEWEST_OF_A_CLASS)
    if len(many) < 2 or known.sum() < _ENOUGH:
        return None, ""
    kept = np.isin(labels, many)
    codes = np.unique(values.astype(str) if not column.numeric else values, return_inverse=True)[1]
    found = _by_value(codes[kept], np.searchsorted(many, labels[kept]), len(many))
    if found >= _TELLS:
        return found, "equals the label, or almost"
    if column.numeric:
        both = kept & known
        found = _by_order(values[both], np.searchsorted(many, labels[both]), len(many))
        if found >= _TELLS:
            return found, "orders the classes"
    return None, ""


def _by_value(codes: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float:
    """Return the mean recall where each row is put to the class most typical of its value.

    Most typical by the share of the class's other rows, itself not counted.
    """
    table = np.zeros((int(codes.max()) + 1, classes))
    np.add.at(table, (codes, labels), 1)
    sizes = table.sum(axis=0)
    others = table[codes]
    at = np.arange(len(labels))
    others[at, labels] -= 1
    right = (others / sizes).argmax(axis=1) == labels
    right &= others[at, labels] > 0
    recall = np.bincount(labels, right, classes) / sizes
    return float(recall.mean())


def _by_order(values: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> float:
    """Return the mean recall of the worst pair of neighbouring classes, cut where it is best.

    With two classes half of one plus the Kolmogorov–Smirnov distance of the two.
    """
    parts = [np.sort(values[labels == k]) for k in range(classes)]
    if not all(map(len, parts)):
        return 0.0
    parts.sort(key=lambda part: float(np.median(part)))
    worst = 1.0
    for low, high in itertools.pairwise(parts):
        cuts = np.concatenate([low, high])
        below = np.searchsorted(low, cuts, "right") / len(low)
        above = np.searchsorted(high, cuts, "right") / len(high)
        worst = min(worst, (1 + float((below - above).max())) / 2)
    return worst
