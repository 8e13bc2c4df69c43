"""Which column of a file is the label, and which others say the same.

Told by name first, then by values; where two are as good, the user is asked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.datasets.cells import Texts
from harness.datasets.column_text import numbers
from harness.errors import ConfigError, did_you_mean, listing

Columns = Mapping[str, Texts]

LABEL_NAMES = (
    *("label", "labels", "class", "classes", "classname", "classlabel", "target", "dx"),
    *("diagnosis", "category", "y", "species", "outcome", "variety"),
)
"""Names of label columns, the surest first, without blanks and underscores."""

_SURE = frozenset(LABEL_NAMES) - {"y"}
"""Those by which a second column is taken for a label, too: y is often a coordinate."""

FEW_CLASSES = 20

_LABEL_WORDS = {"label", "class", "target", "diagnosis", "category"}
_HOW = "--label (harness inspect: --set label_column=NAME)"
_MOST_CLASSES = 1000
_SENTENCE = 4
"""Words of a text that is no name of a class."""
_FEWEST_ROWS = 5
"""Rows of each text on average, where a column of many texts may be a label without a name."""


@dataclass(frozen=True)
class Label:
    """Where the label stands.

    Attributes:
        column: The label column, or None where `one_hot` tells the label.
        one_hot: Columns of 0 and 1, one for each class.
        same: Other columns that tell the same classes, one value for each.
        remarks: What the user should know.
    """

    column: str | None
    one_hot: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def find_label(file: Path, columns: Columns, wanted: str | None, images: bool, bare: bool) -> Label:
    """Return the label column: of codes and the names that they stand for, the names.

    Args:
        file: The file, for messages.
        columns: Its columns as text, without the one that names images.
        wanted: The label column that the user named, or None.
        images: Whether the file lists images.
        bare: Whether the file has no header: then the last column is taken for the label.

    Raises:
        ConfigError: Which column is the label cannot be told.
    """
    if wanted is not None:
        column = _named(file, columns, wanted)
        return Label(column, same=_same(columns, column))
    named = _by_name(columns)
    if named is not None:
        label = _readable(columns, named)
        return replace(label, remarks=(*label.remarks, *_rivals(columns, label, images)))
    one_hot = _one_hot(columns) if images else ()
    if one_hot:
        return Label(None, one_hot)
    candidates = [name for name, values in columns.items() if _may_be_class(columns, values)]
    last = list(columns)[-1]
    if bare and last in candidates:
        return Label(last, same=_same(columns, last))
    if _are_same(columns, candidates):
        return _readable(columns, candidates[0])
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
    plain = {name: plain_name(name) for name in columns if _is_class(columns[name])}
    for word in LABEL_NAMES:
        exact = [name for name, text in plain.items() if text == word]
        if len(exact) == 1:
            return exact[0]
    alike = [name for name in plain if _words(name) & _LABEL_WORDS]
    return alike[0] if _are_same(columns, alike) else None


def _rivals(columns: Columns, label: Label, images: bool) -> tuple[str, ...]:
    """Return a remark on other columns that are called like a label, and tell other classes."""
    found = [
        f"'{name}' ({different(values)} values)"
        for name, values in columns.items()
        if name not in (label.column, *label.same)
        and _is_class(values)
        and (plain_name(name) in _SURE or _words(name) & _LABEL_WORDS)
    ]
    if not found:
        return ()
    learnt = "" if images else "; what else tells the label belongs under drop_columns"
    one = len(found) == 1
    return (
        f"column '{label.column}' is taken as the label; {listing(found, 5)} may be "
        f"{'it' if one else 'it, too'}: {_HOW} takes another{learnt}",
    )


def _readable(columns: Columns, label: str) -> Label:
    """Return the names of the classes in place of their codes, where a column holds them."""
    same = _same(columns, label)
    named = [name for name in same if numbers(columns[name]) is None]
    if numbers(columns[label]) is None or not named:
        return Label(label, same=same)
    alike = _LABEL_WORDS | _words(label)
    best = min(named, key=lambda name: (not _words(name) & alike, "name" not in _words(name)))
    remark = f"column '{best}' names the classes that '{label}' numbers, and is taken as the label"
    return Label(best, same=_same(columns, best), remarks=(remark,))


def _same(columns: Columns, label: str) -> tuple[str, ...]:
    """Return the other columns with one value for each class, missing where the label is."""
    return tuple(
        name
        for name, values in columns.items()
        if name != label and _one_to_one(columns[label], values)
    )


def _are_same(columns: Columns, names: list[str]) -> bool:
    """Whether there is one name, or several of columns that tell the same classes."""
    return bool(names) and set(names[1:]) <= set(_same(columns, names[0]))


def _one_to_one(a: Texts, b: Texts) -> bool:
    size = len(set(a))
    if size < 2 or len(set(b)) != size or ((a == "") != (b == "")).any():
        return False
    return len(set(zip(a, b, strict=True))) == size


def _question(file: Path, columns: Columns, candidates: list[str]) -> str:
    if not candidates:
        single = [name for name in columns if different(columns[name]) == 1]
        called = [name for name in single if plain_name(name) in LABEL_NAMES]
        if called:
            (value,) = set(columns[called[0]]) - {""}
            return (
                f"{file}: column '{called[0]}' holds one class only, '{value}'; at least 2 are "
                f"needed: add rows of another, or name another column with {_HOW}"
            )
        counts = listing((f"{name} ({different(columns[name])})" for name in columns), 20)
        return (
            f"{file}: no column looks like a class: 2 to {FEW_CLASSES} different values, or up to "
            f"half as many as there are rows, and no free text; name it with {_HOW} (different "
            f"values: {counts})"
        )
    shown = listing((f"{name} ({different(columns[name])} values)" for name in candidates), 20)
    return f"{file}: which column is the label? Name it with {_HOW}, one of: {shown}"


def plain_name(name: str) -> str:
    """Return the name of a column without case, blanks and underscores."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _words(name: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return {word for word in re.split(r"[\W_]+", spaced.casefold()) if word}


def different(values: Texts) -> int:
    """Return how many different values there are, missing ones apart."""
    return len(set(values) - {""})


def _is_class(values: Texts) -> bool:
    most = min(_MOST_CLASSES, max(FEW_CLASSES, len(values) / 2))
    return 2 <= different(values) <= most


def _may_be_class(columns: Columns, values: Texts) -> bool:
    """Whether a column may be the label although its name does not say so."""
    return _is_class(values) and not _is_free_text(values, len(columns) == 1)


def _is_free_text(values: Texts, alone: bool) -> bool:
    """Whether values are sentences, or many texts of which hardly one comes again."""
    if numbers(values) is not None:
        return False
    found = sorted(set(values) - {""})
    if np.median([len(text.split()) for text in found]) >= _SENTENCE:
        return True
    return not alone and len(found) > max(FEW_CLASSES, len(values) / _FEWEST_ROWS)


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
