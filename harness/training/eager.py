"""Steps done one after the other, as they are called, on any device."""

from collections.abc import Iterator

import numpy as np

from harness.training.buffers import Chunk, ChunkBuffers, StepBuffers
from harness.training.step import StepSetup


class Eager:
    """Does one step after the other, as it is called.

    Args:
        setup: Of the run.

    Attributes:
        problem: Why steps are slower than they could be, or empty.
    """

    def __init__(self, setup: StepSetup) -> None:
        self._setup = setup
        self._chunk_buffers: tuple[Chunk, ChunkBuffers] | None = None
        self.problem = ""
        if setup.step.scaler.is_enabled():
            self.problem = "fp16 needs a gradient scaler: steps are not captured, and run slower"

    def advance(self, first: int, last: int) -> Iterator[None]:
        """Do steps ``[first, last)``; never waits."""
        setup = self._setup
        for step in range(first, last):
            buffers = self._buffers(step)
            # in single precision, as a captured step reads it from the device
            setup.step.set_rate(float(np.float32(setup.training.rate(step, setup.steps))))
            setup.step.forget_gradients()
            setup.step(buffers, setup.losses.at(step))
        return iter(())

    def settle(self) -> Iterator[None]:
        """Everything is done when `advance` returns, or waited for where it is read."""
        return iter(())

    def _buffers(self, step: int) -> StepBuffers:
        chunk = self._setup.chunks.at(step)
        if self._chunk_buffers is None or self._chunk_buffers[0] is not chunk:
            self._chunk_buffers = chunk, ChunkBuffers(chunk)
        buffers = self._chunk_buffers[1].at(step)
        if self._setup.image_source is not None:
            buffers["values"] = self._setup.image_source.get(step)
        if self._setup.device.type != "cpu":
            buffers = {name: value.to(self._setup.device) for name, value in buffers.items()}
        return buffers
