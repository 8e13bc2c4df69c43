"""Timing that can be believed on a noisy machine: interleaved, as medians of paired ratios."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

import numpy as np

Action = Callable[[], Any]
K = TypeVar("K", bound=Hashable)

PACKAGES = ("torch", "torchvision", "albumentations", "imbalanced-learn", "mlflow", "optuna",
            "timm", "lightning", "numpy")  # fmt: skip


def seconds(action: Action) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def cpu_seconds(action: Action) -> float:
    """Return the CPU time that this process spends in one call, all threads together."""
    start = time.process_time()
    action()
    return time.process_time() - start


def interleaved(
    actions: Mapping[K, Action],
    rounds: int,
    clock: Callable[[Action], float] = seconds,
) -> dict[K, list[float]]:
    """Time every action once per round, in an order that turns round by round."""
    names = list(actions)
    taken: dict[K, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        at = turn % len(names)
        order = names[at:] + names[:at]
        for name in order if turn % 2 else order[::-1]:
            taken[name].append(clock(actions[name]))
    return taken


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median of the paired ratios and its 95 % bootstrap interval."""
    ratios = np.array(ours) / np.array(theirs)
    drawn = np.median(np.random.default_rng(0).choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "n": len(ratios),
        "ours_seconds": float(np.median(ours)),
        "theirs_seconds": float(np.median(theirs)),
    }


def slope(sizes: Sequence[float], taken: Sequence[float]) -> float:
    """Return the exponent of growth between the first and the last size."""
    return float(np.log(taken[-1] / taken[0]) / np.log(sizes[-1] / sizes[0]))


def machine(device: str) -> dict[str, Any]:
    """Return what ran this, and what else was running."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
