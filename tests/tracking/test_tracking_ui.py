import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from harness.errors import TrackingError
from harness.tracking import ui as module
from harness.tracking.mirror import sync
from harness.tracking.ui import ui, ui_command


@pytest.fixture
def started(monkeypatch):
    """Catches the process that would be started."""
    calls = []

    class Process:
        def __init__(self, command, **options):
            calls.append((command, options))

    monkeypatch.setattr(module.subprocess, "Popen", Process)
    monkeypatch.setattr(module, "_wait", lambda process: 0)
    return calls


@pytest.fixture
def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_server_is_local_and_runs_no_jobs(tmp_path, started, free):
    (tmp_path / "mlflow.db").touch()
    said = []
    assert ui(tmp_path, port=free, say=said.append) == 0
    ((command, options),) = started
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/mlflow.db"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert options["env"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert options["env"]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert options["cwd"] == tmp_path
    assert f"http://127.0.0.1:{free}" in said[0]


def test_the_address_of_each_experiment_s_comparison_is_told(
    results, experiment, committer, specs, read, started, free
):
    committer.commit(specs[0])
    sync(results, experiment)
    number = read(results).client.get_experiment_by_name("study").experiment_id
    said = []
    ui(results, port=free, say=said.append)
    view = f"http://127.0.0.1:{free}/#/experiments/{number}/runs?viewStateShareKey=harness-recipes"
    assert said[0] == f"study, recipes compared: {view}"
    assert len(said) == 2, "the experiments of others have no such view"


def test_other_machines_only_when_meant(tmp_path, started, free):
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(TrackingError, match="--allow-public"):
        ui(tmp_path, host="0.0.0.0", port=free)
    assert not started
    ui(tmp_path, host="0.0.0.0", port=free, allow_public=True, say=lambda text: None)
    assert len(started) == 1


def test_no_database_says_what_to_do(tmp_path, started):
    with pytest.raises(TrackingError, match="harness sync"):
        ui(tmp_path)
    assert not started


def test_a_taken_port_is_named(tmp_path, started):
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=f"127.0.0.1:{port}.*--port"):
            ui(tmp_path, port=port)
    assert not started


SERVERS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_server_and_what_it_started(name):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVERS], stdout=subprocess.PIPE, start_new_session=True
    )
    grandchild = int(process.stdout.readline())
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)]
    threading.Timer(0.2, os.kill, (os.getpid(), getattr(signal, name))).start()
    assert module._wait(process) == 0
    process.stdout.close()
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)] == before
    assert process.returncode is not None
    for _ in range(100):
        try:
            state = Path(f"/proc/{grandchild}/stat").read_text().split()[2]
        except OSError:
            break
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the server's own child is still running")


def test_the_command_opens_the_same_database(tmp_path):
    words = shlex.split(ui_command(tmp_path / "a b"))
    assert words == ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{tmp_path}/a b/mlflow.db"]


@pytest.mark.slow
def test_the_ui_really_opens_and_shows_artifacts(
    results, experiment, committer, specs, read, monkeypatch, free
):
    path = committer.commit(specs[0])
    sync(results, experiment)
    run_id = read(results).one(specs[0]).info.run_id
    answers = []

    def ask(process):
        try:
            while process.poll() is None and not answers:
                with contextlib.suppress(OSError):
                    answers.append(get("health"))
                    answers.append(get(f"get-artifact?run_uuid={run_id}&path=result.json"))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        finally:
            process.terminate()
        return process.wait(30)

    def get(place):
        with urllib.request.urlopen(f"http://127.0.0.1:{free}/{place}", timeout=20) as got:
            return got.read()

    monkeypatch.setattr(module, "_wait", ask)
    ui(results, port=free, say=lambda text: None)
    assert answers == [b"OK", (path / "result.json").read_bytes()]
