"""Ways in which a file of a run's folder can be damaged."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

FILES = (
    "spec.json", "result.json", "history.csv", "per_class.csv", "confusion.csv",
    "predictions.npz", "env.json",
)  # fmt: skip


def missing(file: Path) -> None:
    file.unlink()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_key(file: Path) -> None:
    """Put the content of another run there: another key, other values, perhaps the same size."""
    if file.suffix == ".json":
        found = json.loads(file.read_text())
        file.write_text(json.dumps({**found, "key": "0" * 12}, indent=1) + "\n")
    elif file.suffix == ".csv":
        content = file.read_bytes()
        changed = content.translate(bytes.maketrans(b"123456", b"654321"))
        assert changed != content
        file.write_bytes(changed)
    else:
        with np.load(file, allow_pickle=False) as stored:
            cut = {name: stored[name][:5] for name in stored.files}
        np.savez_compressed(file, allow_pickle=False, **cut)


def other_type(file: Path) -> None:
    if file.name == "result.json":
        found = json.loads(file.read_text())
        found["cost"]["seconds"] = "quick"
        file.write_text(json.dumps(found, indent=1) + "\n")
    else:
        file.write_text("[1, 2]\n")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


KINDS: dict[str, Callable[[Path], None]] = {
    "missing": missing,
    "truncated": truncated,
    "other key": other_key,
    "other type": other_type,
    "pipe": pipe,
    "folder": folder,
}
