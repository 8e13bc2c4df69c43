import csv
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.execution.runner import Progressed
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment, Tracking, load
from harness.experiment.spec import RunSpec
from harness.metrics import evaluate
from harness.tracking import recorder
from harness.tracking.address import database
from harness.tracking.mirror import open_tracking
from harness.training.rundir import RunDir

STEPS = 40


def pytest_collection_modifyitems(items):
    """MLflow uses what SQLAlchemy 2.1 deprecates; its warnings are not ours to mend."""
    ours = Path(__file__).parent
    for item in items:
        if ours in item.path.parents:
            item.add_marker(
                pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
            )


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")


@pytest.fixture(scope="session")
def blank(tmp_path_factory) -> Path:
    """A fresh MLflow database, whose making takes seconds; tests copy it."""
    from harness.tracking.address import resolve
    from harness.tracking.mlflow import Connection

    folder = tmp_path_factory.mktemp("blank")
    uri = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        Connection(resolve(folder, None), "elsewhere")
    finally:
        if uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = uri
    return folder / "mlflow.db"


@pytest.fixture
def results(committer, blank) -> Path:
    """A results folder whose database has its tables and nothing of the experiment."""
    shutil.copy(blank, committer.store.results / "mlflow.db")
    return committer.store.results


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return load(
        {
            "name": "study",
            "datasets": [{"name": "digits", "imbalance_factor": 20}],
            "factors": {
                "smote": ["none", "smote"],
                "mixup": ["none", {"alpha": 0.2}],
            },
            "seeds": 1,
            "training": {"epochs": 4, "batch_size": 32, "momentum": 0.8},
        }
    )


@pytest.fixture(scope="session")
def specs(experiment) -> tuple[RunSpec, ...]:
    runs = expand(experiment).runs
    return tuple(replace(spec, experiment=experiment.name) for spec in runs)


@pytest.fixture
def at_once(monkeypatch) -> None:
    """What is known of a live run is written without waiting for more."""
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)


