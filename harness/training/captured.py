"""Steps as replays of a captured CUDA graph: the host launches one thing per step and never waits.

All that differs from step to step lies in device buffers that are filled a chunk at a time, and a
counter on the device says which row of them is next; so one captured step serves every step of a
phase, that is, as long as the loss and the shapes stay the same. The first steps of a run are done
as they are called, by the same function on the same buffers: they warm the libraries up and make
the optimiser's state. What cannot be captured goes on in that way, and says so.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.training.buffers import CHUNK, Chunk, StepBuffers
from harness.training.image_source import ImageSource
from harness.training.step import StepSetup

WARM_UP = 3
"""Steps done as they are called before the first capture."""

STAGED = 4
"""Steps whose images are on the way to the device at a time."""


class Device(Protocol):
    """What is needed of a device that can capture."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Record what `body` launches, without doing it; return what does it."""

    def staging(self, like: Tensor) -> Tensor:
        """Return host memory of this shape that can be copied to the device without waiting."""

    def mark(self) -> Callable[[], bool]:
        """Return what tells whether the device has done all that was launched before."""


class _Upload:
    """Two host buffers that take turns on the way to one device buffer.

    The copy is ordered behind what the device still has to do with the buffer; only the host's
    side must not be written over before it has left.
    """

    def __init__(self, device: Device, target: Tensor, turns: int = 2) -> None:
        self._device = device
        self._target = target
        self._hosts = [device.staging(target) for _ in range(turns)]
        self._left: list[Callable[[], bool]] = [lambda: True] * turns
        self._turn = 0

    def free(self) -> bool:
        """Whether the next host buffer has left."""
        return self._left[self._turn]()

    def put(self, values: Tensor) -> None:
        """Copy values to the start of the device buffer."""
        host = self._hosts[self._turn][: len(values)]
        host.copy_(values)
        self._target[: len(values)].copy_(host, non_blocking=True)
        self._left[self._turn] = self._device.mark()
        self._turn = (self._turn + 1) % len(self._hosts)


class Captured:
    """Replays steps on a device that can capture.

    Args:
        setup: Of the run.
        device: How to capture where the model is.

    Attributes:
        problem: Why nothing is captured, or empty.
    """

    def __init__(self, setup: StepSetup, device: Device) -> None:
        self.problem = ""
        self._setup = setup
        self._device = device
        self._loaded: Chunk | None = None
        self._buffers: StepBuffers = {}
        self._uploads: dict[str, _Upload] = {}
        self._images: tuple[Tensor, _Upload] | None = None
        self._graphs: dict[Any, Callable[[], None]] = {}
        self._done = 0
        self._marks: tuple[Callable[[], bool], Callable[[], bool]] = (lambda: True, lambda: True)
        self._next = torch.zeros(1, dtype=torch.int64, device=setup.device)
        self._rate = torch.zeros((), dtype=torch.float32, device=setup.device)
        setup.step.set_rate(self._rate)

    def advance(self, first: int, last: int) -> Iterator[None]:
        """Launch steps ``[first, last)``; yield while more than the steps of before are to be done.

        The device has always work, and never so much that a command would have to wait for long.
        """
        before, latest = self._marks
        while not before():
            yield
        chunk = self._setup.chunks.at(first)
        if chunk is not self._loaded:
            yield from self._load(chunk)
        self._next.fill_(first - chunk.first)
        for step in range(first, last):
            if self._setup.image_source is not None:
                yield from self._send_images(self._setup.image_source, step)
            self._launch(step, chunk)
        self._marks = latest, self._device.mark()

    def settle(self) -> Iterator[None]:
        """Yield until the device has done all that was launched."""
        done = self._device.mark()
        while not done():
            yield

    def _launch(self, step: int, chunk: Chunk) -> None:
        phase = (chunk.layout, self._setup.losses.number(step))
        if phase not in self._graphs and self._done >= WARM_UP and not self.problem:
            self._capture(phase, step)
        self._done += 1
        if phase in self._graphs:
            self._graphs[phase]()
        else:
            self._setup.step.forget_gradients()
            self._body(step)

    def _capture(self, phase: Any, step: int) -> None:
        # the graph writes gradients to memory of its own, which it must make
        self._setup.step.forget_gradients()
        try:
            self._graphs[phase] = self._device.capture(lambda: self._body(step))
        except RuntimeError as error:  # a network that reads values on the host, for one
            # the other graphs share what torch keeps for the stream, and drops with this one
            self._graphs.clear()
            cause = error.__context__ or error  # what ended the capture, not that it has ended
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            self.problem = f"steps are not captured in a CUDA graph and run slower: {reason}"

    def _body(self, step: int) -> None:
        """Do the step that the counter on the device points to; `step` only picks the loss."""
        buffers = {
            name: buffer.index_select(0, self._next).squeeze(0)
            for name, buffer in self._buffers.items()
        }
        self._rate.copy_(buffers.pop("rate"))
        if self._images is not None:
            buffers["values"] = self._images[0]
        self._setup.step(buffers, self._setup.losses.at(step))
        self._next += 1

    def _load(self, chunk: Chunk) -> Iterator[None]:
        """Copy a chunk's decisions to the device."""
        last = chunk.first + len(chunk.decisions)
        rates = [
            self._setup.training.rate(step, self._setup.steps) for step in range(chunk.first, last)
        ]
        arrays = {**chunk.arrays, "rate": np.array(rates, np.float32)}
        if self._loaded is None or self._loaded.layout != chunk.layout:
            self._make_buffers(arrays)
        for name, array in arrays.items():
            while not self._uploads[name].free():
                yield
            self._uploads[name].put(torch.from_numpy(np.ascontiguousarray(array)))
        self._loaded = chunk

    def _make_buffers(self, arrays: dict[str, Any]) -> None:
        """Make buffers for a layout; those of an earlier one belong to its graphs."""
        self._buffers = {
            name: torch.zeros(
                (CHUNK, *array.shape[1:]),
                dtype=torch.from_numpy(array[:0]).dtype,
                device=self._setup.device,
            )
            for name, array in arrays.items()
        }
        self._uploads = {name: _Upload(self._device, b) for name, b in self._buffers.items()}
        self._images = None
        self._graphs.clear()

    def _send_images(self, image_source: ImageSource, step: int) -> Iterator[None]:
        """Copy a step's images to the device."""
        while not image_source.ready(step):
            yield
        images = image_source.get(step)
        if self._images is None:
            rows = self._buffers["rows"].shape[1]
            target = torch.zeros(
                (rows, *images.shape[1:]), dtype=images.dtype, device=self._setup.device
            )
            self._images = target, _Upload(self._device, target, STAGED)
        _, upload = self._images
        while not upload.free():
            yield
        upload.put(images)
