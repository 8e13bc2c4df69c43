"""Writes searches to MLflow: one parent run per study, one nested run per trial that has ended.

A study may be written again and again: what MLflow has by our own file is passed over, so what it
missed while it was down is written the next time. Trials carry none of the tags of ordinary runs.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.errors import TrackingError, UnreachableError
from harness.metrics import key_of
from harness.tracking.describe import VALUE_LENGTH
from harness.tracking.keys import safe_name
from harness.tracking.ledger import FAILED, FINISHED, KILLED, RUNNING, Entry, Ledger
from harness.tracking.mlflow import Connection
from harness.tracking.record import Point

FOLDER = "tuning"
"""Where an experiment's folder has all that belongs to its searches."""

PARENT = "mlflow.parentRunId"

_STATUS = {"complete": FINISHED, "pruned": KILLED, "failed": FAILED, "diverged": FAILED}
"""MLflow's status for each way in which a trial ends, as in its own storage for Optuna."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial that has ended.

    Attributes:
        number: Within its study.
        state: ``complete``, ``pruned``, ``failed`` or ``diverged``.
        values: What was sampled, by path.
        metrics: Means over the tuning seeds on val, by metric.
        by_seed: The metric that is searched for, by tuning seed.
        sd: Its standard deviation over them, None where there is none.
        seconds: What its runs took, added up.
        began: In ms since the epoch.
        ended: In ms since the epoch.
        default: Whether it tried the recipe's own values.
        reason: Why it has no value, or empty.
    """

    number: int
    state: str
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    by_seed: Mapping[int, float]
    sd: float | None
    seconds: float
    began: int
    ended: int
    default: bool = False
    reason: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """A study and those of its trials that are to be written.

    Attributes:
        name: Its name in Optuna.
        dataset: As tables call it.
        model: As tables call it.
        recipe: As tables call it.
        metric: What is searched for, on val.
        state: ``running``, ``interrupted`` or ``over``.
        params: What describes the search and does not change while it goes on.
        tags: What may change: sampler and pruner.
        trials: Trials that have ended; all of them once it is no longer running.
        best: The best of them, or None.
        began: In ms since the epoch.
        artifacts: Plots and tables.
    """

    name: str
    dataset: str
    model: str
    recipe: str
    metric: str
    state: Literal["running", "interrupted", "over"]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    trials: Sequence[TrialRecord]
    best: TrialRecord | None
    began: int
    artifacts: Sequence[Path] = field(default=())

    @property
    def digest(self) -> str:
        """Twelve digits of what it came to."""
        text = json.dumps([[trial.number, trial.state] for trial in self.trials])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_written(study: StudyRecord, entries: Mapping[str, Entry]) -> bool:
    """Whether MLflow has all of a study, by the last line of each key."""
    parent = entries.get(study.name)
    ended = FINISHED if study.state == "over" else KILLED
    return (
        parent is not None
        and (parent.status, parent.result) == (ended, study.digest)
        and all(_key(study, trial) in entries for trial in study.trials)
    )


def _key(study: StudyRecord, trial: TrialRecord) -> str:
    return f"{study.name}#{trial.number}"


