"""The tidy table of committed runs: one row per run, read from the results folder.

Nothing is aggregated here, and no run is lost: what cannot be read is a row that says why.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.rescored import STORED, known, labels_of, rescored, wanted
from harness.errors import StoreError, did_you_mean, listing
from harness.execution.store import Store, Stored
from harness.experiment.spec import RunSpec
from harness.metrics import Metric, metric_of
from harness.training.run_result import AGAIN, DamagedRunError, RunResult, read_run, recall_run
from harness.training.run_status import FAILURES, RunStatus

GROUP = ["dataset", "reference", "model", "recipe"]
PANEL = GROUP[:3]
"""What is compared within: recipes of one dataset and model, the balanced reference apart."""

BLOCK = ["seed", "fold"]
"""What pairs runs of different recipes."""

DONE = RunStatus.DONE.value
FACTOR = "factor."

_FIRST = ["key", *GROUP, *BLOCK, "folds", "status", "reason", "path", "seconds", "device", "notes"]


def runs_table(
    store: Store, specs: Iterable[RunSpec], metrics: Iterable[str | Metric] = ()
) -> pd.DataFrame:
    """Return one row per committed run among `specs`.

    Columns: ``key, dataset, reference, model, recipe, seed, fold, folds, status, reason, path,
    seconds, device, notes``, one ``factor.<name>`` per factor, and ``val_<metric>`` and
    ``test_<metric>`` of each summary metric (missing where it is undefined or the run is not
    done). ``status`` is ``done``, ``diverged``, ``stopped``, ``failed`` or ``damaged``, and
    ``reason`` says why it is not done. Without folds ``fold`` is -1 and ``folds`` 0.

    Args:
        store: Where the runs are.
        specs: Which ones.
        metrics: What to compute from stored predictions besides what the specs name.
    """
    stored, asked = store.runs(hollow=True), labels_of(metrics)
    rows = [_row(spec, stored[spec.key], asked) for spec in specs if spec.key in stored]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=_FIRST)


def _row(spec: RunSpec, stored: Stored, asked: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": spec.key,
        "dataset": spec.dataset_label,
        "reference": spec.reference,
        "model": spec.model.label(),
        "recipe": spec.recipe,
        "seed": spec.seed,
        "fold": -1 if spec.fold is None else spec.fold,
        "folds": spec.folds or 0,
        "status": RunStatus.FAILED.value,
        "reason": "",
        "path": stored.folder,
        "seconds": np.nan,
        "device": "",
        "notes": (),
        **{f"{FACTOR}{factor}": level for factor, level in spec.levels},
    }
    try:
        run = read_run(stored.folder)
        return row | _outcome(run, known([*asked, spec.metric, *spec.metrics]))
    except DamagedRunError as error:
        row["status"], row["reason"] = RunStatus.DAMAGED.value, f"{error.what}; {AGAIN}"
        return row


def _outcome(run: RunResult, asked: list[str]) -> dict[str, Any]:
    """Return what of a row a run's own files tell."""
    if run.status in FAILURES:
        return {"status": run.status.value, "reason": run.reason}
    values = run.values
    device = values.get("device")
    computed: dict[str, float] = {}
    remarks = list(values.get("notes", ()))
    if run.status == RunStatus.DONE:
        names = values.get("class_names", ())
        if missing := wanted(asked, values["metrics"]["test"], len(names)):
            computed, more = _rescored(run.folder, missing, values)
            remarks += [text for text in more if text not in remarks]
    return {
        "status": run.status.value,
        "reason": run.reason,
        "seconds": values["cost"]["seconds"],
        "notes": tuple(remarks),
        "device": f"{device['name']} ({device['precision']})" if device else "",
        **{
            f"{split}_{name}": np.nan if value is None else value
            for split, found in values["metrics"].items()
            for name, value in found.items()
            if name in STORED
        },
        **computed,
    }


def _rescored(
    folder: str, labels: list[str], result: Mapping[str, Any]
) -> tuple[dict[str, float], list[str]]:
    """Return metrics from stored predictions; without them a run keeps what its result says."""
    try:
        return rescored(folder, labels, result)
    except (StoreError, KeyError) as error:
        return {}, [f"{listing(labels)} not computed: {error}"]


def load_results(path: str | Path, metrics: Iterable[str | Metric] = ()) -> pd.DataFrame:
    """Return one row per committed run of one experiment's results folder.

    The same columns as `runs_table`, from what the runs themselves recorded: neither the
    experiment file nor the data is needed. Runs of an older version of the file, with other
    settings, are there too: ``key`` tells them apart.

    Args:
        path: Such as ``results/quickstart``.
        metrics: Further ones, computed from stored predictions: labels or metrics.

    Raises:
        ConfigError: There is no such metric.
        StoreError: There is no such folder, or no run in it.
    """
    for label in (asked := labels_of(metrics)):
        metric_of(label)
    folder = Path(path).expanduser().absolute()
    store = Store(folder.parent, folder.name)
    if not store.runs():
        raise StoreError(_no_runs(folder))
    specs, unreadable = stored_specs(store)
    if unreadable:
        warnings.warn(f"left out: {listing(unreadable, 5)}", stacklevel=2)
    return runs_table(store, specs, asked)


def measured(runs: pd.DataFrame) -> list[str]:
    """Return the labels of the metrics of test that a table of runs has."""
    return [str(name)[5:] for name in runs.columns if str(name).startswith("test_")]


def damaged_runs(runs: pd.DataFrame) -> list[str]:
    """Return in words which runs of a table are not as they were written."""
    bad = runs[runs["status"] == RunStatus.DAMAGED]
    return [f"{row.path} is damaged: {row.reason}" for row in bad.itertuples()]


def _no_runs(folder: Path) -> str:
    if not folder.is_dir():
        near = [child.name for child in folder.parent.glob("*") if child.is_dir()]
        return f"there is no folder {folder}{did_you_mean(folder.name, near)}"
    inner = sorted(
        child.name
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".") and Store(folder, child.name).runs()
    )
    there = f"; give one of its experiments: {listing(inner)}" if inner else ""
    return f"no committed run in {folder}{there}"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain mappings."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def stored_specs(store: Store) -> tuple[list[RunSpec], list[str]]:
    """Return the spec of each committed run, by seed, and what could not be read, in words."""
    specs: list[RunSpec] = []
    unreadable: list[str] = []
    for stored in store.runs(hollow=True).values():
        try:
            specs.append(recall_run(stored.folder).spec())
        except StoreError as error:  # also of a plugin that is gone
            unreadable.append(str(error).split("\n")[0])
    return sorted(specs, key=lambda spec: (spec.seed, spec.fold or 0)), unreadable
