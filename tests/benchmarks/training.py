"""Rows on training: one run in steady state, a small ablation end to end, and the taxes."""

import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.cli.shared import find
from harness.execution.executors.inline import Inline
from harness.execution.runner import Executor, run
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment, load
from harness.experiment.spec import RunSpec, Training
from harness.tracking.mirror import open_tracking
from harness.training.run_options import RunOptions
from tests.benchmarks.loops import LOOPS, Task
from tests.benchmarks.timing import interleaved, ratio, seconds

DIGITS = ("nothing", "weighted_sampler", "smote", "mixup+cutmix", "augment",
          "augment+weighted_sampler+smote+mixup+cutmix")  # fmt: skip


class Ours:
    """Runs as `harness run` does them: evaluation, files and tracking included.

    Args:
        experiment: Where the runs come from.
        folder: The results folder.
        executor: Makes what trains; by default in this process, on the CPU.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        executor: Callable[[], Executor] = lambda: Inline(RunOptions("cpu")),
    ) -> None:
        self.store = Store(folder, experiment.name)
        self.store.create()
        self.mirror = open_tracking(folder, experiment)
        self._executor = executor

    def train(self, *specs: RunSpec) -> None:
        summary = run(specs, self.store, self._executor(), [self.mirror])
        assert not summary.failures, summary.failures
        self.settle()

    def settle(self) -> None:
        """Wait until MLflow has everything."""
        told = threading.Event()
        self.mirror._tasks.put(told.set)
        told.wait()


def quickstart() -> tuple[Experiment, list[RunSpec]]:
    """Return the experiment and the runs of the steady row."""
    experiment = load(find("quickstart"))
    specs = {spec.recipe: spec for spec in expand(experiment).runs if spec.seed == 0}
    return experiment, [specs[name] for name in DIGITS]


def steady(rounds: int) -> dict[str, Any]:
    """Time one run of each recipe, ours against every loop, in one warm process."""
    experiment, specs = quickstart()
    torch.set_num_threads(1)
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(experiment, Path(name))
        for spec in specs:
            actions = {"ours": functools.partial(ours.train, spec)}
            for loop, train in LOOPS.items():
                if loop == "timm" and spec.recipe not in ("nothing", "mixup+cutmix"):
                    continue  # it has no balanced sampler, no SMOTE and no Albumentations
                actions[loop] = functools.partial(train_loop, train, spec, "cpu")
            if spec.recipe == "nothing":  # it can take ten times as long
                actions["tutorial, 2 threads"] = functools.partial(_two_threads, spec)
            for action in actions.values():
                action()  # warms up
            taken = interleaved(actions, rounds)
            print(f"{spec.recipe:45}", {k: round(min(v), 2) for k, v in taken.items()}, flush=True)
            for loop in actions.keys() - {"ours"}:
                own, other = pairs.setdefault(loop, ([], []))
                own += taken["ours"]
                other += taken[loop]
        ours.mirror.close()
    return {f"one run / {loop}": ratio(*pairs[loop]) for loop in sorted(pairs)}


def train_loop(train: Callable[[Task], None], spec: RunSpec, device: str) -> None:
    torch.manual_seed(spec.seed)
    np.random.seed(spec.seed)
    train(Task(spec, device))
    if device == "cuda":
        torch.cuda.synchronize()


def _two_threads(spec: RunSpec) -> None:
    torch.set_num_threads(2)
    try:
        train_loop(LOOPS["tutorial"], spec, "cpu")
    finally:
        torch.set_num_threads(1)


def changed(spec: RunSpec, seed: int, training: Training) -> RunSpec:
    """Return a run with another seed and training."""
    return dataclasses.replace(spec, seed=seed, training=training)


def ablation(rounds: int) -> dict[str, Any]:
    """Time the shipped quickstart end to end against the tutorial's loops one after another."""
    torch.set_num_threads(1)
    specs = [spec for spec in expand(load(find("quickstart"))).runs if spec.seed == 0]
    found: dict[str, Any] = {}
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        train_loop(LOOPS["tutorial"], specs[-1], "cpu")  # warms up
        for turn in range(rounds):
            # the machine's speed drifts: loops before and after, ours between
            before = [_loop_seconds(spec) for spec in specs[::2]]
            whole = _harness("run", "quickstart", "--results", f"{name}/{turn}", "--device", "cpu")
            after = [_loop_seconds(spec) for spec in specs[1::2]]
            loops = 3 * sum(before + after)
            ratios.append(whole / loops)
            print(f"quickstart {whole:.1f} s / 96 loops {loops:.1f} s = {ratios[-1]:.3f}")
            found["quickstart on 2 slots, seconds"] = whole
        found["quickstart on 2 slots / 96 loops"] = float(np.median(ratios))
        again = [_harness("run", "quickstart", "--results", f"{name}/0") for _ in range(3)]
        found["re-running a finished quickstart, seconds"] = float(np.median(again))
    found["harness --help, seconds"] = float(np.median([_harness("--help") for _ in range(5)]))
    return found


def _loop_seconds(spec: RunSpec) -> float:
    return seconds(lambda: train_loop(LOOPS["tutorial"], spec, "cpu"))


