"""What this machine has, and how runs share it; torch, whose import takes seconds, is not asked."""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, counted, did_you_mean

MOST_WORKERS = 12
"""Most processes that prepare images for a slot, however many cores it has."""


@dataclass(frozen=True)
class Layout:
    """How runs share a machine.

    Attributes:
        gpus: For each slot the GPU that it sees, by the name it has in CUDA_VISIBLE_DEVICES; None
            where a slot uses none.
        device: What each slot is told to train on.
        lanes: Runs that take turns in a slot.
        workers: Processes that prepare images for each slot.
    """

    gpus: tuple[str | None, ...]
    device: str
    lanes: int = 1
    workers: int = 0

    @property
    def at_a_time(self) -> int:
        """Runs under way at a time."""
        return len(self.gpus) * self.lanes


def layout(
    device: str = "auto", jobs: int | None = None, runs_per_gpu: int = 1, runs: int | None = None
) -> Layout:
    """Return how to share this machine.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        jobs: Runs at a time; by default one per CPU core, or `runs_per_gpu` on each GPU.
        runs_per_gpu: Runs that share a GPU.
        runs: How many there are to do.
    """
    gpus = visible_gpus() if device == "auto" or device.startswith("cuda") else []
    if device.startswith("cuda:"):
        gpus = gpus[int(device[5:]) :][:1]
    cores = _cores()
    if gpus:
        most = jobs or len(gpus) * runs_per_gpu
        wanted = max(1, min(most, runs or most))
        used = gpus[:wanted]
        workers = min(max(0, cores // len(used) - 1), MOST_WORKERS)
        return Layout(tuple(used), "cuda", -(-wanted // len(used)), workers)
    slots = jobs or (1 if _is_apple(device) else cores)
    slots = max(1, min(slots, runs or slots))
    workers = min(max(0, cores // slots - 1), MOST_WORKERS)
    return Layout((None,) * slots, device, 1, workers)


def _is_apple(device: str) -> bool:
    """Whether runs would train on the one GPU of an Apple machine."""
    here = sys.platform == "darwin" and platform.machine() == "arm64"
    return device == "mps" or (device == "auto" and here)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs this machine lets us see, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part for name in visible.split(",") if (part := name.strip()) not in ("", "-1")]
    listed = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    if not listed and shutil.which("nvidia-smi") is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
            )
            listed = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    return [str(number) for number in range(listed)]


def check_device(wanted: str) -> None:
    """Refuse a device that is none or is surely not here.

    Raises:
        ConfigError: As said.
    """
    match = re.fullmatch(r"auto|cpu|mps|cuda(?::(\d+))?", wanted)
    if match is None:
        known = ("auto", "cpu", "cuda", "mps")
        raise ConfigError(
            f"--device {wanted}: not a device{did_you_mean(wanted, known)} "
            "(auto, cpu, cuda, cuda:N, mps)"
        )
    if wanted.startswith("cuda") and int(match[1] or 0) >= (found := len(visible_gpus())):
        gpus = counted(found, "NVIDIA GPU is", "NVIDIA GPUs are")
        raise ConfigError(f"--device {wanted}: {gpus} visible here")
    if wanted == "mps" and sys.platform != "darwin":
        raise ConfigError("--device mps: only Apple machines have it")
