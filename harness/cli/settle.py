"""What a dataset that was found asks for: name, image size, bad files, flips, spellings."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cli.budget import Budget
from harness.cli.detect import Found
from harness.cli.portrait import sizes_of
from harness.errors import counted
from harness.registry import datasets

_LARGE = 200


def labelled(found: Found, data: Path) -> Found:
    """Return what was found under the name of the file or folder, by which tables call it."""
    name = Path(os.path.abspath(data.expanduser())).stem
    return replace(found, fields={"label": name or found.name, **found.fields})


def settled(found: Found) -> Found:
    """Return what was found with what the images themselves ask for: size, bad files, flips.

    Raises:
        DataError: The files cannot be read.
    """
    cls = datasets.get(found.name)
    fields, comments = dict(found.fields), dict(found.comments)
    if found.name == "table":
        remarks = _one_spelling(cls.model_validate(fields).indexed().warnings, fields, comments)
        return replace(found, fields=fields, comments=comments, remarks=found.remarks + remarks)
    from harness.datasets.images import facts_of

    source = cls.model_validate(fields).source()
    remarks = _one_spelling(source.warnings, fields, comments)
    facts = facts_of(source.files)
    bad = sum(bool(of_file.trouble or of_file.mislabelled) for of_file in facts)
    if bad:
        fields["on_bad_image"] = "skip"
        comments["on_bad_image"] = f"{counted(bad, 'bad file')}: an error without this line"
    sizes = sizes_of(source.files)
    if sizes is not None:
        fields["image_size"] = _image_size(sizes)
        comments["image_size"] = f"files: {sizes.text()}; larger shows more and takes longer"
    mirrored = not all(re.fullmatch(r"\w|\d+", name) for name in source.class_names)
    fields["horizontal_flip"] = mirrored
    fields["vertical_flip"] = False
    comments["horizontal_flip"] = (
        "does a mirrored image keep its class? not so for digits, text, left and right"
    )
    comments["vertical_flip"] = "and upside down? true for microscopy, skin, satellites"
    return replace(found, fields=fields, comments=comments, remarks=found.remarks + remarks)


def smaller(found: Found, budget: Budget) -> Found:
    """Return what was found with the image size of a budget."""
    return replace(found, fields={**found.fields, "image_size": budget.image_size})


def _one_spelling(
    warnings: Sequence[str], fields: dict[str, Any], comments: dict[str, str]
) -> tuple[str, ...]:
    """Have labels that differ only in case or blanks counted as one class; say which."""
    alike = [warning for warning in warnings if "normalize_labels" in warning]
    if alike:
        fields["normalize_labels"] = True
        comments["normalize_labels"] = (
            "labels that differ only in case or blanks are one class; without this line, several"
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
