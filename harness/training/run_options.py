"""How a run is carried out: what its starter decides, and no result depends on."""

from dataclasses import dataclass

from harness.training.rundir import CHECKPOINT_SECONDS


@dataclass(frozen=True)
class RunOptions:
    """How one run is carried out; plain values, which go over a pipe as they are.

    Attributes:
        device: As in `harness.training.device.choose`.
        keep_weights: Whether to write the weights.
        workers: Processes that prepare images ahead, for recipes with a per-image tail.
        checkpoint_every: Seconds of training between two checkpoints.
    """

    device: str = "auto"
    keep_weights: bool = True
    workers: int = 0
    checkpoint_every: float = CHECKPOINT_SECONDS
