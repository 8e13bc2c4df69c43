"""i17, i18: MLflow away, answering 500 or not at all, and its database locked."""

import contextlib
import os
import select
import shutil
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import MakeStudy, Study, Zygote

pytestmark = pytest.mark.slow

INLINE = ("--executor", "inline")
HURRY = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
NO_PAUSE = "import harness.tracking.mirror as m; m.PAUSE_SECONDS = 0.2"
SOON = "import harness.tracking.recorder as r; r.FLUSH_SECONDS = 0.05"


class Gate(socketserver.ThreadingTCPServer):
    """Stands before an MLflow server; `mode` says what becomes of a connection."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.mode = "open"
        super().__init__(("127.0.0.1", 0), Passage)


class Passage(socketserver.BaseRequestHandler):
    server: Gate

    def handle(self) -> None:
        if self.server.mode == "open":
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.server.behind)) as behind,
            ):
                self._pass(behind)
        elif self.server.mode == "500":
            self.request.recv(65536)
            answer = b"HTTP/1.1 500 Oh no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.request.sendall(answer)
        elif self.server.mode == "hang":
            while self.server.mode == "hang":
                time.sleep(0.05)

    def _pass(self, behind: socket.socket) -> None:
        while self.server.mode == "open":
            ready, _, _ = select.select([self.request, behind], [], [], 0.05)
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                (behind if source is self.request else self.request).sendall(data)


@pytest.fixture(scope="module")
def gate(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gate, Path]]:
    home = tmp_path_factory.mktemp("server")
    shutil.copy(zygote.database, home / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=home, env=environment, stdout=quiet, stderr=quiet)
    made = Gate(port)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    try:
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            assert time.monotonic() < until
            time.sleep(0.2)
        yield made, home / "mlflow.db"
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
        server.terminate()
        server.wait(30)


def study_at(gate: tuple[Gate, Path], make_study: MakeStudy, name: str, **changes: Any) -> Study:
    proxy, database = gate
    uri = f"http://127.0.0.1:{proxy.server_address[1]}"
    study = make_study(name=name, tracking={"uri": uri}, **changes)
    study.database = database
    study.environment |= HURRY
    return study


def check(study: Study) -> None:
    """Everything is there after a sync, once."""
    for _ in range(2):
        assert study.run(verb="sync") == 0, study.printed()
    assert study.finished() == sorted(study.table())
    assert len(study.table()) == 8
    assert study.mlflow().keys() <= {"FINISHED", "KILLED"}
    for key in study.table():
        steps = study.steps(key)
        assert [step for step, _ in steps] == list(range(4, 44, 4))
        assert {times for _, times in steps} == {1}


@pytest.mark.parametrize("mode", ["shut", "500", "hang"])
def test_i17_away_from_the_start(mode: str, gate: tuple[Gate, Path], make_study: MakeStudy) -> None:
    study = study_at(gate, make_study, f"start-{mode}")
    gate[0].mode = mode
    begun = time.monotonic()
    assert study.run(*INLINE) == 0, study.printed()
    assert time.monotonic() - begun < 60, "with MLflow's own settings a call takes minutes"
    assert len(study.table()) == 8
    assert study.printed().count("warning:") == 1
    assert "harness sync" in study.printed()
    gate[0].mode = "open"
    check(study)


@pytest.mark.parametrize("mode", ["shut", "500", "hang"])
def test_i17_away_in_the_middle(mode: str, gate: tuple[Gate, Path], make_study: MakeStudy) -> None:
    gate[0].mode = "open"
    study = study_at(gate, make_study, f"middle-{mode}")
    study.start(*INLINE, patch=f"{NO_PAUSE}\n{SOON}")
    until = time.monotonic() + 60
    while not study.finished():
        assert time.monotonic() < until
        time.sleep(0.02)
    gate[0].mode = mode
    time.sleep(3.0)
    gate[0].mode = "open"
    assert study.zygote.wait() == 0, study.printed()
    check(study)


def test_i18_a_database_that_is_locked_for_26_s_costs_nothing(make_study: MakeStudy) -> None:
    """MLflow gives up after 20 s; what it missed is written at the end of the same command."""
    study = make_study(name="locked")
    study.start(*INLINE)
    until = time.monotonic() + 60
    while "FINISHED" not in study.mlflow():
        assert time.monotonic() < until
        time.sleep(0.02)
    with contextlib.closing(sqlite3.connect(study.database, 60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = len(list(study.store.path.glob("*/result.json")))
        time.sleep(26)
        other.execute("ROLLBACK")
    assert done < 8, "it was in the middle"
    assert study.zygote.wait() == 0, study.printed()
    assert len(study.table()) == 8
    assert study.mlflow()["FINISHED"] == 8, "without a sync"
    check(study)
