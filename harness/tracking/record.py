"""What MLflow is told of a committed run, as plain values read from its folder."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import StoreError
from harness.files import read_bytes
from harness.metrics import COUNTS, FEW, key_of
from harness.tracking.keys import class_keys
from harness.training.run_result import DamagedRunError, read_run, recall_run
from harness.training.run_status import FAILURES, RunStatus
from harness.training.rundir import (
    CONFUSION,
    ENV,
    ERROR,
    HISTORY,
    LOG,
    PER_CLASS,
    RESULT,
    SPEC,
)

ARTIFACTS = (PER_CLASS, CONFUSION, HISTORY, SPEC, RESULT, ERROR, ENV, LOG)
"""Files of a run that are kept as artifacts, where they exist; never weights or predictions."""

EVERY_EVALUATION = "lr"
"""Key of a point that every evaluation during training leaves."""

CLASS_COLUMNS = ("precision", "recall", "f1")

COSTS = ("seconds", "images_per_second", "peak_memory_mb")


class Point(NamedTuple):
    """One value of one metric, at a step and a time in ms since the epoch."""

    key: str
    value: float
    step: int
    time: int


@dataclass(frozen=True)
class Found:
    """What a committed run left on disk.

    Attributes:
        status: ``done``, ``diverged``, ``stopped`` or one of `FAILURES`.
        reason: Why it failed, or empty.
        digest: Twelve digits of the committed result: another attempt has others.
        ended: When it ended, in ms since the epoch.
        result: ``result.json``, or empty.
        history: Rows of ``history.csv``.
        per_class: Rows of ``per_class.csv`` for test.
    """

    status: str
    reason: str
    digest: str
    ended: int
    result: Mapping[str, Any]
    history: list[dict[str, str]]
    per_class: list[dict[str, str]]

    @property
    def began(self) -> int:
        """When it began, in ms since the epoch, by its cost."""
        cost = self.result.get("cost") or {}
        seconds = float(cost.get("seconds") or 0.0) + float(cost.get("startup_seconds") or 0.0)
        return self.ended - round(1000 * seconds)


def digest(folder: str | Path) -> str:
    """Return twelve digits of what a committed run came to, whether or not it can be read.

    Raises:
        StoreError: It has neither a result nor an error.
    """
    for name in (RESULT, ERROR):
        try:
            return hashlib.sha256(read_bytes(f"{folder}/{name}")).hexdigest()[:12]
        except FileNotFoundError:
            continue
        except OSError as error:  # who reads it says that it is a folder or a pipe
            return hashlib.sha256(str(error).encode()).hexdigest()[:12]
    raise StoreError(f"{folder} has neither {RESULT} nor {ERROR}")


def read(path: Path) -> Found:
    """Read a committed run.

    Raises:
        DamagedRunError: It is not as it was written.
    """
    run = read_run(path)
    return Found(
        status=run.status,
        reason=run.message if run.status in FAILURES else "",
        digest=run.digest,
        ended=round(run.ended * 1000),
        result=run.values,
        history=[] if run.status in FAILURES else run.history(),
        per_class=run.per_class() if run.status == RunStatus.DONE else [],
    )


def pictures(path: Path, folder: Path) -> list[Path]:
    """Draw what MLflow's viewer shows of a run into `folder`: its confusion matrix.

    Nothing where the run has none, or it cannot be read: `read` says why.
    """
    from harness.analysis.plots.classes import confusion

    try:
        run = recall_run(path)
        names, matrix = run.confusion()
        trained = np.array([int(row["train_count"]) for row in run.per_class()])
        order = np.argsort(-trained, kind="stable")  # as in every table and figure
        matrix, names = matrix[np.ix_(order, order)], [names[k] for k in order]
    except (DamagedRunError, ValueError, IndexError):
        return []
    title = "Confusion matrix of test, each row in per cent of the class"
    drawn = confusion(matrix, names, title)
    drawn.save(folder / "confusion.svg")
    return [folder / "confusion.svg"]


def profile(result: Mapping[str, Any]) -> str | None:
    """Return what MLflow shows of the training set, as JSON, or None where it is not known."""
    counts = result.get("train_counts")
    if not counts:
        return None
    return json.dumps({"num_rows": sum(counts), "classes": len(counts), "per_class": counts[:1000]})


def schema(result: Mapping[str, Any]) -> str | None:
    """Return what MLflow shows of one sample and its label, as JSON, or None if not known."""
    sample = result.get("sample")
    if not sample:
        return None

    def tensor(dtype: str, shape: Sequence[int]) -> str:
        spec = {"dtype": dtype, "shape": [-1, *shape]}
        return json.dumps([{"type": "tensor", "tensor-spec": spec}])

    features = tensor(sample["dtype"], sample["shape"])
    spec = {"features": features, "targets": tensor("int64", [])}
    return json.dumps({"mlflow_tensorspec": spec})


def live(values: Mapping[str, float | None], step: int, time: int) -> list[Point]:
    """Return the points of one evaluation during training; what is not finite is left out."""
    return [
        Point(_key(key), value, step, time)
        for key, value in values.items()
        if key in ("train/loss", "lr") or key.startswith("val/")
        if value is not None and math.isfinite(value)
    ]


def _key(column: str) -> str:
    """Return a column of the history as a key: ``val/f_beta(beta=3)`` as ``val/f_beta_beta_3``."""
    split, slash, name = column.partition("/")
    return f"{split}/{key_of(name)}" if slash else column


def diverged(found: Found) -> bool:
    """Whether the run, or any value that it left, is not finite."""
    cells = [cell for row in found.history for cell in row.values() if cell]
    return found.status == RunStatus.DIVERGED or not all(
        math.isfinite(float(cell)) for cell in cells
    )


def points(found: Found, limit: int, began: int, after: int = 0) -> list[Point]:
    """Return the points of a committed run that are not in MLflow yet.

    The summary of val stands at the last step and takes the place of what was measured there
    during training: with ``select: best`` it belongs to the chosen weights, not to the last. What
    is known once, of test and of costs, stands at step 0: MLflow then draws bars, one per run or
    recipe, where a later step would make it a line of one point.

    Args:
        found: The run.
        limit: Most classes with keys of their own.
        began: When it began, in ms since the epoch; with `after`, when that step was.
        after: Last step of which MLflow has the history.
    """
    metrics: Mapping[str, Mapping[str, float | None]] = found.result.get("metrics") or {}
    summaries = {
        f"{split}/{key_of(name)}": value
        for split in ("test", "val")
        for name, value in metrics.get(split, {}).items()
        if name not in COUNTS
    }
    steps = int(found.result.get("steps") or 0)
    last = int(found.history[-1]["step"]) if found.history else steps
    ended = max(found.ended, began)
    span = (ended - began) / max(max(steps, last) - after, 1)
    made: list[Point] = []
    for row in found.history:
        step = int(row["step"])
        values = {key: float(cell) for key, cell in row.items() if cell and key != "step"}
        if step == last:
            values = {key: v for key, v in values.items() if _key(key) not in summaries}
        if step > after:
            made += live(values, step, began + round(span * (step - after)))
    # MLflow's search takes a name with a slash in quotes only: metrics.test_balanced_accuracy > 0.9
    plain = {key.replace("/", "_"): value for key, value in summaries.items()}
    finals = {**summaries, **plain, **_classes(found, limit), **_costs(found)}
    return made + [
        Point(key, float(value), last if key.startswith(("val/", "val_")) else 0, ended)
        for key, value in finals.items()
        if value is not None and math.isfinite(value)
    ]


def _costs(found: Found) -> dict[str, float | None]:
    cost: Mapping[str, float | None] = found.result.get("cost") or {}
    return {f"cost/{name}": cost.get(name) for name in COSTS}


def _classes(found: Found, limit: int) -> dict[str, float | None]:
    rows = found.per_class
    keys = class_keys([row["name"] for row in rows]) if limit else []
    return {
        f"test_{column}/{keys[index]}": float(rows[index][column]) if rows[index][column] else None
        for index in chosen_classes(rows, limit)
        for column in CLASS_COLUMNS
    }


def chosen_classes(rows: list[dict[str, str]], limit: int) -> list[int]:
    """Return which classes get keys of their own: MLflow draws about a hundred charts.

    All where they fit. Beyond that the rarest few-shot classes, the same for every recipe, and in
    at least a quarter of the room the classes of worst recall.
    """
    if len(rows) <= limit:
        return list(range(len(rows)))
    count = [int(row["train_count"]) for row in rows]
    recall = [float(row["recall"]) if row["recall"] else math.inf for row in rows]
    few = sorted((i for i in range(len(rows)) if count[i] < FEW), key=lambda i: (count[i], i))
    chosen = few[: limit - limit // 4]
    rest = sorted(set(range(len(rows))) - set(chosen), key=lambda i: (recall[i], count[i], i))
    return sorted(chosen + rest[: limit - len(chosen)])
