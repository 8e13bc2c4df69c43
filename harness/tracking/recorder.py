"""Writes runs of one experiment to MLflow: live ones as they go on, committed ones as a whole.

Not thread-safe: `mirror` gives it a thread of its own. A run that cannot be written is left to a
later `sync`, which finds it missing.
"""

import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import scratch
from harness.errors import HarnessError, TrackingError, UnreachableError
from harness.execution.runner import Progressed
from harness.execution.store import Store, Stored
from harness.experiment.spec import RunSpec
from harness.tracking import describe, outdated, record
from harness.tracking.address import Address
from harness.tracking.asked import Asked
from harness.tracking.ledger import ENDED, FAILED, FINISHED, KILLED, RUNNING, Entry, Ledger
from harness.tracking.mlflow import Connection, Tracked
from harness.tracking.record import Point
from harness.tracking.studies import FOLDER, StudyRecord, StudyRecorder
from harness.training.run_result import recall_run
from harness.training.run_status import FAILURES, RunStatus
from harness.training.rundir import RESUMED, git_commit

_KILLED = RunStatus.KILLED.value
_REFUSED = "its checkpoint could not be used, and it was trained again from scratch"
_MISSED = "MLflow did not hear how it ended: the finished run was mirrored whole, as another one."
_LEFT = "Stopped before it ended by a driver that is gone: it counts for nothing and is done again."

FLUSH_SECONDS = 5.0
"""Shortest time between two requests with live points of one run, and before the first of them: a
run that ends before is written once, whole."""


@dataclass(frozen=True)
class Synced:
    """What a `sync` came to.

    Attributes:
        mirrored: Runs that MLflow had not seen.
        known: Runs that it had, although nothing here said so.
        closed: Runs that a killed driver had left RUNNING.
        unheard: Runs that MLflow showed as RUNNING since it did not answer when they ended.
        unreadable: Messages of committed runs that cannot be read.
    """

    mirrored: int = 0
    known: int = 0
    closed: int = 0
    unheard: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass
class _Live:
    """A run under way: what MLflow was sent of it, and what waits to be.

    ``run_id`` is empty until it is RUNNING there. ``heard`` is the last step whose points were sent
    or wait; a run that goes on from a checkpoint tells of the evaluations before it once more.
    ``reopened`` is of an attempt that has a checkpoint, which it need not be able to use.
    """

    spec: RunSpec
    began: int
    run_id: str = ""
    flushed: float = field(default_factory=time.monotonic)
    points: list[Point] = field(default_factory=list)
    heard: int = 0
    sent: int = 0
    sent_at: int = 0
    steps: int | None = None
    described: bool = False
    reopened: bool = False

    @property
    def waits(self) -> bool:
        """Whether something of it waits to be written."""
        return bool(self.points) or not self.run_id


