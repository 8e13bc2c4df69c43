"""The folder of one attempt: what a run writes, and nothing outside it.

Files of a finished run: ``spec.json``, ``result.json``, ``history.csv``, ``per_class.csv``,
``confusion.csv``, ``predictions.npz``, ``env.json``, ``log.txt`` and perhaps ``model.pt``; a
failed one has ``error.json`` instead of ``result.json``.
"""

import contextlib
import csv
import functools
import hashlib
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

SPEC = "spec.json"
RESULT = "result.json"
ERROR = "error.json"
HISTORY = "history.csv"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.csv"
PREDICTIONS = "predictions.npz"
ENV = "env.json"
LOG = "log.txt"

SEALED = (SPEC, HISTORY, PER_CLASS, CONFUSION, PREDICTIONS, ENV)
"""Files whose size and digest a result lists; a log grows, and weights may be deleted."""

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
        (self.path / name).write_text(_as_json(value) + "\n", encoding="utf-8")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, the last file of a run, with sizes and digests of the others.

        Its last line is the digest of all the lines before.
        """
        files: dict[str, tuple[int, str]] = {}
        for name in SEALED:
            with contextlib.suppress(FileNotFoundError):
                content = (self.path / name).read_bytes()
                files[name] = (len(content), digest_of(content))
        whole = {name: value for name, value in result.items() if name not in ("files", "digest")}
        body = _as_json({**whole, "files": files}).removesuffix("\n}").encode()
        (self.path / RESULT).write_bytes(body + _SEAL + digest_of(body).encode() + _END)

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write one row per evaluation."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._write_csv(HISTORY, columns, ([row.get(c) for c in columns] for row in rows))

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
        self._write_csv(PER_CLASS, ["split", "class", "name", *columns], rows)

    def write_confusion(self, class_names: Sequence[str], confusion: NDArray[np.int64]) -> None:
        """Write the confusion matrix of test: rows are true classes, columns predicted ones."""
        rows = ([name, *map(int, confusion[k])] for k, name in enumerate(class_names))
        self._write_csv(CONFUSION, ["true \\ predicted", *class_names], rows)

    def write_predictions(self, **arrays: NDArray[Any]) -> None:
        """Write arrays of the predictions, without pickle."""
        np.savez_compressed(self.path / PREDICTIONS, allow_pickle=False, **arrays)

    def write_env(self, extra: Mapping[str, Any]) -> None:
        """Write the versions and the machine that made this run."""
        versions = {name: version_of(name) for name in VERSIONED}
        self.write_json(
            ENV,
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
        self.write_json(ERROR, {"schema": SCHEMA, "kind": kind, "message": message})
        if error is not None:
            self.log("".join(traceback.format_exception(error)))

    def log(self, text: str) -> None:
        """Append to ``log.txt``."""
        with open(self.path / LOG, "a", encoding="utf-8") as file:
            file.write(storable(text).rstrip("\n") + "\n")

    def _write_csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with open(self.path / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([csv_cell(storable(name)) for name in columns])
            writer.writerows([_stored(cell) for cell in row] for row in rows)


def _as_json(value: Mapping[str, Any]) -> str:
    return storable_json(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def digest_of(content: bytes) -> str:
    """Return 16 digits of the SHA-256 of what is in a file: against damage, not against malice."""
    return hashlib.sha256(content).hexdigest()[:16]


_SEAL, _END = b',\n "digest": "', b'"\n}\n'


def is_sealed(content: bytes, digest: str) -> bool:
    """Whether ``result.json`` is as it was written, by the digest in its last line."""
    body, _, end = content.rpartition(_SEAL)
    return end == digest.encode() + _END and digest_of(body) == digest


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
