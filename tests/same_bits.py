"""What of a finished run must be the same to the bit, whatever it went through."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch


def outcome(folder: Path) -> tuple[Any, ...]:
    """Return result, history, tables, predictions and weights, without clocks and remarks."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("cost", "notes", "files", "digest"):
        result.pop(name, None)
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    timed = rows[0].index("images_per_second")
    history = [[cell for i, cell in enumerate(row) if i != timed] for row in rows]
    tables = [(folder / name).read_bytes() for name in ("per_class.csv", "confusion.csv")]
    with np.load(folder / "predictions.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files}
    weights: dict[str, bytes] = {}
    if (folder / "model.pt").exists():
        state = torch.load(folder / "model.pt", weights_only=True)
        weights = {name: value.numpy().tobytes() for name, value in state.items()}
    return result, history, tables, arrays, weights
