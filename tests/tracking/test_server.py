"""A real MLflow server that goes away and comes back."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest

from harness.execution.runner import Progressed
from harness.experiment.schema import Tracking
from harness.tracking import mirror as module
from harness.tracking.mirror import open_tracking, sync

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_runs_missed_while_the_server_was_away_are_filled_in(
    committer, experiment, specs, tmp_path, blank, monkeypatch, at_once
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    home = tmp_path / "server"
    home.mkdir()
    (home / "mlflow.db").write_bytes(blank.read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    there = replace(experiment, tracking=Tracking(uri=uri))
    results, warned = committer.store.results, []

    def done(mirror, spec):
        mirror.started(spec)
        mirror.finished(spec, "done", committer.commit(spec))

    with serving(home, port):
        mirror = open_tracking(results, there, warned.append)
        done(mirror, specs[0])
        mirror.started(specs[1])
        mirror.progressed(specs[1], Progressed(4, 40, {"lr": 0.1}))
        mirror.close()
    mirror = open_tracking(results, there, warned.append)
    done(mirror, specs[1])
    mirror.close()
    assert len(warned) == 1
    with serving(home, port):
        filled = sync(results, there)
        assert (filled.mirrored, filled.closed, filled.unheard) == (1, 0, 1)
        assert sync(results, there).mirrored == 0
        from mlflow import MlflowClient

        client = MlflowClient(uri, registry_uri=uri)
        found = client.get_experiment_by_name(experiment.name)
        assert found.artifact_location.startswith("mlflow-artifacts:")
        runs = client.search_runs([found.experiment_id])
        assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]
        ended = [run for run in runs if run.info.status == "FINISHED"]
        assert {run.data.tags["harness.key"] for run in ended} == {s.key for s in specs[:2]}
        for run in ended:
            assert "test_recall/0" in run.data.metrics
            kept = {item.path for item in client.list_artifacts(run.info.run_id)}
            assert {"per_class.csv", "result.json"} <= kept
    assert not (results / "mlartifacts").exists()
