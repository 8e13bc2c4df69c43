"""A run made ready: its data loaded, its decisions made, its model built."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.base import Data
from harness.errors import ConfigError, DataError, counted, listing
from harness.experiment.facts import facts_of
from harness.experiment.spec import RunSpec
from harness.strategies.base import Facts, Strategy, Synthesis, deciding, head_of
from harness.streams import stream
from harness.training import models
from harness.training.buffers import Decided
from harness.training.image_workers import image_workers
from harness.training.loop import Loop
from harness.training.pipeline import Pipeline
from harness.training.plan import Plan
from harness.training.staging import Elsewhere, Here, Stager

_WORTH_WORKERS = 50_000
"""Images of a run below which it takes longer to start workers than to do without."""


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
    plan: Plan
    pipeline: Pipeline
    notes: tuple[str, ...]


@dataclass
class Prepared:
    """Everything of a run but its training."""

    spec: RunSpec
    data: Data
    facts: Facts
    synthesis: Synthesis | None
    loop: Loop
    notes: list[str]


def prepare(
    spec: RunSpec, place: torch.device, precision: str = "fp32", workers: int = 0
) -> Prepared:
    """Load the data, decide the plan, build the model.

    Args:
        spec: What to train.
        place: Where.
        precision: As in `harness.training.device.choose`.
        workers: Processes that prepare images ahead where the recipe has a per-image tail.

    Raises:
        HarnessError: They do not fit together, or the data changed since it was planned.
    """
    fed = feed(spec, place)
    data, facts = fed.data, fed.facts
    model = _model(spec, data)
    notes = [*fed.notes, *model.notes]
    model = model.to(place)
    if place.type in ("cpu", "cuda"):  # batches come with channels last
        model = model.to(memory_format=torch.channels_last)
    decided = Decided(fed.plan)
    loop = Loop(
        model=model,
        pipeline=fed.pipeline,
        stager=_stager(spec, data, decided, fed.pipeline, workers),
        decided=decided,
        strategies=spec.strategies,
        class_counts=torch.from_numpy(facts.expanded_counts.astype(np.float32)).to(place),
        training=spec.training,
        steps=facts.steps,
        metric=spec.metric,
        val=data.rows.val,
        val_labels=data.labels[data.rows.val],
        train_counts=data.train_counts,
        device=place,
        precision=precision,
        scale=_logit_scale(spec.strategies),
    )
    return Prepared(spec, data, facts, fed.synthesis, loop, notes)


def _kept_whole(data: Data, synthesis: Synthesis | None) -> list[str]:
    """Say which columns of a table are not interpolated."""
    if synthesis is None or data.continuous is None or data.continuous.all():
        return []
    columns = counted(int((~data.continuous).sum()), "one-hot column is", "one-hot columns are")
    return [f"{columns} taken whole from the base row in synthetic rows"]


def _stager(
    spec: RunSpec, data: Data, decided: Decided, pipeline: Pipeline, workers: int
) -> Stager | None:
    """Return who does the host's part of each step, or None where there is none."""
    if not pipeline.staged:
        return None
    steps = spec.training.steps(len(data.rows.train))
    if not workers or steps * spec.training.batch_size < _WORTH_WORKERS:
        return Here(pipeline, decided)
    partners = any(deciding(spec.strategies, "blend"))  # which may stand behind the batch
    rows = spec.training.batch_size * (2 if partners else 1)
    dtype = "uint8" if data.features.dtype == np.uint8 else "float32"
    return Elsewhere(image_workers(workers), spec, rows, data.shape, dtype, steps)


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
    plan = Plan(spec.strategies, facts, labels, synthesis, spec.seed)
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


def _check_synthesis(strategy: Strategy, made: Synthesis, labels: NDArray[np.int64]) -> None:
    if not len(made.base) == len(made.neighbour) == len(made.gap):
        raise ConfigError(f"'{strategy.name}'.synthesize: base, neighbour and gap differ in length")
    if len(made.base):
        if min(made.base.min(), made.neighbour.min()) < 0 or (
            max(made.base.max(), made.neighbour.max()) >= len(labels)
        ):
            raise ConfigError(
                f"'{strategy.name}'.synthesize: rows must lie in 0..{len(labels) - 1}"
            )
        if (labels[made.base] != labels[made.neighbour]).any():
            raise ConfigError(f"'{strategy.name}'.synthesize: a neighbour is of another class")
        if not (made.gap.min() >= 0 and made.gap.max() <= 1):
            raise ConfigError(f"'{strategy.name}'.synthesize: gap must lie in [0, 1]")


def _facts(spec: RunSpec, data: Data, synthesis: Synthesis | None) -> Facts:
    """Return what strategies may know of a loaded run, having asked them whether they suit it.

    Raises:
        ConfigError: The batch is larger than the training set, or a strategy is unsuitable.
    """
    counts = data.train_counts
    expanded = counts.copy()
    if synthesis is not None:
        made = data.labels[data.rows.train][synthesis.base]
        expanded = expanded + np.bincount(made, minlength=len(counts))
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


def _model(spec: RunSpec, data: Data) -> models.Classifier:
    head = head_of(spec.strategies)
    return models.build(spec.model, data.shape, len(data.class_names), head, spec.seed)


def _logit_scale(strategies: tuple[Strategy, ...]) -> float:
    """Return the scale of the loss that acts last."""
    losses = sorted(deciding(strategies, "loss"), key=lambda s: s.window()[1])
    return losses[-1].logit_scale() if losses else 1.0
