"""Telling runs of what an experiment's file asks for now from those of what it asked for before.

They share their recipe's name, and whatever groups by it would average them. Settings are all but
seed and fold: what the file asks for is a set of `RunSpec.settings`, and a line of the ledger says
of which set MLflow was told last, so that nothing is looked through until it changes.
"""

import hashlib
from collections.abc import Iterable, Mapping

from harness.tracking.ledger import TOLD, Entry
from harness.tracking.mlflow import Connection, Tracked

DONE, OUTDATED = "done", "outdated"


def line(place: str, asked: frozenset[str]) -> Entry:
    """Return the line that says what MLflow was told at a place; of no settings, nothing yet."""
    text = " ".join(sorted(asked))
    return Entry("", "", TOLD, place, hashlib.sha256(text.encode()).hexdigest()[:12])


def is_told(last: Mapping[str, Entry], asked: frozenset[str]) -> bool:
    """Whether MLflow was told of these settings, by the last lines of a place."""
    entry = last.get("")
    return entry is not None and entry == line(entry.place, asked)


def mark(connection: Connection, runs: Iterable[Tracked], asked: frozenset[str]) -> None:
    """Call done runs of other settings ``outdated``, and outdated ones of these ``done``.

    Raises:
        TrackingError: MLflow cannot be written.
    """
    for run in runs:
        if not run.settings:
            continue
        was, now = (OUTDATED, DONE) if run.settings in asked else (DONE, OUTDATED)
        if run.outcome == was:
            connection.log(run.run_id, tags={"harness.status": now})
