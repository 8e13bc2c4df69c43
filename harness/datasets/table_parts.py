"""A table file taken apart: which column is what, which rows have a label, what is doubtful."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import Index, content_of
from harness.datasets.cells import Texts, doubtful_values, label_cells
from harness.datasets.column_doubts import an_identifier, saved_index, telling
from harness.datasets.columns import filled, split_codes
from harness.datasets.header import as_float
from harness.datasets.row_copies import equal_by_chance, row_digests
from harness.datasets.spelling import differ_in_more, one_case, one_spelling
from harness.datasets.table_columns import Column, Writing, typed_columns
from harness.datasets.table_file import Cells, Layout, read_cells
from harness.errors import DataError, counted, did_you_mean, listing

if TYPE_CHECKING:
    from harness.datasets.table import Table

ColumnName = str | int
"""A column's name, or its position from 0 (from −1 backwards)."""

_READING = 2
"""Raised when tables come to be read another way; part of the content of those it concerns."""

_FEW_CLASSES = 20
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Parsed:
    """A table file taken apart.

    Attributes:
        index: Its samples.
        columns: Its features.
        became: What became of each column of the file, by name.
    """

    index: Index
    columns: tuple[Column, ...]
    became: Mapping[str, str]


@functools.lru_cache(maxsize=2)
def parse(table: "Table", path: Path, _state: tuple[int, int]) -> Parsed:
    """Take the file of `table` apart, once for each state of the file."""
    layout = Layout(table.header, table.column_names, table.delimiter, table.encoding)
    cells = read_cells(path, layout)
    roles = _Roles.of(table, cells)
    labels = _Labels.of(table, cells, roles)
    kept = labels.kept
    cells = cells.take(kept)
    rows = cells.rows
    writing = Writing(table.decimal, table.thousands, table.na_values)
    features, remarks = typed_columns(cells.frame[roles.features], roles.categorical, writing)
    columns, became, doubts = _judged(features, cells, roles, labels)
    if not columns:
        raise DataError(f"no feature column besides {listing(became)}")
    digests = row_digests(columns)
    found = {role: _role(table, cells, role, name) for role, name in roles.others.items()}
    group = found.get("group_column")
    anew = (cells.anew, labels.anew, any(c.anew for c in columns), len(columns) < len(features))
    return Parsed(
        Index(
            labels=labels.codes,
            class_names=labels.names,
            content=_content(path, any(anew) or (group is not None and group.anew)),
            shape=(len(columns),),
            ids=[str(row) for row in rows],
            split=split_codes(found["split_column"].cells, rows, roles.others["split_column"])
            if "split_column" in found
            else None,
            group=None if group is None else _codes(group.cells)[0],
            fold=_codes(found["fold_column"].cells)[0] if "fold_column" in found else None,
            digests=digests,
            by_chance=equal_by_chance(columns, digests),
            warnings=(
                *cells.notes,
                *labels.remarks,
                *(() if group is None else group.remarks),
                *remarks,
                *doubts,
            ),
        ),
        columns,
        became,
    )


def _content(path: Path, anew: bool) -> str:
    """Return the fingerprint of the file, another where it is read otherwise than it once was.

    Runs of tables that are read as before keep their keys.
    """
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return content_of(content, "reading", _READING) if anew else content


@dataclass(frozen=True)
class _Roles:
    """What the columns of a file are for.

    Attributes:
        label: The column of the class.
        others: Column by role: ``split_column``, ``group_column``, ``fold_column``.
        dropped: Columns that the user leaves out.
        categorical: Columns of names, as the user says.
        wanted: Features, whatever they look like.
        features: The other columns of the file, in its order.
    """

    label: str
    others: Mapping[str, str]
    dropped: frozenset[str]
    categorical: frozenset[str]
    wanted: frozenset[str]
    features: list[str]

    @classmethod
    def of(cls, table: "Table", cells: Cells) -> Self:
        label = _resolve(cells, table.label_column, "label_column")
        others = {
            role: _resolve(cells, wanted, role)
            for role in ("split_column", "group_column", "fold_column")
            if (wanted := getattr(table, role)) is not None
        }
        dropped = frozenset(_resolve(cells, name, "drop_columns") for name in table.drop_columns)
        taken = {label, *others.values(), *dropped}
        named = {}
        for role in ("categorical", "keep_columns"):
            named[role] = frozenset(_resolve(cells, name, role) for name in getattr(table, role))
            if named[role] & taken:
                raise DataError(
                    f"{role} names what is no feature: {listing(sorted(named[role] & taken))}"
                )
        features = [str(name) for name in cells.frame.columns if name not in taken]
        return cls(label, others, dropped, named["categorical"], named["keep_columns"], features)


@dataclass(frozen=True)
class _Named:
    """A column of a label or group.

    Attributes:
        cells: What it says in each row.
        remarks: What the user should know.
        anew: Whether the first version of this reader had others for one.
    """

    cells: Texts
    remarks: list[str]
    anew: bool


def _role(table: "Table", cells: Cells, role: str, name: str) -> _Named:
    raw = filled(label_cells(cells.column(name), table.na_values), cells.rows, name)
    if role != "group_column":
        return _Named(raw, [], False)
    one, remarks = one_spelling(raw, table.normalize_labels, f"groups in column '{name}'")
    anew = table.normalize_labels and differ_in_more(raw)
    return _Named(one, [*doubtful_values(one, "group", name), *remarks], anew)


