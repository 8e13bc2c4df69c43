"""One training step: the same function eagerly and captured, on any device.

A step reads its decisions from a slot and nothing else, and tells the host nothing: the loss is
added up on the device.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.experiment.spec import Training
from harness.strategies.base import Loss, Strategy, deciding
from harness.training.bf16_weights import BF16Weights
from harness.training.buffers import ChunkCache, StepBuffers
from harness.training.image_source import ImageSource
from harness.training.pipeline import Pipeline
from harness.training.plan import Window


class Losses:
    """Which loss acts at which step.

    Args:
        strategies: The recipe.
        class_counts: ``float32[C]``, expanded training rows per class, on the model's device.
        steps: Length of the budget.
        scale: What logits are multiplied with where no strategy decides the loss: bare cosines
            of a normalized head would hardly differ in a softmax.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        class_counts: Tensor,
        steps: int,
        scale: float = 1.0,
    ) -> None:
        self._scale = scale
        self._windows = [
            (Window(strategy, steps), strategy.loss(class_counts))
            for strategy in deciding(tuple(strategies), "loss")
        ]

    def number(self, step: int) -> int:
        """Return a number of the loss at `step`, equal for steps that share it."""
        return next((i for i, (steps, _) in enumerate(self._windows) if step in steps), -1)

    def at(self, step: int) -> Loss:
        """Return the loss at `step`; soft cross-entropy where no strategy decides it."""
        number = self.number(step)
        if number >= 0:
            return self._windows[number][1]
        if self._scale == 1.0:
            return soft_cross_entropy
        return lambda logits, targets: soft_cross_entropy(self._scale * logits, targets)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return ``−Σ_c y_c log p_c`` per sample, ``float32[B]``."""
    return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)


class Step:
    """Forward, loss, backward and update on the batch of a slot.

    Args:
        model: In training mode.
        pipeline: Makes batches of slots.
        optimizer: Of the model's parameters.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: Where the model is.

    Attributes:
        total: ``float32[]``, sum of the losses since it was last zeroed.
    """

    def __init__(
        self,
        model: nn.Module,
        pipeline: Pipeline,
        optimizer: torch.optim.Optimizer,
        precision: str,
        device: torch.device,
    ) -> None:
        self.total = torch.zeros((), device=device)
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._model = model
        self._pipeline = pipeline
        self._precision = precision
        self._device = device
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._half = BF16Weights(model) if precision == "bf16" else None

    def __call__(self, buffers: StepBuffers, criterion: Loss) -> None:
        """Train on one batch."""
        inputs, targets = self._pipeline.prepared(buffers)
        with autocast(self._device, self._precision):
            logits = (self._half or self._model)(inputs)
        loss = criterion(logits.float(), targets).mean()
        if self.scaler.is_enabled():
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()  # type: ignore[no-untyped-call]
            if self._half is not None:
                self._half.hand_over()
            self.optimizer.step()
        self.total += loss.detach()

    def forget_gradients(self) -> None:
        """Drop the gradients of the step before."""
        for parameter in self._parameters:
            parameter.grad = None
        if self._half is not None:
            self._half.forget_gradients()

    def set_rate(self, rate: float | Tensor) -> None:
        """Set the learning rate of every group."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


@dataclass(frozen=True)
class StepSetup:
    """What carries the steps of one run out, whoever does it.

    Attributes:
        step: What a step does.
        chunks: The decisions.
        image_source: Does the host's part of each step, where there is one.
        losses: The loss of each step.
        training: For the learning rate.
        steps: Length of the budget.
        device: Where the model is.
    """

    step: Step
    chunks: ChunkCache
    image_source: ImageSource | None
    losses: Losses
    training: Training
    steps: int
    device: torch.device


class StepRunner(Protocol):
    """Carries steps out, in order.

    Attributes:
        problem: Why it is slower than it could be, or empty.
    """

    problem: str

    def advance(self, first: int, last: int) -> Iterator[None]:
        """Do steps ``[first, last)``; yield while the device has no room for more."""

    def settle(self) -> Iterator[None]:
        """Yield until everything that was asked for is done."""


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of a precision; nothing for ``fp32``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    # a cast that is kept from one step to the next would not be part of a captured step
    return torch.autocast(device.type, dtype=kind, cache_enabled=False)


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a training block, over the parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind = parameters[0].device.type
    options: Mapping[str, Any] = {
        "lr": training.lr,
        "weight_decay": training.weight_decay,
        "fused": kind in ("cpu", "cuda"),  # one call for all parameters
    }
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, capturable=kind == "cuda", **options)
    momentum, nesterov = training.momentum, training.nesterov
    return torch.optim.SGD(parameters, momentum=momentum, nesterov=nesterov, **options)
