"""Which device and precision a run uses, and how a CPU is told to give the same bits."""

import contextlib
import sys
from collections.abc import Iterator

import torch

from harness.errors import ConfigError


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


@contextlib.contextmanager
def same_bits(device: torch.device, seed: int) -> Iterator[None]:
    """Run on one thread on a CPU, with torch's generators seeded, and put both back.

    One and two threads sum in different orders and give different bits; on small networks more
    threads are also slower.
    """
    import cv2
    import threadpoolctl

    threads = torch.get_num_threads()
    cv_threads = cv2.getNumThreads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # earlier runs of this process have set it
        torch.manual_seed(seed)
        if device.type == "cpu":
            torch.set_num_threads(1)
        cv2.setNumThreads(0)
        try:
            with threadpoolctl.threadpool_limits(1):
                yield
        finally:
            torch.set_num_threads(threads)
            cv2.setNumThreads(cv_threads)


def peak_memory_mb(device: torch.device) -> float | None:
    """Return the most memory used in MB: by this run on a GPU, or on a CPU by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
