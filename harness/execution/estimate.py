"""What runs will cost, measured: a few steps of each shape on this machine's own slots.

Runs of one shape cost the same: same data, model and batch, same work per image. Each shape is
trained for some steps by the very executor that would do the study, with every slot busy, so that
what slots take from each other is in the figure.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness import scratch
from harness.datasets.base import Info
from harness.errors import ConfigError
from harness.execution.runner import Executor, Progressed, run
from harness.execution.store import Store
from harness.experiment.canonical import canonical_json
from harness.experiment.spec import RunSpec, Training
from harness.strategies.base import deciding
from harness.training.run_result import RunResult, read_run
from harness.training.run_status import RunStatus
from harness.training.rundir import WEIGHTS

_FIRST_STEPS = 8
_MOST_STEPS = 256
_SECONDS = 0.5
"""Length of the stretch of steps that is measured, where the budget is as long."""

DATABASE_BYTES = 60_000
"""What MLflow's database grows by for a run: about 60 points and 30 params."""


@dataclass(frozen=True)
class Measured:
    """What one shape costs.

    Attributes:
        begin: Seconds before the first step.
        step: Seconds per step.
        sample: Seconds to evaluate one sample.
        end: Seconds around a run: its files, its commit, its way through the slot.
        memory_mb: Most memory of its slot.
        bytes: Of its folder, without weights.
        weights: Bytes of its weights.
    """

    begin: float
    step: float
    sample: float
    end: float
    memory_mb: float | None
    bytes: int
    weights: int

    def seconds(self, steps: int, evaluations: int, val: int, test: int) -> float:
        """Return the seconds of a run in its slot."""
        samples = evaluations * val + val + test
        return self.begin + steps * self.step + samples * self.sample + self.end


@dataclass(frozen=True)
class Estimate:
    """What the runs that are to do will cost.

    Attributes:
        runs: How many there are.
        shapes: How many shapes were measured.
        seconds: Wall time with the slots given.
        slot_seconds: Sum over runs of the time in their slot.
        slots: Runs at a time.
        memory_mb: Most memory of all slots together, or None where the system does not tell.
        bytes: Disk, weights included as far as their cap allows.
    """

    runs: int
    shapes: int
    seconds: float
    slot_seconds: float
    slots: int
    memory_mb: float | None
    bytes: int


def shape_of(spec: RunSpec) -> str:
    """Return what the cost of a run depends on, as text that is equal for equal costs."""
    return canonical_json(
        {
            "dataset": spec.dataset.identity(),
            "folds": spec.folds,
            "model": spec.model.identity(),
            "training": spec.training.identity(),
            "images": [s.identity() for s in deciding(spec.strategies, "transforms")],
            "synthesis": [s.identity() for s in deciding(spec.strategies, "synthesize")],
            "blends": sorted(s.name for s in deciding(spec.strategies, "blend")),
        }
    )


