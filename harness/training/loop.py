"""The one training loop: N steps of whatever the pipeline delivers, val every so often.

No strategy is named here. The loop is a generator: it yields what happened and takes commands, so
that it maps onto a ``for`` loop, a pipe, or several runs taking turns.
"""

import copy
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.experiment.spec import Training
from harness.metrics import Split, during_training, metric_of, scores
from harness.strategies.base import Strategy
from harness.training.buffers import CHUNK, ChunkCache
from harness.training.captured import Captured, Device
from harness.training.checkpoint import Checkpoints
from harness.training.cuda import Cuda
from harness.training.eager import Eager
from harness.training.events import Command, Evaluated, Event, Progress, Waiting
from harness.training.image_source import ImageSource
from harness.training.models import Classifier
from harness.training.pipeline import Pipeline
from harness.training.plan import phase_starts
from harness.training.rundir import RESUMED
from harness.training.state import Best, TrainingResult, TrainState, restored, saved
from harness.training.step import (
    Losses,
    Step,
    StepRunner,
    StepSetup,
    autocast,
    make_optimizer,
)

_STRETCH_SECONDS = 0.25
"""About how long a run trains before it looks whether it shall end, or write a checkpoint."""


@dataclass
class Loop:
    """Everything a training needs, put together by `harness.training.run`.

    Attributes:
        model: On `device`.
        pipeline: Delivers batches.
        image_source: Does the host's part of each step, where there is one.
        chunks: The decisions of every step.
        strategies: The recipe; its losses are taken from here.
        class_counts: ``float32[C]``, expanded training rows per class, on `device`.
        training: Budget and optimiser.
        steps: Length of the budget.
        metric: Label of the primary metric.
        val: ``int64[n]``, stored rows of val; empty where there is none.
        val_labels: ``int64[n]``.
        train_counts: ``int64[C]``, original training rows per class.
        device: Where the model is.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        scale: What logits are multiplied with where they become probabilities.
        class_names: C display names, for a metric that names a class.
        checkpoints: Where to go on from, and to write to; None keeps nothing.
    """

    model: Classifier
    pipeline: Pipeline
    image_source: ImageSource | None
    chunks: ChunkCache
    strategies: tuple[Strategy, ...]
    class_counts: Tensor
    training: Training
    steps: int
    metric: str
    val: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    train_counts: NDArray[np.int64]
    device: torch.device
    precision: str = "fp32"
    scale: float = 1.0
    class_names: Sequence[str] = ()
    checkpoints: Checkpoints | None = None
    _stretch: int = field(default=1, init=False)

    def run(self) -> Generator[Event, Command | None, TrainingResult]:
        """Train; yield progress and evaluations; return the outcome.

        A run that goes on from a checkpoint first yields the evaluations of before it, of which
        this attempt's receiver has not heard.
        """
        optimizer = make_optimizer(self.model, self.training)
        step = Step(self.model, self.pipeline, optimizer, self.precision, self.device)
        at = self._begin(step)
        outcome = at.outcome
        executor = self._executor(step)
        for row in list(outcome.history):
            command = yield self._told(row)
            if command in (Command.STOP, Command.HALT):
                outcome.status = "stopped" if command is Command.STOP else "interrupted"
                return outcome
        for last in sorted(evaluation_steps(self.steps, self.training.eval_every)):
            if last <= at.evaluated:
                continue
            if (yield from self._train(executor, step, at, last)):
                outcome.status = "interrupted"
                return outcome
            values = self._since(step.total, last, at)
            if not np.isfinite(values["train/loss"]):
                outcome.status = "diverged"
                return outcome
            values |= yield from self._validate(executor, last, outcome)
            if not np.isfinite(values.get("val/nll", 0.0)):
                outcome.status = "diverged"
                return outcome
            outcome.history.append({"step": last, **values})
            outcome.selected_step = last
            at.best = self._better(at.best, last, values)
            at.evaluated = last
            command = yield self._told(outcome.history[-1])
            if command is Command.STOP:
                outcome.status = "stopped"
                return outcome
            if self._keep(at, step, command):
                outcome.status = "interrupted"
                return outcome
        if executor.problem:
            outcome.notes.append(executor.problem)
        if at.best is not None:
            outcome.selected_step = at.best[1]
            self.model.load_state_dict(at.best[2])
        return outcome

    def _begin(self, step: Step) -> TrainState:
        """Return where to go on: at the last checkpoint, or at the beginning."""
        if self.checkpoints is not None and (state := self.checkpoints.read()) is not None:
            at = restored(state, step, self.model, self.device)
            at.outcome.notes.append(f"{RESUMED} {at.step} of {self.steps}")
            return at
        starts = phase_starts(self.strategies, self.steps)
        return TrainState(TrainingResult.begun(len(self.train_counts), starts))

    def _keep(self, at: TrainState, step: Step, command: Command | None) -> bool:
        """Write a checkpoint where one is due or asked for; return whether to end here."""
        halted = command is Command.HALT
        if self.checkpoints is not None and (halted or self.checkpoints.due()):
            self.checkpoints.write(at.step, saved(at, step, self.model, self.device))
        return halted

    def _told(self, row: Mapping[str, float]) -> Evaluated:
        values = {name: value for name, value in row.items() if name != "step"}
        return Evaluated(int(row["step"]), self.steps, values)

    def _executor(self, step: Step) -> StepRunner:
        if self.device.type == "cuda" and not step.scaler.is_enabled():
            return self.captured(step, Cuda())
        return self.eager(step)

    def captured(self, step: Step, device: Device) -> Captured:
        """Return what replays the steps of this run on a device that can capture."""
        return Captured(self.setup(step), device)

    def eager(self, step: Step) -> Eager:
        """Return what does the steps of this run as they are called, on any device."""
        return Eager(self.setup(step))

    def setup(self, step: Step) -> StepSetup:
        """Return what carries the steps of this run out."""
        losses = Losses(self.strategies, self.class_counts, self.steps, self.scale)
        return StepSetup(
            step, self.chunks, self.image_source, losses, self.training, self.steps, self.device
        )

    def close(self) -> None:
        """Let go of what was started for the run."""
        if self.image_source is not None:
            self.image_source.close()

    def _train(
        self, executor: StepRunner, step: Step, at: TrainState, last: int
    ) -> Generator[Event, Command | None, bool]:
        """Do the steps up to `last`, stretch by stretch; return whether the run ends before."""
        self.model.train()
        clock = time.perf_counter() - at.spent
        while at.step < last:
            chunk = self.chunks.at(at.step)
            end = min(last, chunk.first + len(chunk.decisions), at.step + self._stretch)
            begun = time.perf_counter()
            for _ in executor.advance(at.step, end):
                yield Waiting(at.step, self.steps)
            self._stretch = _longer(self._stretch, time.perf_counter() - begun)
            at.outcome.count(chunk, at.step, end, self.training.batch_size)
            at.step, at.spent = end, time.perf_counter() - clock
            command = yield Progress(end, self.steps)
            if self._keep(at, step, command):
                return True
        for _ in executor.settle():
            yield Waiting(at.step, self.steps)
        at.spent = time.perf_counter() - clock
        return False

    def _since(self, total: Tensor, last: int, at: TrainState) -> dict[str, float]:
        """Return what there is to say of the steps since the last evaluation; begin anew."""
        clock = time.perf_counter()
        steps = last - at.evaluated
        mean_loss = float(total) / steps  # waits for the device
        total.zero_()
        spent, at.spent = at.spent + time.perf_counter() - clock, 0.0
        at.outcome.seconds["train"] += spent
        return {
            "train/loss": mean_loss,
            "lr": self.training.rate(last - 1, self.steps),
            "images_per_second": steps * self.training.batch_size / spent,
        }

    def _validate(
        self, executor: StepRunner, step: int, outcome: TrainingResult
    ) -> Generator[Event, Command | None, dict[str, float]]:
        if not len(self.val):
            return {}
        clock = time.perf_counter()
        launched = self._launch(self.val)
        for _ in executor.settle():
            yield Waiting(step, self.steps)
        probabilities: NDArray[np.float32] = launched.cpu().numpy()
        if not np.isfinite(probabilities).all():
            values: Mapping[str, Any] = {"nll": float("nan")}
        else:
            names = during_training(self.metric, self.training.select == "best")
            found = (probabilities, self.val_labels, self.train_counts)
            values = scores(Split.checked(*found, class_names=self.class_names), names)
        outcome.seconds["evaluate"] += time.perf_counter() - clock
        return {f"val/{name}": float(v) for name, v in values.items() if v is not None}

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return class probabilities ``float32[n, C]`` of stored rows, as `probabilities_of`."""
        values: NDArray[np.float32] = self._launch(rows).cpu().numpy()
        return values

    def _launch(self, rows: NDArray[np.int64]) -> Tensor:
        batches = self.pipeline.rows(rows)
        return probabilities_of(self.model, batches, self.device, self.precision, self.scale)

    def _better(
        self,
        best: Best | None,
        step: int,
        values: Mapping[str, float],
    ) -> Best | None:
        """Keep the weights of the best val metric so far, the earliest of equals."""
        if self.training.select == "last":
            return None
        value = values.get(f"val/{self.metric}")
        if value is None:
            return best
        signed = value if metric_of(self.metric).higher_is_better else -value
        if best is not None and signed <= best[0]:
            return best
        return signed, step, copy.deepcopy(self.model.state_dict())


def _longer(stretch: int, spent: float) -> int:
    """Return how many steps to do before the next look at who may have something to say."""
    if spent < _STRETCH_SECONDS / 2:
        return min(2 * stretch, CHUNK)
    return max(1, stretch // 2) if spent > 2 * _STRETCH_SECONDS else stretch


def evaluation_steps(steps: int, every: float) -> frozenset[int]:
    """Return after which steps val is evaluated: every `every` of the budget, and at its end."""
    count = max(1, round(1.0 / every))
    return frozenset(max(1, round(steps * (i + 1) / count)) for i in range(count)) | {steps}


def probabilities_of(
    model: nn.Module,
    batches: Iterator[Tensor],
    device: torch.device,
    precision: str = "fp32",
    scale: float = 1.0,
) -> Tensor:
    """Return class probabilities ``float32[n, C]``; leaves the model in evaluation mode."""
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        parts = [torch.softmax(model(inputs).float() * scale, dim=1) for inputs in batches]
    return torch.cat(parts)
