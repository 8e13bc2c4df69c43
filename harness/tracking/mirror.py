"""Mirrors the results to MLflow, beside the runs and never in their way.

Files are the truth. The driver hands every event to one thread and goes on; whatever cannot be
written is said once and found missing by the next command or by `sync`. An attempt from scratch is
a new MLflow run; the run of an earlier one that had ended is tagged ``superseded`` and taken out of
view (among MLflow's deleted runs, which can be restored). An attempt that goes on from a checkpoint
goes on with the MLflow run, too.
"""

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import TrackingError
from harness.execution.runner import Progressed
from harness.execution.signals import Interrupted
from harness.execution.store import Store
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.tracking.address import DATABASE, Address, resolve
from harness.tracking.asked import Asked
from harness.tracking.ledger import RUNNING, Ledger
from harness.tracking.mlflow import Connection, load_library
from harness.tracking.outdated import is_told
from harness.tracking.recorder import FLUSH_SECONDS, Recorder, Synced, missing_of
from harness.tracking.studies import FOLDER, StudyRecord, is_written
from harness.tracking.views import views_of

Warn = Callable[[str], None]

PAUSE_SECONDS = 30.0
"""After a failure MLflow is left alone for so long: a dead server costs a timeout each time."""

CONNECT_SECONDS = 10.0
"""Longest that a command waits for MLflow before it begins to train."""

CLOSE_SECONDS = 300.0
"""Longest wait at the end for what is still to be written."""

INTERRUPTED_SECONDS = 4.0
"""Longest wait after Ctrl-C or another exception; whoever asked twice waits a tenth of it."""

SUMMARY_SECONDS = 300.0
"""Shortest time between two times that recipes are summarised while runs go on."""

SUMMARY_LIMIT = 10.0
"""Once it has taken so many seconds, recipes are summarised at the end of a command only."""

_LOG = logging.getLogger(__name__)


class _PausedError(Exception):
    """MLflow failed a moment ago; nothing is tried now."""


class Mirror:
    """Hears of every run (`harness.execution.runner.Listener`) and writes it to MLflow.

    A context manager: leaving it writes what is missing, and after an exception only what waits.
    Whatever is wrong with MLflow is warned of and tried again later; no run waits for it.

    Args:
        address: The tracking store.
        store: The results of the experiment.
        source: How a command names the experiment's file.
        per_class: Most classes with metric keys of their own.
        warn: Is told, once, that MLflow cannot be written.
        tags: Of the experiment.
        asked: What the file asks for: other runs are marked, and recipes have their summaries.

    """

    def __init__(
        self,
        address: Address,
        store: Store,
        source: str,
        per_class: int,
        warn: Warn,
        tags: Mapping[str, str] | None = None,
        asked: Asked | None = None,
    ) -> None:
        self._address = address
        self._store = store
        self._source = source
        self._per_class = per_class
        self._warn = warn
        self._tags = tags or {}
        self._asked = asked
        self._warned = False
        self._retry_at = 0.0
        self._hurried = threading.Event()
        self._summarize_at = time.monotonic() + SUMMARY_SECONDS
        self._recorder: Recorder | None = None
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        load_library()  # here, since two threads that import at once can wait for each other
        if asked is not None:
            import harness.tracking.recipes  # noqa: F401  # likewise
        self._tasks.put(lambda: self._try(Recorder.mark_outdated))
        tried = threading.Event()
        self._tasks.put(tried.set)
        self._thread = threading.Thread(target=self._serve, name="tracking", daemon=True)
        self._thread.start()
        tried.wait(CONNECT_SECONDS)

    def _connect(self) -> Recorder:
        connection = Connection(self._address, self._store.path.name)
        connection.describe(self._tags)
        if not connection.keeps_artifacts:
            self._warn(
                "MLflow keeps the artifacts of this experiment where the results folder was "
                "before; new ones are not copied there. To rebuild all of it here, delete "
                f"{self._address.results / DATABASE} and run: harness sync {self._source}"
            )
        return Recorder(connection, self._store, self._source, self._per_class, self._asked)

    def started(self, spec: RunSpec) -> None:
        """A run was handed to a slot."""
        now = _now()
        resumed = self._store.has_checkpoint(spec.key)  # now, before it writes one itself
        self._later(spec, lambda recorder: recorder.started(spec, now, resumed))

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """A run went on."""
        if message.values:
            now = _now()
            self._later(spec, lambda recorder: recorder.progressed(spec, message, now))

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        """A run was committed at `path`."""
        self._later(spec, lambda recorder: recorder.finished(spec, path))

    def abandoned(self, spec: RunSpec) -> None:
        """A run was interrupted and left nothing behind."""
        self._later(spec, lambda recorder: recorder.abandoned(spec))

    def study(self, study: StudyRecord) -> None:
        """A search went on, or is over."""
        self._tasks.put(lambda: self._try(lambda recorder: recorder.study(study)))

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds."""
        self._tasks.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._failed(TimeoutError(f"MLflow is not done after {timeout:g} s"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._tasks.put(self._catch_up_now)
        else:
            self._hurried.set()
        hurry = isinstance(error, Interrupted) and error.at_once
        patience = INTERRUPTED_SECONDS / (10 if hurry else 1)
        self.close(CLOSE_SECONDS if kind is None else patience)

    def _catch_up_now(self) -> None:
        """Write what is missing, also where MLflow failed a moment ago: it is the last chance."""
        self._retry_at = 0.0
        self._try(self._catch_up)

    def _catch_up(self, recorder: Recorder) -> None:
        for message in recorder.sync().unreadable:
            self._warn(f"not mirrored to MLflow: {message}")
        recorder.mark_outdated()
        recorder.summarize()

    def _later(self, spec: RunSpec, write: Callable[[Recorder], None]) -> None:
        self._tasks.put(lambda: self._try(write, spec))

    def _serve(self) -> None:
        while True:
            waits = self._recorder is not None and self._recorder.waits
            with contextlib.suppress(queue.Empty):
                task = self._tasks.get(timeout=FLUSH_SECONDS if waits else None)
                if task is None:
                    return
                task()
            self._try(Recorder.flush)
            if time.monotonic() >= self._summarize_at:
                self._summarize()

    def _summarize(self) -> None:
        """Summarise recipes between runs, and decide when next: what takes long waits for the end.

        It takes at most a twentieth of the time.
        """
        begun = time.monotonic()
        self._try(lambda recorder: recorder.summarize(stopped=self._hurried.is_set))
        ended = time.monotonic()
        long = ended - begun > SUMMARY_LIMIT
        pause = math.inf if long else max(SUMMARY_SECONDS, 20 * (ended - begun))
        self._summarize_at = ended + pause

    def _try(self, write: Callable[[Recorder], None], spec: RunSpec | None = None) -> None:
        """Write; a failure, ours or MLflow's, is said once and leaves the run to `sync`."""
        try:
            if time.monotonic() < self._retry_at:
                raise _PausedError
            if self._recorder is None:
                self._recorder = self._connect()
            write(self._recorder)
        except Exception as error:
            if spec is not None and self._recorder is not None:
                self._recorder.forget(spec)
            if not isinstance(error, _PausedError):
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, TrackingError | OSError):
            self._retry_at = time.monotonic() + PAUSE_SECONDS
        if not self._warned:
            self._warned = True
            reason = self._address.masked(str(error) or type(error).__name__)
            self._warn(
                f"{reason}; runs go on and are kept, and what MLflow misses is mirrored by the "
                f"next command or by: harness sync {self._source}"
            )


