"""A strategy with a planted optimum, and an executor that trains nothing."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from harness.execution.runner import Finished, Job, Judge, Message, Progressed, run
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.tuning.database import open_storage
from harness.tuning.driver import Driver
from harness.tuning.run_lookup import RunLookup, trial_store
from harness.tuning.searches import Search, searches_of
from harness.tuning.study import TuningStudy

PLUGIN = '''
"""A strategy whose best strength is known."""

from typing import Annotated

import numpy as np
from pydantic import Field

from harness.strategies.base import Mix, Probability, Tunable, Windowed, strategy


@strategy("planted")
class Planted(Windowed):
    """Mix nothing: its parameters are there to be searched."""

    alpha: Annotated[float, Field(gt=0.0), Tunable(0.01, 10.0, log=True)] = 5.0
    p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0
    k: Annotated[int, Field(ge=1, le=9)] = 1

    def blend(self, batch, rng):
        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
'''

ALPHA, P = 0.3, 0.6
"""Where the planted optimum lies."""


def planted(spec: RunSpec) -> float:
    """Return a metric on val that peaks at `ALPHA` and `P`; seeds shift it."""
    found = [s for s in spec.strategies if s.name == "planted"]
    if not found:
        return 0.5
    (one,) = found
    away = math.log10(one.alpha / ALPHA) ** 2 + (2 * (one.p - P)) ** 2  # type: ignore[attr-defined]
    return 0.9 - 0.1 * away + 0.001 * (spec.seed % 7)


Outcome = float | str | None


@dataclass
class Fake:
    """Executes jobs in no time, `slots` at a time, in turns: a message of each that is running.

    Attributes:
        value: The metric on val of a run, None where it is undefined, or a status.
        slots: Most jobs at a time.
        stop_after: Jobs that end before Ctrl-C.
        steps: Evaluations of a run; the metric rises linearly to its end.
        ran: Every job that ended, and how.
    """

    value: Callable[[RunSpec], Outcome] = planted
    slots: int = 1
    stop_after: int | None = None
    steps: int = 4
    ran: list[tuple[RunSpec, str]] = field(default_factory=list)
    most: int = 0

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        running: list[tuple[Job, int]] = []
        while True:
            while len(running) < self.slots and (job := next(jobs, None)) is not None:
                running.append((job, 0))
            if not running:
                return
            self.most = max(self.most, len(running))
            if self.stop_after is not None and len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            job, step = running.pop(0)
            yield from self._step(job, step + 1, judge, running)

    def _step(
        self, job: Job, step: int, judge: Judge | None, running: list[tuple[Job, int]]
    ) -> Iterator[tuple[Job, Message]]:
        value = self.value(job.spec)
        stop = False
        if isinstance(value, float):
            name = f"val/{job.spec.metric}"
            message = Progressed(step, self.steps, {name: value * step / self.steps})
            stop = judge is not None and judge(job.spec, message)
            yield job, message
        if step < self.steps and not stop:
            running.append((job, step))
            return
        status = "stopped" if stop else value if isinstance(value, str) else "done"
        write(job.spec, job.attempt, status, value)
        self.ran.append((job.spec, status))
        yield job, Finished(status)

    def close(self) -> None:
        """Nothing was started."""


def write(spec: RunSpec, attempt: Path, status: str, value: Outcome = None) -> None:
    """Write what a run leaves behind; its test is a trap: the better, the worse on val."""
    (attempt / "spec.json").write_text(json.dumps(spec.to_json()))
    if status == "failed":
        (attempt / "error.json").write_text(json.dumps({"message": "it went wrong"}))
        return
    val = value if isinstance(value, float) else None
    metrics = {"val": {spec.metric: val}, "test": {spec.metric: 1.0 - (val or 0.0)}}
    result = {
        "status": status,
        "metrics": {} if status == "diverged" else metrics,
        "cost": {"seconds": 2.0},
        "notes": [],
        "device": {"name": "none", "precision": "fp32"},
    }
    (attempt / "result.json").write_text(json.dumps(result))


def fast(connection: Any, record: Any) -> None:
    """Let a database of a test wait for no disk."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    event.listen(Engine, "connect", fast)
    yield
    event.remove(Engine, "connect", fast)


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "planted.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture
def keys(plugin: str) -> Callable[..., dict[str, Any]]:
    """Return a function that gives the keys of an experiment; changes go under ``tune``."""

    def make(recipes: dict[str, list[Any]] | None = None, **tune: Any) -> dict[str, Any]:
        return {
            "name": "tiny",
            "plugins": [plugin],
            "datasets": [{"name": "shapes", "classes": 3, "size": 8, "per_class": 24}],
            "models": [{"name": "tiny_cnn", "width": 4}],
            "recipes": {"planted": ["planted"]} if recipes is None else recipes,
            "seeds": 2,
            "training": {"epochs": 3, "batch_size": 8, "lr": 0.05, "eval_every": 0.5},
            "tune": {"trials": 4, "seeds": [100], **tune},
        }

    return make


@pytest.fixture
def searches(keys: Callable[..., dict[str, Any]]) -> Callable[..., tuple[Search, ...]]:
    """Return a function that gives the searches of `keys`."""
    return lambda *args, **tune: searches_of(expand(load(keys(*args, **tune))))


@dataclass
class Bench:
    """A results folder whose trials are done by a fake executor, command after command."""

    results: Path

    @property
    def store(self) -> Store:
        return trial_store(self.results, "tiny")

    def open(self, searches: tuple[Search, ...], **options: Any) -> list[TuningStudy]:
        """Open studies as a command of its own would."""
        self.results.mkdir(parents=True, exist_ok=True)
        storage = open_storage(self.results)
        return [TuningStudy(storage, search, **options) for search in searches]

    def drive(
        self, studies: list[TuningStudy], fake: Fake, fail_fast: bool = False
    ) -> list[tuple[str, int]]:
        """Do what is left; return study and number of each trial that ended, in order."""
        self.store.create()
        told: list[tuple[str, int]] = []
        lookup = RunLookup(self.store, Store(self.results, "tiny"))
        driver = Driver(
            studies, lookup, lambda of, trial: told.append((of.search.recipe, trial.number))
        )
        pruned = any(one.search.tuning.pruner != "none" for one in studies)
        try:
            judge = driver.judge if pruned else None
            run(driver.pending(), self.store, fake, [driver], None, fail_fast, judge)
        finally:
            for one in studies:
                one.requeue()
        return told

    def tune(self, searches: tuple[Search, ...], fake: Fake, **options: Any) -> list[TuningStudy]:
        """Open, drive and return the studies."""
        studies = self.open(searches, **options)
        self.drive(studies, fake)
        return studies


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "results")


def trials_of(studied: TuningStudy) -> list[tuple[int, str, dict[str, Any], float | None]]:
    """Return number, state, params and value of every trial."""
    return [(t.number, t.state.name, t.params, t.value) for t in studied.study.trials]


def with_trials(searches: tuple[Search, ...], trials: int) -> tuple[Search, ...]:
    """Return the searches with another number of trials."""
    return tuple(replace(s, tuning=replace(s.tuning, trials=trials)) for s in searches)
