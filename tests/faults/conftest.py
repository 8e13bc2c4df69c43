import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.execution.store import Store
from tests.same_bits import outcome

ROOT = Path(__file__).parents[2]

SLOW = '''
import time
import torch
from harness.strategies.base import Windowed, strategy

@strategy("slow")
class Slow(Windowed):
    """Take a while for each step; change nothing."""

    seconds: float = 0.05

    def loss(self, class_counts):
        def slow(logits, targets):
            time.sleep(self.seconds)
            return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)

        return slow
'''


class Zygote:
    """Forks commands; see `tests.faults.zygote`.

    Args:
        home: For a command to warm up with; it leaves a fresh MLflow database, whose making takes
            seconds.
    """

    def __init__(self, home: Path) -> None:
        keys = {**KEYS, "name": "elsewhere", "seeds": 1}
        (home / "study.yaml").write_text(json.dumps(keys))
        self.database = home / "results" / "mlflow.db"
        argv = ["run", str(home / "study.yaml"), "--results", str(home / "results")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", *argv, "--executor", "inline"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._answer("warm")

    def start(self, **asked: Any) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer("pid")

    def wait(self) -> int:
        return self._answer("exit")

    def _answer(self, of: str) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said, _, number = line.partition(" ")
        assert said == of, "a test before has left a command behind, or the zygote has died"
        return int(number)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote(tmp_path_factory.mktemp("warm"))
    yield made
    made.close()


@dataclass
class Study:
    """One experiment file, its results, and commands on them."""

    zygote: Zygote
    home: Path
    keys: dict[str, Any]
    results: Path = field(init=False)
    database: Path = field(init=False)

    def __post_init__(self) -> None:
        self.results = self.home / "results"
        self.database = self.results / "mlflow.db"
        self.file.write_text(json.dumps(self.keys))
        self.environment = {"HARNESS_CACHE_DIR": str(self.home / "cache")}

    @property
    def file(self) -> Path:
        return self.home / "study.yaml"

    @property
    def log(self) -> Path:
        return self.home / "printed.txt"

    def start(self, *options: str, verb: str = "run", **asked: Any) -> int:
        """Start a command; return its process id."""
        argv = [verb, str(self.file), "--results", str(self.results), *options]
        environment = {**self.environment, **asked.pop("environment", {})}
        log = str(self.log)
        return self.zygote.start(argv=argv, log=log, environment=environment, **asked)

    def run(self, *options: str, **asked: Any) -> int:
        """Run a command to its end; return its exit status, negative for a signal."""
        self.start(*options, **asked)
        return self.zygote.wait()

    def printed(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def store(self) -> Store:
        return Store(self.results, self.keys["name"])

    def attempts(self) -> int:
        """Return how many attempts at runs were begun."""
        return len((self.store.path / "attempts.jsonl").read_text().splitlines())

    def table(self) -> dict[str, tuple[Any, ...]]:
        """Return what every finished run has come to, by key."""
        return {key: outcome(run.path) for key, run in self.store.runs().items() if not run.failed}

    def mlflow(self) -> dict[str, int]:
        """Return how many runs of each status MLflow shows."""
        return dict(self._sql("SELECT status, COUNT(*) FROM runs {} GROUP BY status"))

    def finished(self) -> list[str]:
        """Return the key of every FINISHED run that MLflow shows."""
        query = (
            "SELECT value FROM tags JOIN runs ON tags.run_uuid = runs.run_uuid {} "
            "AND runs.status = 'FINISHED' AND key = 'harness.key'"
        )
        return sorted(row[0] for row in self._sql(query))

    def steps(self, key: str) -> list[tuple[int, int]]:
        """Return how often each step of a metric of a FINISHED run stands in its history."""
        query = (
            "SELECT step, COUNT(*) FROM metrics JOIN runs ON metrics.run_uuid = runs.run_uuid {} "
            f"AND runs.status = 'FINISHED' AND metrics.key = 'train/loss' AND runs.run_uuid IN "
            f"(SELECT run_uuid FROM tags WHERE key = 'harness.key' AND value = '{key}') "
            "GROUP BY step ORDER BY step"
        )
        return self._sql(query)

    def _sql(self, query: str) -> list[Any]:
        shown = (
            "JOIN experiments ON runs.experiment_id = experiments.experiment_id "
            f"WHERE runs.lifecycle_stage = 'active' AND experiments.name = '{self.keys['name']}'"
        )
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return list(database.execute(query.format(shown)))


MakeStudy = Callable[..., Study]

KEYS: dict[str, Any] = {
    "name": "study",
    "datasets": [
        {"name": "shapes", "classes": 3, "size": 8, "per_class": 40, "imbalance_factor": 4}
    ],
    "models": [{"name": "tiny_cnn", "width": 4}],
    "factors": {"smote": ["none", "smote"], "mixup": ["none", "mixup"]},
    "seeds": 2,
    "training": {"epochs": 100, "max_steps": 40, "batch_size": 8, "lr": 0.05, "eval_every": 0.1},
}
"""Eight runs of a fraction of a second."""


@pytest.fixture
def make_study(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """Return a function that makes a study with an empty MLflow database."""

    def make(home: Path | None = None, **changes: Any) -> Study:
        home = home or tmp_path_factory.mktemp("study")
        (home / "slow.py").write_text(SLOW)
        study = Study(zygote, home, {**KEYS, **changes})
        study.results.mkdir(parents=True, exist_ok=True)
        shutil.copy(zygote.database, study.results / "mlflow.db")
        return study

    return make


@pytest.fixture(scope="session")
def undisturbed(
    zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Any, ...]]:
    """What the study comes to when nothing happens to it."""
    study = Study(zygote, tmp_path_factory.mktemp("undisturbed"), KEYS)
    assert study.run("--executor", "inline") == 0, study.printed()
    return study.table()
