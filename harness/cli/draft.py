"""The experiment file that `harness new` proposes for a dataset.

Every default follows from what was seen and is said beside its line, so that the file teaches
what there is to change.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.budget import Budget, Work
from harness.cli.dataset_summary import DatasetSummary
from harness.cli.detect import DetectedData
from harness.errors import DataError, counted, lasting

SEEDS = 3
_EVALUATIONS = 10
_FOLDS = 5
_FEWEST = 20
"""Test samples of the rarest class below which one test set says little: a sample is 5 points."""


def work_of(seen: DatasetSummary) -> Work:
    """Return what the runs of a draft would train on."""
    train, val, test = (int(counts.sum()) for counts in seen.info.counts)
    image = seen.info.kind == "image"
    return Work(
        train=train,
        scored=(_EVALUATIONS + 1) * val + test,
        image_size=int(max(seen.info.shape[:2])) if image else None,
        factors=len(_factors(seen.info.kind)),
        repeats=_seeds(seen) * (seen.folds or 1),
    )


def text_of(file: Path, data: Path, found: DetectedData, seen: DatasetSummary, plan: Budget) -> str:
    """Return the experiment file.

    Args:
        file: Where it will lie; its stem becomes the name of the experiment.
        data: What the user pointed at.
        found: The dataset, settled.
        seen: What it looks like.
        plan: How long its runs train.
    """
    factors = _factors(seen.info.kind)
    crossed, alone, seeds = 2 ** len(factors), len(factors) + 1, _seeds(seen)
    recipes = crossed if plan.factorial else alone
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:100] or "experiment"
    times = f"{recipes} recipes × {counted(seeds, 'seed')}"
    if seen.folds is not None:
        times += f" × {seen.folds} folds"
    runs = f"{times} = {plan.runs:,} runs of {plan.steps:,} steps"
    known = plan.seconds is not None
    share = lasting((plan.seconds or 0.0) * alone / crossed)
    design = (
        "# design: one_at_a_time"
        + _beside(f"{alone} recipes instead of {crossed}{f': about {share}' if known else ''}")
        if plan.factorial
        else "design: one_at_a_time"
        + _beside(f"{alone} recipes: each remedy alone; without this line all {crossed}")
    )
    lines = [
        f"# harness run {_one_line(shlex.quote(file.as_posix()))}",
        f"# {runs}; --smoke tries each for a few steps",
        f"# Cost: {plan.cost().replace('FILE', _one_line(shlex.quote(file.as_posix())))}",
        *([f"# Chosen to fit an evening: {plan.instead}"] if plan.instead else []),
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
        design,
        "",
        *_models(seen),
        "",
        f"seeds: {seeds}" + _beside(_more_seeds(seen)),
        *_folds(seen),
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


def _dataset(found: DetectedData, seen: DatasetSummary) -> list[str]:
    lines = [f"  - name: {found.name}"]
    for key, value in found.fields.items():
        lines.append(f"    {key}: {_value(value)}" + _beside(found.comments.get(key, "")))
    return lines + [f"    # {text}" for text in _suggestions(found, seen)]


def _suggestions(found: DetectedData, seen: DatasetSummary) -> list[str]:
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
    lines += [line + _beside(text) for line, text in found.offers.items()]
    if any(line.startswith("group:") for line in found.offers):
        return lines
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


def _models(seen: DatasetSummary) -> list[str]:
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


def _seeds(seen: DatasetSummary) -> int:
    """Return how many seeds give at least `SEEDS` runs of a recipe, each in every fold."""
    return SEEDS if seen.folds is None else -(-SEEDS // seen.folds)


def _more_seeds(seen: DatasetSummary) -> str:
    if seen.folds is None:
        return "5 or more to tell small gains from noise"
    return "each runs every fold; more to tell small gains from noise"


def _folds(seen: DatasetSummary) -> list[str]:
    if seen.folds is not None:
        return [
            f"folds: {seen.folds}"
            + _beside("the folds that the file names: each is test once for every seed")
        ]
    tested, whole = seen.info.counts[2], seen.info.counts.sum(axis=0)
    rarest = int(np.argmin(tested))
    if tested[rarest] >= _FEWEST or not _foldable(seen):
        return []
    name = seen.info.class_names[rarest]
    return [
        f"# folds: {_FOLDS}"
        + _beside(
            f"only {counted(int(tested[rarest]), 'test sample')} of {name}, each worth "
            f"{100 / max(1, int(tested[rarest])):.2g} points of its recall; with folds all "
            f"{int(whole[rarest])} are tested once, for {_FOLDS} times the runs"
        )
    ]


def _foldable(seen: DatasetSummary) -> bool:
    """Whether the set can be cut in folds: it has no split, and every class enough to go round."""
    try:
        for fold in range(_FOLDS):
            seen.dataset.info(0, fold, _FOLDS)
    except DataError:
        return False
    return True


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