@dataclass(frozen=True)
class _Labels:
    """The classes of the rows.

    Attributes:
        codes: ``int64[n]`` in ``[0, C)`` of the rows that are kept.
        names: C names, in numeric or else alphabetic order.
        kept: ``bool[N]``: which rows of the file have a label.
        remarks: What the user should know.
        anew: Whether the first version of this reader had other classes.
    """

    codes: NDArray[np.int64]
    names: tuple[str, ...]
    kept: NDArray[np.bool_]
    remarks: list[str]
    anew: bool

    @classmethod
    def of(cls, table: "Table", cells: Cells, roles: _Roles) -> Self:
        name, merge = roles.label, table.normalize_labels
        raw = label_cells(cells.column(name), table.na_values)
        kept, remarks = raw != "", []
        if table.unlabelled == "drop" and kept.any() and not kept.all():
            remarks.append(_left_out(cells.rows[~kept]))
        else:
            way = _way_to_keep(label_cells(cells.column(name), ())[raw == ""])
            filled(raw, cells.rows, name, f"; `unlabelled: drop` leaves these rows out{way}")
        usual, alike = one_spelling(raw[kept], merge)
        found = one_case(raw[kept], usual) if merge else usual
        codes, names = _codes(found)
        if len(names) > _MOST_CLASSES or len(names) > max(_FEW_CLASSES, len(found) / 2):
            raise DataError(
                f"column '{name}' has {len(names)} different values in {len(found)} rows: that is "
                "no class; say which column is, with label_column"
            )
        if len(names) == 1:
            raise DataError(
                f"column '{name}' holds one class only, '{names[0]}', in all {len(found):,} rows; "
                "at least 2 are needed: add rows of another, or say which column is the class, "
                "with label_column"
            )
        remarks += [*doubtful_values(found, "class", name), *alike]
        if not cells.header and list(codes).count(codes[0]) == 1:
            remarks.append(
                f"the first row is taken as data, and alone is of class '{names[codes[0]]}': if it "
                "holds the names of the columns, say `header: true`"
            )
        anew = merge and (differ_in_more(raw[kept]) or bool((found != usual).any()))
        return cls(codes, names, kept, remarks, anew)


def _first_of_each(features: Sequence[Column]) -> NDArray[np.int64]:
    """Return the first of equal rows each: a copy tells the label of its original."""
    return np.sort(np.unique(row_digests(features), return_index=True)[1])


def _left_out(rows: NDArray[np.int64]) -> str:
    what = counted(len(rows), "row has no label and is", "rows have no label and are")
    return f"{what} left out: row {listing(rows, 5)}"


def _way_to_keep(absent: Texts) -> str:
    """Return how to have cells such as ``nan`` counted as a class, where there are any."""
    words = sorted({cell for cell in absent if cell})
    if not words:
        return ""
    return f"; where {listing(map(repr, words), 3)} is the name of a class, say `na_values: []`"


def _judged(
    features: Sequence[Column], cells: Cells, roles: _Roles, labels: _Labels
) -> tuple[tuple[Column, ...], dict[str, str], list[str]]:
    """Return the features that are left, what became of each column of the file, and remarks."""
    columns, became, remarks = [], {}, []
    once = _first_of_each(features)
    nameless = {str(cells.frame.columns[0])} if cells.nameless else set()
    reasons = {column.name: saved_index(column, column.name in nameless) for column in features}
    alone = all(reasons.values())
    for column in features:
        name, said, reason = column.name, column.became(), reasons[column.name]
        what = f"column '{name}'" + (" (the first, without a name)" if name in nameless else "")
        share, how = telling(column, labels.codes, len(labels.names), once)
        if reason and not alone and name not in roles.wanted:
            also = " and orders the classes" if share else ""
            remarks.append(
                f"{what} {reason}{also}, and is no feature: it is left out; where it is meant, say "
                f"`keep_columns: [{name}]`"
            )
            became[name] = f"left out: {reason}{also}"
            continue
        columns.append(column)
        if share:
            remarks.append(
                f"{what} alone {how}: mean recall {100 * share:.4g} %; where it is known only once "
                "the class is, it is a leak: name it under drop_columns"
            )
            said += f"; suspect: {how}"
        if reason and name not in roles.wanted:
            remarks.append(f"{what} {reason}, and is kept because there is no other feature")
        elif not share and (number := an_identifier(column)):
            remarks.append(
                f"{what} holds {number}: if it is an identifier, name it under drop_columns"
            )
        became[name] = said
    taken = {roles.label: f"label, {counted(len(labels.names), 'class', 'classes')}"}
    taken |= {name: role.removesuffix("_column") for role, name in roles.others.items()}
    taken |= dict.fromkeys(roles.dropped, "left out: drop_columns")
    taken |= {name: "index of the file: left out" for name in cells.index if name not in taken}
    found = became | taken
    order = [*cells.index, *map(str, cells.frame.columns)]
    return tuple(columns), {name: found[name] for name in order}, remarks


def _resolve(cells: Cells, wanted: ColumnName, role: str) -> str:
    """Return the name of a column given by name or position."""
    names = [str(name) for name in cells.frame.columns]
    if isinstance(wanted, int):
        if not -len(names) <= wanted < len(names):
            raise DataError(f"{role} {wanted}: there are {len(names)} columns, from 0 on")
        return names[wanted]
    if wanted not in names and wanted not in cells.index:
        raise DataError(
            f"{role} '{wanted}': no such column{did_you_mean(wanted, names)} "
            f"(there are: {listing([*names, *cells.index])})"
        )
    return wanted


def _codes(cells: Texts) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return each cell's position among the sorted values, ``int64[N]``, and the values."""
    names = sorted(set(cells))
    values = as_float(np.array(names, dtype=object))
    if not np.isnan(values).any():
        names = [names[k] for k in np.argsort(values, kind="stable")]
    position = {name: k for k, name in enumerate(names)}
    return np.array([position[cell] for cell in cells], dtype=np.int64), tuple(names)
