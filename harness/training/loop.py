"""The one training loop: N steps of whatever the pipeline delivers, val every so often.

No strategy is named here. The loop is a generator: it yields what happened and takes commands, so
that it maps onto a ``for`` loop, a pipe, or several runs taking turns.
"""

import copy
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.experiment.metric_names import METRICS, QUICK
from harness.experiment.spec import Training
from harness.strategies.base import Strategy
from harness.training.buffers import Chunk, Decided
from harness.training.captured import Captured, Cuda
from harness.training.metrics import evaluate, quick
from harness.training.models import Classifier
from harness.training.pipeline import Pipeline
from harness.training.staging import Stager
from harness.training.step import (
    Eager,
    Executor,
    Losses,
    Step,
    autocast,
    make_optimizer,
)


class Command(Enum):
    """What the receiver of an event may answer; no answer means CONTINUE."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` are done."""

    step: int
    steps: int


@dataclass(frozen=True)
class Evaluated:
    """Val was evaluated after `step` steps.

    Attributes:
        step: Steps done.
        steps: Steps of the whole budget.
        values: ``train/loss``, ``lr``, ``images_per_second`` and ``val/…``.
    """

    step: int
    steps: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Waiting(Progress):
    """Nothing more can be done before the device, or a worker, has gone on."""


Event = Progress | Evaluated


@dataclass
class Outcome:
    """What a loop leaves behind.

    Attributes:
        status: ``done``, ``diverged`` or ``stopped``.
        selected_step: Step whose weights the model holds.
        history: One row per evaluation.
        mixed: Batches mixed, by strategy.
        delivered: ``int64[C]``, samples of each class that batches held before mixing.
        seconds: Wall time of training and of evaluation.
        notes: What the user should know.
    """

    delivered: NDArray[np.int64]
    status: str = "done"
    selected_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    mixed: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})
    notes: list[str] = field(default_factory=list)

    def count(self, made: Chunk, first: int, last: int, batch_size: int) -> None:
        """Add what steps ``[first, last)`` of a chunk delivered and mixed."""
        part = slice(first - made.first, last - made.first)
        delivered = made.arrays["labels"][part, :batch_size]
        self.delivered += np.bincount(delivered.ravel(), minlength=len(self.delivered))
        for decisions in made.decisions[part]:
            if decisions.blend is not None:
                self.mixed[decisions.blend] = self.mixed.get(decisions.blend, 0) + 1


@dataclass
class Loop:
    """Everything a training needs, put together by `harness.training.run`.

    Attributes:
        model: On `device`.
        pipeline: Delivers batches.
        stager: Does the host's part of each step, where there is one.
        decided: The decisions of every step.
        strategies: The recipe; its losses are taken from here.
        class_counts: ``float32[C]``, expanded training rows per class, on `device`.
        training: Budget and optimiser.
        steps: Length of the budget.
        metric: The primary metric.
        val: ``int64[n]``, stored rows of val; empty where there is none.
        val_labels: ``int64[n]``.
        train_counts: ``int64[C]``, original training rows per class.
        device: Where the model is.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        scale: What logits are multiplied with where they become probabilities.
    """

    model: Classifier
    pipeline: Pipeline
    stager: Stager | None
    decided: Decided
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

    def run(self) -> Generator[Event, Command | None, Outcome]:
        """Train; yield progress and evaluations; return the outcome."""
        outcome = Outcome(np.zeros(len(self.train_counts), np.int64))
        optimizer = make_optimizer(self.model, self.training)
        step = Step(self.model, self.pipeline, optimizer, self.precision, self.device)
        executor = self._executor(step)
        best: tuple[float, int, dict[str, Tensor]] | None = None
        first = 0
        for last in sorted(evaluation_steps(self.steps, self.training.eval_every)):
            clock = time.perf_counter()
            yield from self._train(executor, first, last, outcome)
            values = self._since(step.total, first, last, outcome, clock)
            if not np.isfinite(values["train/loss"]):
                outcome.status = "diverged"
                return outcome
            values |= yield from self._validate(executor, last, outcome)
            if not np.isfinite(values.get("val/nll", 0.0)):
                outcome.status = "diverged"
                return outcome
            outcome.history.append({"step": last, **values})
            outcome.selected_step = last
            best = self._better(best, last, values)
            if (yield Evaluated(last, self.steps, values)) is Command.STOP:
                outcome.status = "stopped"
                return outcome
            first = last
        if executor.problem:
            outcome.notes.append(executor.problem)
        if best is not None:
            outcome.selected_step = best[1]
            self.model.load_state_dict(best[2])
        return outcome

    def _executor(self, step: Step) -> Executor:
        losses = Losses(self.strategies, self.class_counts, self.steps, self.scale)
        parts = (step, self.decided, self.stager, losses, self.training, self.steps, self.device)
        if self.device.type == "cuda" and not step.scaler.is_enabled():
            return Captured(*parts, Cuda())
        return Eager(*parts)

    def close(self) -> None:
        """Let go of what was started for the run."""
        if self.stager is not None:
            self.stager.close()

    def _train(
        self, executor: Executor, first: int, last: int, outcome: Outcome
    ) -> Generator[Event, Command | None, None]:
        """Do steps ``[first, last)``, chunk by chunk."""
        self.model.train()
        end = first
        while first < last:
            made = self.decided.at(first)
            end = min(last, made.first + len(made.decisions))
            for _ in executor.advance(first, end):
                yield Waiting(first, self.steps)
            outcome.count(made, first, end, self.training.batch_size)
            first = end
            yield Progress(end, self.steps)
        for _ in executor.settle():
            yield Waiting(end, self.steps)

    def _since(
        self, total: Tensor, first: int, last: int, outcome: Outcome, clock: float
    ) -> dict[str, float]:
        """Return what there is to say of steps ``[first, last)``, and zero the sum of losses."""
        mean_loss = float(total) / (last - first)
        total.zero_()
        spent = time.perf_counter() - clock
        outcome.seconds["train"] += spent
        return {
            "train/loss": mean_loss,
            "lr": self.training.rate(last - 1, self.steps),
            "images_per_second": (last - first) * self.training.batch_size / spent,
        }

    def _validate(
        self, executor: Executor, step: int, outcome: Outcome
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
        elif self.metric in QUICK or self.training.select == "last":
            values = quick(probabilities, self.val_labels)
        else:
            values = evaluate(probabilities, self.val_labels, self.train_counts).summary
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
        best: tuple[float, int, dict[str, Tensor]] | None,
        step: int,
        values: Mapping[str, float],
    ) -> tuple[float, int, dict[str, Tensor]] | None:
        """Keep the weights of the best val metric so far, the earliest of equals."""
        if self.training.select == "last":
            return None
        value = values.get(f"val/{self.metric}")
        if value is None:
            return best
        signed = value if METRICS[self.metric] else -value
        if best is not None and signed <= best[0]:
            return best
        return signed, step, copy.deepcopy(self.model.state_dict())


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