class Recorder:
    """Writes the runs of one experiment.

    Args:
        connection: MLflow.
        store: The results of the experiment.
        source: How a command names the experiment's file.
        per_class: Most classes with metric keys of their own.
        asked: What the experiment's file asks for, where it is known.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        source: str,
        per_class: int,
        asked: Asked | None = None,
    ) -> None:
        self._mlflow = connection
        self._store = store
        self._source = source
        self._per_class = per_class
        self._asked = asked
        self._ledger = Ledger(store.path)
        self._ended = self._ledger.ended(connection.place)
        self._last = self._ledger.last(connection.place)
        self._told = self._ledger.run_ids(connection.place)
        self._fresh: set[str] = set()
        self._live: dict[str, _Live] = {}
        self._commit = git_commit()
        self._owner = owner(connection.address)
        self._studies: StudyRecorder | None = None

    def study(self, study: StudyRecord) -> None:
        """Write what is known of a search."""
        if self._studies is None:
            folder = self._store.path / FOLDER
            self._studies = StudyRecorder(self._mlflow, folder, self._source, self._owner)
        self._studies.write(study)

    def started(self, spec: RunSpec, now: int, resumed: bool = False) -> None:
        """Take note of a run, or go on with that of the attempt whose checkpoint this one has."""
        run = self._reopened(spec, now) if resumed else None
        self._live[spec.key] = run or _Live(spec, now)

    def _reopened(self, spec: RunSpec, now: int) -> _Live | None:
        """Return the run of an attempt that was cut off, RUNNING again, if MLflow still has it.

        Not where it is known by another name since, which MLflow refuses to change.
        """
        entry = self._last.get(spec.key)
        if entry is None or entry.status in ENDED:
            return None
        known = self._mlflow.params(entry.run_id)
        named = describe.params(spec, None).items()
        if known is None or any(known.get(name, value) != value for name, value in named):
            return None
        self._mlflow.reopen(entry.run_id)
        self._mlflow.log(entry.run_id, tags=self._running(spec, spec.key) | _of(self._commit))
        sent = self._mlflow.last_step(entry.run_id, record.EVERY_EVALUATION)
        self._note(replace(entry, status=RUNNING))
        return _Live(spec, now, entry.run_id, heard=sent, sent=sent, reopened=True)

    def progressed(self, spec: RunSpec, message: Progressed, now: int) -> None:
        """Keep the points of an evaluation; those of the last step come with the result."""
        run = self._live.get(spec.key)
        if run is None or message.step >= message.steps or message.step <= run.heard:
            return
        run.steps, run.heard = message.steps, message.step
        run.points += record.live(message.values, message.step, now)

    @property
    def waits(self) -> bool:
        """Whether a live run, or points of one, wait to be written."""
        return any(run.waits for run in self._live.values())

    def flush(self) -> None:
        """Write what has waited for its time; a run where that fails is left to a later `sync`."""
        for run in list(self._live.values()):
            if run.waits and time.monotonic() - run.flushed >= FLUSH_SECONDS:
                try:
                    self._flush(run)
                except Exception:
                    self.forget(run.spec)
                    raise

    def _flush(self, run: _Live) -> None:
        if not run.run_id:
            run.run_id = self._create(run.spec, run.spec.key, run.began, self._commit)
        params = None if run.described else describe.params(run.spec, run.steps)
        self._mlflow.log(run.run_id, run.points, params)
        run.sent = max([run.sent, *(point.step for point in run.points)])
        run.sent_at = max([run.sent_at, *(point.time for point in run.points)])
        run.described = run.steps is not None  # else once more, with the number of steps
        run.points, run.flushed = [], time.monotonic()

    def finished(self, spec: RunSpec, path: Path) -> None:
        """Write what a committed run came to; all of it where its beginning was missed."""
        run = self._live.pop(spec.key, None)
        self._write(spec, spec.key, path, run)

    def abandoned(self, spec: RunSpec) -> None:
        """Close an interrupted run."""
        run = self._live.pop(spec.key, None)
        if run is not None and run.run_id:
            said = describe.note(spec, spec.key, self._source, _KILLED)
            self._kill(run.run_id, spec.key, said)

    def _kill(self, run_id: str, key: str, said: str) -> None:
        """Close a run that came to nothing, and say so where people look."""
        self._mlflow.log(run_id, tags={"harness.status": _KILLED, "mlflow.note.content": said})
        self._mlflow.end(run_id, KILLED)
        self._note(Entry(key, run_id, KILLED, self._mlflow.place))

    def forget(self, spec: RunSpec) -> None:
        """Leave a run to a later `sync`."""
        self._live.pop(spec.key, None)

    def _create(
        self,
        spec: RunSpec,
        key: str,
        began: int,
        commit: str | None,
        ended: Mapping[str, str] | None = None,
    ) -> str:
        tags = {
            **describe.tags(spec, key),
            **(ended or self._running(spec, key)),
            "harness.store": self._owner,
            **_of(commit),
        }
        run_id = self._mlflow.create(describe.run_name(spec), tags, began)
        self._fresh.add(run_id)
        self._note(Entry(key, run_id, RUNNING, self._mlflow.place))
        return run_id

    def _running(self, spec: RunSpec, key: str) -> dict[str, str]:
        said = describe.note(spec, key, self._source, "running")
        return {"harness.status": "running", "mlflow.note.content": said}

    def _write(self, spec: RunSpec, key: str, path: Path, run: _Live | None = None) -> None:
        found = record.read(path)
        previous = self._ended.get(key)
        commit = self._commit if run else None  # of a run of before, ours says nothing
        if run is not None and run.reopened and _from_scratch(found):
            note = describe.note(spec, key, self._source, _KILLED, _REFUSED)
            self._kill(run.run_id, key, note)
            run = _Live(spec, run.began)
        run = run or _Live(spec, found.began)
        points = record.points(found, self._per_class, max(run.began, run.sent_at), run.sent)
        tags = self._final_tags(spec, key, found)
        if not run.run_id:
            run.run_id = self._create(spec, key, run.began, commit, tags)
            tags = {}
        steps = found.result.get("steps", run.steps)
        params = None if run.described else describe.params(spec, steps)
        self._mlflow.log(run.run_id, points, params, tags)
        self._mlflow.dataset(
            run.run_id,
            spec.dataset_label,
            describe.dataset_digest(spec),
            describe.dataset_source(spec),
            record.schema(found.result),
            record.profile(found.result),
        )
        files = [path / name for name in record.ARTIFACTS]
        with scratch.folder() as folder:
            drawn = record.pictures(path, folder)
            present = [file for file in files if file.is_file()]
            self._mlflow.artifacts(run.run_id, [*present, *drawn])
        bad = found.status == RunStatus.DIVERGED or found.status in FAILURES
        status = FAILED if bad else FINISHED
        self._mlflow.end(run.run_id, status, max(found.ended, run.began))
        if previous is not None:  # before the note: what fails here is done by the next sync
            self._supersede(previous.run_id)
        self._note(Entry(key, run.run_id, status, self._mlflow.place, found.digest))

    def _final_tags(self, spec: RunSpec, key: str, found: record.Found) -> dict[str, str]:
        reason = found.reason.split("\n")[0][: describe.VALUE_LENGTH]
        note = describe.note(spec, key, self._source, found.status, reason)
        of = found.result.get("device", {})
        digests = found.result.get("row_digests", {})
        subset, by_class = digests.get("subset"), digests.get("subset_by_class")
        return {
            "harness.status": found.status,
            "harness.result": found.digest,
            **({"harness.device": of["name"], "harness.precision": of["precision"]} if of else {}),
            "mlflow.note.content": note,
            **({"harness.subset_digest": subset} if subset else {}),
            **({"harness.subset": by_class} if by_class else {}),
            **({"harness.error": reason} if reason else {}),
            **({"diverged": "1"} if record.diverged(found) else {}),
        }

    def _supersede(self, run_id: str) -> None:
        """Mark the run of an earlier attempt and take it out of view, so that no mean counts it.

        Where somebody deleted it, there is none to mark.

        Raises:
            UnreachableError: MLflow does not answer.
        """
        try:
            self._mlflow.log(run_id, tags={"superseded": "1"})
            self._mlflow.remove(run_id)
        except UnreachableError:
            raise
        except TrackingError:
            pass

    def _note(self, entry: Entry) -> None:
        self._ledger.add(entry)
        self._told.add(entry.run_id)
        self._last[entry.key] = entry
        if entry.status in ENDED:
            self._ended[entry.key] = entry

    def sync(self) -> Synced:
        """Write every committed run that MLflow has not seen, and close what was left RUNNING.

        Raises:
            TrackingError: MLflow cannot be written.
        """
        closed, unheard = self._close_left()
        missing = missing_of(self._store, self._ended)
        halves = _halves_of(self._store)
        if not missing:
            return Synced(closed=closed, unheard=unheard, unreadable=halves)
        there = [run for run in self._mlflow.runs() if run.key and run.status in ENDED]
        known = {(run.key, run.result): run for run in there}
        unreadable: list[str] = []
        adopted = 0
        for stored, digest in missing:
            old = known.get((stored.key, digest))
            if old is not None:
                adopted += 1
                self._supersede_others(stored.key, there, old.run_id)
                self._note(Entry(stored.key, old.run_id, old.status, self._mlflow.place, digest))
                continue
            try:
                spec = recall_run(stored.folder).spec()
                self._write(spec, stored.key, stored.path)
            except TrackingError:
                raise
            except (HarnessError, ValueError, KeyError, TypeError) as error:
                unreadable.append(str(error))
                continue
            self._supersede_others(stored.key, there)
        made = len(missing) - adopted - len(unreadable)
        if made or adopted:  # of which some may have other settings
            self._note(outdated.line(self._mlflow.place, frozenset()))
        return Synced(made, adopted, closed, unheard, (*halves, *unreadable))

    def mark_outdated(self) -> None:
        """Mark the runs of what the file asked for before, where that is not done yet.

        Raises:
            TrackingError: MLflow cannot be written.
        """
        if self._asked is None or outdated.is_told(self._last, self._asked.settings):
            return
        if self._ended:
            ours = (run for run in self._mlflow.runs() if run.key and self._is_mine(run))
            outdated.mark(self._mlflow, ours, self._asked.settings)
        self._note(outdated.line(self._mlflow.place, self._asked.settings))

    def summarize(self, check: bool = False, stopped: Callable[[], bool] = lambda: False) -> None:
        """Bring the summary of each recipe up to its runs; as `RecipeRecorder.update`.

        Raises:
            HarnessError: MLflow cannot be written, or costs or priors do not fit the classes.
        """
        if self._asked is None:
            return
        from harness.tracking.recipes import RecipeRecorder  # needs pandas

        RecipeRecorder(
            self._mlflow,
            self._store,
            self._ledger,
            self._asked,
            self._owner,
            self._is_mine,
            self._fresh,
        ).update(check, stopped)

    def _supersede_others(self, key: str, there: Sequence[Tracked], kept: str = "") -> None:
        """Take earlier runs of `key` out of view: those of `there` from this results folder."""
        for run in there:
            if run.key == key and run.run_id != kept and self._is_mine(run):
                self._supersede(run.run_id)

    def _close_left(self) -> tuple[int, int]:
        """Close runs of this results folder that no driver owns any more.

        Returns:
            How many came to nothing, and of how many only the end was not heard.
        """
        live = {run.run_id for run in self._live.values()}
        left = [
            run
            for run in self._mlflow.runs("attributes.status = 'RUNNING'")
            if run.key and run.run_id not in live and self._is_mine(run)
        ]
        ended = self._store.runs() if left else {}
        for run in left:
            self._kill(run.run_id, run.key, _MISSED if run.key in ended else _LEFT)
        # what our own file still calls RUNNING was deleted or ended by somebody else
        for entry in list(self._last.values()):
            if entry.status == RUNNING and entry.run_id not in live:
                self._note(replace(entry, status=KILLED))
        unheard = sum(run.key in ended for run in left)
        return len(left) - unheard, unheard

    def _is_mine(self, run: Tracked) -> bool:
        """Whether a run came from this results folder; a server is shared with others."""
        told = run.run_id in self._told
        return self._mlflow.address.own or run.store == self._owner or told


def _of(commit: str | None) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit} if commit else {}


def _from_scratch(found: record.Found) -> bool:
    """Whether a run has a result, and did not come to it from a checkpoint."""
    notes = found.result.get("notes", ())
    return bool(found.result) and not any(note.startswith(RESUMED) for note in notes)


def missing_of(store: Store, ended: Mapping[str, Entry]) -> list[tuple[Stored, str]]:
    """Return committed runs that `ended` does not have as they are, each with its digest."""
    committed = [(stored, record.digest(stored.folder)) for stored in store.runs().values()]
    missing = [
        (stored, digest)
        for stored, digest in committed
        if stored.key not in ended or ended[stored.key].result != digest
    ]
    return sorted(missing, key=lambda pair: pair[0].path.stat().st_mtime_ns)


def _halves_of(store: Store) -> tuple[str, ...]:
    """Return what to say of the runs that were deleted by half."""
    found: list[str] = []
    for stored in store.runs(hollow=True).values():
        if stored.hollow:
            try:
                recall_run(stored.folder)
            except HarnessError as error:
                found.append(str(error))
    return tuple(found)


def owner(address: Address) -> str:
    """Return twelve digits that tell results folders apart, without naming one."""
    text = f"{platform.node()}:{address.results}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
