"""Images listed in a CSV or Parquet file, each with its label."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness.datasets.base import NotIdentity, dataset
from harness.datasets.cells import Texts, doubtful_values, without_marks
from harness.datasets.columns import (
    codes,
    filled,
    merged,
    one_hot_labels,
    require_known,
    split_codes,
    texts,
)
from harness.datasets.complete import complete
from harness.datasets.file_options import Delimiter, Encoding, NaValues
from harness.datasets.images import ImageFiles, Source
from harness.datasets.manifest_files import locate, present, relative_id
from harness.datasets.name_groups import compiles, groups_of
from harness.datasets.spelling import one_case, one_spelling
from harness.datasets.table_file import Layout, read_cells
from harness.errors import DataError, counted, listing


def _as_text(value: Any) -> Any:
    """Return a whole number as text: YAML reads the label 3 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_HINT = "; fill them in, or leave these rows out with `unlabelled: drop`"

Label = Annotated[str, BeforeValidator(_as_text)]


@dataset("manifest")
class Manifest(ImageFiles):
    """Images listed in a CSV or Parquet file, one row each, with a label column or one-hot columns.

    Values are read as text, so that the label 01 keeps its zero. Labels that are all whole numbers
    are ordered by value, others by spelling.
    """

    file: Annotated[Path, NotIdentity()]
    """The CSV (with a header, perhaps packed by gzip) or Parquet file."""
    delimiter: Annotated[Delimiter, NotIdentity()] = "auto"
    """What stands between cells."""
    encoding: Annotated[Encoding, NotIdentity()] = "auto"
    """Encoding of a CSV file; by default as its byte-order mark says, else UTF-8."""
    na_values: NaValues = ()
    """Labels and groups that hold no value besides the empty one: ``NA`` is a name unless it stands
    here."""
    unlabelled: Literal["error", "drop"] = "error"
    """What to do with rows without a label."""
    on_missing_image: Literal["error", "skip"] = "error"
    """What to do with rows whose image is not there: name all and stop, or leave them out."""
    on_conflict: Literal["error", "skip"] = "error"
    """What to do with images of which rows say different things: name them and stop, or leave
    these images out."""
    images: Annotated[Path | tuple[Path, ...] | None, NotIdentity()] = None
    """The folder or folders that the paths are below; by default that of the file."""
    path_column: str = "path"
    """Column of the image paths, below one of the folders."""
    id_column: str | None = None
    """Column of names that become paths with `suffix`, instead of `path_column`."""
    suffix: str = ""
    """What follows each id or path, such as ``.jpg``."""
    allow_outside: Annotated[bool, NotIdentity()] = False
    """Whether paths may be absolute or lead out of the folders."""
    label_column: str = "label"
    """Column of the labels."""
    one_hot: tuple[str, ...] | Literal["all"] | None = None
    """Columns of 0 and 1, one for each class, instead of `label_column`; ``all`` takes every
    column that holds nothing else."""
    normalize_labels: bool = False
    """Whether labels that look alike are one class, and groups one group: they differ in case,
    blanks, invisible characters, the form of an accent, or in how a number is written."""
    drop: tuple[Label, ...] = ()
    """Labels whose rows are left out; the empty text stands for a missing label."""
    merge: dict[Label, tuple[Label, ...]] = Field(default_factory=dict)
    """Labels to make one of, by the label that they become."""
    names: Annotated[dict[Label, str], NotIdentity()] = Field(default_factory=dict)
    """Display names by label, after merging."""
    split_column: str | None = None
    """Column of train, val and test."""
    fold_column: str | None = None
    """Column of the fold that a row belongs to."""
    group_column: str | None = None
    """Column of patients, lesions or scenes: rows of one never straddle a split."""
    group: Annotated[str | None, AfterValidator(compiles)] = None
    """Regular expression searched in the path of an image, in place of `group_column`: its first
    group, or all that it matches, names the patient, lesion or scene."""

    @model_validator(mode="after")
    def _one_way_each(self) -> Self:
        given = self.model_fields_set
        if self.id_column is not None and "path_column" in given:
            raise ValueError("path_column and id_column say the same thing; give one of them")
        if self.one_hot is not None and "label_column" in given:
            raise ValueError("label_column and one_hot say the same thing; give one of them")
        if self.group is not None and self.group_column is not None:
            raise ValueError("group_column and group say the same thing; give one of them")
        olds = [old for group in self.merge.values() for old in group]
        twice = sorted({old for old in olds if olds.count(old) > 1})
        if twice:
            raise ValueError(f"merge has labels in two places: {listing(twice)}")
        return self

    def source(self) -> Source:
        """Return the images that the file lists, sorted by path.

        Raises:
            DataError: The file, a column, a value or an image is not what it should be.
        """
        file = Path(os.path.abspath(self.file.expanduser()))
        try:
            cells = read_cells(file, Layout(True, (), self.delimiter, self.encoding))
            frame = cells.frame.assign(**{k: v.to_numpy() for k, v in cells.index.items()})
            source = self._source(file, frame.set_index(pd.Index(cells.rows)))
            return replace(source, warnings=(*cells.notes, *source.warnings))
        except DataError as error:
            raise error.within(str(file)) from None

    def _source(self, file: Path, cells: pd.DataFrame) -> Source:
        column, role = self._name_column()
        paths = filled(texts(cells, column, role), cells.index, column)
        paths = np.array([path + self.suffix for path in paths], dtype=object)
        raw, notes = self._raw_labels(cells, paths)
        kept, left_out = self._kept(raw, cells.index)
        cells, paths, raw = cells[kept], paths[kept], raw[kept]
        if self.one_hot is None:
            notes = [*doubtful_values(raw, "class", self.label_column), *notes]
        notes += left_out
        if self.on_missing_image == "skip":
            there = present(list(paths), self._folders(file))
            missing = _absent(list(there), list(paths))
            cells, paths, raw = cells[there], paths[there], raw[there]
            notes += missing
        labels, class_names = self._classes(raw)
        files = locate(list(paths), self._folders(file), self.allow_outside)
        ids = [relative_id(path) for path in paths]
        group, remarks = self._groups(cells, ids)
        source = Source(
            files=files,
            ids=ids,
            labels=labels,
            class_names=class_names,
            split=self._split(cells),
            group=group,
            fold=self._folds(cells),
        )
        once, repeats = _without_repeats(source, cells.index, self.on_conflict == "skip")
        order = sorted(once, key=lambda row: source.ids[row])
        return source.take(np.array(order), (*notes, *remarks, *repeats))

    def _name_column(self) -> tuple[str, str]:
        if self.id_column is not None:
            return self.id_column, "id_column"
        return self.path_column, "path_column"

    def _label_source(self) -> str:
        return self.label_column if self.one_hot is None else "one_hot"

    def _folders(self, file: Path) -> list[Path]:
        images = file.parent if self.images is None else self.images
        folders = images if isinstance(images, tuple) else (images,)
        return [Path(os.path.abspath(folder.expanduser())) for folder in folders]

    def _raw_labels(self, cells: pd.DataFrame, paths: Texts) -> tuple[Texts, list[str]]:
        if self.one_hot is None:
            written = texts(cells, self.label_column, "label_column")
            known = {*self.drop, *(old for olds in self.merge.values() for old in olds)}
            raw = without_marks(written, set(self.na_values) - known)
            one, notes = one_spelling(raw, self.normalize_labels)
            raw = one_case(raw, one) if self.normalize_labels else raw
        else:
            asked = (self.split_column, self.fold_column, self.group_column)
            others = {self._name_column()[0], *(name for name in asked if name is not None)}
            raw, notes = one_hot_labels(cells, self.one_hot, others, paths), []
        require_known([label for label in self.drop if label], raw, "drop")
        return raw, notes

    def _kept(self, raw: Texts, rows: "pd.Index[int]") -> tuple[NDArray[np.bool_], list[str]]:
        """Return which rows are kept, ``bool[N]``, and a remark on those without a label.

        Raises:
            DataError: None is, or one that should have a label has none.
        """
        kept = np.array([label not in self.drop for label in raw], bool)
        if not kept.any():
            raise DataError(f"drop leaves no row: {listing(self.drop)}")
        without = kept & (raw == "")
        if self.unlabelled == "error" or without.all():
            filled(raw[kept], rows[kept], self._label_source(), _HINT)
            return kept, []
        if not without.any():
            return kept, []
        what = counted(int(without.sum()), "row has no label and is", "rows have no label and are")
        return kept & ~without, [f"{what} left out: row {listing(rows[without], 5)}"]

    def _classes(self, raw: Texts) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        labels, classes = codes(merged(raw, self.merge))
        require_known(self.names, classes, "names")
        shown = tuple(self.names.get(name, name) for name in classes)
        twice = sorted({name for name in shown if shown.count(name) > 1})
        if twice:
            raise DataError(
                f"names: several labels are displayed as {listing(twice)}; use merge to make "
                "one class of them"
            )
        return labels, shown

    def _split(self, cells: pd.DataFrame) -> NDArray[np.int8] | None:
        if self.split_column is None:
            return None
        found = texts(cells, self.split_column, "split_column")
        return split_codes(found, cells.index, self.split_column)

    def _folds(self, cells: pd.DataFrame) -> NDArray[np.int64] | None:
        if self.fold_column is None:
            return None
        found = texts(cells, self.fold_column, "fold_column")
        return codes(filled(found, cells.index, self.fold_column))[0]

    def _groups(
        self, cells: pd.DataFrame, ids: Sequence[str]
    ) -> tuple[NDArray[np.int64] | None, list[str]]:
        column = self.group_column
        if column is None:
            return (None if self.group is None else groups_of(ids, self.group, ids)), []
        found = texts(cells, column, "group_column", self.na_values)
        found = filled(found, cells.index, column)
        found, alike = one_spelling(found, self.normalize_labels, f"groups in column '{column}'")
        return codes(found)[0], [*doubtful_values(found, "group", column), *alike]


