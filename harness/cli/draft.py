"""The experiment file that `harness new` proposes for a dataset.

Every default follows from what was seen and is said beside its line, so that the file teaches
what there is to change.
"""

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.detect import Found
from harness.cli.portrait import Portrait, sizes_of
from harness.errors import counted
from harness.registry import datasets

SEEDS = 3
_STEPS = 3000
_EPOCHS = (10, 100)
_BATCH = (8, 128)
_LARGE = 200
_FOLDS = 5
_FEWEST = 15
"""Samples of the rarest class below which one test set says little, and folds are suggested."""


@dataclass(frozen=True)
class Budget:
    """How long a run trains.

    Attributes:
        batch_size: Rows per step.
        epochs: Passes over the training set.
        steps: Both together.
    """

    batch_size: int
    epochs: int
    steps: int


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


def budget(train: int) -> Budget:
    """Return a batch that is not absurd for a training set, and a useful number of steps."""
    low, high = _BATCH
    batch = min(train, max(low, min(high, 2 ** int(np.log2(max(train, 8) / 8)))))
    epochs = int(np.clip(round(_STEPS * batch / train), *_EPOCHS))
    return Budget(batch, epochs, -(-epochs * train // batch))


def text_of(file: Path, data: Path, found: Found, seen: Portrait) -> str:
    """Return the experiment file.

    Args:
        file: Where it will lie; its stem becomes the name of the experiment.
        data: What the user pointed at.
        found: The dataset, settled.
        seen: What it looks like.
    """
    plan = budget(int(seen.info.counts[0].sum()))
    factors = _factors(seen.info.kind)
    recipes = 2 ** len(factors)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:100] or "experiment"
    runs = f"{recipes} recipes × {SEEDS} seeds = {recipes * SEEDS} runs of {plan.steps:,} steps"
    lines = [
        f"# harness run {_one_line(shlex.quote(file.as_posix()))}",
        f"# {runs}; --smoke tries each for a few steps",
        f"# Written by `harness new` for {_one_line(data.as_posix())}. Paths start where the "
        "command runs.",
        "",
        f"name: {_scalar(name)}",
        "",
        "datasets:",
        *_dataset(found, seen),
        "",
        "factors:  # crossed; every recipe is compared with doing nothing",
        *(f"  {factor}: [none, {level}]" + _beside(text) for factor, level, text in factors),
        "# design: one_at_a_time" + _beside(f"{len(factors) + 1} recipes instead of {recipes}"),
        "",
        *_models(seen),
        "",
        f"seeds: {SEEDS}" + _beside("5 or more to tell small gains from noise"),
        *_folds(found, seen),
        "",
        *_training(plan),
        "",
        "metric: balanced_accuracy" + _beside("mean recall of the classes: rare ones count alike"),
    ]
    return "\n".join(lines) + "\n"


def _training(plan: Budget) -> list[str]:
    return [
        "training:",
        f"  epochs: {plan.epochs}" + _beside(f"{plan.steps:,} steps, the same for every recipe"),
        f"  batch_size: {plan.batch_size}",
        f"  lr: {_rate(plan.batch_size)}",
        "  schedule: cosine",
        "  eval_every: 0.1" + _beside("val is scored ten times in a run"),
    ]


def _dataset(found: Found, seen: Portrait) -> list[str]:
    lines = [f"  - name: {found.name}"]
    for key, value in found.fields.items():
        lines.append(f"    {key}: {_value(value)}" + _beside(found.comments.get(key, "")))
    return lines + [f"    # {text}" for text in _suggestions(found, seen)]


def _suggestions(found: Found, seen: Portrait) -> list[str]:
    """Return lines that a user may want, as comments."""
    info, lines = seen.info, []
    counts = info.counts[0]
    if seen.factor < 2:
        most = int(counts.min() // 5)
        if most > 1:
            lines.append(
                f"imbalance_factor: {min(100, most)}"
                + _beside("the classes are nearly equal: draw a long tail")
            )
    if seen.index.split is None or not (seen.index.split == 1).any():
        rarest = info.class_names[int(np.argmin(counts + info.counts[1]))]
        val = int(info.counts[1][int(np.argmin(counts + info.counts[1]))])
        share = f"carved from train to choose by; {val} of the rarest class, {_one_line(rarest)}"
        lines.append("val_fraction: 0.2" + _beside(share))
    if found.name == "image_folder":
        lines.append(
            r"group: '^(\w+?)_'"
            + _beside("if several images show one patient: its part of the file name")
        )
    elif "group_column" not in found.fields:
        lines.append(
            "group_column: patient" + _beside("if several rows belong to one patient: its column")
        )
    return lines


def _factors(kind: str) -> list[tuple[str, str, str]]:
    """Return name, level and a word on each remedy; a table has no image to augment or cut."""
    images = [("augment", "{policy: standard}", "flips, crops, rotation, zoom, light")]
    both = [
        ("sampler", "weighted_sampler", "rare classes drawn as often as common ones"),
        ("smote", "smote", "rows between neighbours of a rare class"),
        ("mixup", "mixup", "blends of pairs, labels and all"),
    ]
    cut = [("cutmix", "cutmix", "a box of another image, labels by area")]
    return [*images, *both, *cut] if kind == "image" else both


def _models(seen: Portrait) -> list[str]:
    if seen.info.kind == "table":
        return ["models: [mlp]"]
    size = min(seen.info.shape[:2])
    remark = "small enough for a CPU" if size <= 64 else "slow on a CPU at this size"
    return [
        "models:",
        "  - tiny_cnn" + _beside(remark),
        "  # - {name: torchvision/resnet18, weights: DEFAULT}"
        + _beside("pretrained, downloaded once; better, and many times slower"),
    ]


def _folds(found: Found, seen: Portrait) -> list[str]:
    if found.folds is not None:
        return [
            f"# folds: {found.folds}" + _beside("the folds that the file names: each is test once")
        ]
    rarest = int(seen.info.counts.sum(axis=0).min())
    if rarest >= _FEWEST:
        return []
    return [
        f"# folds: {_FOLDS}"
        + _beside(
            f"the rarest class has {counted(rarest, 'sample')}: with folds each of them is tested "
            f"once, for {_FOLDS} times the runs"
        )
    ]


def _rate(batch_size: int) -> float:
    """Return a learning rate in proportion to the batch, 0.1 at 128, but never tiny."""
    return max(0.02, round(0.1 * batch_size / 128, 3))


def _beside(text: str) -> str:
    return f"  # {_one_line(text)}" if text else ""


def _one_line(text: str) -> str:
    """Return text that cannot end the comment it stands in."""
    return "".join(c if c.isprintable() else " " for c in text)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_scalar(item) for item in value)}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Return a plain value in YAML; text is quoted unless it cannot be taken for anything else."""
    if not isinstance(value, str):
        return json.dumps(value)
    words = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", value) and value.lower() not in words:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
