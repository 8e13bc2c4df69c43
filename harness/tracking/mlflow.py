"""One connection to MLflow: the only module that imports its library, and lazily (1–2 s).

The driver makes one before anything else starts, because MLflow's migrations race when several
processes open a fresh database. Every error comes out as a `TrackingError` without credentials.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import TrackingError
from harness.text import storable
from harness.tracking.address import DATABASE, Address, sqlite
from harness.tracking.record import Point

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # with MLflow's own 7 retries of 120 s, each call to a dead server takes minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_PAGE = 1000

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Has the UI open the runs table, and not its pages for language models."""


class UnreachableError(TrackingError):
    """The server or database does not answer now; it may later."""


_TAGS = ("key", "result", "store", "settings", "status")


@dataclass(frozen=True)
class Tracked:
    """A run as MLflow has it; fields of other people's runs are empty."""

    run_id: str
    status: str
    key: str
    result: str
    store: str
    settings: str
    outcome: str


class Connection:
    """An MLflow experiment, made if need be.

    Args:
        address: The tracking store.
        experiment: Name of the experiment.

    Raises:
        UnreachableError: Nobody answers there.
        TrackingError: The database has another schema, or the experiment was deleted.
    """

    def __init__(self, address: Address, experiment: str) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.address = address
        self._artifact_uris: dict[str, str] = {}
        with _told(address):
            if address.own:
                _make_database(address.results)
            if address.is_database:
                _check_database(address)
            self._client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
            found = self._experiment(experiment)
        self._id = str(found.experiment_id)
        self.place = f"{address.fingerprint}/{self._id}-{found.creation_time}"
        self.keeps_artifacts = not address.is_database or _is_here(address, found)

    def _experiment(self, name: str) -> Any:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None
            if self.address.is_database:  # MLflow's own choice would lie in the current folder
                location = str(self.address.results / "mlartifacts" / name)
            found = self._make(name, location)
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow experiment '{name}' at {self.address.shown} was deleted, and MLflow keeps "
                f"the name; give this experiment another name, or restore the old one: "
                f"MLFLOW_TRACKING_URI='{self.address.shown}' "
                f"mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        return found

    def _make(self, name: str, location: str | None) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException:  # or another driver has just made it, on a server of many
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found
        return self._client.get_experiment_by_name(name)

    def create(self, name: str, tags: Mapping[str, str], began: int) -> str:
        """Create a run, RUNNING since `began` (ms since the epoch), and return its id."""
        with _told(self.address):
            run = self._client.create_run(
                self._id, start_time=began, tags=_stored(tags), run_name=storable(name)
            )
        run_id = str(run.info.run_id)
        self._artifact_uris[run_id] = str(run.info.artifact_uri)
        return run_id

    def log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run, in one request where MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        with _told(self.address):
            self._client.log_batch(
                run_id,
                metrics=[Metric(p.key, p.value, p.time, p.step) for p in points],
                params=[Param(key, value) for key, value in _stored(params or {}).items()],
                tags=[RunTag(key, value) for key, value in _stored(tags or {}).items()],
            )

    def dataset(self, run_id: str, name: str, digest: str, profile: str | None) -> None:
        """Log the training set: what it is called and a digest, neither data nor paths."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = Dataset(storable(name)[:500], digest, "code", '{"tags": {}}', None, profile)
        with _told(self.address):
            self._client.log_inputs(
                run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "train")])]
            )

    def artifacts(self, run_id: str, files: Sequence[Path], folder: str = "") -> None:
        """Copy files to a run, into a folder of its artifacts; what has their names gives way."""
        if not self.keeps_artifacts or not files:
            return
        with _told(self.address):
            log = self._logs_artifacts(run_id)
            for file in files:
                log(str(file), folder or None)

    def _logs_artifacts(self, run_id: str) -> Callable[[str, str | None], None]:
        uri = self._artifact_uris.get(run_id)
        if uri is None or not self.address.is_database:
            return partial(self._client.log_artifact, run_id)
        # what the client comes to, which would first read all that MLflow has of the run
        from mlflow.store.artifact import artifact_repository_registry as registry

        repository = registry.get_artifact_repository(uri, tracking_uri=self.address.uri)
        log: Callable[[str, str | None], None] = repository.log_artifact
        return log

    def describe(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment that it does not have yet, or has otherwise."""
        with _told(self.address):
            known = self._client.get_experiment(self._id).tags
            for name, value in _stored(tags).items():
                if known.get(name) != value:
                    self._client.set_experiment_tag(self._id, name, value)

    def end(self, run_id: str, status: str, ended: int | None = None) -> None:
        """Set a run's final status, at `ended` (ms since the epoch) or now."""
        with _told(self.address):
            self._client.set_terminated(run_id, status, ended)

    def reopen(self, run_id: str) -> None:
        """Set an ended run RUNNING again."""
        with _told(self.address):
            self._client.update_run(run_id, status="RUNNING")

    def last_step(self, run_id: str, key: str) -> int:
        """Return the last step at which a run has a metric, or 0."""
        with _told(self.address):
            points = self._client.get_metric_history(run_id, key)
        return max((int(point.step) for point in points), default=0)

    def is_active(self, run_id: str) -> bool:
        """Whether a run is there and was not deleted.

        Raises:
            UnreachableError: MLflow does not answer.
        """
        return self.params(run_id) is not None

    def params(self, run_id: str) -> dict[str, str] | None:
        """Return the parameters of a run, or None where it is not there or was deleted.

        Raises:
            UnreachableError: MLflow does not answer.
        """
        try:
            with _told(self.address):
                run = self._client.get_run(run_id)
        except UnreachableError:
            raise
        except TrackingError:
            return None
        return dict(run.data.params) if run.info.lifecycle_stage == "active" else None

    def remove(self, run_id: str) -> None:
        """Take a run out of view; MLflow's "deleted" runs still have it, and can restore it."""
        with _told(self.address):
            self._client.delete_run(run_id)

    def runs(self, where: str = "") -> Iterator[Tracked]:
        """Yield the runs of the experiment that were not deleted, by MLflow's filter `where`."""
        token: str | None = None
        while True:
            with _told(self.address):
                page = self._client.search_runs(
                    [self._id], filter_string=where, max_results=_PAGE, page_token=token
                )
            for run in page:
                named = run.data.tags
                yield Tracked(
                    str(run.info.run_id),
                    str(run.info.status),
                    *(named.get(f"harness.{tag}", "") for tag in _TAGS),
                )
            token = page.token
            if not token:
                return


