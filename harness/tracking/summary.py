"""The one run of an experiment in MLflow that holds what is said of all others: its report.

A flat run beside the rest, found again by a tag and replaced when the report is written anew. It
has no key, so that whatever mirrors runs leaves it alone.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from harness.errors import TrackingError
from harness.experiment.schema import Experiment
from harness.tracking.address import resolve
from harness.tracking.ledger import FINISHED
from harness.tracking.mlflow import Connection
from harness.tracking.recorder import owner
from harness.tracking.views import views_of

NAME = "report"
NOTE = 6000
"""Longest note that is shown well."""

_PART = ("harness.part", "report")
_END_SECONDS = 10.0

Files = Mapping[str, Sequence[Path]]
"""What to attach, by folder within the run's artifacts (empty for the top)."""

Attach = Callable[[Files, str | None], None]


@dataclass(frozen=True)
class Target:
    """Whose summary it is, in plain values that another process understands.

    Attributes:
        results: The results folder.
        name: Of the experiment.
        uri: Where the experiment file says to record, or None.
        views: Tags of the experiment that hold its views.
    """

    results: Path
    name: str
    uri: str | None
    views: Mapping[str, str]

    @classmethod
    def of(cls, experiment: Experiment, results: Path) -> "Target":
        """Return the target of an experiment."""
        uri = experiment.tracking.uri
        return cls(results.absolute(), experiment.name, uri, views_of(experiment))


def attach(target: Target, files: Files, note: str | None = None) -> None:
    """Attach files to the summary run of an experiment, making run and experiment if need be.

    Args:
        target: Whose summary.
        files: What to attach.
        note: Markdown for the run's and the experiment's page, or None to leave it.

    Raises:
        TrackingError: MLflow cannot be written.
    """
    _attach(target, _connect(target), files, note)


def _connect(target: Target) -> Connection:
    connection = Connection(resolve(target.results, target.uri), target.name)
    connection.describe(target.views)
    return connection


def _attach(target: Target, connection: Connection, files: Files, note: str | None) -> None:
    mine = owner(connection.address)
    own = connection.address.own
    tag, part = _PART
    found = [run for run in connection.runs(f"tags.`{tag}` = '{part}'") if own or run.store == mine]
    if found:
        run_id = found[0].run_id
    else:
        now = round(1000 * time.time())
        run_id = connection.create(NAME, {tag: part, "harness.store": mine}, now)
        connection.end(run_id, FINISHED, now)
    for folder, paths in files.items():
        connection.artifacts(run_id, paths, folder)
    if note is not None:
        described = {"mlflow.note.content": note[:NOTE]}
        connection.log(run_id, tags=described)
        connection.describe(described)


@contextlib.contextmanager
def ahead(target: Target) -> Iterator[Attach]:
    """Connect in a process of its own while something else is done, and yield `attach`.

    MLflow takes as long to import as a report takes to make; on two cores it costs nothing so.
    What is yielded may be called once, and raises `TrackingError` as `attach` does.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, target), daemon=True)
    process.start()
    theirs.close()

    def attach_there(files: Files, note: str | None) -> None:
        with contextlib.suppress(OSError):  # it has ended already, and says why
            ours.send((files, note))
        try:
            message = ours.recv()
        except EOFError:
            message = "the process that writes to MLflow was ended"
        if message:
            raise TrackingError(message)

    try:
        yield attach_there
    finally:
        ours.close()
        process.join(_END_SECONDS)
        process.kill()
        process.join()


def _serve(pipe: Pipe, target: Target) -> None:
    """Connect, wait for what to attach, attach it, and answer with what went wrong."""
    try:
        connection = _connect(target)
        files, note = pipe.recv()
        _attach(target, connection, files, note)
        pipe.send("")
    except TrackingError as error:
        with contextlib.suppress(OSError):
            pipe.send(str(error))
    except (EOFError, KeyboardInterrupt):  # nothing is to be attached after all
        return
