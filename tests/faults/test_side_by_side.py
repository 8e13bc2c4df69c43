"""Two experiments in one new results folder at a time, which both make its databases."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.execution.store import Store
from tests.faults.conftest import KEYS, ROOT

pytestmark = pytest.mark.slow

TUNE = {"recipes": ["mixup"], "trials": 2, "seeds": 1}
NAMES = ("one", "two")


def test_two_experiments_share_a_new_results_folder_at_a_time(tmp_path: Path) -> None:
    results = tmp_path / "results"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    commands = {}
    for name in NAMES:
        keys = {**KEYS, "name": name, "factors": {"mixup": ["none", "mixup"]}, "tune": TUNE}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(keys))
        commands[name] = subprocess.Popen(
            [sys.executable, "-m", "harness", "tune", str(tmp_path / f"{name}.yaml"),
             "--results", str(results), "--executor", "inline"],
            cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    for name, command in commands.items():
        said, _ = command.communicate()
        assert command.returncode == 0, (name, said)
        assert "warning" not in said
        runs = Store(results, name).runs()
        assert len(runs) == 6, "doing nothing, the recipe, and the recipe tuned, at two seeds"
        assert not any(run.failed for run in runs.values())
        with contextlib.closing(sqlite3.connect(results / "mlflow.db")) as database:
            query = (
                "SELECT DISTINCT runs.status FROM runs JOIN experiments USING (experiment_id) "
                "WHERE experiments.name = ?"
            )
            assert list(database.execute(query, [name])) == [("FINISHED",)]
            keys_there = (
                "SELECT COUNT(DISTINCT value) FROM tags JOIN runs USING (run_uuid) "
                "JOIN experiments USING (experiment_id) "
                "WHERE key = 'harness.key' AND experiments.name = ?"
            )
            (count,) = database.execute(keys_there, [name]).fetchone()
            assert count >= 6
    assert not [path.name for path in results.iterdir() if path.name.startswith(".")]
