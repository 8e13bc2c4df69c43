"""The one run of an experiment in MLflow that holds what is said of all others: its report.

A flat run beside the rest, found again by a tag and replaced when the report is written anew. It
has no key, so that whatever mirrors runs leaves it alone.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.execution.store import Store
from harness.experiment.schema import Experiment
from harness.tracking.address import DATABASE, Address, resolve
from harness.tracking.ledger import FINISHED
from harness.tracking.mlflow import Connection
from harness.tracking.recorder import owner
from harness.tracking.views import views

NAME = "report"
_PART = {"harness.part": "report"}
NOTE = 6000
"""Longest note that is shown well."""


def attach(
    results: Path,
    experiment: Experiment,
    files: Mapping[str, Sequence[Path]],
    note: str | None = None,
) -> None:
    """Attach files to the summary run of an experiment, making run and experiment if need be.

    Args:
        results: The results folder.
        experiment: Whose summary it is.
        files: What to attach, by folder within the run's artifacts (empty for the top).
        note: Markdown for the run's and the experiment's page, or None to leave it.

    Raises:
        TrackingError: MLflow cannot be written.
        StoreError: Another driver is making the database at this moment.
    """
    address = resolve(results, experiment.tracking.uri)
    store = Store(results, experiment.name)
    if address.own and not (address.results / DATABASE).is_file():
        with store.locked():  # MLflow's migrations race where two processes open a new database
            _attach(address, experiment, files, note)
    else:
        _attach(address, experiment, files, note)


def _attach(
    address: Address,
    experiment: Experiment,
    files: Mapping[str, Sequence[Path]],
    note: str | None,
) -> None:
    connection = Connection(address, experiment.name)
    connection.describe(views(experiment.metric, list(experiment.factors)))
    mine = owner(address)
    where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in _PART.items())
    found = [run for run in connection.runs(where) if address.own or run.store == mine]
    if found:
        run_id = found[0].run_id
    else:
        now = round(1000 * time.time())
        run_id = connection.create(NAME, {**_PART, "harness.store": mine}, now)
        connection.end(run_id, FINISHED, now)
    for folder, paths in files.items():
        connection.artifacts(run_id, paths, folder)
    if note is not None:
        connection.log(run_id, tags={"mlflow.note.content": note[:NOTE]})
        connection.describe({"mlflow.note.content": note[:NOTE]})
