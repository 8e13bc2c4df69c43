"""`python -m tests.benchmarks.cluster`: what a run costs more on Ray than in `local`.

The same small runs, one at a time, first some to warm up; the executors take turns in an order
that changes. On one slot the wall time of a run is its own plus what the executor adds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.execution.executors.local import Local
from harness.execution.executors.ray import Ray
from harness.execution.executors.resources import Layout
from harness.execution.runner import Executor, Finished, Job
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.training.run_options import RunOptions
from tests.conftest import tiny

MAKE: dict[str, Callable[[], Executor]] = {
    "local": lambda: Local(Layout((None,), "cpu")),
    "ray": lambda: Ray("local", RunOptions("cpu"), 1),
}


def per_run(make: Callable[[], Executor], folder: Path, runs: int, warm: int) -> list[float]:
    """Return the seconds from the end of one run to the end of the next, once warm."""
    store = Store(folder, "tiny")
    store.create()
    specs = expand(load(tiny(seeds=warm + runs, keep_weights="none"))).runs
    executor = make()

    def jobs() -> Iterator[Job]:
        for spec in specs:
            yield Job(spec, store.begin(spec))

    ends = [
        time.perf_counter()
        for _, message in executor.execute(jobs())
        if isinstance(message, Finished)
    ]
    executor.close()
    return [after - before for before, after in zip(ends[warm - 1 :], ends[warm:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40, help="runs of each turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each executor")
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in MAKE}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(options.turns):
            for which in list(MAKE) if turn % 2 else list(MAKE)[::-1]:
                place = Path(name) / f"{which}{turn}"
                found[which].append(
                    1000 * statistics.median(per_run(MAKE[which], place, options.runs, 4))
                )
                print(f"{which}: {found[which][-1]:.1f} ms per run, load {os.getloadavg()[0]:.1f}")
    more = [ray - local for ray, local in zip(found["ray"], found["local"], strict=True)]
    print(json.dumps({**found, "ms more on ray, median": statistics.median(more)}, indent=1))


if __name__ == "__main__":
    main()
