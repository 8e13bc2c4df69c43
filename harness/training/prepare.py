"""A run made ready: its data loaded, its decisions made, its model built."""

from dataclasses import dataclass

import numpy as np
import torch

from harness.datasets.base import Data
from harness.experiment.spec import RunSpec
from harness.strategies.base import Facts, Strategy, Synthesis, deciding, head_of
from harness.training import models
from harness.training.buffers import ChunkCache
from harness.training.feed import feed
from harness.training.image_source import ImageSource, InlineImages, WorkerImages
from harness.training.image_workers import image_workers
from harness.training.loop import Loop
from harness.training.pipeline import Pipeline

_WORTH_WORKERS = 50_000
"""Images of a run below which it takes longer to start workers than to do without."""


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
    chunks = ChunkCache(fed.plan)
    loop = Loop(
        model=model,
        pipeline=fed.pipeline,
        image_source=_image_source(spec, data, chunks, fed.pipeline, workers),
        chunks=chunks,
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
        class_names=data.class_names,
    )
    return Prepared(spec, data, facts, fed.synthesis, loop, notes)


def _image_source(
    spec: RunSpec, data: Data, chunks: ChunkCache, pipeline: Pipeline, workers: int
) -> ImageSource | None:
    """Return who does the host's part of each step, or None where there is none."""
    if not pipeline.staged:
        return None
    steps = spec.training.steps(len(data.rows.train))
    if not workers or steps * spec.training.batch_size < _WORTH_WORKERS:
        return InlineImages(pipeline, chunks)
    partners = any(deciding(spec.strategies, "blend"))  # which may stand behind the batch
    rows = spec.training.batch_size * (2 if partners else 1)
    dtype = "uint8" if data.features.dtype == np.uint8 else "float32"
    return WorkerImages(image_workers(workers), spec, rows, data.shape, dtype, steps)


def _model(spec: RunSpec, data: Data) -> models.Classifier:
    head = head_of(spec.strategies)
    return models.build(spec.model, data.shape, len(data.class_names), head, spec.seed)


def _logit_scale(strategies: tuple[Strategy, ...]) -> float:
    """Return the scale of the loss that acts last."""
    losses = sorted(deciding(strategies, "loss"), key=lambda s: s.window()[1])
    return losses[-1].logit_scale() if losses else 1.0
