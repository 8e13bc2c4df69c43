"""The tidy table of committed runs: one row per run, read from the results folder.

Nothing is aggregated here, and no run is lost: what cannot be read is a row that says why.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from harness.analysis.rescored import STORED, known, labels_of, rescored, wanted
from harness.errors import HarnessError, StoreError, did_you_mean, listing
from harness.execution.runner import failure, status_of
from harness.execution.store import Store, Stored, read_json
from harness.experiment.spec import RunSpec
from harness.metrics import Metric, metric_of
from harness.training.rundir import SCHEMA

GROUP = ["dataset", "reference", "model", "recipe"]
PANEL = GROUP[:3]
"""What is compared within: recipes of one dataset and model, the balanced reference apart."""

BLOCK = ["seed", "fold"]
"""What pairs runs of different recipes."""

DONE = "done"
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
    stored, asked = store.runs(), labels_of(metrics)
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
        "status": "failed",
        "reason": "",
        "path": stored.folder,
        "seconds": np.nan,
        "device": "",
        "notes": (),
        **{f"{FACTOR}{factor}": level for factor, level in spec.levels},
    }
    if stored.failed:
        row["status"], row["reason"] = status_of(stored.path), failure(stored.path)
        return row
    try:
        return row | _result(stored.folder, known([*asked, spec.metric, *spec.metrics]))
    except (StoreError, KeyError, TypeError, AttributeError) as error:
        said = f"{error}" if isinstance(error, StoreError) else f"result.json lacks {error}"
        row["status"], row["reason"] = "damaged", f"{said}; delete {stored.folder} and run again"
        return row


def _result(folder: str, asked: list[str]) -> dict[str, Any]:
    result = read_json(f"{folder}/result.json")
    if result.get("schema", SCHEMA) != SCHEMA:
        raise StoreError(
            f"result.json is of schema {result['schema']}, and this version reads {SCHEMA}"
        )
    metrics: Mapping[str, Mapping[str, float | None]] = result["metrics"]
    status = str(result["status"])
    if status == DONE and "test" not in metrics:
        raise StoreError("result.json has no metrics of test")
    computed: dict[str, float] = {}
    remarks = list(result["notes"])
    if status == DONE:
        missing = wanted(asked, metrics["test"], len(result.get("class_names", ())))
        if missing:
            computed, more = _rescored(folder, missing, result)
            remarks += [text for text in more if text not in remarks]
    return {
        "status": status,
        "reason": "" if status == DONE else failure(Path(folder)),
        "seconds": result["cost"]["seconds"],
        "notes": tuple(remarks),
        "device": f"{result['device']['name']} ({result['device']['precision']})",
        **{
            f"{split}_{name}": np.nan if value is None else value
            for split, values in metrics.items()
            for name, value in values.items()
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
    for stored in store.runs().values():
        try:
            specs.append(RunSpec.from_json(read_json(stored.path / "spec.json")))
        except (HarnessError, ValidationError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).split("\n")[0]  # of a plugin that is gone, or a half-deleted run
            unreadable.append(f"{stored.path.name}: {reason}")
    return sorted(specs, key=lambda spec: (spec.seed, spec.fold or 0)), unreadable
