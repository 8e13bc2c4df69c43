"""What a dataset that was found asks for: name, image size, bad files, flips, spellings."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.budget import Budget
from harness.cli.dataset_summary import sizes_of
from harness.cli.detect import DetectedData
from harness.cli.detect_files import walk
from harness.cli.detect_groups import groups_in_names
from harness.datasets.folders import Source
from harness.errors import DataError, counted, listing
from harness.registry import datasets

_LARGE = 200
_DEPTH = 4
_LITTLE, _MUCH = 0.02, 0.15
"""Shares of the usual image that the centre crop loses: to be said, and to offer another way."""
_SLIPS = 0.2
"""The share of images of which rows may disagree by mistake."""
_KINDS = {"on_missing_image": "not there and", "on_conflict": "rows say different things"}
"""Words of the notes of a manifest on what it leaves out."""


def in_quotes(text: str) -> str:
    """Return text in single quotes, as YAML takes it letter by letter."""
    return "'" + text.replace("'", "''") + "'"


def labelled(found: DetectedData, data: Path) -> DetectedData:
    """Return what was found under the name of the file or folder, by which tables call it."""
    name = Path(os.path.abspath(data.expanduser())).stem
    return replace(found, fields={"label": name or found.name, **found.fields})


def settled(found: DetectedData) -> DetectedData:
    """Return what was found with what the images themselves ask for: size, bad files, flips.

    Raises:
        DataError: The files cannot be read.
    """
    cls = datasets.get(found.name)
    fields, comments = dict(found.fields), dict(found.comments)
    if found.name == "table":
        remarks = _one_spelling(cls.model_validate(fields).indexed().warnings, fields, comments)
        return replace(found, fields=fields, comments=comments, remarks=found.remarks + remarks)
    source = _source(cls, fields, comments)
    offers: dict[str, str] = {}
    remarks = (*_one_spelling(source.warnings, fields, comments), *_unlisted(fields, source))
    _bad_files(source, fields, comments)
    sizes = sizes_of(source.files)
    if sizes is not None:
        fields["image_size"] = _image_size(sizes)
        cut = 1 - float(np.mean(np.minimum(sizes.height, sizes.width) / sizes.longer))
        lost = f"; the centre is cut out: {100 * cut:.0f} % of the usual image is lost"
        said = f"files: {sizes.text()}; larger shows more and takes longer"
        comments["image_size"] = said + (lost if cut >= _LITTLE else "")
        if cut >= _MUCH:
            offers["resize: squash"] = (
                "all of an image, in other proportions, in place of the centre alone"
            )
    groups = None if "group_column" in fields else groups_in_names(source, "file" in fields)
    if groups is not None:
        offers[f"group: {in_quotes(groups.pattern)}"] = (
            f"{groups.text}: of persons, patients or scenes, each belongs in one split"
        )
        remarks += (f"{groups.text}: if those belong together, take in the line `group:`",)
    mirrored = not all(re.fullmatch(r"\w|\d+", name) for name in source.class_names)
    fields["horizontal_flip"] = mirrored
    fields["vertical_flip"] = False
    comments["horizontal_flip"] = (
        "does a mirrored image keep its class? not so for digits, text, left and right"
    )
    comments["vertical_flip"] = "and upside down? true for microscopy, skin, satellites"
    remarks = (*found.remarks, *remarks)
    return replace(found, fields=fields, comments=comments, remarks=remarks, offers=offers)


def _source(cls: Any, fields: dict[str, Any], comments: dict[str, str]) -> Source:
    """Return the images, without those that are not there or of which rows disagree.

    What is left out for it is asked for by a line of its own, with its number beside it.

    Raises:
        DataError: They cannot be found, or rows disagree of so many that more than slips is amiss.
    """
    errors: dict[str, str] = {}
    while True:
        try:
            source: Source = cls.model_validate(fields).source()
            break
        except DataError as error:
            offered = [key for key in _KINDS if f"`{key}: skip`" in str(error)]
            if not offered or offered[0] in fields:
                raise
            fields[offered[0]] = "skip"
            errors[offered[0]] = str(error)
    for key, error_text in errors.items():
        note = next(text for text in source.warnings if _KINDS[key] in text)
        number = int(note.split()[0].replace(",", ""))
        if key == "on_conflict" and number > _SLIPS * (number + len(source.files)):
            raise DataError(
                f"{error_text}. An image has one label here: where it has several on purpose, "
                "keep one row of each image"
            )
        comments[key] = f"{note.partition(' left out')[0]} left out: an error without this line"
    return source


def _bad_files(source: Source, fields: dict[str, Any], comments: dict[str, str]) -> None:
    """Leave out what cannot be decoded, and say what becomes of it and of what is mislabelled."""
    from harness.datasets.images import facts_of

    facts = facts_of(source.files)
    hopeless = sum(bool(of_file.trouble) for of_file in facts)
    mislabelled = sum(bool(not of_file.trouble and of_file.mislabelled) for of_file in facts)
    if not hopeless and not mislabelled:
        return
    fields["on_bad_image"] = "skip"
    said = []
    if hopeless:
        what = counted(hopeless, "file cannot be decoded and is", "files cannot be decoded and are")
        said.append(f"{what} left out")
    if mislabelled:
        what = counted(mislabelled, "file is not what its name", "files are not what their names")
        said.append(f"{what} says, read as what {'it is' if mislabelled == 1 else 'they are'}")
    comments["on_bad_image"] = f"{'; '.join(said)}; an error without this line"


def _unlisted(fields: Mapping[str, Any], source: Source) -> tuple[str, ...]:
    """Return a remark on images beside those that a file lists, which take no part."""
    if "file" not in fields:
        return ()
    given = fields.get("images", Path(fields["file"]).parent.as_posix())
    folders = [Path(folder) for folder in (given if isinstance(given, list) else [given])]
    used = {os.path.realpath(path) for path in source.files}
    seen: set[str] = set()
    there = [
        os.path.join(place, name)
        for folder in folders
        for place, name in walk(os.path.abspath(folder.expanduser()), _DEPTH, seen)
    ]
    beside = [path for path in there if os.path.realpath(path) not in used]
    if not beside:
        return ()
    what = counted(len(beside), "image below", "images below")
    return (
        f"{what} {listing(folder.as_posix() for folder in folders)} in no row that is used, of "
        f"{len(there):,}: {listing(map(os.path.basename, beside), 3)}",
    )


def smaller(found: DetectedData, budget: Budget) -> DetectedData:
    """Return what was found with the image size of a budget."""
    return replace(found, fields={**found.fields, "image_size": budget.image_size})


def _one_spelling(
    warnings: Sequence[str], fields: dict[str, Any], comments: dict[str, str]
) -> tuple[str, ...]:
    """Have labels that look alike counted as one class; say which."""
    alike = [warning for warning in warnings if "normalize_labels" in warning]
    if alike:
        fields["normalize_labels"] = True
        comments["normalize_labels"] = (
            "labels that look alike to a person are one class; without this line, several"
        )
    return tuple(f"{warning.rpartition(';')[0]}; made one class" for warning in alike)


def _image_size(sizes: Any) -> int:
    height, width = int(sizes.height.max()), int(sizes.width.max())
    if sizes.alike and height == width <= 64:
        return height
    if sizes.short < 32:
        return max(8, int(sizes.short))
    if max(height, width) <= 48:
        return 32
    usual = (32, 48, 64) if sizes.short < _LARGE else (128,)
    return max(size for size in usual if size <= sizes.short)  # enlarges few files