def _stored(values: Mapping[str, str]) -> dict[str, str]:
    return {storable(key): storable(value) for key, value in values.items()}


def _is_here(address: Address, experiment: Any) -> bool:
    """Whether artifacts would land where they can be found, or the results folder has moved."""
    location = Path(str(experiment.artifact_location).removeprefix("file://"))
    return not address.own or location.is_relative_to(address.results)


def _make_database(results: Path) -> None:
    """Have MLflow make the database of a results folder beside its place, where there is none.

    It takes seconds and many transactions: ended in the middle, it would be neither new nor whole.
    """
    place = results / DATABASE
    if place.exists():
        return
    from mlflow import MlflowClient

    results.mkdir(parents=True, exist_ok=True)
    made = results / f".{DATABASE}.new"
    for left in results.glob(f"{made.name}*"):
        left.unlink()
    client = MlflowClient(tracking_uri=sqlite(made))
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()  # or Windows would not rename it
    made.rename(place)


def _check_database(address: Address) -> None:
    """Try a database before MLflow does, which retries for minutes and upgrades unasked."""
    import sqlalchemy
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    try:
        engine = sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            versions = list(_versions(sqlalchemy, connection))
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"{address.shown}: the driver '{error.name}' of this database is not installed"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        remote = isinstance(error, sqlalchemy.exc.OperationalError) and not address.is_file
        kind = UnreachableError if remote else TrackingError
        text = address.masked(str(getattr(error, "orig", error)))
        raise kind(f"{address.shown} cannot be opened: {text}") from None
    scripts = ScriptDirectory(str(Path(utils.__file__).parents[1] / "db_migrations"))
    if versions and versions != list(scripts.get_heads()):
        raise TrackingError(_other_schema(address, versions, scripts))


def _versions(sqlalchemy: Any, connection: Any) -> list[str]:
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return []
    query = sqlalchemy.text("SELECT version_num FROM alembic_version")
    return [str(version) for version in connection.execute(query).scalars()]


def _other_schema(address: Address, versions: Sequence[str], scripts: Any) -> str:
    known = {script.revision for script in scripts.walk_revisions()}
    if set(versions) <= known:
        return (
            f"{address.shown} was made by an older MLflow; make a copy of it, then upgrade it: "
            f"mlflow db upgrade '{address.shown}'"
        )
    return f"{address.shown} was made by a newer MLflow; upgrade MLflow here to open it"


@contextlib.contextmanager
def _told(address: Address) -> Iterator[None]:
    """Turn what MLflow raises into a `TrackingError` without credentials."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except TrackingError:
        raise
    except (MlflowException, OSError) as error:
        said, _, _ = " ".join(str(error).split()).partition(" [SQL: ")  # a statement tells nobody
        text = address.masked(said)[:500]
        if isinstance(error, OSError) or not address.is_server:
            raise TrackingError(f"MLflow at {address.shown}: {text}") from None
        raise _refusal(address, error.get_http_status_code(), text) from None


def _refusal(address: Address, status: int, text: str) -> TrackingError:
    if status in (401, 403):
        return TrackingError(
            f"the MLflow server {address.shown} does not let us in (HTTP {status}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; "
            f"it said: {text}"
        )
    if status == 429 or status >= 500:
        return UnreachableError(
            f"the MLflow server {address.shown} does not answer as it should: {text}"
        )
    return TrackingError(f"the MLflow server {address.shown} refuses (HTTP {status}): {text}")
