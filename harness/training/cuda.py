"""What capturing steps needs of CUDA: graphs, pinned memory, events."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.training.device import after_failed_capture


class Cuda:
    """A CUDA device, on the current stream.

    Graphs of one run share a memory pool: they never run at the same time.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Record a graph on the current stream, which must not be the default one."""
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        collects = gc.isenabled()
        gc.disable()  # to free another run's graph meanwhile would end the capture
        try:
            # other runs of this process launch work on their own streams, from this same thread
            with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                body()
        except RuntimeError:
            after_failed_capture()
            raise
        finally:
            if collects:
                gc.enable()
        self._pool = graph.pool()
        return graph.replay

    def staging(self, like: Tensor) -> Tensor:
        """Return pinned memory."""
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def mark(self) -> Callable[[], bool]:
        """Record an event."""
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        query: Callable[[], bool] = event.query
        return query
