"""Which device and precision a run uses, and how a CPU is told to give the same bits."""

import contextlib
import sys
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import torch

from harness.errors import ConfigError

E = TypeVar("E")
C = TypeVar("C")
R = TypeVar("R")


def choose(wanted: str = "auto") -> tuple[torch.device, str]:
    """Return the device and its precision.

    Args:
        wanted: ``auto`` (CUDA, then Apple MPS, then CPU), or a torch device such as ``cuda:1``.

    Returns:
        The device, and ``bf16`` (CUDA from compute capability 8.0), ``fp16`` (older CUDA, with a
        gradient scaler) or ``fp32``.

    Raises:
        ConfigError: The device does not exist here.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else _apple() or "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(
            f"--device {wanted}: not a device (auto, cpu, cuda, cuda:N, mps)"
        ) from None
    if device.type == "cpu":
        return device, "fp32"
    if device.type == "mps" and _apple():
        return device, "fp32"
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        capability = torch.cuda.get_device_capability(device)
        return device, "bf16" if capability >= (8, 0) else "fp16"
    raise ConfigError(f"--device {wanted}: there is no such device here")


def _apple() -> str | None:
    return "mps" if torch.backends.mps.is_available() else None


def describe(device: torch.device) -> str:
    """Return what a person would call the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def isolated(
    device: torch.device, seed: int, events: Generator[E, C, R]
) -> Generator[E, C | None, R]:
    """Run a generator with torch's generators of its own, seeded, and leave ours alone.

    On a CPU it runs on one thread. On a GPU it runs on a stream of its own, and between two events
    other runs of the process may have their turn.
    """
    if device.type != "cuda":
        with same_bits(seed):
            return (yield from events)
    return (yield from _in_turns(device, seed, events))


def _in_turns(
    device: torch.device, seed: int, events: Generator[E, C, R]
) -> Generator[E, C | None, R]:
    import cv2

    if not _live:
        torch.cuda.reset_peak_memory_stats(device)  # earlier runs of this process have set it
    stream = _own_stream(device)
    host = torch.Generator().manual_seed(seed).get_state()
    # a state of its own, not its values in a shared one: graphs read their offsets on the device,
    # from memory of the state that they were captured with
    generator = torch.cuda.default_generators[stream.device_index]
    own = generator.clone_state()
    own.manual_seed(seed)
    command: C | None = None
    with contextlib.closing(events), _under_way(stream):
        while True:
            threads = cv2.getNumThreads()
            cv2.setNumThreads(0)
            others = generator.graphsafe_get_state()
            with (
                torch.random.fork_rng(devices=[]),
                torch.cuda.device(device),
                torch.cuda.stream(stream),
            ):
                torch.default_generator.set_state(host)
                generator.graphsafe_set_state(own)
                try:
                    event = events.send(command)  # type: ignore[arg-type]
                except StopIteration as end:
                    result: R = end.value
                    return result
                finally:
                    own = generator.graphsafe_get_state()
                    generator.graphsafe_set_state(others)
                    host = torch.default_generator.get_state()
                    cv2.setNumThreads(threads)
            command = yield event


_SPOILS = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14)
"""Whether torch leaves its allocator in disorder where a capture fails."""

_spoiled = False

_live: set[int] = set()
"""Streams of the runs under way in this process."""


def _own_stream(device: torch.device) -> Any:
    """Return a stream that no run under way has; torch deals out 32 of them in turn.

    What is kept for a stream, such as workspaces of cuBLAS, goes with the first of its graphs.
    """
    stream: Any = None
    for _ in range(len(_live) + 1):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        if stream.cuda_stream not in _live:
            break
    return stream


@contextlib.contextmanager
def _under_way(stream: Any) -> Iterator[None]:
    _live.add(stream.cuda_stream)
    try:
        yield
    finally:
        _live.discard(stream.cuda_stream)


@contextlib.contextmanager
def same_bits(seed: int) -> Iterator[None]:
    """Run on one thread, with torch's generators seeded, and put both back.

    One and two threads sum in different orders and give different bits; on small networks more
    threads are also slower.
    """
    import cv2
    import threadpoolctl

    threads = torch.get_num_threads()
    cv_threads = cv2.getNumThreads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        try:
            with threadpoolctl.threadpool_limits(1):
                yield
        finally:
            torch.set_num_threads(threads)
            cv2.setNumThreads(cv_threads)


def after_failed_capture() -> None:
    """Give this run a random state that is in order, and remember what is not."""
    global _spoiled
    _spoiled = _spoiled or _SPOILS
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())


def is_spoiled() -> bool:
    """Whether later runs are better off in a new process: cached memory is not given back."""
    return _spoiled


def is_lost(device: torch.device) -> bool:
    """Whether a GPU refuses everything from now on, as after an illegal access: to this process."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the most memory used in MB, or None where the system does not tell.

    On a GPU by this run and those that took turns with it, on a CPU by this process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
