"""What columns of a manifest or a table say: labels, splits, groups. Opens nothing.

A table of cells comes with each row's number in its file as the index, for messages.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.datasets.base import SPLITS, TRAIN
from harness.datasets.cells import Texts, as_text, without_marks
from harness.datasets.folders import SPLIT_WORDS
from harness.errors import DataError, counted, did_you_mean, listing

_YES = {"1", "1.0", "true"}
_NO = {"0", "0.0", "false"}
_WHOLE = re.compile(r"[+-]?\d+")


def texts(cells: pd.DataFrame, column: str, role: str, marks: Collection[str] = ()) -> Texts:
    """Return a column as text without blanks around it; whole floats lose their point.

    Args:
        cells: The table.
        column: Which column.
        role: The field that names the column.
        marks: What stands for "no value" besides an empty cell.

    Raises:
        DataError: There is no such column.
    """
    known = [str(name) for name in cells.columns]
    if column not in known:
        raise DataError(
            f"{role}: there is no column '{column}'{did_you_mean(column, known)} "
            f"(there are: {listing(known, 40)})"
        )
    return without_marks(as_text(cells[column]), marks)


def filled(
    found: Texts, rows: "pd.Index[int] | NDArray[np.int64]", column: str, hint: str = ""
) -> Texts:
    """Return a column that must have a value in every row.

    Args:
        found: The column; a missing cell is the empty text.
        rows: N numbers of its rows in the file.
        column: Its name.
        hint: What else to say to a user.

    Raises:
        DataError: Some rows have none.
    """
    missing = rows[found == ""]
    if len(missing):
        raise DataError(
            f"column '{column}' has no value in {len(missing)} of {len(found)} rows: row "
            f"{listing(map(str, missing))}{hint}"
        )
    return found


def one_hot_labels(
    cells: pd.DataFrame, wanted: Sequence[str] | Literal["all"], others: set[str], ids: Texts
) -> Texts:
    """Return as each row's label the name of the column that holds its 1.

    Args:
        cells: The table.
        wanted: The columns, or ``all`` that hold nothing but 0 and 1.
        others: Columns that are something else.
        ids: N names of the images, for messages.

    Raises:
        DataError: A column holds something else, or a row has no 1 or several.
    """
    if wanted == "all":
        wanted = [
            str(name)
            for name in cells.columns
            if str(name) not in others and _is_binary(cells, name)
        ]
        if len(wanted) < 2:
            raise DataError(
                f"one_hot: all finds {counted(len(wanted), 'column')} of 0 and 1; name them"
            )
    hot = np.stack([_hot(cells, column) for column in wanted], axis=1)
    for what, wrong in (("several classes", hot.sum(1) > 1), ("no class", hot.sum(1) == 0)):
        if wrong.any():
            have = "has" if wrong.sum() == 1 else "have"
            raise DataError(
                f"one_hot: {wrong.sum()} of {len(hot)} rows {have} {what}, and exactly one is "
                f"needed: {listing(ids[wrong], 5)} (columns: {listing(wanted)})"
            )
    return np.array([wanted[column] for column in hot.argmax(1)], dtype=object)


def _is_binary(cells: pd.DataFrame, column: str) -> bool:
    return {text.lower() for text in texts(cells, column, "one_hot")} <= _YES | _NO


def _hot(cells: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    found = np.array([text.lower() for text in texts(cells, column, "one_hot")], dtype=object)
    other = ~np.isin(found, list(_YES | _NO))
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise DataError(
            f"one_hot: column '{column}' holds '{found[row]}' in row {cells.index[row]}; "
            "only 0 and 1 are allowed"
        )
    return np.isin(found, list(_YES))


def require_known(wanted: Iterable[str], labels: Iterable[str], field: str) -> None:
    """Check that a field names labels that there are.

    Raises:
        DataError: One of them is not there.
    """
    known = set(labels)
    for label in wanted:
        if label not in known:
            raise DataError(
                f"{field}: there is no label '{label}'{did_you_mean(label, known)} "
                f"(there are: {listing(in_order(known))})"
            )


def merged(labels: Texts, groups: Mapping[str, Sequence[str]]) -> Texts:
    """Return labels with each group's members replaced by the name of the group.

    Raises:
        DataError: A member is no label.
    """
    require_known((old for olds in groups.values() for old in olds), labels, "merge")
    new_of = {old: new for new, olds in groups.items() for old in olds}
    return np.array([new_of.get(label, label) for label in labels], dtype=object)


def in_order(labels: Iterable[str]) -> list[str]:
    """Return different labels in order: by value if all are whole numbers, else by spelling."""
    different = sorted(set(labels))
    if all(_WHOLE.fullmatch(label) for label in different):
        different.sort(key=int)
    return different


def codes(found: Texts) -> tuple[NDArray[np.int64], list[str]]:
    """Return each text's position among the different ones, ``int64[N]``, and those in order."""
    names = in_order(found)
    position = {name: code for code, name in enumerate(names)}
    return np.array([position[text] for text in found], dtype=np.int64), names


def split_codes(
    found: Texts, rows: "pd.Index[int] | NDArray[np.int64]", column: str
) -> NDArray[np.int8]:
    """Return a split column as ``int8[N]`` of TRAIN, VAL and TEST.

    Raises:
        DataError: It holds other words, or no training row.
    """
    parts = np.array([SPLIT_WORDS.get(text.casefold(), -1) for text in found], np.int8)
    unknown = Counter(found[parts < 0])
    if unknown:
        shown = listing(
            f"'{word}' ({counted(count, 'row')})" for word, count in unknown.most_common()
        )
        raise DataError(
            f"split_column '{column}' holds {shown}, first in row {rows[parts < 0][0]}"
            f"{did_you_mean(found[parts < 0][0], SPLIT_WORDS)} (allowed: {listing(SPLIT_WORDS)}, "
            "in any case)"
        )
    if TRAIN not in parts:
        present = listing(SPLITS[part] for part in np.unique(parts))
        raise DataError(f"split_column '{column}' has no train row, only {present}")
    return parts
