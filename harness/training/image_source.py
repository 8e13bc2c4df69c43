"""Where the host's part of a step is done: here when it is asked for, or ahead by workers.

What a step's images are is a function of the run and the step, so the bits do not depend on who
prepared them.
"""

import errno
import os
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness import scratch
from harness.experiment.spec import RunSpec
from harness.training.buffers import ChunkCache
from harness.training.image_workers import ImageWorkers
from harness.training.pipeline import Pipeline


class ImageSource(Protocol):
    """Gives the host's part of each step."""

    def ready(self, step: int) -> bool:
        """Whether `get` would not wait."""

    def get(self, step: int) -> Tensor:
        """Return what `Pipeline.stage` returns for `step`; good until the next call."""

    def close(self) -> None:
        """Let go of whatever was started for the run."""


class InlineImages:
    """Prepares images when they are asked for.

    Args:
        pipeline: Of the run.
        chunks: Of the run.
    """

    def __init__(self, pipeline: Pipeline, chunks: ChunkCache) -> None:
        self._pipeline = pipeline
        self._chunks = chunks

    def ready(self, step: int) -> bool:
        """It always is: the work is done in `get`."""
        return True

    def get(self, step: int) -> Tensor:
        """Prepare the images of `step`."""
        chunk = self._chunks.at(step)
        return self._pipeline.stage(chunk.decisions[step - chunk.first])

    def close(self) -> None:
        """Nothing was started."""


class WorkerImages:
    """Has images prepared by workers, some steps ahead.

    Args:
        workers: The processes.
        spec: The run.
        rows: Most rows of a step.
        sample: Shape of one image.
        dtype: ``uint8`` or ``float32``.
        steps: Length of the budget.
    """

    def __init__(
        self,
        workers: ImageWorkers,
        spec: RunSpec,
        rows: int,
        sample: tuple[int, ...],
        dtype: str,
        steps: int,
    ) -> None:
        self._workers = workers
        self._steps = steps
        self._depth = 2 * len(workers) + 2
        self._asked: int | None = None
        shape = (self._depth, rows, *sample)
        self._path = reserved(int(np.prod(shape)) * np.dtype(dtype).itemsize, workers.folder)
        self._ring = np.memmap(self._path, dtype, "r+", shape=shape)
        self._run = workers.open(spec, self._path, shape, dtype)

    def ready(self, step: int) -> bool:
        """Whether the images of `step` are there."""
        self._ask(step)
        return self._workers.ready(self._run, step)

    def get(self, step: int) -> Tensor:
        """Return the images of `step`, having asked for those of the steps that follow."""
        self._ask(step)
        rows = self._workers.take(self._run, step)
        return torch.from_numpy(self._ring[step % self._depth, :rows])

    def _ask(self, step: int) -> None:
        """Ask for `step` and what fits into the ring; the place of the step before is free now."""
        first = step if self._asked is None else self._asked
        for wanted in range(first, min(step + self._depth - 1, self._steps)):
            self._workers.ask(self._run, wanted, wanted % self._depth)
            self._asked = wanted + 1

    def close(self) -> None:
        """Drop the ring."""
        self._workers.forget(self._run)
        del self._ring
        self._path.unlink(missing_ok=True)
        if self._path.parent != self._workers.folder:
            scratch.drop(self._path.parent)


def reserved(size: int, folder: Path) -> Path:
    """Return a new file of `size` bytes that are really there.

    Where `folder` has too little room, as the memory that containers share often has, it lies in
    a folder of its own on the disk: to write to a mapped page that cannot be had kills the process.

    Raises:
        OSError: There is no room there either.
    """
    elsewhere = False
    while True:
        descriptor, name = tempfile.mkstemp(prefix="ring-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.truncate(descriptor, size)
            return Path(name)
        except OSError as error:
            os.unlink(name)
            if elsewhere or error.errno != errno.ENOSPC:
                if elsewhere:
                    scratch.drop(folder)
                raise
            folder, elsewhere = scratch.make(), True
        finally:
            os.close(descriptor)