class StudyRecorder:
    """Writes the studies of one experiment.

    Args:
        connection: MLflow.
        folder: Where our own file of what MLflow has is kept.
        source: How a command names the experiment's file.
        owner: What tells this results folder from others.
    """

    def __init__(self, connection: Connection, folder: Path, source: str, owner: str) -> None:
        self._mlflow = connection
        self._ledger = Ledger(folder)
        self._source = source
        self._owner = owner
        self._entries = self._ledger.last(connection.place)

    def write(self, study: StudyRecord) -> None:
        """Bring MLflow up to what is known of a study.

        Raises:
            TrackingError: MLflow cannot be written.
        """
        if study.state != "running" and is_written(study, self._entries):
            return
        parent = self._parent(study)
        for trial in study.trials:
            if _key(study, trial) not in self._entries:
                self._trial(study, trial, parent)
        if study.state != "running":
            self._end(study, parent)

    def _parent(self, study: StudyRecord) -> str:
        """Return the run of a study, RUNNING; a new one where the last was finished or is gone."""
        entry = self._entries.get(study.name)
        if entry is not None and entry.status != FINISHED and self._mlflow.is_active(entry.run_id):
            if entry.status != RUNNING:
                self._mlflow.reopen(entry.run_id)
                self._note(Entry(study.name, entry.run_id, RUNNING, self._mlflow.place))
            return entry.run_id
        run_id = self._mlflow.create(
            f"tuning {study.recipe} · {study.dataset} · {study.model}",
            self._tags(study, "study") | {"mlflow.note.content": self._about(study), **study.tags},
            study.began,
        )
        shared = {"recipe": study.recipe, "dataset": study.dataset, "model": study.model}
        self._mlflow.log(run_id, params=_params({**shared, **study.params}))
        self._move_trials(study, run_id)
        self._note(Entry(study.name, run_id, RUNNING, self._mlflow.place))
        if entry is not None:  # its best values were params, which cannot change
            self._retire(entry.run_id)
        return run_id

    def _tags(self, study: StudyRecord, kind: str) -> dict[str, str]:
        return {
            "harness.kind": kind,
            "harness.study": study.name,
            "harness.recipe": study.recipe,
            "harness.dataset": study.dataset,
            "harness.store": self._owner,
        }

    def _about(self, study: StudyRecord) -> str:
        return (
            f"Search for the strength of '{study.recipe}' on {study.dataset}, {study.model}, by "
            f"{study.metric} on val. To go on with it: `harness tune {self._source}`"
        )

    def _move_trials(self, study: StudyRecord, parent: str) -> None:
        """Put the trials of a study under another run."""
        for key, entry in self._entries.items():
            if key.startswith(f"{study.name}#") and self._mlflow.is_active(entry.run_id):
                self._mlflow.log(entry.run_id, tags={PARENT: parent})

    def _retire(self, run_id: str) -> None:
        try:
            self._mlflow.log(run_id, tags={"superseded": "1"})
            self._mlflow.remove(run_id)
        except UnreachableError:
            raise
        except TrackingError:  # somebody deleted it
            pass

    def _trial(self, study: StudyRecord, trial: TrialRecord, parent: str) -> None:
        tags = self._tags(study, "trial") | {
            PARENT: parent,
            "harness.trial": str(trial.number),
            "harness.status": trial.state,
            "harness.default": str(trial.default).lower(),
            **({"harness.error": trial.reason[:VALUE_LENGTH]} if trial.reason else {}),
            **({"diverged": "1"} if trial.state == "diverged" else {}),
        }
        run_id = self._mlflow.create(f"{study.recipe} #{trial.number}", tags, trial.began)
        points = [
            *_points(_summary(study, trial), trial.ended),
            *(
                Point(f"val_by_seed/{key_of(study.metric)}", value, seed, trial.ended)
                for seed, value in trial.by_seed.items()
            ),
        ]
        params = {"recipe": study.recipe, "trial": str(trial.number)} | _texts(trial.values)
        self._mlflow.log(run_id, points, _params(params))
        status = _STATUS[trial.state]
        self._mlflow.end(run_id, status, max(trial.began, trial.ended))
        self._note(Entry(_key(study, trial), run_id, status, self._mlflow.place))

    def _end(self, study: StudyRecord, parent: str) -> None:
        """Write what the study has come to, and end its run."""
        states = [trial.state for trial in study.trials]
        counts = {f"trials/{state}": float(states.count(state)) for state in _STATUS}
        now = max([study.began, *(trial.ended for trial in study.trials)])
        seconds = {"cost/seconds": math.fsum(trial.seconds for trial in study.trials)}
        best = study.best
        summary = _summary(study, best) if best else {}
        tags: dict[str, str] = {"harness.status": study.state, **study.tags}
        params: dict[str, str] = {}
        if best is not None:
            tags["harness.best_trial"] = str(best.number)
            if study.state == "over":
                params = _texts({f"best.{path}": v for path, v in best.values.items()})
        points = _points({**counts, **seconds, **summary}, now)
        self._mlflow.log(parent, points, _params(params), tags)
        self._mlflow.artifacts(parent, list(study.artifacts))
        status = FINISHED if study.state == "over" else KILLED
        self._mlflow.end(parent, status, now)
        self._note(Entry(study.name, parent, status, self._mlflow.place, study.digest))

    def _note(self, entry: Entry) -> None:
        self._ledger.add(entry)
        self._entries[entry.key] = entry


def _summary(study: StudyRecord, trial: TrialRecord) -> dict[str, float | None]:
    return {
        **{f"val/{key_of(name)}": value for name, value in trial.metrics.items()},
        f"val_sd/{key_of(study.metric)}": trial.sd,
        "cost/trial_seconds": trial.seconds,
    }


def _points(values: Mapping[str, float | None], time: int) -> list[Point]:
    return [
        Point(key, value, 0, time)
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    ]


def _texts(values: Mapping[str, float]) -> dict[str, str]:
    return {path: repr(value) for path, value in values.items()}


def _params(values: Mapping[str, str]) -> dict[str, str]:
    return {safe_name(key): value[:VALUE_LENGTH] for key, value in values.items()}