class _Clock:
    """A listener that measures runs from outside."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    def started(self, spec: RunSpec) -> None:
        self._begun[spec.key] = time.perf_counter()

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """Only beginning and end count."""

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        self.spent[spec.key] = time.perf_counter() - self._begun[spec.key]

    def abandoned(self, spec: RunSpec) -> None:
        """Nothing was measured."""


def measure(
    runs: Iterable[RunSpec], executor: Callable[[], Executor], slots: int
) -> dict[str, Measured]:
    """Train some steps of each shape among `runs`; return what each costs.

    Args:
        runs: What is to be done.
        executor: Makes an executor as the study would use it.
        slots: Runs at a time.

    Raises:
        ConfigError: A run of some steps fails.
    """
    shapes: dict[str, RunSpec] = {}
    for spec in runs:
        shapes.setdefault(shape_of(spec), spec)
    # the first pass warms slots and caches up, and tells how many steps are worth a measurement
    first = _pass(shapes, dict.fromkeys(shapes, _FIRST_STEPS), executor, slots)
    steps = {
        shape: min(max(_FIRST_STEPS, math.ceil(2 * _SECONDS / found.step)), _MOST_STEPS)
        for shape, found in first.items()
    }
    return _pass(shapes, steps, executor, slots)


def _pass(
    shapes: Mapping[str, RunSpec],
    steps: Mapping[str, int],
    executor: Callable[[], Executor],
    slots: int,
) -> dict[str, Measured]:
    copies = -(-slots // len(shapes))
    trials = [
        (shape, _cut(spec, steps[shape], spec.seed + copy))
        for copy in range(copies)
        for shape, spec in shapes.items()
    ]
    clock = _Clock()
    found: dict[str, Measured] = {}
    with scratch.folder() as folder:
        store = Store(folder, "measure")
        store.create()
        summary = run((spec for _, spec in trials), store, executor(), [clock])
        for shape, spec in trials:
            if summary.statuses.get(spec.key) == RunStatus.FAILED:
                raise ConfigError(f"'{spec.recipe}' fails: {summary.failures[spec.key]}")
            found[shape] = _measured(summary.paths[spec.key], clock.spent[spec.key], spec.training)
    return found


def _cut(spec: RunSpec, steps: int, seed: int) -> RunSpec:
    """Return a run of some steps, evaluated half-way and at its end."""
    changes = {"max_steps": steps, "eval_every": 0.5}
    return replace(spec, seed=seed, training=spec.training.model_copy(update=changes))


def _measured(path: Path, spent: float, training: Training) -> Measured:
    found = read_run(path)
    cost = found.values["cost"]
    rate = _last_rate(found) or cost["images_per_second"]
    val, test = (int(found.metric(split, "n") or 0) for split in ("val", "test"))
    files = found.sizes()
    weights = files.pop(WEIGHTS, 0)
    inside = cost["prepare_seconds"] + cost["train_seconds"] + cost["evaluate_seconds"]
    inside += cost["startup_seconds"]  # once in a process, not in each run
    return Measured(
        begin=cost["prepare_seconds"],
        step=training.batch_size / rate,
        sample=cost["evaluate_seconds"] / max(1, 3 * val + test),
        end=max(0.0, spent - inside),
        memory_mb=cost["peak_memory_mb"],
        bytes=sum(files.values()),
        weights=weights,
    )


def _last_rate(found: RunResult) -> float | None:
    """Return images per second of the last stretch of steps: the first one warms up."""
    rows = [row["images_per_second"] for row in found.history()]
    return float(rows[-1]) if len(rows) > 1 and rows[-1] else None


def estimate(
    runs: Iterable[RunSpec],
    measured: Mapping[str, Measured],
    sizes: Callable[[RunSpec], tuple[int, int, int]],
    slots: int,
    processes: int,
    weights_cap: float,
) -> Estimate:
    """Return what runs will cost.

    Args:
        runs: What is to be done.
        measured: From `measure`.
        sizes: Train, val and test samples of a run.
        slots: Runs at a time.
        processes: Slots with memory of their own; runs that take turns share theirs.
        weights_cap: Most bytes of weights that stay.
    """
    each: list[float] = []
    size = weights = 0
    for spec in runs:
        found = measured[shape_of(spec)]
        train, val, test = sizes(spec)
        evaluations = max(1, round(1.0 / spec.training.eval_every))
        each.append(found.seconds(spec.training.steps(train), evaluations, val, test))
        size += found.bytes + DATABASE_BYTES
        weights += found.weights
    memory = [found.memory_mb for found in measured.values() if found.memory_mb is not None]
    return Estimate(
        runs=len(each),
        shapes=len(measured),
        # the last run may have a slot to itself while the others are idle
        seconds=max(sum(each) / slots, max(each, default=0.0)),
        slot_seconds=sum(each),
        slots=slots,
        memory_mb=max(memory) * processes if memory else None,
        bytes=size + min(weights, round(weights_cap)),
    )


def sizes_of(infos: Mapping[str, Info]) -> Callable[[RunSpec], tuple[int, int, int]]:
    """Return what tells the samples of a run's three splits, from infos by dataset label."""

    def sizes(spec: RunSpec) -> tuple[int, int, int]:
        train, val, test = (int(part.sum()) for part in infos[spec.dataset_label].counts)
        return train, val, test

    return sizes