def _absent(there: Sequence[bool], names: Sequence[str]) -> list[str]:
    """Return a remark on images that are not there.

    Raises:
        DataError: None is.
    """
    missing = [name for name, found in zip(names, there, strict=True) if not found]
    if len(missing) == len(names):
        raise DataError(f"none of its {len(names):,} images is there, such as {names[0]}")
    if not missing:
        return []
    what = counted(len(missing), "image is not there and is", "images are not there and are")
    return [f"{what} left out: {complete(missing)}"]


def _without_repeats(
    source: Source, rows: "pd.Index[int]", skip: bool
) -> tuple[list[int], list[str]]:
    """Return the first row of each file, and a remark where there are more.

    Args:
        source: The images, N.
        rows: N numbers of their rows in the file.
        skip: Whether images of which rows say different things are left out.

    Raises:
        DataError: Rows of one file say different things.
    """
    facts = [
        [None if column is None else int(column[row]) for row in range(len(rows))]
        for column in (source.labels, source.split, source.group, source.fold)
    ]
    first: dict[str, int] = {}
    repeats: list[str] = []
    conflicts: dict[str, str] = {}
    for row, path in enumerate(source.files):
        before = first.setdefault(os.path.normcase(path), row)
        if before == row:
            continue
        pair = f"{source.ids[row]} (rows {rows[before]} and {rows[row]})"
        differ = any(fact[before] != fact[row] for fact in facts)
        if differ:
            conflicts.setdefault(os.path.normcase(path), pair)
        else:
            repeats.append(pair)
    notes = []
    if conflicts and (not skip or len(conflicts) == len(first)):
        raise DataError(
            f"rows say different things (label, split, group or fold) of "
            f"{counted(len(conflicts), 'image')}: {complete(list(conflicts.values()))}; mend the "
            "file, or leave these images out with `on_conflict: skip`"
        )
    if conflicts:
        what = counted(len(conflicts), "image", "images")
        notes.append(
            f"{what} of which rows say different things (label, split, group or fold) left out: "
            f"{complete(list(conflicts.values()))}"
        )
    if repeats:
        what = counted(
            len(repeats), "row lists an image again and is", "rows list an image again and are"
        )
        notes.append(f"{what} left out: {listing(repeats, 5)}")
    return [row for path, row in first.items() if path not in conflicts], notes
