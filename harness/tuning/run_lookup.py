"""Runs that are done, by key: what a trial asks for is looked up here before it is run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.deciding import Setting, on_val
from harness.analysis.rescored import rescored
from harness.execution.store import Store
from harness.experiment.tune import Tuning
from harness.metrics import metric_of
from harness.tracking.studies import FOLDER
from harness.training.run_result import DamagedRunError, read_run
from harness.training.run_status import FAILURES, RunStatus


def trial_store(results: Path, experiment: str) -> Store:
    """Return the store of the runs of trials, apart from the ordinary ones."""
    return Store(results, f"{experiment}/{FOLDER}")


@dataclass(frozen=True)
class Scored:
    """What a search may know of a committed run: nothing of test.

    Attributes:
        status: ``done``, ``diverged``, ``stopped``, ``failed`` or ``damaged``.
        val: Its metrics on val.
        seconds: What it cost.
        reason: Why it is not done, or has no value under the rule; or empty.
    """

    status: str
    val: Mapping[str, float | None]
    seconds: float
    reason: str = ""


class RunLookup:
    """The committed runs of an experiment, those of its trials first.

    Args:
        trials: Where runs of trials are committed.
        ordinary: Where all others are.
        metric: Label of what the search goes by: of a run that was done when another was asked for,
            it is computed from its stored predictions of val.
        tuning: Says under which decision rule it is taken, if not argmax.

    Attributes:
        damaged: By key, what is wrong with runs that were looked up and are not as written.
    """

    def __init__(
        self, trials: Store, ordinary: Store, metric: str = "", tuning: Tuning | None = None
    ) -> None:
        self._trials = trials
        self._metric = metric
        self._setting: Setting | None = None
        if tuning is not None and tuning.rule is not None:
            self._setting = Setting(metric_of(metric), (tuning.rule,), tuning.deploy)
        self._paths = {
            stored.key: stored.path
            for store in (ordinary, trials)
            for stored in store.runs(hollow=True).values()
        }
        self._read: dict[str, Scored] = {}
        self.damaged: dict[str, str] = {}

    def add(self, key: str, path: Path) -> Scored:
        """Note a run that was committed now, and return it."""
        self._paths[key] = path
        self._read[key] = self._scored(key, path)
        return self._read[key]

    def find(self, key: str) -> Scored | None:
        """Return a committed run, or None."""
        if key not in self._read and key in self._paths:
            self._read[key] = self._scored(key, self._paths[key])
        return self._read.get(key)

    def _scored(self, key: str, path: Path) -> Scored:
        try:
            return scored(path, self._metric, self._setting)
        except DamagedRunError as error:
            self.damaged[key] = f"{path} is damaged: {error.what}"
            return Scored(RunStatus.DAMAGED, {}, 0.0, error.what)

    def clear(self, key: str) -> None:
        """Make room for another attempt at a run of a trial that is not done."""
        self._read.pop(key, None)
        path = self._paths.pop(key, None)
        if path is not None and path.parent == self._trials.path:
            self._trials.discard(path)


def scored(path: Path, metric: str = "", setting: Setting | None = None) -> Scored:
    """Return a committed run as a search sees it, with a metric that its result may not hold.

    Args:
        path: Its folder.
        metric: Label of what the search goes by.
        setting: The one rule under which the metric is taken; None: argmax.

    Raises:
        DamagedRunError: It is not as it was written.
    """
    run = read_run(path)
    if run.status in FAILURES:
        return Scored(RunStatus.FAILED, {}, 0.0, run.reason)
    values = run.values
    val = values["metrics"].get("val", {})
    unfitted = ""
    if setting is not None and run.status == RunStatus.DONE and val:
        under, unfitted = on_val(path, setting)
        val = {**val, metric: under}
    elif metric and run.status == RunStatus.DONE and val and metric not in val:
        found, _ = rescored(str(path), [metric], values, ("val",))
        value = found.get(f"val_{metric}", math.nan)
        val = {**val, metric: None if math.isnan(value) else value}
    why = run.reason if run.status == RunStatus.DIVERGED else unfitted
    return Scored(run.status, val, values["cost"]["seconds"], why)
