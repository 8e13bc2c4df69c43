"""`python -m tests.benchmarks.tuning`: what a search costs beside its runs, and what slots save.

First, ask, tell and record of each of 200 trials that train nothing: what the driver does between
two runs, then what MLflow's thread does. Second, the wall time of one digits study of 40 trials,
whole commands on one slot and on two in turn, as ratios of neighbouring pairs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.cli.shared import find
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.tracking.address import resolve
from harness.tracking.mlflow import Connection
from harness.tracking.studies import FOLDER, StudyRecorder
from harness.tuning.database import open_storage
from harness.tuning.run_lookup import RunLookup, trial_store
from harness.tuning.searches import searches_of
from harness.tuning.study import Ending, TuningStudy
from harness.tuning.summary import record_of, study_record

RECIPE = "mixes"

T = TypeVar("T")
Times = NDArray[np.float64]


def timed(action: Callable[[], T]) -> tuple[T, Times]:
    """Return what an action returns, and its wall and CPU time in ms."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    return result, np.array([time.perf_counter() - wall, time.process_time() - cpu]) * 1000


def pretend(spec: RunSpec, store: Store) -> Path:
    """Commit a run that trained nothing."""
    attempt = store.begin(spec)
    metrics = {"val": {spec.metric: 0.5 + (int(spec.key, 16) % 997) / 2000}}
    result = {"status": "done", "metrics": metrics, "cost": {"seconds": 1.0}}
    (attempt / "result.json").write_text(json.dumps(result))
    return store.commit(spec, attempt)


def overhead(folder: Path, trials: int) -> dict[str, Any]:
    """Return seconds per trial of the driver and of MLflow's thread."""
    edits = [f"tune.recipes=[{RECIPE}]", f"tune.trials={trials}"]
    experiment = load(find("tune_quickstart"), edits)
    (search,) = searches_of(expand(experiment))
    trial_runs = trial_store(folder, experiment.name)
    trial_runs.create()
    shelf = RunLookup(trial_runs, Store(folder, experiment.name))
    studied = TuningStudy(open_storage(folder), search)
    connection = Connection(resolve(folder, None), experiment.name)
    recorder = StudyRecorder(connection, folder / FOLDER, "file", "owner")
    recorder.write(study_record(studied, shelf, "running", []))
    driver, mirror, paid = [], [], set[str]()
    while studied.left:
        handle, asked = timed(studied.ask)
        specs = search.specs(handle.params, handle.number)
        runs = {s.seed: shelf.add(s.key, pretend(s, trial_runs)) for s in specs}
        ending = Ending({seed: float(run.val[search.metric] or 0.0) for seed, run in runs.items()})
        trial, told = timed(lambda h=handle, e=ending: studied.tell(h, e))
        record, made = timed(lambda t=trial: record_of(studied, t, shelf, paid))
        one = study_record(studied, shelf, "running", [record])
        _, written = timed(lambda o=one: recorder.write(o))
        driver.append(asked + told + made)
        mirror.append(written)
    last = slice(-20, None)
    ours, both = np.array(driver), np.array(driver) + np.array(mirror)
    return {
        "trials": trials,
        "parameters": len(search.space.dimensions),
        "ms per trial": {
            "the driver, median": shown(np.median(ours, axis=0)),
            "the driver, mean": shown(ours.mean(axis=0)),
            "the driver, median of the last 20": shown(np.median(ours[last], axis=0)),
            "with MLflow's thread, median": shown(np.median(both, axis=0)),
            "with MLflow's thread, median of the last 20": shown(np.median(both[last], axis=0)),
        },
    }


def shown(times: Times) -> dict[str, float]:
    return {"wall": round(float(times[0]), 1), "cpu": round(float(times[1]), 1)}


def whole(folder: Path, jobs: int, trials: int, seeds: int) -> float:
    """Return the wall time of one command."""
    command = [sys.executable, "-m", "harness", "tune", "tune_quickstart", "--jobs", str(jobs)]
    command += ["--results", str(folder), "--only", RECIPE, "--set", f"tune.trials={trials}"]
    command += ["--set", f"tune.seeds={seeds}"]
    done, taken = timed(lambda: subprocess.run(command, capture_output=True, check=False))
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return float(taken[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="trials that train nothing")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of whole studies")
    parser.add_argument("--whole", type=int, default=40, help="trials of each whole study")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each of its trials")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["overhead"] = overhead(folder / "overhead", options.trials)
        print(json.dumps(found["overhead"], indent=1), flush=True)
        ratios = []
        for pair in range(options.pairs):
            order = (1, 2) if pair % 2 else (2, 1)
            place, trials = folder / str(pair), options.whole
            taken = {n: whole(place / str(n), n, trials, options.seeds) for n in order}
            ratios.append(taken[2] / taken[1])
            load_ = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            print(f"1 slot {taken[1]:.1f} s, 2 slots {taken[2]:.1f} s, load {load_}", flush=True)
        if ratios:
            found["2 slots / 1"] = {"median": statistics.median(ratios), "ratios": ratios}
            print(json.dumps(found["2 slots / 1"], indent=1))


if __name__ == "__main__":
    main()
