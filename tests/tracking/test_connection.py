import http.server
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from harness.errors import TrackingError, UnreachableError
from harness.tracking.address import resolve
from harness.tracking.database import make_database
from harness.tracking.mlflow import Connection


class Refusing(http.server.BaseHTTPRequestHandler):
    status = 503
    body = b"{}"

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that answers everything with one status."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(Refusing, "status", 503)
    monkeypatch.setattr(Refusing, "body", b"{}")
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://user:s3cret@127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_unreachable_for_now(tmp_path, server, status):
    Refusing.status = status
    with pytest.raises(UnreachableError) as caught:
        Connection(resolve(tmp_path, server), "study")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_lets_nobody_in_says_what_to_set(tmp_path, server, status):
    Refusing.status, Refusing.body = status, b"no"
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        Connection(resolve(tmp_path, server), "study")
    assert not isinstance(caught.value, UnreachableError)
    assert "s3cret" not in str(caught.value)


def test_something_that_is_no_mlflow_server(tmp_path, server):
    Refusing.status, Refusing.body = 200, b"<html>hello</html>"
    with pytest.raises(TrackingError, match="JSON"):
        Connection(resolve(tmp_path, server), "study")


def test_a_remote_server_keeps_its_own_artifact_location(tmp_path, server, monkeypatch):
    made = []

    class Client:
        def __init__(self, **options):
            pass

        def get_experiment_by_name(self, name):
            import types

            return (
                types.SimpleNamespace(
                    experiment_id="7",
                    creation_time=1,
                    lifecycle_stage="active",
                    artifact_location="mlflow-artifacts:/7",
                )
                if made
                else None
            )

        def create_experiment(self, name, artifact_location=None, tags=None):
            made.append((name, artifact_location))

    import mlflow

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    connection = Connection(resolve(tmp_path, server), "study")
    assert made == [("study", None)]
    assert connection.keeps_artifacts
    assert not list(tmp_path.iterdir())


@pytest.fixture
def stale(tmp_path, blank):
    """Returns the address of a database that claims a schema."""

    def make(version):
        path = tmp_path / "mlflow.db"
        shutil.copy(blank, path)
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.close()
        return resolve(tmp_path, None)

    return make


def test_an_old_schema_is_not_upgraded_silently(stale):
    address = stale("451aebb31d03")
    before = (address.results / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match=r"mlflow db upgrade 'sqlite:///.*mlflow\.db'"):
        Connection(address, "study")
    assert (address.results / "mlflow.db").read_bytes() == before


def test_a_newer_schema_asks_for_a_newer_mlflow(stale):
    with pytest.raises(TrackingError, match="upgrade MLflow here"):
        Connection(stale("ffffffffffff"), "study")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("hello, this is plain text and no database at all\n" * 99)
    with pytest.raises(TrackingError, match="cannot be opened: file is not a database"):
        Connection(resolve(tmp_path, None), "study")


def test_a_missing_driver_is_named(tmp_path):
    address = resolve(tmp_path, "postgresql+nodriver://me:s3cret@127.0.0.1:1/db")
    with pytest.raises(TrackingError) as caught:
        Connection(address, "study")
    assert "nodriver" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_artifacts_lie_under_the_results_and_runs_in_an_experiment_of_ours(results, read):
    connection = Connection(resolve(results, None), "study")
    run_id = connection.create("a run", {}, 1)
    run = read(results).client.get_run(run_id)
    assert run.info.experiment_id != "0"
    assert run.info.artifact_uri.startswith(str(results / "mlartifacts" / "study"))


def test_making_a_database_is_silent_and_sends_nothing(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.tracking.address import resolve\n"
        "from harness.tracking.mlflow import Connection\n"
        "c = Connection(resolve(Path(sys.argv[1]), None), 'study')\n"
        "c.end(c.create('a', {}, 1), 'FINISHED')\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "sys.exit(not is_telemetry_disabled())"
    )
    import os

    environment = {k: v for k, v in os.environ.items() if "TRACK" not in k and "TELEM" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "new")],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "new" / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_two_commands_that_need_a_new_database_make_one(tmp_path, monkeypatch):
    import mlflow

    made, meet = [], threading.Barrier(2)

    class Client:
        def __init__(self, tracking_uri):
            made.append(tracking_uri)
            self._tracking_client = self.store = self.engine = self

        def search_experiments(self, max_results):
            time.sleep(0.2)  # the other one is here meanwhile
            (tmp_path / ".mlflow.db.new").write_text("whole")

        def dispose(self):
            pass

    monkeypatch.setattr(mlflow, "MlflowClient", Client)

    def make():
        meet.wait(10)
        make_database(tmp_path)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


MAKES = """
import sys
from pathlib import Path
from harness.tracking.address import resolve
from harness.tracking.mlflow import Connection
Connection(resolve(Path(sys.argv[1]), None), "study")
"""


@pytest.mark.slow
def test_a_driver_killed_while_the_database_is_made_leaves_none_half_made(tmp_path):
    making = tmp_path / ".mlflow.db.new"
    with subprocess.Popen([sys.executable, "-c", MAKES, str(tmp_path)]) as process:
        while not making.exists() or making.stat().st_size < 300_000:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    assert not (tmp_path / "mlflow.db").exists()
    connection = Connection(resolve(tmp_path, None), "study")
    assert list(connection.runs()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_text_that_no_database_takes_is_written_escaped(tmp_path, blank):
    shutil.copy(blank, tmp_path / "mlflow.db")
    connection = Connection(resolve(tmp_path, None), "study")
    no_text, written = "caf\udce9", r"caf\udce9"
    run_id = connection.create(no_text, {"harness.key": "k", "harness.error": no_text}, 0)
    connection.log(run_id, params={"dataset": no_text}, tags={"note": no_text})
    connection.dataset(run_id, no_text, "0" * 36, "{}", None, None)
    connection.describe({"harness.description": no_text})
    assert connection.params(run_id) == {"dataset": written}
    assert [run.key for run in connection.runs(f"tags.note = '{written}'")] == ["k"]