def _harness(*arguments: str) -> float:
    command = [sys.executable, "-m", "harness", *arguments]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def slots(rounds: int) -> dict[str, Any]:
    """Time whole commands on one slot and on two, and how they grow with the number of runs."""
    with tempfile.TemporaryDirectory() as name:
        folders = iter(range(1000))

        def command(jobs: int, limit: int) -> float:
            more = ("--jobs", str(jobs), "--limit", str(limit), "--device", "cpu")
            return _harness("run", "quickstart", "--results", f"{name}/{next(folders)}", *more)

        command(2, 2)  # warms the disk up
        pairs = [(command(2, 32), command(1, 32)) for _ in range(rounds)]
        few = [command(2, 8) for _ in range(rounds)]
    two, one = zip(*pairs, strict=True)
    each = (np.median(two) - np.median(few)) / (32 - 8)
    return {
        "32 runs on 2 slots / on 1": ratio(list(two), list(one)),
        "32 runs on 2 slots, seconds": float(np.median(two)),
        "8 runs on 2 slots, seconds": float(np.median(few)),
        "each further run on 2 slots, seconds": float(each),
    }


def planning(runs: int = 10_000) -> dict[str, Any]:
    """Time `harness plan` of many runs, from the start of the process."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "many.yaml"
        file.write_text(
            "name: many\ndatasets: [{name: digits, imbalance_factor: 30}]\n"
            "factors:\n  augment: [none, augment]\n  sampler: [none, weighted_sampler]\n"
            "  smote: [none, smote]\n  mixup: [none, mixup]\n  cutmix: [none, cutmix]\n"
            f"seeds: {runs // 32 + 1}\ntraining: {{epochs: 10, batch_size: 32}}\n"
        )
        taken = [_harness("plan", str(file), "--results", name) for _ in range(3)]
    return {f"plan of {runs:,} runs, seconds": float(np.median(taken))}


class Spent:
    """Time inside calls of ours, by what they are for; calls within calls count once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self._inside = threading.local()

    @contextmanager
    def of(self, owner: Any, method: str, what: str) -> Iterator[None]:
        """Measure a method or function of `owner` while inside."""
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "depth", 0):
                return inner(*args, **kwargs)
            self._inside.depth = 1
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self._inside.depth = 0
                spent = time.perf_counter() - start
                self.seconds[what] = self.seconds.get(what, 0.0) + spent
                self.calls[what] += 1

        setattr(owner, method, timed)
        try:
            yield
        finally:
            setattr(owner, method, inner)


def taxes(rounds: int) -> dict[str, Any]:
    """Measure what is ours outside the training step, as a share of the run."""
    from contextlib import ExitStack

    from harness.training import buffers, loop, rundir
    from harness.training import run as run_module

    experiment, specs = quickstart()
    spent, whole = Spent(), 0.0
    calls = [
        (buffers.ChunkCache, "at", "plan"),
        (loop, "quick", "metrics"),
        (run_module, "evaluate", "metrics"),
        (loop.Outcome, "count", "plan"),
        *((rundir.RunDir, name, "files") for name in (
            "write_json", "write_history", "write_per_class", "write_confusion",
            "write_predictions", "write_env", "log")),
        (torch, "save", "files"),
        (Store, "begin", "store"),
        (Store, "commit", "store"),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        ours = Ours(experiment, Path(name))
        for spec in specs:
            ours.train(spec)
        for call in calls:
            stack.enter_context(spent.of(*call))
        ours.settle()
        before = _thread_seconds("tracking")
        for seed in range(1, rounds + 1):  # new runs: another attempt at one supersedes the first
            for spec in specs:
                fresh = [changed(spec, seed, spec.training)]
                run_it = functools.partial(
                    run, fresh, ours.store, Inline(RunOptions("cpu")), [ours.mirror]
                )
                whole += seconds(run_it)
        ours.settle()
        tracking = _thread_seconds("tracking") - before
        ours.mirror.close()
    runs = rounds * len(specs)
    shares = {f"{what}, share of a run": value / whole for what, value in spent.seconds.items()}
    return {
        **shares,
        "all of these, share of a run": sum(spent.seconds.values()) / whole,
        "seconds of a run": whole / runs,
        "tracking, CPU milliseconds per run": 1000 * tracking / runs,
    }


def safety(rounds: int) -> dict[str, Any]:
    """Measure what it costs that nothing is lost: claims, commits, and one checkpoint."""
    from contextlib import ExitStack

    from harness.training.loop import Loop

    experiment, specs = quickstart()
    spent = Spent()
    calls = [(Loop, "_keep", "keep"), (Store, "begin", "begin"), (Store, "commit", "commit")]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        store = Store(Path(name), experiment.name)
        store.create()
        for call in calls:
            stack.enter_context(spent.of(*call))
        for seed in range(rounds):
            fresh = [changed(spec, seed, spec.training) for spec in specs]
            run(fresh, store, Inline(RunOptions("cpu", checkpoint_every=0.0)), [])
    checkpoint = spent.seconds["keep"] / spent.calls["keep"]
    ledger = (spent.seconds["begin"] + spent.seconds["commit"]) / spent.calls["commit"]
    return {
        "a checkpoint, milliseconds": 1000 * checkpoint,
        "claim and commit of a run, milliseconds": 1000 * ledger,
        "these in a run of 20 s, share": (checkpoint + ledger) / 20,
    }


def _thread_seconds(name: str) -> float:
    """Return the CPU time of a thread of this process, by its name."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == name]
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8")
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_estimate() -> dict[str, Any]:
    """Compare what `plan --measure` says of the quickstart with what it takes."""
    import json

    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for turn in range(2):
            command = [sys.executable, "-m", "harness", "plan", "quickstart", "--results", name]
            command += ["--measure", "--json", "--device", "cpu"]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            folder = f"{name}/{turn}"
            whole = _harness("run", "quickstart", "--results", folder, "--device", "cpu")
            ratios.append(told["cost"]["seconds"] / whole)
    return {"plan --measure / what the quickstart takes": float(np.mean(ratios))}
