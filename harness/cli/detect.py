"""What lies at a path: class folders, a manifest of images or a table, and how to read it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from harness.cli.detect_columns import Roles, find_roles, identifiers
from harness.cli.detect_elsewhere import columns_of_images, question, refuse_embedded
from harness.cli.detect_files import NameColumn, find_names
from harness.cli.detect_label import Columns
from harness.cli.inspect import named
from harness.datasets import columns
from harness.datasets.cells import Texts, label_cells, texts
from harness.datasets.column_text import numbers
from harness.datasets.folders import IMAGE_FORMATS, class_source, linked_out
from harness.datasets.table_file import Layout, read_cells
from harness.errors import ConfigError, DataError, counted, did_you_mean, listing
from harness.experiment.tree import Tree
from harness.registry import datasets

_PACKED = (".csv.gz", ".tsv.gz", ".csv.bz2", ".tsv.bz2", ".csv.xz", ".tsv.xz")
_TABLES = (".csv", ".tsv", ".parquet", ".pq", *_PACKED)
_FOREIGN = (
    *(
        ".xls",
        ".xlsx",
        ".ods",
        ".json",
        ".jsonl",
        ".ndjson",
        ".npz",
        ".npy",
        ".mat",
        ".h5",
        ".hdf5",
    ),
    *(".feather", ".arrow", ".orc", ".avro", ".pkl", ".pickle", ".sav", ".dta", ".rds", ".xml"),
    *(".sqlite", ".db", ".html", ".yaml", ".yml", ".toml"),
)
_WIDEST = 500
_LAYOUT = ("header", "delimiter", "encoding")


@dataclass(frozen=True)
class DetectedData:
    """A dataset as an experiment file would write it.

    Attributes:
        name: ``image_folder``, ``manifest`` or ``table``.
        fields: Its fields; only plain values.
        comments: What to say beside a field, by field.
        remarks: What was decided, and why.
        offers: Lines that the user may want, ``key: value``, with what to say beside each.
    """

    name: str
    fields: Mapping[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    offers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What the user said of the data.

    Attributes:
        label: The label column of a file, or None to find it.
        images: Folders that the images of a file lie in, or none to find them.
        table: Whether a file is a table, although a column of it may name images.
        settings: Fields of the dataset, such as its encoding.
    """

    label: str | None = None
    images: tuple[Path, ...] = ()
    table: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, sets: Sequence[str], label: str | None = None, images: Sequence[Path] = (), **more: Any
    ) -> Self:
        """Return what options say, and assignments such as ``encoding=cp1252``.

        Raises:
            ConfigError: One of them is no assignment.
        """
        tree = Tree("dataset", "{}")
        for edit in sets:
            tree.set(edit)
        settings = tree.values
        named = settings.pop("label_column", None)
        places = settings.pop("images", [])
        places = [Path(str(place)) for place in (places if isinstance(places, list) else [places])]
        label = label if named is None else str(named)
        return cls(label, tuple(images) or tuple(places), settings=settings, **more)


def look(path: Path, asked: Asked = Asked()) -> DetectedData:
    """Return what lies at a path.

    Args:
        path: A folder, or a CSV or Parquet file.
        asked: What the user said of it.

    Raises:
        ConfigError: There is nothing, or which file or column is meant cannot be told.
        DataError: What is there cannot be read.
    """
    place = path.expanduser()
    if place.is_dir():
        return with_settings(_folder(path, asked), asked)
    if not place.is_file():
        beside = os.listdir(place.parent) if place.parent.is_dir() else []
        raise ConfigError(
            f"there is neither a file nor a folder {path}{did_you_mean(path.name, beside)}"
        )
    _refuse_foreign(path)
    return _file(path, asked)


def _refuse_foreign(path: Path) -> None:
    kind = path.suffix.lower()
    if path.name.lower().endswith(_PACKED):
        return
    if kind in IMAGE_FORMATS:
        raise ConfigError(f"{path} is one image; give the folder that holds the class folders")
    if kind in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        raise ConfigError(f"{path} is an archive; unpack it and give the folder or file in it")
    if kind in _FOREIGN:
        raise ConfigError(f"{path} is neither CSV nor Parquet; save the table as one of these")
    if path.expanduser().stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")


