"""Where a training is: what it has come to so far, and all that it needs to go on from there.

What a step decides is a function of the step alone, so a position is the state of the model, of
its optimiser and of torch's generators, and a number.
"""

import sys
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.training.buffers import Chunk
from harness.training.step import Step

Best = tuple[float, int, dict[str, Tensor]]
"""The best value so far (larger is better), its step, and the weights of then."""


@dataclass
class TrainingResult:
    """What a loop leaves behind.

    Attributes:
        status: ``done``, ``diverged``, ``stopped`` or ``interrupted``.
        selected_step: Step whose weights the model holds.
        history: One row per evaluation.
        mixed: Batches mixed, by strategy.
        delivered: ``int64[C]``, samples of each class that batches held before mixing.
        label_mass: ``float64[P, C]``, what batches held of each class's labels after mixing, in
            each phase.
        starts: First step of each phase, as of `harness.training.plan.phase_starts`.
        seconds: Wall time of training and of evaluation, earlier attempts included.
        earlier: Part of `seconds` that earlier attempts spent.
        notes: What the user should know.
    """

    delivered: NDArray[np.int64]
    label_mass: NDArray[np.float64]
    starts: tuple[int, ...] = (0,)
    status: str = "done"
    selected_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    mixed: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})
    earlier: float = 0.0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begun(cls, classes: int, starts: tuple[int, ...]) -> "TrainingResult":
        """Return what a loop has come to before its first step."""
        return cls(np.zeros(classes, np.int64), np.zeros((len(starts), classes)), starts)

    def count(self, chunk: Chunk, first: int, last: int, batch_size: int) -> None:
        """Add what steps ``[first, last)`` of a chunk delivered and mixed."""
        part = slice(first - chunk.first, last - chunk.first)
        delivered = chunk.arrays["labels"][part, :batch_size]
        self.delivered += np.bincount(delivered.ravel(), minlength=len(self.delivered))
        for phase, (begin, end) in enumerate(pairwise((*self.starts, sys.maxsize))):
            if here := range(max(first, begin), min(last, end)):
                self.label_mass[phase] += self._mass(chunk, here, batch_size)
        for decisions in chunk.decisions[part]:
            if decisions.blend is not None:
                self.mixed[decisions.blend] = self.mixed.get(decisions.blend, 0) + 1

    def _mass(self, chunk: Chunk, steps: range, batch_size: int) -> NDArray[np.float64]:
        part = slice(steps.start - chunk.first, steps.stop - chunk.first)
        labels = chunk.arrays["labels"][part]
        own, size = labels[:, :batch_size].ravel(), len(self.delivered)
        if "partner" not in chunk.arrays:
            return np.bincount(own, minlength=size).astype(np.float64)
        share = chunk.arrays["share"][part].ravel().astype(np.float64)
        other = np.take_along_axis(labels, chunk.arrays["partner"][part], axis=1).ravel()
        mass = np.bincount(own, share, size) + np.bincount(other, 1.0 - share, size)
        return mass.astype(np.float64, copy=False)

    def phases(self, steps: int) -> list[dict[str, Any]]:
        """Return the label mass of each phase that was reached, for ``result.json``."""
        return [
            {"first": first, "last": last, "mass": np.round(mass, 3).tolist()}
            for (first, last), mass in zip(
                pairwise((*self.starts, steps)), self.label_mass, strict=True
            )
            if mass.any()
        ]


@dataclass
class TrainState:
    """How far a training is.

    Attributes:
        outcome: What it has come to.
        step: Steps done.
        evaluated: Step of the last evaluation.
        spent: Seconds of training since then.
        best: The best weights so far, where they are kept.
    """

    outcome: TrainingResult
    step: int = 0
    evaluated: int = 0
    spent: float = 0.0
    best: Best | None = None


def saved(at: TrainState, step: Step, model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Return a position as tensors and plain values, all that `restored` needs."""
    outcome = at.outcome
    return {
        "step": at.step,
        "evaluated": at.evaluated,
        "spent": at.spent,
        "best": at.best,
        "total": step.total,
        "model": model.state_dict(),
        "optimizer": step.optimizer.state_dict(),
        "scaler": step.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "outcome": {
            "delivered": torch.from_numpy(outcome.delivered.copy()),
            "label_mass": torch.from_numpy(outcome.label_mass.copy()),
            "starts": outcome.starts,
            "selected_step": outcome.selected_step,
            "history": outcome.history,
            "mixed": outcome.mixed,
            "seconds": outcome.seconds,
            "notes": outcome.notes,
        },
    }


def restored(
    state: dict[str, Any], step: Step, model: nn.Module, device: torch.device
) -> TrainState:
    """Put a saved state back into a model and its step; return the position."""
    model.load_state_dict(state["model"])
    step.optimizer.load_state_dict(state["optimizer"])
    if step.scaler.is_enabled():
        step.scaler.load_state_dict(state["scaler"])
    step.total.copy_(state["total"])
    torch.set_rng_state(state["random"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["random_cuda"], device)
    kept = state["outcome"]
    arrays = {name: kept[name].numpy() for name in ("delivered", "label_mass")}
    outcome = TrainingResult(**{**kept, **arrays, "starts": tuple(kept["starts"])})
    outcome.earlier = sum(outcome.seconds.values()) + state["spent"]
    best = state["best"]
    return TrainState(
        outcome,
        state["step"],
        state["evaluated"],
        state["spent"],
        None if best is None else (best[0], best[1], best[2]),
    )
