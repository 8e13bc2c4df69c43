"""What a run trains on, and in which order: its data loaded, its decisions made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.base import Data
from harness.errors import ConfigError, DataError, counted, listing
from harness.experiment.facts import facts_of
from harness.experiment.spec import RunSpec
from harness.strategies.base import Facts, Strategy, Synthesis, deciding
from harness.streams import stream
from harness.training import models
from harness.training.pipeline import Pipeline
from harness.training.plan import BatchPlan


@dataclass(frozen=True)
class Feed:
    """What a run trains on, and in which order.

    Attributes:
        data: The loaded dataset.
        facts: What strategies know.
        synthesis: Rows to create, or None.
        plan: Every random decision.
        pipeline: Carries them out.
        notes: What the user should know.
    """

    data: Data
    facts: Facts
    synthesis: Synthesis | None
    plan: BatchPlan
    pipeline: Pipeline
    notes: tuple[str, ...]


def feed(spec: RunSpec, place: torch.device) -> Feed:
    """Load the data and decide the plan: all of a run but its model.

    Raises:
        HarnessError: They do not fit together, or the data changed since it was planned.
    """
    data = spec.dataset.load(spec.seed, spec.fold, spec.folds)
    if data.index.content != spec.content:
        raise DataError(
            f"dataset '{spec.dataset_label}' has changed since this run was planned; run the "
            "experiment again to plan it on what is there now"
        )
    labels = data.labels[data.rows.train]
    synthesis = _synthesis(spec, data, labels)
    facts = _facts(spec, data, synthesis)
    plan = BatchPlan(spec.strategies, facts, labels, synthesis, spec.seed)
    demanded = models.normalisation(spec.model)
    moments = None if demanded is None else (_float32(demanded[0]), _float32(demanded[1]))
    pipeline = Pipeline(data, synthesis, plan, place, moments, spec.training.label_smoothing)
    named = [
        f"{data.class_names[k]}: {text}"
        for k, text in (synthesis.notes if synthesis else {}).items()
    ]
    notes = (*data.notes, *named, *_kept_whole(data, synthesis))
    return Feed(data, facts, synthesis, plan, pipeline, notes)


def _float32(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _synthesis(spec: RunSpec, data: Data, labels: NDArray[np.int64]) -> Synthesis | None:
    for strategy in deciding(spec.strategies, "synthesize"):
        rows = data.features[data.rows.train]
        rng = stream(spec.seed, "synthesize")
        synthesis = strategy.synthesize(rows.reshape(len(rows), -1), labels, rng)
        _check_synthesis(strategy, synthesis, labels)
        return synthesis
    return None


def _check_synthesis(strategy: Strategy, synthesis: Synthesis, labels: NDArray[np.int64]) -> None:
    if not len(synthesis.base) == len(synthesis.neighbour) == len(synthesis.gap):
        raise ConfigError(f"'{strategy.name}'.synthesize: base, neighbour and gap differ in length")
    if len(synthesis.base):
        if min(synthesis.base.min(), synthesis.neighbour.min()) < 0 or (
            max(synthesis.base.max(), synthesis.neighbour.max()) >= len(labels)
        ):
            raise ConfigError(
                f"'{strategy.name}'.synthesize: rows must lie in 0..{len(labels) - 1}"
            )
        if (labels[synthesis.base] != labels[synthesis.neighbour]).any():
            raise ConfigError(f"'{strategy.name}'.synthesize: a neighbour is of another class")
        if not (synthesis.gap.min() >= 0 and synthesis.gap.max() <= 1):
            raise ConfigError(f"'{strategy.name}'.synthesize: gap must lie in [0, 1]")


def _facts(spec: RunSpec, data: Data, synthesis: Synthesis | None) -> Facts:
    """Return what strategies may know of a loaded run, having asked them whether they suit it.

    Raises:
        ConfigError: The batch is larger than the training set, or a strategy is unsuitable.
    """
    counts = data.train_counts
    expanded = counts.copy()
    if synthesis is not None:
        synthetic = data.labels[data.rows.train][synthesis.base]
        expanded = expanded + np.bincount(synthetic, minlength=len(counts))
    size = int(counts.sum())
    if spec.training.batch_size > size:
        raise ConfigError(
            f"batch_size {spec.training.batch_size} is larger than the training set ({size})"
        )
    facts = facts_of(spec.dataset, spec.training, data.shape, data.class_names, counts, expanded)
    reasons = [reason for s in spec.strategies if (reason := s.unsuitable(facts))]
    if reasons:
        raise ConfigError(listing(reasons))
    return facts


def _kept_whole(data: Data, synthesis: Synthesis | None) -> list[str]:
    """Say which columns of a table are not interpolated."""
    if synthesis is None or data.continuous is None or data.continuous.all():
        return []
    columns = counted(int((~data.continuous).sum()), "one-hot column is", "one-hot columns are")
    return [f"{columns} taken whole from the base row in synthetic rows"]
