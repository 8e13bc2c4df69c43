"""`make bench`: our digits runs against the tutorial's loop, as paired ratios in one run.

Prints medians of paired ratios with a 95 % bootstrap interval, and writes them as JSON. Both run
on one thread; the loops' imports are not counted, ours in the quickstart row are.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from harness.cli.shared import find  # noqa: E402
from harness.execution.executors.inline import Inline  # noqa: E402
from harness.execution.runner import run  # noqa: E402
from harness.execution.store import Store  # noqa: E402
from harness.experiment.expand import expand  # noqa: E402
from harness.experiment.schema import load  # noqa: E402
from harness.experiment.spec import RunSpec  # noqa: E402
from harness.tracking.mirror import open_tracking  # noqa: E402
from tests.benchmarks import tutorial  # noqa: E402


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Ours:
    """Runs as `harness run` does them in one process: evaluation, files and tracking included."""

    def __init__(self, folder: Path) -> None:
        experiment = load(find("quickstart"))
        self._store = Store(folder, experiment.name)
        self._store.create()
        self._mirror = open_tracking(folder, experiment)

    def train(self, spec: RunSpec) -> None:
        run([spec], self._store, Inline("cpu"), [self._mirror])
        told = threading.Event()
        self._mirror._tasks.put(told.set)  # wait until MLflow has it
        told.wait()


def quickstart(folder: Path, *more: str) -> float:
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "quickstart",
        "--results",
        str(folder),
        *more,
    ]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def interval(ratios: list[float]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "n": len(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="pairs of each of the 32 recipes")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    specs = [spec for spec in expand(load(find("quickstart"))).runs if spec.seed == 0]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Ours(folder / "inline")
        for warm in (specs[0], specs[-1]):
            tutorial.train(warm)
            ours.train(warm)
        loops, pairs = [], []
        for _ in range(options.rounds):
            for i, spec in enumerate(specs):
                actions = {"loop": lambda s=spec: tutorial.train(s)}
                actions["ours"] = lambda s=spec: ours.train(s)
                order = list(actions) if i % 2 else list(actions)[::-1]
                taken = {which: seconds(actions[which]) for which in order}
                loops.append(taken["loop"])
                pairs.append(taken["ours"] / taken["loop"])
                print(f"{spec.recipe:45} {taken['ours']:6.2f} s / {taken['loop']:6.2f} s")
        found["one run / loop"] = interval(pairs)
        whole = quickstart(folder / "whole")
        found["quickstart on 2 slots / 96 loops"] = {
            "ratio": whole / (sum(loops) / len(loops) * 96),
            "seconds": whole,
        }
        found["re-running a finished quickstart, seconds"] = quickstart(folder / "whole")
    found["machine"] = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
