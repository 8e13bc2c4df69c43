"""Rows that need a GPU: one step, runs that take turns, and whole runs, against the loops.

A run has `BUDGET` steps, those of ResNet-32 on CIFAR-10-LT-100 (Cao et al. 2019: 200 epochs of
batch 128), on about as many generated images. What would take minutes is computed from two shorter
budgets, as the time of a run is a line in its steps; the row `whole` is not.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.execution.executors.local import Local
from harness.execution.executors.resources import layout
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.training.cuda import Cuda
from harness.training.prepare import prepare
from harness.training.step import Step, make_optimizer
from tests.benchmarks.loops import LOOPS
from tests.benchmarks.timing import interleaved, ratio, seconds
from tests.benchmarks.training import Ours, changed, train_loop

BUDGET = 19_385

PICTURES: dict[str, Any] = {
    "name": "pictures",
    "datasets": [{"name": "shapes", "size": 32, "per_class": 7800, "imbalance_factor": 100}],
    "base": [{"name": "augment", "policy": "flip_crop"}],
    "recipes": {"mixup+cutmix": ["mixup", "cutmix"]},
    "models": ["resnet32", "resnet18"],
    "seeds": 1,
    "training": {"epochs": 1000, "max_steps": BUDGET, "batch_size": 128, "eval_every": 0.05},
}

LANES = (1, 2, 4, 8, 16)
SHORT, LONG = 300, 1500
"""Budgets of ours from which that of a whole run is computed; the loops have a fifth."""


def spec_of(model: str) -> RunSpec:
    """Return the run that both mixes."""
    runs = expand(load(PICTURES)).runs
    return next(s for s in runs if s.model.name == model and s.recipe == "mixup+cutmix")


def step(rounds: int) -> dict[str, Any]:
    """Time one step in milliseconds, captured and as it is called, and count its kernels."""
    found: dict[str, Any] = {}
    for model in ("resnet32", "resnet18"):
        spec = spec_of(model)
        with torch.cuda.stream(torch.cuda.Stream()):
            captured, eager = _Steps(spec, captured=True), _Steps(spec, captured=False)
            taken = interleaved({"captured": captured.chunk, "eager": eager.chunk}, rounds)
            for way, times in taken.items():
                found[f"{model}, {way}, ms per step"] = 1000 * float(np.median(times)) / 64
            kernels, busy = captured.profile()
        found[f"{model}, kernels per step"] = kernels
        found[f"{model}, ms per step that kernels run"] = busy
    return found


class _Steps:
    """Steps of a run, a chunk of 64 at a time."""

    def __init__(self, spec: RunSpec, captured: bool) -> None:
        place = torch.device("cuda")
        loop = prepare(spec, place, "bf16").loop
        loop.model.train()
        optimizer = make_optimizer(loop.model, loop.training)
        step = Step(loop.model, loop.pipeline, optimizer, "bf16", place)
        self._executor = loop.captured(step, Cuda()) if captured else loop.eager(step)
        self._done = 0
        self.chunk()
        self.chunk()

    def chunk(self) -> None:
        """Do the steps and wait for them."""
        for _ in self._executor.advance(self._done, self._done + 64):
            pass
        self._done += 64
        torch.cuda.synchronize()
        assert not self._executor.problem, self._executor.problem

    def profile(self) -> tuple[float, float]:
        """Return how many kernels a step launches, and how many milliseconds they run."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            self.chunk()
        rows = [row for row in seen.key_averages() if row.device_type == DeviceType.CUDA]
        for row in sorted(rows, key=lambda row: -row.self_device_time_total)[:12]:
            each = row.self_device_time_total / 64
            print(f"{each:9.1f} us in {row.count / 64:6.1f} calls of {row.key[:100]}")
        busy = sum(row.self_device_time_total for row in rows) / 64 / 1000
        return sum(row.count for row in rows) / 64, busy