def open_tracking(
    results: Path,
    experiment: Experiment,
    warn: Warn = _LOG.warning,
    asked: Sequence[RunSpec] | None = None,
) -> Mirror:
    """Connect to MLflow, making database and experiment if need be.

    Called by the one driver that holds the lock of the experiment, before anything else starts.

    Args:
        results: The results folder.
        experiment: What is to be mirrored.
        warn: Is told, once, that MLflow cannot be written.
        asked: Every run that its file asks for, where that is known.

    Raises:
        TrackingError: The tracking URI is a folder.
    """
    tracking = experiment.tracking
    store = Store(results, experiment.name)
    address = resolve(results, tracking.uri)
    tags = _tags(experiment)
    per_class, told = tracking.per_class, _asked(experiment, asked)
    return Mirror(address, store, experiment.called, per_class, warn, tags, told)


def _asked(experiment: Experiment, specs: Sequence[RunSpec] | None) -> Asked | None:
    return None if specs is None else Asked.of(experiment, specs)


def _tags(experiment: Experiment) -> dict[str, str]:
    """Return what MLflow is told of the experiment itself."""
    told = {"harness.description": experiment.description} if experiment.description else {}
    return {**views_of(experiment), **told}


def sync(
    results: Path,
    experiment: Experiment,
    studies: Callable[[], Sequence[StudyRecord]] = tuple,
    asked: Sequence[RunSpec] | None = None,
) -> Synced:
    """Mirror every committed run and every search that MLflow has not seen, while no driver runs.

    Args:
        results: The results folder.
        experiment: What is to be mirrored.
        studies: Returns its searches, once the lock of the experiment is held.
        asked: Every run that its file asks for, where that is known: for summaries of recipes.

    Raises:
        TrackingError: MLflow cannot be written.
        StoreError: Another driver holds the lock of the experiment.
    """
    store = Store(results, experiment.name)
    address = resolve(results, experiment.tracking.uri)
    with store.locked():
        connection = Connection(address, experiment.name)
        connection.describe(_tags(experiment))
        per_class, told = experiment.tracking.per_class, _asked(experiment, asked)
        recorder = Recorder(connection, store, experiment.called, per_class, told)
        for study in studies():
            recorder.study(study)
        done = recorder.sync()
        recorder.summarize(check=True)
        return done


def misses(results: Path, experiment: Experiment, studies: Sequence[StudyRecord]) -> bool:
    """Whether MLflow misses some of the searches, by our own file: the library is not imported.

    Raises:
        TrackingError: The tracking URI is a folder.
    """
    address = resolve(results, experiment.tracking.uri)
    ledger = Ledger(Store(results, experiment.name).path / FOLDER)
    place = ledger.place(address.fingerprint)
    if place is None or (address.own and not (address.results / DATABASE).is_file()):
        return bool(studies)
    entries = ledger.last(place)
    return not all(is_written(study, entries) for study in studies)


def is_behind(
    results: Path, experiment: Experiment, asked: Sequence[RunSpec] | None = None
) -> bool:
    """Whether MLflow misses something, by our own files: the library is not imported.

    Args:
        results: The results folder.
        experiment: What is mirrored.
        asked: As for `open_tracking`.

    Raises:
        TrackingError: The tracking URI is a folder.
    """
    store = Store(results, experiment.name)
    address = resolve(results, experiment.tracking.uri)
    ledger = Ledger(store.path)
    place = ledger.place(address.fingerprint)
    if place is None or (address.own and not (address.results / DATABASE).is_file()):
        return bool(store.runs())
    last, ended = ledger.last(place), ledger.ended(place)
    if any(entry.status == RUNNING for entry in last.values()) or missing_of(store, ended):
        return True
    told = _asked(experiment, asked)
    if told is None:
        return False
    return not is_told(last, told.settings) or bool(told.stale(last, ended) or told.gone(last))


def _now() -> int:
    return round(time.time() * 1000)
