"""What a study has come to, in plain values: for tables, for `tuned.json`, for MLflow."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.execution.search_results import SearchResult, Value
from harness.metrics import COUNTS
from harness.tracking import studies
from harness.training.run_status import RunStatus
from harness.tuning.run_lookup import RunLookup, Scored
from harness.tuning.study import (
    DEFAULT,
    DIVERGED,
    FAILED,
    TuningStudy,
    best_of,
    retried,
    state_of,
    value_of,
    values_of,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def result_of(studied: TuningStudy, lookup: RunLookup) -> SearchResult:
    """Return what a study has come to so far."""
    search = studied.search
    records = records_of(studied, lookup)
    again = retried(studied.study.get_trials(deepcopy=False))
    states = [record.state for record in records if record.number not in again]
    best = best_record(studied, records)
    own = [record for record in records if record.default and record.state == "complete"]
    dataset, model, recipe = search.group
    keys = {key for trial in studied.ended() for key in studied.keys(trial)}
    return SearchResult(
        study=search.name,
        dataset=dataset,
        model=model,
        recipe=recipe,
        best=_value(best, search.metric) if best else None,
        default=_value(own[-1], search.metric) if own else None,
        values=dict(best.values) if best else {},
        held=dict(search.space.fixed),
        states={state: states.count(state) for state in ("complete", "pruned", FAILED, DIVERGED)},
        runs=sum(_found(lookup, key) is not None for key in keys),
        seconds=math.fsum(record.seconds for record in records),
        own=dict(search.space.own),
    )


def _value(record: studies.TrialRecord, metric: str) -> Value:
    return Value(record.number, record.metrics[metric], record.sd)


def best_record(
    studied: TuningStudy, records: Sequence[studies.TrialRecord]
) -> studies.TrialRecord | None:
    """Return the record of the best trial, or None."""
    best = best_of(studied.study.get_trials(deepcopy=False), studied.search.higher)
    return next((r for r in records if best is not None and r.number == best.number), None)


def study_record(
    studied: TuningStudy,
    lookup: RunLookup,
    state: Literal["running", "interrupted", "over"],
    records: Sequence[studies.TrialRecord] | None = None,
    artifacts: Sequence[Path] = (),
) -> studies.StudyRecord:
    """Return a study for MLflow.

    Args:
        studied: The study.
        lookup: Where its runs are.
        state: As in `studies.StudyRecord`.
        records: Trials that are to be written; by default all that have ended.
        artifacts: Plots and tables.
    """
    search = studied.search
    dataset, model, recipe = search.group
    written = records_of(studied, lookup) if records is None else records
    return studies.StudyRecord(
        name=search.name,
        dataset=dataset,
        model=model,
        recipe=recipe,
        metric=search.metric,
        state=state,
        params={
            "metric": search.metric,
            "tuning.seeds": json.dumps(list(search.tuning.seeds)),
            **{f"space.{one.path}": str(one).partition(" ")[2] for one in search.space.dimensions},
            **{f"held.{path}": repr(value) for path, value in search.space.fixed},
        },
        tags={
            "harness.sampler": search.tuning.sampler,
            "harness.pruner": search.tuning.pruner,
        },
        trials=written,
        best=best_record(studied, written) if records is None else None,
        began=min((record.began for record in written), default=round(time.time() * 1000)),
        artifacts=artifacts,
    )


def records_of(studied: TuningStudy, lookup: RunLookup) -> list[studies.TrialRecord]:
    """Return every trial that has ended; a run that several asked for costs the first of them."""
    paid: set[str] = set()
    return [record_of(studied, trial, lookup, paid) for trial in studied.ended()]


def record_of(
    studied: TuningStudy, trial: "FrozenTrial", lookup: RunLookup, paid: set[str]
) -> studies.TrialRecord:
    """Return one trial that has ended.

    Args:
        studied: Its study.
        trial: The trial.
        lookup: Where its runs are.
        paid: Keys of runs whose cost was counted; those of this one are added.
    """
    attributes = trial.user_attrs
    keys = studied.keys(trial)
    runs = [run for key in keys if (run := _found(lookup, key)) is not None]
    new = [run for key in keys if key not in paid and (run := _found(lookup, key)) is not None]
    paid |= set(keys)
    metrics = _means(runs)
    values = values_of(trial)
    if (value := value_of(trial)) is not None:
        metrics[studied.search.metric] = value
    return studies.TrialRecord(
        number=trial.number,
        state=state_of(trial),
        values=values,
        metrics=metrics,
        by_seed={int(seed): value for seed, value in attributes.get("by_seed", {}).items()},
        sd=attributes.get("sd"),
        seconds=math.fsum(run.seconds for run in new),
        began=_ms(trial.datetime_start),
        ended=_ms(trial.datetime_complete),
        default=DEFAULT in attributes and _is_own(values, studied),
        reason=str(attributes.get("reason", "")),
    )


def _is_own(values: Mapping[str, float], studied: TuningStudy) -> bool:
    """Whether values are the recipe's own: in studies of before, perhaps the nearest allowed."""
    space = studied.search.space
    own, held = dict(space.own), dict(space.fixed)
    return {**held, **values} == own


def _found(lookup: RunLookup, key: str) -> Scored | None:
    """Return a run that a trial asked for, or None where somebody has deleted it since."""
    run = lookup.find(key)
    return None if run is None or run.status == RunStatus.DAMAGED else run


def _means(runs: Sequence[Scored]) -> dict[str, float]:
    """Return the mean of each metric on val that every run has."""
    done = [run for run in runs if run.status == "done"]
    means = {}
    for name in dict.fromkeys(name for run in done for name in run.val if name not in COUNTS):
        values = [value for run in done if (value := run.val.get(name)) is not None]
        if values and len(values) == len(done):
            means[name] = math.fsum(values) / len(values)
    return means


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else round(moment.timestamp() * 1000)
