"""`python -m tests.benchmarks.decisions`: what it costs to decide finished runs again.

Each set of runs is decided by five rules in a process of its own, imports and intervals on this
test set and on new images included; printed are wall time, time on all cores and peak memory. Runs
share a few files of predictions by hard links: what is read is as large, what is written is not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.training.rundir import RunDir
from tests.benchmarks.report import FACTORS

SETS = {
    "96 runs of 539 x 10, one core": (96, 539, 10, 77, 1),
    "1,000 runs of 10,000 x 100, two cores": (1000, 10_000, 100, 1_000, 2),
}
"""Name: runs, test rows, classes, val rows, cores."""

DECIDE = """
import sys, time
from pathlib import Path
from harness.analysis.deciding import Setting, decide_runs
from harness.analysis.decompose import decomposition
from harness.analysis.tables import runs_table, stored_specs
from harness.decisions.base import rule_from
from harness.execution.store import Store
from harness.metrics import metric_of

store = Store(Path(sys.argv[1]), "decided")
specs, _ = stored_specs(store)
rules = ["prior", "prior_tuned", "thresholds", {"name": "prior", "temperature": True}]
setting = Setting(metric_of("balanced_accuracy"), tuple(map(rule_from, rules)))
found = decide_runs(runs_table(store, specs), specs, setting)
table = decomposition(found.table, images=found.images)
assert table["rest_new_low"].notna().any() and not found.unread, found.unread
"""


def generate(
    results: Path, runs: int, rows: int, classes: int, val: int, **changes: Any
) -> list[RunSpec]:
    """Write so many finished runs, and return their specs; `changes` go into the experiment."""
    keys = {
        "name": "decided",
        "datasets": [{"name": "digits", "imbalance_factor": 30}],
        "factors": FACTORS,
        "models": ["tiny_cnn"],
        "seeds": -(-runs // 32),
        **changes,
    }
    store = Store(results, "decided")
    store.create()
    counts = np.maximum(500 * 0.01 ** (np.arange(classes) / (classes - 1)), 5).astype(int)
    files = [_predictions(results / f"{k}", rows, counts, val, k) for k in range(8)]
    specs = expand(load(keys)).runs[:runs]
    for place, spec in enumerate(specs):
        folder = RunDir(store.begin(spec))
        folder.write_json("spec.json", spec.to_json())
        folder.write_json("result.json", _result(spec, counts))
        os.link(files[place % len(files)], folder.path / "predictions.npz")
        store.commit(spec, folder.path)
    return list(specs)


def _predictions(folder: Path, rows: int, counts: np.ndarray, val: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    classes = len(counts)
    arrays = {}
    labels = {
        "test": np.arange(rows) % classes,
        "val": rng.choice(classes, val, p=counts / counts.sum()),
    }
    for split, own in labels.items():
        logits = rng.normal(size=(len(own), classes)) + np.log(counts)
        logits[np.arange(len(own)), own] += 4.0
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        arrays[f"{split}_probabilities"] = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
        arrays[f"{split}_labels"] = own
        arrays[f"{split}_rows"] = np.arange(len(own)) + (rows if split == "val" else 0)
    RunDir(folder).write_predictions(**arrays)
    return folder / "predictions.npz"


def _result(spec: RunSpec, counts: np.ndarray) -> dict[str, object]:
    expanded = counts
    for strategy in spec.strategies:
        expanded = strategy.expanded_counts(expanded)
    return {
        "schema": 1,
        "key": spec.key,
        "status": "done",
        "metrics": {"test": {}, "val": {}},
        "steps": 100,
        "selected_step": 100,
        "synthetic": int((expanded - counts).sum()),
        "class_names": [f"class {k}" for k in range(len(counts))],
        "train_counts": counts.tolist(),
        "delivered": (expanded * 3).tolist(),
        "notes": [],
        "cost": {"seconds": 1.0},
        "device": {"name": "cpu", "type": "cpu", "precision": "fp32"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of a set's name")
    parser.add_argument("--runs", type=int, default=None, help="fewer runs of each set")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    options = parser.parse_args()
    found = {}
    for name, (runs, rows, classes, val, cores) in SETS.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            results = Path(place)
            generate(results, options.runs or runs, rows, classes, val)
            allowed = set(sorted(os.sched_getaffinity(0))[:cores])
            begun = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-c", DECIDE, str(results)],
                preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
            )
            _, status, usage = os.wait4(process.pid, 0)
            assert status == 0, name
            found[name] = {
                "seconds": time.perf_counter() - begun,
                "core seconds": usage.ru_utime + usage.ru_stime,
                "peak MB": usage.ru_maxrss / 1024,
            }
            print(name, {key: round(value, 2) for key, value in found[name].items()}, flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
