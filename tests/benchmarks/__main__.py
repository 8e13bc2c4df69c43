"""`make bench`: speed, as ratios within one run, written as JSON and as a table.

``python -m tests.benchmarks --device cpu --out results/reference/speed-cpu`` does every row in some
minutes; ``--rows steady,smote`` only those. On a GPU, ``--device cuda`` does what needs one and
stays under ten minutes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2  # noqa: E402

from harness.execution.executors.handle import KEPT_MEMORY  # noqa: E402
from tests.benchmarks import data, gpu, training  # noqa: E402
from tests.benchmarks.timing import machine  # noqa: E402

Row = Callable[[int], dict[str, Any]]

CPU: dict[str, Row] = {
    "steady": training.steady,
    "ablation": lambda rounds: training.ablation(1),
    "slots": training.slots,
    "taxes": training.taxes,
    "safety": training.safety,
    "albumentations": lambda rounds: {
        **data.albumentations_rate(32, 3 * rounds),
        **data.albumentations_rate(224, 3 * rounds),
    },
    "smote": data.smote,
    "growth": lambda rounds: data.growth(),
    "planning": lambda rounds: training.planning(),
    "estimate": lambda rounds: training.cost_estimate(),
}
CUDA: dict[str, Row] = {
    "step": gpu.step,
    "whole": gpu.whole,
    "lanes": gpu.lanes,
    "loops": gpu.loops,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="times each thing is timed")
    parser.add_argument("--rows", default="", help="only these, with commas between")
    parser.add_argument("--out", type=Path, default=None, help="write OUT.json and OUT.md")
    options = parser.parse_args()
    if not os.environ.keys() >= KEPT_MEMORY.keys():  # as slots have it; the loops gain from it too
        again = [sys.executable, "-m", "tests.benchmarks", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, **KEPT_MEMORY})
    cv2.setNumThreads(0)
    rows = CUDA if options.device == "cuda" else CPU
    wanted = options.rows.split(",") if options.rows else list(rows)
    found: dict[str, Any] = {"machine": machine(options.device)}
    for name in wanted:
        start = time.perf_counter()
        found[name] = rows[name](options.rounds)
        print(json.dumps(found[name], indent=1))
        print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)
        if options.out:  # after each row: a lent machine may be gone before the last
            text = json.dumps(found, indent=1) + "\n"
            options.out.with_suffix(".json").write_text(text, encoding="utf-8")
            options.out.with_suffix(".md").write_text(_table(found), encoding="utf-8")


def _table(found: dict[str, Any]) -> str:
    """Return the figures as a Markdown page."""
    of = found["machine"]
    device = of.get("gpu") or f"{of['cores']} cores of {of['processor']}"
    versions = ", ".join(f"{k} {v}" for k, v in of["versions"].items() if v)
    lines = [
        f"# Speed on {device}",
        "",
        "Written by `make bench`: one run; a ratio is the median of paired ratios, taken in turns, "
        "with its 95 % bootstrap interval. Ours includes evaluation, files and MLflow; the loops "
        "log nothing. One thread each unless said, and memory kept by malloc as in our slots. Only "
        "ratios compare between machines.",
        "",
        f"Python {of['python']}, {versions}; load {of['load']:.1f}; commit {of['commit']}.",
        "",
        "| what | figure |",
        "|---|---|",
    ]
    for row, values in found.items():
        if row != "machine":
            lines += [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return " / ".join(_shown(item) for item in value)
    if "ratio" in value:
        rates = [value[key] for key in ("ours_per_second", "theirs_per_second") if key in value]
        more = "; " + " / ".join(f"{rate:,.0f}" for rate in rates) + " images/s" if rates else ""
        interval = f"{value['low']:.2f}–{value['high']:.2f}"
        return f"{value['ratio']:.2f} ({interval}, n = {value['n']}{more})"
    grown = ", ".join(f"{size}: {_shown(taken)}" for size, taken in value["seconds"].items())
    return f"{grown}; exponent {value['exponent']:.2f}"


if __name__ == "__main__":
    main()
