"""The one training loop: N steps of whatever the pipeline delivers, val every so often.

No strategy is named here. The loop is a generator: it yields what happened and takes commands, so
that it maps onto a ``for`` loop, a pipe, or several runs taking turns.
"""

import contextlib
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
from harness.strategies.base import Loss, Strategy, deciding
from harness.training.metrics import evaluate, quick
from harness.training.models import Classifier
from harness.training.pipeline import Pipeline
from harness.training.plan import Plan, Steps


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
    """

    delivered: NDArray[np.int64]
    status: str = "done"
    selected_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    mixed: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})


@dataclass
class Loop:
    """Everything a training needs, put together by `harness.training.run`.

    Attributes:
        model: On `device`.
        pipeline: Delivers batches.
        plan: Decides them.
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
    plan: Plan
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
        optimizer = _optimizer(self.model, self.training)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        losses = self._losses()
        stops = evaluation_steps(self.steps, self.training.eval_every)
        best: tuple[float, int, dict[str, Tensor]] | None = None
        total = torch.zeros((), device=self.device)
        clock, first = time.perf_counter(), 0
        self.model.train()
        for step in range(self.steps):
            total += self._step(step, optimizer, scaler, losses, outcome)
            if step + 1 not in stops:
                continue
            mean_loss = float(total) / (step + 1 - first)
            spent = time.perf_counter() - clock
            outcome.seconds["train"] += spent
            values = {
                "train/loss": mean_loss,
                "lr": optimizer.param_groups[0]["lr"],
                "images_per_second": (step + 1 - first) * self.training.batch_size / spent,
            }
            if not np.isfinite(mean_loss):
                outcome.status = "diverged"
                return outcome
            values |= self._validate(outcome)
            if values.get("val/nll") is not None and not np.isfinite(values["val/nll"]):
                outcome.status = "diverged"
                return outcome
            outcome.history.append({"step": step + 1, **values})
            outcome.selected_step = step + 1
            best = self._better(best, step + 1, values)
            if (yield Evaluated(step + 1, self.steps, values)) is Command.STOP:
                outcome.status = "stopped"
                return outcome
            total.zero_()
            clock, first = time.perf_counter(), step + 1
        if best is not None:
            outcome.selected_step = best[1]
            self.model.load_state_dict(best[2])
        return outcome

    def _step(
        self,
        step: int,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        losses: list[tuple[Steps, Loss]],
        outcome: Outcome,
    ) -> Tensor:
        decisions = self.plan.decide(step)
        first = decisions.labels[: self.training.batch_size]
        outcome.delivered += np.bincount(first, minlength=len(outcome.delivered))
        if decisions.blend is not None:
            outcome.mixed[decisions.blend] = outcome.mixed.get(decisions.blend, 0) + 1
        inputs, targets = self.pipeline.batch(decisions)
        rate = self.training.lr * self.training.schedule.factor(step, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            logits = self.model(inputs)
        criterion = next((loss for steps, loss in losses if step in steps), soft_cross_entropy)
        loss = criterion(logits.float(), targets).mean()
        if scaler.is_enabled():
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss.detach()

    def _losses(self) -> list[tuple[Steps, Loss]]:
        return [
            (Steps(strategy, self.steps), strategy.loss(self.class_counts))
            for strategy in deciding(self.strategies, "loss")
        ]

    def _validate(self, outcome: Outcome) -> dict[str, float]:
        if not len(self.val):
            return {}
        clock = time.perf_counter()
        probabilities = self.predict(self.val)
        self.model.train()
        if not np.isfinite(probabilities).all():
            values: Mapping[str, Any] = {"nll": float("nan")}
        elif self.metric in QUICK or self.training.select == "last":
            values = quick(probabilities, self.val_labels)
        else:
            values = evaluate(probabilities, self.val_labels, self.train_counts).summary
        outcome.seconds["evaluate"] += time.perf_counter() - clock
        return {f"val/{name}": float(v) for name, v in values.items() if v is not None}

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return class probabilities ``float32[n, C]`` of stored rows, as `predict` below."""
        batches = self.pipeline.rows(rows)
        return predict(self.model, batches, self.device, self.precision, self.scale)

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


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return ``−Σ_c y_c log p_c`` per sample, ``float32[B]``."""
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


def evaluation_steps(steps: int, every: float) -> frozenset[int]:
    """Return after which steps val is evaluated: every `every` of the budget, and at its end."""
    count = max(1, round(1.0 / every))
    return frozenset(max(1, round(steps * (i + 1) / count)) for i in range(count)) | {steps}


def predict(
    model: nn.Module,
    batches: Iterator[Tensor],
    device: torch.device,
    precision: str = "fp32",
    scale: float = 1.0,
) -> NDArray[np.float32]:
    """Return class probabilities ``float32[n, C]``; leaves the model in evaluation mode."""
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        parts = [torch.softmax(model(inputs).float() * scale, dim=1).cpu() for inputs in batches]
    values: NDArray[np.float32] = torch.cat(parts).numpy()
    return values


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of a precision; nothing for ``fp32``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind)


def _optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    fused = parameters[0].device.type in ("cpu", "cuda")  # one call for all parameters
    if training.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=training.lr, weight_decay=training.weight_decay, fused=fused
        )
    return torch.optim.SGD(
        parameters,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
        fused=fused,
    )
