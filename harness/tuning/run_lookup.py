"""Runs that are done, by key: what a trial asks for is looked up here before it is run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.rescored import rescored
from harness.errors import StoreError
from harness.execution.runner import failure
from harness.execution.store import Store, read_json
from harness.tracking.studies import FOLDER


def trial_store(results: Path, experiment: str) -> Store:
    """Return the store of the runs of trials, apart from the ordinary ones."""
    return Store(results, f"{experiment}/{FOLDER}")


@dataclass(frozen=True)
class Scored:
    """What a search may know of a committed run: nothing of test.

    Attributes:
        status: ``done``, ``diverged``, ``stopped`` or ``failed``.
        val: Its metrics on val.
        seconds: What it cost.
        reason: Why it is not done, or empty.
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
    """

    def __init__(self, trials: Store, ordinary: Store, metric: str = "") -> None:
        self._trials = trials
        self._metric = metric
        self._paths = {
            stored.key: stored.path
            for store in (ordinary, trials)
            for stored in store.runs().values()
        }
        self._read: dict[str, Scored] = {}

    def add(self, key: str, path: Path) -> Scored:
        """Note a run that was committed now, and return it.

        Raises:
            StoreError: It is damaged.
        """
        self._paths[key] = path
        self._read[key] = scored(path, self._metric)
        return self._read[key]

    def find(self, key: str) -> Scored | None:
        """Return a committed run, or None.

        Raises:
            StoreError: It is damaged.
        """
        if key not in self._read and key in self._paths:
            self._read[key] = scored(self._paths[key], self._metric)
        return self._read.get(key)

    def clear(self, key: str) -> None:
        """Make room for another attempt at a run of a trial that is not done."""
        self._read.pop(key, None)
        path = self._paths.pop(key, None)
        if path is not None and path.parent == self._trials.path:
            self._trials.discard(path)


def scored(path: Path, metric: str = "") -> Scored:
    """Return a committed run as a search sees it, with a metric that its result may not hold.

    Raises:
        StoreError: It is damaged.
    """
    if not (path / "result.json").exists():
        return Scored("failed", {}, 0.0, failure(path))
    result = read_json(path / "result.json")
    try:
        status, seconds = str(result["status"]), float(result["cost"]["seconds"])
        val = result["metrics"].get("val", {})
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error!r}); delete it and tune again") from None
    if metric and status == "done" and val and metric not in val:
        found, _ = rescored(str(path), [metric], result, ("val",))
        value = found.get(f"val_{metric}", math.nan)
        val = {**val, metric: None if math.isnan(value) else value}
    why = "" if status in ("done", "stopped") else failure(path)
    return Scored(status, val, seconds, why)
