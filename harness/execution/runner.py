"""From pending runs to committed ones: pull, execute, commit, tell the listeners.

The runner knows nothing of MLflow or of the terminal. A failure stays in its run.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.errors import StoreError
from harness.execution.store import Store, read_json
from harness.execution.weights import WeightKeeper
from harness.experiment.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """One run to execute: its spec and the folder of this attempt."""

    spec: RunSpec
    attempt: Path


@dataclass(frozen=True)
class Progressed:
    """`step` of `steps` are done; `values` are those of an evaluation, or empty."""

    step: int
    steps: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The attempt ended: ``done``, ``diverged``, ``stopped`` or ``failed``; its folder is whole."""

    status: str


Message = Progressed | Finished

Judge = Callable[[RunSpec, Progressed], bool]
"""Asked after each evaluation of a run whether to stop it there; the run waits for the answer."""


class Executor(Protocol):
    """Decides where and when jobs run."""

    slots: int

    def execute(
        self, jobs: Iterator[Job], judge: Judge | None = None
    ) -> Iterator[tuple[Job, Message]]:
        """Pull jobs as slots become free; yield what happens; end when all have finished.

        Closing the iterator early ends the jobs that are running.
        """

    def close(self) -> None:
        """Let go of whatever was started; a second call does nothing."""


class Listener(Protocol):
    """Hears of every run; what it raises is its own business and must not stop the grid."""

    def started(self, spec: RunSpec) -> None:
        """A run was handed to a slot."""

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """A run went on."""

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        """A run was committed at `path`; `status` as in `Finished`."""

    def abandoned(self, spec: RunSpec) -> None:
        """A run was interrupted and left nothing behind."""


@dataclass
class Summary:
    """What became of the pending runs.

    Attributes:
        statuses: Status by key.
        failures: Message by key of each run that failed or diverged.
        paths: Folder by key.
        weights_dropped: Runs whose weights did not fit under the cap.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    weights_dropped: int = 0


def run(
    pending: Iterable[RunSpec],
    store: Store,
    executor: Executor,
    listeners: Sequence[Listener] = (),
    keeper: WeightKeeper | None = None,
    fail_fast: bool = False,
    judge: Judge | None = None,
) -> Summary:
    """Execute every pending run and commit it; return what became of them.

    Args:
        pending: What to run, in order; the next one is pulled when a slot is free for it.
        store: Where results go; this driver holds its lock.
        executor: Where runs execute.
        listeners: Who hears of it.
        keeper: Decides which weights stay.
        fail_fast: Stop after the first run that fails.
        judge: Stops runs early, as a pruner does.

    Raises:
        KeyboardInterrupt: After the running attempts were discarded.
    """
    summary = Summary()
    active: dict[str, Job] = {}

    def jobs() -> Iterator[Job]:
        for spec in pending:
            if fail_fast and summary.failures:
                return
            job = Job(spec, store.begin(spec))
            active[spec.key] = job
            for listener in listeners:
                listener.started(spec)
            yield job

    messages = executor.execute(jobs(), judge)
    try:
        with contextlib.closing(messages):  # type: ignore[type-var]
            for job, message in messages:
                if isinstance(message, Progressed):
                    for listener in listeners:
                        listener.progressed(job.spec, message)
                else:
                    del active[job.spec.key]
                    _commit(job, message.status, store, listeners, keeper, summary)
    finally:
        for job in active.values():
            store.discard(job.attempt)
            for listener in listeners:
                listener.abandoned(job.spec)
    return summary


def _commit(
    job: Job,
    status: str,
    store: Store,
    listeners: Sequence[Listener],
    keeper: WeightKeeper | None,
    summary: Summary,
) -> None:
    key = job.spec.key
    if status == "failed" and store.is_done(key):
        summary.statuses[key] = status
        summary.failures[key] = f"{failure(job.attempt)} (the finished run of before is kept)"
        store.discard(job.attempt)
        for listener in listeners:
            listener.abandoned(job.spec)
        return
    if keeper is not None and not keeper.admit(job.spec, job.attempt):
        summary.weights_dropped += 1
    path = store.commit(job.spec, job.attempt)
    summary.statuses[key] = status
    summary.paths[key] = path
    if status != "done":
        summary.failures[key] = failure(path)
    for listener in listeners:
        listener.finished(job.spec, status, path)


def failure(path: Path) -> str:
    """Return why a committed run is not done, in one line."""
    try:
        return str(read_json(path / "error.json")["message"]).strip().split("\n")[0]
    except (StoreError, KeyError):
        return "the loss is not finite" if (path / "result.json").exists() else "no reason was left"
