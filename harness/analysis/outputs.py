"""What a finished run said of val and test, with the class prior that its outputs carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.intervals import Ints
from harness.analysis.words import unreadable
from harness.decisions.base import log_probabilities
from harness.decisions.pooling import Part
from harness.decisions.priors import TrainedPrior
from harness.errors import StoreError
from harness.execution.store import read_json
from harness.experiment.spec import RunSpec
from harness.experiment.trained_prior import trained_prior


@dataclass(frozen=True)
class Outputs:
    """What a finished run said of val and test, and what it was trained on.

    Attributes:
        row: The run's row of `runs_table`.
        class_names: C display names.
        train_counts: ``int64[C]``, original training samples per class.
        trained: The prior that the outputs carry.
        test: ``float32[n, C]``, probabilities.
        test_labels: ``int64[n]``.
        test_rows: ``int64[n]``: which samples they are.
        test_groups: ``int64[n]`` or None: which of them belong together.
        val: The same of val, or None where there is none.
    """

    row: Mapping[str, Any]
    class_names: tuple[str, ...]
    train_counts: Ints
    trained: TrainedPrior
    test: NDArray[np.float32]
    test_labels: Ints
    test_rows: Ints
    test_groups: Ints | None
    val: Part | None


def read_outputs(row: Mapping[str, Any], spec: RunSpec) -> Outputs:
    """Read the stored outputs of a run that is done.

    Raises:
        StoreError: A file is missing or damaged.
    """
    folder = Path(row["path"])
    result = read_json(folder / "result.json")
    trained = trained_prior(spec, result)
    file = folder / "predictions.npz"
    try:
        names, counts = tuple(result["class_names"]), np.asarray(result["train_counts"], np.int64)
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            kept = {name: stored[name] for name in stored.files if not name.endswith("_ids")}
        val = None
        if "val_labels" in kept and len(kept["val_labels"]):
            logs = log_probabilities(kept["val_probabilities"])
            val = Part(logs, kept["val_labels"], kept["val_rows"], trained)
        return Outputs(
            row,
            names,
            counts,
            trained,
            kept["test_probabilities"],
            kept["test_labels"],
            kept["test_rows"],
            kept.get("test_groups"),
            val,
        )
    except Exception as error:  # zipfile and zlib have errors of their own, without a shared base
        raise StoreError(unreadable(file, error)) from None
