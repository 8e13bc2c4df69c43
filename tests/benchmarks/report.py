"""`python -m tests.benchmarks.report`: what finished runs cost, in a report and when run again.

Prints, for each set of generated runs, the wall time and the peak memory of `harness report` as a
process of its own, beside the imports that such a process cannot do without, timed in the same
minute: their ratio says more than seconds on a machine with neighbours. And the wall time of
`harness run` where nothing is left to do.
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

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.tracking import record
from harness.tracking.address import resolve
from harness.tracking.ledger import FINISHED, RUNNING, Entry, Ledger
from harness.tracking.mlflow import Connection
from harness.tracking.outdated import line
from tests.benchmarks.generated import Generator, by_level

FACTORS = {
    "augment": ["none", "augment"],
    "sampler": ["none", "weighted_sampler"],
    "smote": ["none", "smote"],
    "mixup": ["none", "mixup"],
    "cutmix": ["none", "cutmix"],
}
DESIGNS: dict[str, dict[str, Any]] = {
    "96 runs: 32 recipes, 3 seeds": {"seeds": 3},
    "10,016 runs: 32 recipes, 313 seeds": {"seeds": 313},
    "10,240 runs: 8 datasets, 4 models, 32 recipes, 10 seeds": {
        "seeds": 10,
        "datasets": [{"name": "digits", "imbalance_factor": 5 * k} for k in range(1, 9)],
        "models": [{"name": "tiny_cnn", "width": 4 * k} for k in range(1, 5)],
    },
}
IMPORTS = "import pandas, scipy.stats, statsmodels.stats.multitest, jinja2, mlflow"


def generate(folder: Path, keys: dict[str, Any]) -> Path:
    """Write an experiment file and all of its runs; return the file."""
    values = {
        "name": "generated",
        "datasets": [{"name": "digits", "imbalance_factor": 30}],
        "factors": FACTORS,
        **keys,
    }
    file = folder / "generated.yaml"
    file.write_text(json.dumps(values))
    experiment = load(file)
    worth = by_level({"weighted_sampler": 0.4, "cutmix": -0.2}, {("smote", "mixup"): 0.3})
    generator = Generator(
        Store(folder / "results", experiment.name), names=tuple("0123456789"), worth=worth
    )
    for spec in expand(experiment).runs:
        generator.write(spec)
    return file


def mirror(file: Path, results: Path) -> None:
    """Say that MLflow has every run, as after a command that trained them."""
    experiment = load(file)
    store = Store(results, experiment.name)
    place = Connection(resolve(results, None), experiment.name).place
    ledger = Ledger(store.path)
    for stored in store.runs().values():
        digest = record.digest(stored.folder)
        for status in (RUNNING, FINISHED):
            ledger.add(Entry(stored.key, stored.key, status, place, digest))
    ledger.add(line(place, frozenset(spec.settings for spec in expand(experiment).runs)))


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the wall time in seconds and the peak memory in MB of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a part of a design's name")
    parser.add_argument("--out", type=Path, default=None, help="write the figures as JSON")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name, keys in DESIGNS.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            file = generate(folder, keys)
            report = [sys.executable, "-m", "harness", "report", str(file), "--results",
                      str(folder / "results"), "--no-thumbnails"]  # fmt: skip
            again = [sys.executable, "-m", "harness", "run", str(file), "--yes", "--results",
                     str(folder / "results")]  # fmt: skip
            measured(report, folder)  # makes the database
            mirror(file, folder / "results")
            rounds = [
                (
                    *measured(report, folder),
                    measured([sys.executable, "-c", IMPORTS], folder)[0],
                    measured(again, folder)[0],
                )
                for _ in range(options.rounds)
            ]
            page = folder / "results" / "generated" / "report" / "index.html"
            found[name] = {
                "seconds": min(r[0] for r in rounds),
                "peak MB": max(r[1] for r in rounds),
                "imports, seconds": min(r[2] for r in rounds),
                "ratio to imports": min(r[0] / r[2] for r in rounds),
                "HTML MB": page.stat().st_size / 1e6,
                "run again, seconds": min(r[3] for r in rounds),
            }
            print(name, json.dumps(found[name], indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