@dataclass
class Committer:
    """Commits runs as a slot and the driver would, with metrics of real predictions."""

    store: Store

    def attempt(
        self,
        spec: RunSpec,
        status: str = "done",
        names: Sequence[str] = tuple("0123456789"),
        counts: Sequence[int] | None = None,
        seed: int = 0,
        notes: Sequence[str] = (),
    ) -> Path:
        path = self.store.begin(spec)
        folder = RunDir(path)
        folder.write_json("spec.json", spec.to_json())
        folder.log("a line")
        if status == "failed":
            folder.write_error("input", "the data is gone\nand more", ValueError("gone"))
            return path
        counts = counts or [100 // (k + 1) + 3 for k in range(len(names))]
        result: dict[str, Any] = {
            "schema": 1,
            "key": spec.key,
            "status": status,
            "metrics": {},
            "steps": STEPS,
            "notes": list(notes),
            "sample": {"shape": [8, 8, 1], "dtype": "uint8"},
            "class_names": list(names),
            "train_counts": list(counts),
            "selected_step": STEPS,
            "synthetic": 0,
            "delivered": [4 * count for count in counts],
            "label_mass": [{"first": 0, "last": STEPS, "mass": [4.0 * c for c in counts]}],
            "row_digests": {"train": "7" * 64, "subset": "5" * 64, "subset_by_class": "6" * 64},
            "device": {"name": "cpu", "type": "cpu", "precision": "fp32"},
            "cost": {"seconds": 2.5, "images_per_second": 1000.0, "peak_memory_mb": None},
        }
        if status == "done":
            result["metrics"] = self._evaluate(folder, names, np.array(counts), seed)
        folder.write_history(history(10 if status == "done" else 3))
        folder.write_env({})
        folder.write_json("result.json", result)
        (path / "model.pt").write_bytes(b"weights")
        return path

    @staticmethod
    def _evaluate(folder, names, counts, seed) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        size = len(names)
        labels = np.arange(8 * size) % size
        logits = rng.normal(size=(len(labels), size)) + 2.0 * np.eye(size)[labels]
        logits -= rng.uniform(0, 4, size)  # some classes are rarely predicted
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        probabilities = probabilities.astype(np.float32)
        test = evaluate(probabilities, labels, counts)
        half = evaluate(probabilities[::2], labels[::2], counts)
        folder.write_per_class(names, {"val": half.per_class, "test": test.per_class})
        folder.write_confusion(names, test.confusion)
        rows = np.arange(len(labels))
        folder.write_predictions(
            test_probabilities=probabilities,
            test_labels=labels,
            test_rows=rows,
            val_probabilities=probabilities[::2],
            val_labels=labels[::2],
            val_rows=rows[::2],
        )
        return {"val": half.summary, "test": test.summary}

    def commit(self, spec: RunSpec, **options: Any) -> Path:
        return self.store.commit(spec, self.attempt(spec, **options))


def history(rows: int) -> list[dict[str, float]]:
    return [
        {
            "step": 4 * (k + 1),
            "train/loss": 2.0 / (k + 1),
            "lr": 0.1 - 0.01 * k,
            "images_per_second": 1e4,
            "val/accuracy": 0.05 * k,
        }
        for k in range(rows)
    ]


@pytest.fixture
def committer(tmp_path, experiment) -> Committer:
    store = Store(tmp_path / "results", experiment.name)
    store.create()
    return Committer(store)


@dataclass
class Reader:
    """Reads back what MLflow has of an experiment."""

    uri: str
    name: str

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri, registry_uri=self.uri)

    def runs(self) -> list[Any]:
        found = self.client.get_experiment_by_name(self.name)
        return list(self.client.search_runs([found.experiment_id]))

    def removed(self) -> list[Any]:
        from mlflow.entities import ViewType

        found = self.client.get_experiment_by_name(self.name)
        return list(self.client.search_runs([found.experiment_id], "", ViewType.DELETED_ONLY))

    def one(self, spec: RunSpec, **tags: str) -> Any:
        wanted = {"harness.key": spec.key, **tags}
        (run,) = [
            run
            for run in self.runs()
            if all(run.data.tags.get(key) == value for key, value in wanted.items())
        ]
        return run

    def statuses(self) -> list[str]:
        return sorted(run.info.status for run in self.runs())

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, key)
        return sorted((point.step, point.value) for point in points)

    def times(self, run: Any, key: str) -> list[int]:
        """Return when each step was, in the order of steps."""
        points = self.client.get_metric_history(run.info.run_id, key)
        return [point.timestamp for point in sorted(points, key=lambda point: point.step)]

    def artifacts(self, run: Any) -> set[str]:
        return {item.path for item in self.client.list_artifacts(run.info.run_id)}


@pytest.fixture
def read(experiment) -> Callable[[Path], Reader]:
    return lambda results: Reader(database(results), experiment.name)


@pytest.fixture
def warned():
    return []


@pytest.fixture
def opened(results, experiment, warned):
    """Opens a mirror that is closed whatever happens, so that no thread outlives a test."""
    mirrors = []

    def make(**tracking):
        changed = replace(experiment, tracking=Tracking(**tracking))
        mirrors.append(open_tracking(results, changed, warned.append))
        return mirrors[-1]

    yield make
    for mirror in mirrors:
        mirror.close()


def evaluation(step, **values):
    return Progressed(step, 40, {"train/loss": 1.0, "lr": 0.1, **values})


def under_way(mirror, spec):
    """A run that MLflow knows of: with `at_once`, from its first evaluation on."""
    mirror.started(spec)
    mirror.progressed(spec, evaluation(4))


def drain(mirror):
    """Wait until the thread of a mirror has done all that it was given."""
    done = threading.Event()
    mirror._tasks.put(done.set)
    assert done.wait(60)


def run_one(mirror, committer, spec, **options):
    mirror.started(spec)
    path = committer.commit(spec, **options)
    mirror.finished(spec, options.get("status", "done"), path)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with open(path / "per_class.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


@pytest.fixture
def other_epochs(experiment):
    """The same experiment trained for longer, and its runs."""
    training = experiment.training.model_copy(update={"epochs": 5})
    longer = replace(experiment, training=training)
    runs = expand(longer).runs
    return longer, tuple(replace(spec, experiment=longer.name) for spec in runs)


def settings(specs):
    return frozenset(spec.settings for spec in specs)


def outcomes(reader, specs):
    return {reader.one(spec).data.tags["harness.status"] for spec in specs}
