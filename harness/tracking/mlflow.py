"""One connection to MLflow: the only module that imports its library, and lazily (1–2 s).

The driver makes one before anything else starts, because MLflow's migrations race when several
processes open a fresh database. Every error comes out as a `TrackingError` without credentials.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import TrackingError, UnreachableError
from harness.text import storable
from harness.tracking.address import Address
from harness.tracking.database import check_database, make_database
from harness.tracking.deadline import Caller, GivenUpError
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

CALL_SECONDS = 60.0
"""Longest that a call to a server may take as a whole: MLflow's own limit is one between bytes."""

T = TypeVar("T")

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Has the UI open the runs table, and not its pages for language models."""


@dataclass(frozen=True)
class Tracked:
    """A run as MLflow has it; fields of other people's runs are empty."""

    run_id: str
    status: str = ""
    key: str = ""
    result: str = ""
    store: str = ""
    settings: str = ""
    outcome: str = ""
    summary: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


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
        load_library()
        self.address = address
        self._caller = Caller()
        self._artifact_uris: dict[str, str] = {}
        self._client, found = self._ask(lambda: self._opened(experiment))
        self._id = str(found.experiment_id)
        self.place = f"{address.fingerprint}/{self._id}-{found.creation_time}"
        self.keeps_artifacts = not address.is_database or _is_here(address, found)

    def _ask(self, call: Callable[[], T]) -> T:
        """Return what MLflow answers.

        Raises:
            UnreachableError: It does not answer in time; of a file SQLite itself says so.
            TrackingError: Whatever else went wrong.
        """
        with _told(self.address):
            try:
                if self.address.is_file:
                    return call()
                return self._caller.call(call, CALL_SECONDS)
            except GivenUpError:
                raise UnreachableError(
                    f"MLflow at {self.address.shown} did not answer within {CALL_SECONDS:g} s"
                ) from None

    def _opened(self, experiment: str) -> tuple[Any, Any]:
        """Return a client and the experiment."""
        from mlflow import MlflowClient

        if self.address.own:
            make_database(self.address.results)
        if self.address.is_database:
            check_database(self.address)
        client = MlflowClient(tracking_uri=self.address.uri, registry_uri=self.address.uri)
        return client, self._experiment(client, experiment)

    def _experiment(self, client: Any, name: str) -> Any:
        found = client.get_experiment_by_name(name)
        if found is None:
            location = None
            if self.address.is_database:  # MLflow's own choice would lie in the current folder
                location = str(self.address.results / "mlartifacts" / name)
            found = _make(client, name, location)
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow experiment '{name}' at {self.address.shown} was deleted, and MLflow keeps "
                f"the name; give this experiment another name, or restore the old one: "
                f"MLFLOW_TRACKING_URI='{self.address.shown}' "
                f"mlflow experiments restore --experiment-id {found.experiment_id}"
            )
        return found

    def create(self, name: str, tags: Mapping[str, str], began: int) -> str:
        """Create a run, RUNNING since `began` (ms since the epoch), and return its id."""
        run = self._ask(
            lambda: self._client.create_run(
                self._id, start_time=began, tags=_stored(tags), run_name=storable(name)
            )
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

        self._ask(
            lambda: self._client.log_batch(
                run_id,
                metrics=[Metric(p.key, p.value, p.time, p.step) for p in points],
                params=[Param(key, value) for key, value in _stored(params or {}).items()],
                tags=[RunTag(key, value) for key, value in _stored(tags or {}).items()],
            )
        )

    def dataset(
        self,
        run_id: str,
        name: str,
        digest: str,
        source: str,
        schema: str | None,
        profile: str | None,
    ) -> None:
        """Log the training set: what it is called and what of, neither data nor paths."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = Dataset(storable(name)[:500], digest, "code", source, schema, profile)
        inputs = [DatasetInput(entry, [InputTag("mlflow.data.context", "train")])]
        self._ask(lambda: self._client.log_inputs(run_id, inputs))

    def artifacts(self, run_id: str, files: Sequence[Path], folder: str = "") -> None:
        """Copy files to a run, into a folder of its artifacts; what has their names gives way."""
        if not self.keeps_artifacts or not files:
            return
        log = self._ask(lambda: self._logs_artifacts(run_id))
        for file in files:
            self._ask(partial(log, str(file), folder or None))

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
        known = self._ask(lambda: self._client.get_experiment(self._id).tags)
        for name, value in _stored(tags).items():
            if known.get(name) != value:
                self._ask(partial(self._client.set_experiment_tag, self._id, name, value))

    def end(self, run_id: str, status: str, ended: int | None = None) -> None:
        """Set a run's final status, at `ended` (ms since the epoch) or now."""
        self._ask(lambda: self._client.set_terminated(run_id, status, ended))

    def reopen(self, run_id: str) -> None:
        """Set an ended run RUNNING again."""
        self._ask(lambda: self._client.update_run(run_id, status="RUNNING"))

    def last_step(self, run_id: str, key: str) -> int:
        """Return the last step at which a run has a metric, or 0."""
        points = self._ask(lambda: self._client.get_metric_history(run_id, key))
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
        run = self._active(run_id)
        return None if run is None else dict(run.data.params)

    def metrics(self, run_id: str) -> dict[str, float] | None:
        """Return the last value of each metric of a run; None as for `params`.

        Raises:
            UnreachableError: MLflow does not answer.
        """
        run = self._active(run_id)
        return None if run is None else dict(run.data.metrics)

    def _active(self, run_id: str) -> Any | None:
        """Return a run, or None where it is not there or was deleted."""
        try:
            run = self._ask(lambda: self._client.get_run(run_id))
        except UnreachableError:
            raise
        except TrackingError:
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def remove(self, run_id: str) -> None:
        """Take a run out of view; MLflow's "deleted" runs still have it, and can restore it."""
        self._ask(lambda: self._client.delete_run(run_id))

    def runs(self, where: str = "") -> Iterator[Tracked]:
        """Yield the runs of the experiment that were not deleted, by MLflow's filter `where`."""
        token: str | None = None
        while True:
            search = partial(self._client.search_runs, [self._id], where, max_results=_PAGE)
            page = self._ask(partial(search, page_token=token))
            for run in page:
                tags = run.data.tags
                yield Tracked(
                    run_id=str(run.info.run_id),
                    status=str(run.info.status),
                    key=tags.get("harness.key", ""),
                    result=tags.get("harness.result", ""),
                    store=tags.get("harness.store", ""),
                    settings=tags.get("harness.settings", ""),
                    outcome=tags.get("harness.status", ""),
                    summary=tags.get("harness.summary", ""),
                    metrics=run.data.metrics,
                    params=run.data.params,
                )
            token = page.token
            if not token:
                return


def _stored(values: Mapping[str, str]) -> dict[str, str]:
    return {storable(key): storable(value) for key, value in values.items()}


def load_library() -> None:
    """Import MLflow, for which a process has one thread, with settings that suit us."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401


def _make(client: Any, name: str, location: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, artifact_location=location, tags=_KIND)
    except MlflowException:  # or another driver has just made it, on a server of many
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found
    return client.get_experiment_by_name(name)


def _is_here(address: Address, experiment: Any) -> bool:
    """Whether artifacts would land where they can be found, or the results folder has moved."""
    location = Path(str(experiment.artifact_location).removeprefix("file://"))
    return not address.own or location.is_relative_to(address.results)


@contextlib.contextmanager
def _told(address: Address) -> Iterator[None]:
    """Turn what MLflow raises into a `TrackingError` without credentials."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except TrackingError:
        raise
    except Exception as error:  # of any library below; a proxy's page is no JSON, for one
        said, _, _ = " ".join(str(error).split()).partition(" [SQL: ")  # a statement tells nobody
        text = address.masked(said)[:500]
        if not isinstance(error, MlflowException) or not address.is_server:
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
