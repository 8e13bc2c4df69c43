"""What the columns of a file probably are: split, fold, group, identifiers, beside the label.

Guesses from names and values, each of which the user sees and may change; where two are as good,
the user is asked.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from harness.cli.detect_label import (
    FEW_CLASSES,
    Columns,
    Label,
    different,
    find_label,
    plain_name,
)
from harness.datasets.cells import Texts, texts
from harness.datasets.column_text import numbers
from harness.datasets.folders import SPLIT_WORDS
from harness.datasets.numerals import looks_numeric
from harness.datasets.table_columns import typed_columns
from harness.errors import DataError, listing

_GROUP = re.compile(
    r"^(patient|subject|participant|person|individual|donor|user|animal|lesion|group|scene|video)s?"
    r"(id|no|nr|number|name|code)?$"
)
_FOLD = re.compile(r"^(cv|k)?folds?(id|no|nr|number)?$")
_IDENTIFIER = re.compile(r"^(unnamed\d*|index|row|rowid|rownumber|uuid|guid|key)$|^(.*[_\W])?id$")
_FEWEST_GROUPS = 5
_MOST_PARTS = 5


@dataclass(frozen=True)
class Roles:
    """What the columns are besides features or the names of images.

    Attributes:
        label: The label column, or None where `one_hot` tells the label.
        one_hot: Columns of 0 and 1, one for each class.
        others: Column by field of the dataset: ``split_column``, ``fold_column``,
            ``group_column``.
        unused: Columns that are none of these and no feature either.
        remarks: What the user should know.
    """

    label: str | None
    one_hot: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def find_roles(
    file: Path, columns: Columns, wanted: str | None, names: str | None = None, bare: bool = False
) -> Roles:
    """Return what the columns are.

    Args:
        file: The file, for messages.
        columns: Its columns as text, empty where a value is missing.
        wanted: The label column that the user named, or None.
        names: The column that names images, or None for a table.
        bare: Whether the file has no header: then the last column is taken for the label.

    Raises:
        ConfigError: Which column is the label cannot be told.
    """
    free = {name: values for name, values in columns.items() if name != names}
    label = find_label(file, free, wanted, names is not None, bare)
    taken = {label.column, *label.one_hot, *label.same}
    rest = {name: values for name, values in free.items() if name not in taken}
    others: dict[str, str] = {}
    for role, find in (("split_column", _split), ("fold_column", _fold), ("group_column", _group)):
        found = find({name: values for name, values in rest.items() if name not in others.values()})
        if found is not None:
            others[role] = found
    contradicted = _contradicted(columns, others)
    foreign = () if "split_column" in others else _foreign_split(rest)
    unused = (*label.same, *(others.pop(role) for role in contradicted))
    remarks = (*label.remarks, *_same_as(label, names is None), *contradicted.values(), *foreign)
    return Roles(label.column, label.one_hot, others, unused, remarks)


def _same_as(label: Label, table: bool) -> tuple[str, ...]:
    """Return a remark on columns that say the same as the label."""
    if not label.same:
        return ()
    one = len(label.same) == 1
    does = "left out" if table else "not used"
    return (
        f"{'column' if one else 'columns'} {listing(map(repr, label.same), 5)} "
        f"{'tells' if one else 'tell'} the same classes as the label '{label.column}', and "
        f"{'is' if one else 'are'} {does}",
    )


def _contradicted(columns: Columns, roles: Mapping[str, str]) -> dict[str, str]:
    """Return the roles that cannot stand beside others, with a remark on each."""
    split, fold, group = (roles.get(f"{role}_column") for role in ("split", "fold", "group"))
    found: dict[str, str] = {}
    if split is not None and group is not None:
        parts = [SPLIT_WORDS[part.casefold()] for part in columns[split]]
        if _straddle(columns[group], parts):
            found["split_column"] = (
                f"column '{split}' puts samples of one {group} in several splits; whole groups are "
                "held out instead, so that nothing of a test group is trained on"
            )
    if fold is not None and group is not None and _straddle(columns[group], columns[fold]):
        found["fold_column"] = (
            f"column '{fold}' puts samples of one {group} in several folds, and is not used: "
            "whole groups stay together"
        )
    elif fold is not None and split is not None and "split_column" not in found:
        found["fold_column"] = (
            f"column '{fold}' is not used: the test set is what column '{split}' says"
        )
    return found


def _split(columns: Columns) -> str | None:
    for name, values in columns.items():
        words = {value.casefold() for value in values}
        parts = {SPLIT_WORDS.get(word) for word in words}
        if len(parts) > 1 and None not in parts and SPLIT_WORDS["train"] in parts:
            return name
    return None


def _foreign_split(columns: Columns) -> tuple[str, ...]:
    """Return a remark on a column that would tell the split, were it not for some words."""
    for name, values in columns.items():
        words = {value.casefold(): value for value in values}
        unknown = [value for word, value in words.items() if word not in SPLIT_WORDS]
        if SPLIT_WORDS.keys() & words.keys() and len(words) <= _MOST_PARTS and unknown:
            return (
                f"column '{name}' seems to tell the split, and is not used for that because of "
                f"{listing(map(repr, sorted(unknown)))}: a split is called one of "
                f"{listing(SPLIT_WORDS)}",
            )
    return ()


def _fold(columns: Columns) -> str | None:
    for name, values in columns.items():
        if _FOLD.match(plain_name(name)) and "" not in set(values) and 2 <= different(values) <= 20:
            return name
    return None


def _group(columns: Columns) -> str | None:
    found = {
        match[1]: name
        for name, values in reversed(list(columns.items()))
        if (match := _GROUP.match(plain_name(name)))
        and "" not in set(values)
        and _FEWEST_GROUPS <= different(values) < len(values)
    }
    # of a patient and a lesion the patient is the larger group, and holds whole lesions
    order = (
        *("patient", "subject", "participant", "person", "individual", "donor", "user", "animal"),
        *("group", "scene", "video", "lesion"),
    )
    return next((found[word] for word in order if word in found), None)


def _straddle(groups: Texts, parts: Iterable[object]) -> bool:
    """Whether rows of one group are in several parts."""
    return len(set(zip(groups, parts, strict=True))) > len(set(groups))


def identifiers(columns: Columns, cells: pd.DataFrame, taken: Collection[str]) -> tuple[str, ...]:
    """Return the columns of a table that name its rows and say nothing about their class.

    Args:
        columns: The columns as text.
        cells: The same as they stand in the file.
        taken: Columns that are something else.
    """
    return tuple(
        name
        for name, values in columns.items()
        if name not in taken and _names_rows(name, values) and not _is_measured(cells, name)
    )


def _is_measured(cells: pd.DataFrame, name: str) -> bool:
    """Whether a table reads a column of many texts as numbers, dates or durations, or asks how."""
    if _IDENTIFIER.match(name.casefold()):
        return False
    try:
        (column,), _ = typed_columns(cells[[name]], frozenset())
    except DataError:  # too many categories, or commas of which a user must say what they are
        found = [looks_numeric(text) for text in texts(cells[name]) if text]
        return sum(found) > len(found) / 2
    return column.numeric


def _names_rows(name: str, values: Texts) -> bool:
    many = different(values)
    if many == len(values) and _IDENTIFIER.match(name.casefold()):
        return True
    return numbers(values) is None and many > max(FEW_CLASSES, len(values) / 2)
