"""What a run tells while it trains and what it may be told: plain values, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Command(Enum):
    """What the receiver of an event may answer; no answer means CONTINUE."""

    CONTINUE = "continue"
    STOP = "stop"
    HALT = "halt"
    """Write a checkpoint and end here; a later attempt goes on."""


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
