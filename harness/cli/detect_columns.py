"""What the columns of a file probably are: label, split, fold, group, identifiers.

Guesses from names and values, each of which the user sees and may change; where two are as good,
the user is asked.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.datasets.folders import SPLIT_WORDS
from harness.datasets.table_file import Texts, numbers
from harness.errors import ConfigError, did_you_mean, listing

Columns = Mapping[str, Texts]

LABEL_NAMES = (
    *("label", "labels", "class", "classes", "classname", "classlabel", "target", "dx"),
    *("diagnosis", "category", "y", "species", "outcome", "variety"),
)
"""Names of label columns, the surest first, without blanks and underscores."""

_LABEL_WORDS = {"label", "class", "target", "diagnosis", "category"}
_GROUP = re.compile(
    r"^(patient|subject|participant|person|lesion|group|scene)s?(id|no|nr|number|name|code)?$"
)
_FOLD = re.compile(r"^(cv|k)?folds?(id|no|nr|number)?$")
_IDENTIFIER = re.compile(r"^(unnamed\d*|index|row|rowid|rownumber|uuid|guid|key)$|^(.*[_\W])?id$")
_HOW = "--label (harness inspect: --set label_column=NAME)"
_FEW_CLASSES = 20
_MOST_CLASSES = 1000
_FEWEST_GROUPS = 5


@dataclass(frozen=True)
class Roles:
    """What the columns are besides features or the names of images.

    Attributes:
        label: The label column, or None where `one_hot` tells the label.
        one_hot: Columns of 0 and 1, one for each class.
        others: Column by field of the dataset: ``split_column``, ``fold_column``,
            ``group_column``.
        folds: Number of folds that the fold column names, or None.
        remarks: What the user should know.
    """

    label: str | None
    one_hot: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    folds: int | None = None
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
    label, one_hot = _label_or_one_hot(file, free, wanted, names is not None, bare)
    taken = {label, *one_hot}
    rest = {name: values for name, values in free.items() if name not in taken}
    others: dict[str, str] = {}
    remarks: list[str] = []
    for role, find in (("split_column", _split), ("fold_column", _fold), ("group_column", _group)):
        found = find({name: values for name, values in rest.items() if name not in others.values()})
        if found is not None:
            others[role] = found
    group, split = others.get("group_column"), others.get("split_column")
    if group is not None and split is not None and _straddles(columns[group], columns[split]):
        del others["split_column"]
        remarks.append(
            f"column '{split}' puts samples of one {group} in several splits; whole groups are "
            "held out instead, so that nothing of a test group is trained on"
        )
    folds = len(set(columns[others["fold_column"]])) if "fold_column" in others else None
    return Roles(label, one_hot, others, folds, tuple(remarks))


def _label_or_one_hot(
    file: Path, columns: Columns, wanted: str | None, images: bool, bare: bool
) -> tuple[str | None, tuple[str, ...]]:
    if wanted is not None:
        return _named(file, columns, wanted), ()
    named = _by_name(columns)
    if named is not None:
        return named, ()
    one_hot = _one_hot(columns) if images else ()
    if one_hot:
        return None, one_hot
    last = list(columns)[-1]
    if bare and _is_class(columns[last]):
        return last, ()
    candidates = [name for name, values in columns.items() if _is_class(values)]
    if len(candidates) == 1:
        return candidates[0], ()
    raise ConfigError(_question(file, columns, candidates))


def _named(file: Path, columns: Columns, wanted: str) -> str:
    names = list(columns)
    if wanted in columns:
        return wanted
    if re.fullmatch(r"-?\d+", wanted) and -len(names) <= int(wanted) < len(names):
        return names[int(wanted)]
    raise ConfigError(
        f"label column '{wanted}': {file} has no such column{did_you_mean(wanted, names)} "
        f"(there are: {listing(names, 40)})"
    )


def _by_name(columns: Columns) -> str | None:
    """Return the column that is called like a label and holds few enough different values."""
    plain = {name: _plain(name) for name in columns if _is_class(columns[name])}
    for word in LABEL_NAMES:
        exact = [name for name, text in plain.items() if text == word]
        if len(exact) == 1:
            return exact[0]
    alike = [name for name in plain if _words(name) & _LABEL_WORDS]
    return alike[0] if len(alike) == 1 else None


def _question(file: Path, columns: Columns, candidates: list[str]) -> str:
    if not candidates:
        counts = listing((f"{name} ({_different(columns[name])})" for name in columns), 20)
        return (
            f"{file}: no column looks like a class: 2 to {_FEW_CLASSES} different values, or up to "
            f"half as many as there are rows; name it with {_HOW} (different values: {counts})"
        )
    shown = listing((f"{name} ({_different(columns[name])} values)" for name in candidates), 20)
    return f"{file}: which column is the label? Name it with {_HOW}, one of: {shown}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _words(name: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return {word for word in re.split(r"[\W_]+", spaced.casefold()) if word}


def _different(values: Texts) -> int:
    return len(set(values) - {""})


def _is_class(values: Texts) -> bool:
    most = min(_MOST_CLASSES, max(_FEW_CLASSES, len(values) / 2))
    return 2 <= _different(values) <= most


def _one_hot(columns: Columns) -> tuple[str, ...]:
    """Return the most neighbouring 0/1 columns of which each row has exactly one 1."""
    names = [name for name, values in columns.items() if set(values) <= {"0", "1", "0.0", "1.0"}]
    if len(names) < 2:
        return ()
    ones = np.stack([np.isin(columns[name], ["1", "1.0"]) for name in names])
    total = np.concatenate([np.zeros((1, ones.shape[1]), np.int64), ones.cumsum(axis=0)])
    whole = total.sum(axis=1)
    for length in range(len(names), 1, -1):
        for first in range(len(names) - length + 1):
            last = first + length
            if whole[last] - whole[first] != ones.shape[1]:
                continue  # cheaper than looking at each row
            if (total[last] - total[first] == 1).all():
                return tuple(names[first:last])
    return ()


def _split(columns: Columns) -> str | None:
    for name, values in columns.items():
        words = {value.casefold() for value in values}
        parts = {SPLIT_WORDS.get(word) for word in words}
        if len(parts) > 1 and None not in parts and SPLIT_WORDS["train"] in parts:
            return name
    return None


def _fold(columns: Columns) -> str | None:
    for name, values in columns.items():
        if _FOLD.match(_plain(name)) and "" not in set(values) and 2 <= _different(values) <= 20:
            return name
    return None


def _group(columns: Columns) -> str | None:
    found = {
        match[1]: name
        for name, values in reversed(list(columns.items()))
        if (match := _GROUP.match(_plain(name)))
        and "" not in set(values)
        and _FEWEST_GROUPS <= _different(values) < len(values)
    }
    # of a patient and a lesion the patient is the larger group, and holds whole lesions
    order = ("patient", "subject", "participant", "person", "group", "scene", "lesion")
    return next((found[word] for word in order if word in found), None)


def _straddles(groups: Texts, splits: Texts) -> bool:
    parts = {
        (group, SPLIT_WORDS[part.casefold()]) for group, part in zip(groups, splits, strict=True)
    }
    return len(parts) > len({group for group, _ in parts})


def identifiers(columns: Columns, taken: Collection[str]) -> tuple[str, ...]:
    """Return the columns of a table that name its rows and say nothing about their class.

    Args:
        columns: The columns as text.
        taken: Columns that are something else.
    """
    return tuple(
        name for name, values in columns.items() if name not in taken and _names_rows(name, values)
    )


def _names_rows(name: str, values: Texts) -> bool:
    different = _different(values)
    if different == len(values) and _IDENTIFIER.match(name.casefold()):
        return True
    return numbers(values) is None and different > max(_FEW_CLASSES, len(values) / 2)
