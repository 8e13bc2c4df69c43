"""What a finished run said of val and test, with the class prior that its outputs carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.intervals import Ints
from harness.decisions.base import log_probabilities
from harness.decisions.pooling import Part
from harness.decisions.priors import TrainedPrior
from harness.errors import StoreError
from harness.experiment.spec import RunSpec
from harness.experiment.trained_prior import trained_prior
from harness.training.run_result import recall_run
from harness.training.rundir import RESULT


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
    run = recall_run(row["path"])
    try:
        trained = trained_prior(spec, run.values)
        names = tuple(run.values["class_names"])
        counts = np.asarray(run.values["train_counts"], np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{run.folder}: {RESULT} lacks {error}") from None
    test = run.predictions("test", ids=False)
    val = None
    if "val" in run.values["metrics"]:
        kept = run.predictions("val", ids=False)
        logs = log_probabilities(kept["probabilities"])
        val = Part(logs, kept["labels"], kept["rows"], trained)
    return Outputs(
        row,
        names,
        counts,
        trained,
        test["probabilities"],
        test["labels"],
        test["rows"],
        test.get("groups"),
        val,
    )