def _folder(path: Path, asked: Asked) -> DetectedData:
    place = path.expanduser()
    tables = [
        path / name
        for name in sorted(os.listdir(place))
        if name.lower().endswith(_TABLES) and not name.startswith(".")
    ]
    listings, doubts = _listings(tables, asked)
    try:
        source = class_source(place)
    except DataError as error:
        return _only_file(path, tables, listings, doubts, error, asked)
    if len(listings) == 1 and (asked.label or not _same_classes(listings[0], source.class_names)):
        return listings[0]
    if len(source.class_names) == 1 and not listings:
        inner = path / source.class_names[0]
        if inner.is_dir() and any(entry.is_dir() for entry in inner.iterdir()):
            deeper = _folder(inner, asked)
            remark = f"{path} holds one folder only; looked into {inner}"
            return DetectedData(
                deeper.name, deeper.fields, deeper.comments, (remark, *deeper.remarks)
            )
    if len(source.class_names) == 1 and doubts:
        raise doubts[0]  # one folder of all images is no class
    if asked.label is not None:
        raise (
            doubts[0]
            if doubts
            else ConfigError(
                f"--label {asked.label}: {path} holds class folders, whose names are the labels; a "
                "label column goes with a CSV or Parquet file"
            )
        )
    fields: dict[str, Any] = {"path": path.as_posix()}
    comments = {}
    if linked_out(source.files, [place]):
        fields["allow_outside"] = True
        comments["allow_outside"] = "images lie behind symbolic links out of the folder"
    return DetectedData("image_folder", fields, comments)


def _listings(tables: list[Path], asked: Asked) -> tuple[list[DetectedData], list[ConfigError]]:
    """Return the files that list images with their labels, and questions about others."""
    listings: list[DetectedData] = []
    doubts: list[ConfigError] = []
    for table in tables:
        if _columns_of(table) > _WIDEST:
            continue  # a table of pixels
        try:
            found = _file(table, asked)
        except ConfigError as error:
            doubts.append(error)
        except DataError:
            continue  # said again, and loudly, if this turns out to be the only file
        else:
            if found.name == "manifest":
                listings.append(found)
    return listings, doubts


def _columns_of(table: Path) -> int:
    if table.suffix.lower() in (".parquet", ".pq", ".gz"):
        return 0
    with open(table.expanduser(), encoding="utf-8", errors="replace") as file:
        return file.readline(1_000_000).count(",")


def _same_classes(listing_: DetectedData, class_names: tuple[str, ...]) -> bool:
    """Whether a listing in a folder of class folders says no more than the folders do."""
    try:
        sound = {**listing_.fields, "on_missing_image": "skip", "on_conflict": "skip"}
        source = datasets.get("manifest").model_validate(sound).source()
    except DataError:
        return True
    return set(source.class_names) == set(class_names)


def _only_file(
    path: Path,
    tables: list[Path],
    listings: list[DetectedData],
    doubts: list[ConfigError],
    error: DataError,
    asked: Asked,
) -> DetectedData:
    """Return what a folder without class folders holds: a file that lists images, or a table."""
    if len(listings) == 1:
        return listings[0]
    if len(tables) == 1:
        return _file(tables[0], asked)
    if tables:
        if len(doubts) == 1 and not listings:
            raise doubts[0]
        names = listing(table.as_posix() for table in tables)
        raise ConfigError(f"{path} holds several files; give one of them to --data: {names}")
    raise error


def _file(path: Path, asked: Asked) -> DetectedData:
    """Return what a file is, with the fields that the user set."""
    return with_settings(_read(path, asked), asked)


def with_settings(found: DetectedData, asked: Asked) -> DetectedData:
    """Return what was found with the fields that the user set."""
    return replace(found, fields={**found.fields, **asked.settings})