def loops(rounds: int) -> dict[str, Any]:
    """Compare a whole run of ours, by itself and in turns, with those of the loops."""
    torch._dynamo.config.recompile_limit = 64  # each loop compiles a network of its own
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    spec = spec_of("resnet32")
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        slot = _Slot(Path(folder))
        ours = {f"{lanes} at a time": lanes for lanes in (1, 8)}
        actions: dict[str, Callable[[int], Any]] = {
            name: functools.partial(slot.train, spec, lanes) for name, lanes in ours.items()
        }
        for loop, train in LOOPS.items():
            actions[loop] = functools.partial(_loop, train, spec)
        for name, action in actions.items():
            print(f"{name}: {seconds(lambda a=action: a(60)):.1f} s to warm up", flush=True)
        budgets = {
            name: [n // 5 if name in LOOPS else n for n in (SHORT, LONG)] for name in actions
        }
        timed = {
            (name, n): functools.partial(actions[name], n)
            for name in actions
            for n in budgets[name]
        }
        seen = interleaved(timed, rounds)
        for name, (fewer, more) in budgets.items():
            pairs = zip(seen[name, fewer], seen[name, more], strict=True)
            taken[name] = [
                _whole(short, long, fewer, more) / ours.get(name, 1) for short, long in pairs
            ]
            print(f"{name}: {[round(t, 1) for t in taken[name]]} s a run", flush=True)
        slot.close()
    found: dict[str, Any] = {
        f"a run of {BUDGET:,} steps, {name}, seconds (computed)": float(np.median(times))
        for name, times in taken.items()
    }
    for name in ours:
        found |= {f"a run, {name} / {loop}": ratio(taken[name], taken[loop]) for loop in LOOPS}
    return found


def _whole(short: float, long: float, fewer: int, more: int) -> float:
    """Return the seconds of `BUDGET` steps."""
    return short + (long - short) / (more - fewer) * (BUDGET - fewer)


def _loop(train: Callable[[Any], None], spec: RunSpec, steps: int) -> None:
    train_loop(train, _of_steps(spec, steps), "cuda")


def _of_steps(spec: RunSpec, steps: int, seed: int = 0) -> RunSpec:
    return changed(spec, seed, spec.training.model_copy(update={"max_steps": steps}))


class _Slot:
    """One process of ours that stays open, with room for all `LANES`.

    Args:
        folder: The results folder.
    """

    def __init__(self, folder: Path) -> None:
        self._executor = Local(layout("cuda", runs_per_gpu=max(LANES)))
        self._ours = Ours(load(PICTURES), folder, lambda: _Kept(self._executor))
        self._seed = 0

    def train(self, spec: RunSpec, lanes: int, steps: int) -> None:
        """Train as many new runs, which take turns."""
        self._ours.train(*(_of_steps(spec, steps, self._seed + i) for i in range(lanes)))
        self._seed += lanes

    def close(self) -> None:
        """End the process."""
        self._ours.mirror.close()
        self._executor.close()


class _Kept:
    """An executor whose slots stay open."""

    def __init__(self, inner: Local) -> None:
        self._inner = inner
        self.slots = inner.slots
        self.halt = inner.halt

    def execute(self, jobs: Any, judge: Any = None) -> Iterator[Any]:
        close, self._inner.close = self._inner.close, lambda: None  # type: ignore[method-assign]
        try:
            yield from self._inner.execute(jobs, judge)
        finally:
            self._inner.close = close  # type: ignore[method-assign]

    def close(self) -> None:
        """They stay open."""


def lanes(rounds: int) -> dict[str, Any]:
    """Compute the seconds of a whole run at each number of runs that take turns."""
    found: dict[str, Any] = {}
    spec = spec_of("resnet32")
    with tempfile.TemporaryDirectory() as folder:
        slot = _Slot(Path(folder))
        slot.train(spec, 2, 60)
        for count in LANES:
            short = seconds(functools.partial(slot.train, spec, count, SHORT))
            long = seconds(functools.partial(slot.train, spec, count, LONG))
            each = _whole(short, long, SHORT, LONG) / count
            found[f"a run, {count} at a time, seconds (computed)"] = each
            print(f"{count} at a time: {short:.1f}, {long:.1f}; {each:.1f} s a run", flush=True)
        slot.close()
    found["160 runs, minutes (computed)"] = 160 / 60 * min(found.values())
    return found


def whole(rounds: int) -> dict[str, Any]:
    """Time one whole run of each model, from its start to its files, in a warm process."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        slot = _Slot(Path(folder))
        for model in ("resnet32", "resnet18"):
            train = functools.partial(slot.train, spec_of(model), 1)
            train(60)
            found[f"a whole run of {model}, seconds"] = seconds(lambda t=train: t(BUDGET))
        slot.close()
    return found
