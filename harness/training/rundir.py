"""The folder of one attempt: what a run writes, and nothing outside it.

Files of a finished run: ``spec.json``, ``result.json``, ``history.csv``, ``per_class.csv``,
``confusion.csv``, ``predictions.npz``, ``env.json``, ``log.txt`` and perhaps ``model.pt``; a
failed one has ``error.json`` instead of ``result.json``.
"""

import csv
import functools
import json
import platform
import subprocess
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.text import csv_cell, storable, storable_json

SCHEMA = 1
"""Raised when files of a run come to mean something else."""

WEIGHTS = "model.pt"
"""File of a run's weights: a state dict on the CPU."""

CHECKPOINTS = ("checkpoint.latest", "checkpoint.previous")
"""Files to go on from, the last one first; a run that is done has none."""

RESUMED = "resumed from step"
"""Begins the note of a run that went on from a checkpoint."""

CHECKPOINT_SECONDS = 60.0
"""Training between two checkpoints, unless somebody says otherwise; a shorter run writes none."""

VERSIONED = ("torch", "torchvision", "numpy", "albumentations", "opencv-python-headless")


class RunDir:
    """Writes the files of one attempt; text from outside is escaped where no file would take it.

    Args:
        path: An existing folder that belongs to this attempt alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON file; NaN and infinity have no place in it."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        (self.path / name).write_text(storable_json(text) + "\n", encoding="utf-8")

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write one row per evaluation."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._write_csv("history.csv", columns, ([row.get(c) for c in columns] for row in rows))

    def write_per_class(
        self, class_names: Sequence[str], tables: Mapping[str, Mapping[str, NDArray[Any]]]
    ) -> None:
        """Write one row per split and class.

        Args:
            class_names: C display names.
            tables: Columns of length C, by split.
        """
        columns = list(next(iter(tables.values()))) if tables else []
        rows = (
            [split, k, name, *(_cell(table[column][k]) for column in columns)]
            for split, table in tables.items()
            for k, name in enumerate(class_names)
        )
        self._write_csv("per_class.csv", ["split", "class", "name", *columns], rows)

    def write_confusion(self, class_names: Sequence[str], confusion: NDArray[np.int64]) -> None:
        """Write the confusion matrix of test: rows are true classes, columns predicted ones."""
        rows = ([name, *map(int, confusion[k])] for k, name in enumerate(class_names))
        self._write_csv("confusion.csv", ["true \\ predicted", *class_names], rows)

    def write_predictions(self, **arrays: NDArray[Any]) -> None:
        """Write arrays of the predictions, without pickle."""
        np.savez_compressed(self.path / "predictions.npz", allow_pickle=False, **arrays)

    def write_env(self, extra: Mapping[str, Any]) -> None:
        """Write the versions and the machine that made this run."""
        versions = {name: version_of(name) for name in VERSIONED}
        self.write_json(
            "env.json",
            {
                "harness": version_of("imbalance-harness"),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "machine": platform.machine(),
                "versions": versions,
                "commit": git_commit(),
                **extra,
            },
        )

    def write_error(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Write why this attempt failed; the traceback goes to ``log.txt``."""
        self.write_json("error.json", {"schema": SCHEMA, "kind": kind, "message": message})
        if error is not None:
            self.log("".join(traceback.format_exception(error)))

    def log(self, text: str) -> None:
        """Append to ``log.txt``."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(storable(text).rstrip("\n") + "\n")

    def _write_csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with open(self.path / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([csv_cell(storable(name)) for name in columns])
            writer.writerows([_stored(cell) for cell in row] for row in rows)


def _cell(value: Any) -> Any:
    """Return a value as a CSV cell; what is not defined is empty."""
    if isinstance(value, np.floating | float):
        return "" if np.isnan(value) else float(value)
    return int(value)


def _stored(cell: Any) -> Any:
    return csv_cell(storable(cell)) if isinstance(cell, str) else cell


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the current folder, or None where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def version_of(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