def _read(path: Path, asked: Asked) -> DetectedData:
    chosen = {key: asked.settings[key] for key in _LAYOUT if key in asked.settings}
    named("table", {"file": path.as_posix(), **chosen}, ())  # refuses values that are none
    try:
        cells = read_cells(path.expanduser(), Layout(**chosen)).frame
    except DataError as error:
        raise error.within(str(path)) from None
    refuse_embedded(path, cells)
    columns = {str(name): _as_table(cells[name]) for name in cells.columns}
    bare = list(columns) == [f"column_{k}" for k in range(len(columns))]
    names = None if asked.table else find_names(path, columns, asked.images)
    if names is None:
        _refuse_elsewhere(path, columns, asked)
        roles = find_roles(path, columns, asked.label, bare=bare)
        return _table(path, columns, cells, roles, bare)
    if bare:
        raise DataError(
            f"{path} lists images but has no header; add a first row with the names of the "
            f"columns, such as {','.join(['image', 'label', *list(columns)[2:]])}"
        )
    written = _as_written(cells)
    roles = find_roles(path, written, asked.label, names.column)
    missing = 0 if roles.label is None else int((written[roles.label] == "").sum())
    return _manifest(path, names, roles, missing)


def _refuse_elsewhere(path: Path, columns: Columns, asked: Asked) -> None:
    """Ask where the images are that a file lists."""
    if asked.table:
        return
    shown = listing(folder.as_posix() for folder in asked.images)
    named = [name for name in columns_of_images(columns) if name != asked.label]
    if named:
        places = shown or f"{path.parent.as_posix()} or the folder around it"
        raise ConfigError(question(path, columns, named, f"below {places}"))
    if asked.images:
        raise ConfigError(f"--images {shown}: no column of {path} names images there")


def _as_table(column: Any) -> Texts:
    """Return a column as a table reads it: NA may be a class where no numbers stand."""
    found = texts(column)
    return found if numbers(found) is not None else label_cells(column, None)


def _as_written(cells: Any) -> dict[str, Any]:
    """Return the columns as a manifest reads them: unlike in a table, NA is a label there."""
    return {str(name): columns.texts(cells, str(name), "") for name in cells.columns}


def _manifest(path: Path, names: NameColumn, roles: Roles, missing: int) -> DetectedData:
    fields: dict[str, Any] = {"file": path.as_posix()}
    comments = {}
    remarks = [*names.remarks, *roles.remarks]
    folders = [folder.as_posix() for folder in names.folders]
    if names.folders != (path.parent,):
        fields["images"] = folders[0] if len(folders) == 1 else folders
    fields["id_column" if names.suffix else "path_column"] = names.column
    if names.suffix:
        fields["suffix"] = names.suffix
    if names.outside:
        fields["allow_outside"] = True
        comments["allow_outside"] = "paths are absolute or lead out of the folder"
    if roles.label is None:
        fields["one_hot"] = list(roles.one_hot)
    else:
        fields["label_column"] = roles.label
        if missing:
            fields["drop"] = [""]
            rows = counted(missing, "row")
            comments["drop"] = f"{rows} without a label left out"
            remarks.append(f"{rows} without a value in column '{roles.label}' left out")
    fields |= roles.others
    return DetectedData("manifest", fields, comments, tuple(remarks))


def _table(path: Path, columns: Columns, cells: Any, roles: Roles, bare: bool) -> DetectedData:
    last = roles.label == list(columns)[-1]
    fields: dict[str, Any] = {"file": path.as_posix()}
    comments: dict[str, str] = {}
    fields["label_column"] = -1 if bare and last else roles.label
    if bare and last:
        comments["label_column"] = "the last column; the file has no header"
    missing = int((columns[str(roles.label)] == "").sum())
    remarks = list(roles.remarks)
    if missing:
        rows = counted(missing, "row")
        fields["unlabelled"] = "drop"
        comments["unlabelled"] = f"{rows} without a label left out: an error without this line"
        remarks.append(f"{rows} without a value in column '{roles.label}' left out")
    fields |= roles.others
    dropped = identifiers(columns, cells, {str(roles.label), *roles.others.values(), *roles.unused})
    dropped = (*roles.unused, *dropped)
    if len(dropped) + 1 + len(roles.others) >= len(columns):
        raise ConfigError(
            f"{path} has nothing to learn '{roles.label}' from: {listing(map(repr, dropped))} "
            "name rows, classes or splits. If a column names images, say where they lie, with "
            "`--images FOLDER`"
        )
    if dropped:
        fields["drop_columns"] = list(dropped)
        comments["drop_columns"] = (
            "they name rows, tell the class or the split: not to be learnt from"
        )
    return DetectedData("table", fields, comments, tuple(remarks))
