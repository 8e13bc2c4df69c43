"""MLflow that fails, or does not answer: said once, and nothing waits for it."""

import contextlib
import http.server
import os
import shutil
import socket
import sqlite3
import threading
import time
from dataclasses import replace

import pytest

from harness.errors import TrackingError, UnreachableError
from harness.experiment.schema import Tracking
from harness.tracking import mirror as module
from harness.tracking import mlflow, recorder
from harness.tracking.mirror import is_behind, open_tracking, sync
from harness.tracking.mlflow import Connection
from tests.tracking.conftest import drain, evaluation, run_one, under_way


def test_a_run_that_cannot_be_written_leaves_the_other_live_ones(
    opened, committer, specs, read, results, warned, monkeypatch, at_once
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    log = Connection.log
    mirror = opened()
    for spec in specs[:3]:
        under_way(mirror, spec)
    drain(mirror)
    bad = read(results).one(specs[1]).info.run_id

    def flaky(self, run_id, *args, **more):
        if run_id == bad:
            raise TrackingError("it was deleted")
        log(self, run_id, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 1000.0)
    for spec in specs[:3]:
        mirror.progressed(spec, evaluation(8))
    drain(mirror)
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
    mirror.progressed(specs[0], evaluation(12))  # the points of all are due
    for spec in (specs[0], specs[2]):
        mirror.finished(spec, "done", committer.commit(spec))
    mirror.close()
    assert len(warned) == 1
    assert read(results).statuses() == ["FINISHED", "FINISHED", "RUNNING"]


def test_what_failed_a_moment_ago_is_tried_once_more_at_the_end(
    opened, committer, specs, read, results, warned, monkeypatch
):
    log, failing = Connection.log, [True]

    def flaky(self, *args, **more):
        if failing[0]:
            raise TrackingError("database is locked")
        log(self, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
        while not warned:
            time.sleep(0.01)
        failing[0] = False  # and within the pause nothing is tried
        run_one(mirror, committer, specs[1])
    assert read(results).statuses() == ["FINISHED"] * 2 + ["KILLED"]


def test_a_failure_is_said_once_and_stops_nothing(
    opened, committer, specs, read, results, warned, monkeypatch
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    log = Connection.log
    failing = [True]

    def flaky(self, *args, **more):
        if failing[0]:
            raise UnreachableError("the MLflow server http://u:secret@h does not answer")
        log(self, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    mirror = opened()
    for spec in specs[:2]:
        run_one(mirror, committer, spec)
    mirror.close()
    assert len(warned) == 1
    assert "harness sync" in warned[0]
    assert "secret" not in warned[0]
    failing[0] = False
    with opened() as again:
        run_one(again, committer, specs[2])
    assert read(results).statuses() == ["FINISHED"] * 3 + ["KILLED"] * 2


def test_a_dead_server_is_left_alone_for_a_while(opened, committer, specs, warned, monkeypatch):
    tries = []

    def create(self, *args):
        tries.append(args)
        raise UnreachableError("no answer")

    monkeypatch.setattr(Connection, "create", create)
    with opened() as mirror:
        for spec in specs:
            run_one(mirror, committer, spec)
    assert len(tries) == 2, "once, and once more at the end"
    assert len(warned) == 1


def test_a_bug_of_ours_stays_in_the_mirror(opened, committer, specs, read, results, warned):
    with opened() as mirror:
        mirror.started(specs[0])
        mirror.finished(specs[0], "done", results / "nowhere")
        run_one(mirror, committer, specs[1])
    assert len(warned) == 1
    assert read(results).one(specs[1]).info.status == "FINISHED"


def test_the_driver_is_never_blocked(opened, committer, specs, monkeypatch, at_once):
    gate, entered = threading.Event(), threading.Event()
    create = Connection.create

    def held(self, *args):
        entered.set()
        assert gate.wait(30)
        return create(self, *args)

    monkeypatch.setattr(Connection, "create", held)
    mirror = opened()
    mirror.started(specs[0])
    assert entered.wait(30)
    mirror.progressed(specs[0], evaluation(4))
    mirror.finished(specs[0], "done", committer.commit(specs[0]))
    assert not gate.is_set()  # and yet we are here
    gate.set()


def test_an_unreachable_server_warns_and_sync_later_fills(
    opened, committer, specs, experiment, results, warned, monkeypatch, read
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with opened(uri=uri) as mirror:
            run_one(mirror, committer, specs[0])
        assert len(warned) == 1
        assert "does not answer" in warned[0]
        assert "secret" not in warned[0]
        there = replace(experiment, tracking=Tracking(uri=uri))
        assert is_behind(results, there)
        with pytest.raises(UnreachableError):
            sync(results, there)
    assert sync(results, experiment).mirrored == 1
    assert read(results).one(specs[0]).info.status == "FINISHED"


def test_a_deleted_experiment_says_how_to_restore_it(
    results, experiment, committer, specs, read, warned
):
    client = read(results).client
    place = client.create_experiment("study")
    client.delete_experiment(place)
    with open_tracking(results, experiment, warned.append) as mirror:
        run_one(mirror, committer, specs[0])
    assert len(warned) == 1
    assert "mlflow experiments restore --experiment-id" in warned[0]
    client.restore_experiment(place)
    assert sync(results, experiment).mirrored == 1


class Server(http.server.ThreadingHTTPServer):
    """Answers as it is told."""

    daemon_threads = True
    block_on_close = False
    how = ""
    done = threading.Event()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        getattr(self, self.server.how)()

    do_POST = do_GET

    def drips(self):
        """A byte now and then, each within any limit between bytes."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not self.server.done.wait(0.05):
                self.wfile.write(b" ")

    def never_begins(self):
        """A byte of the header now and then."""
        with contextlib.suppress(OSError):
            while not self.server.done.wait(0.05):
                self.wfile.write(b"H")

    def refuses(self):
        self._say(401, b"no")

    def forbids(self):
        self._say(403, b"no")

    def fails(self):
        self._say(500, b"oh no")

    def shows_a_page(self):
        self._say(200, b"<html>please log in</html>")

    def sends_round(self):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def _say(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow, "CALL_SECONDS", 0.5)
    with Server(("127.0.0.1", 0), Answers) as serving:
        serving.done = threading.Event()
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.done.set()
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("drips", "did not answer within 0.5 s"),
        ("never_begins", "did not answer within 0.5 s"),
        ("refuses", "does not let us in (HTTP 401)"),
        ("forbids", "does not let us in (HTTP 403)"),
        ("fails", "does not answer as it should"),
        ("shows_a_page", "please log in"),
        ("sends_round", "does not answer as it should"),
    ],
)
def test_whatever_a_server_does_runs_go_on_and_are_mirrored_later(
    how, said, server, opened, committer, specs, experiment, results, warned
):
    server.how = how
    uri = f"http://me:secret@127.0.0.1:{server.server_port}"
    begun = time.monotonic()
    with opened(uri=uri) as mirror:
        run_one(mirror, committer, specs[0])
    with pytest.raises(TrackingError) as caught:
        sync(results, replace(experiment, tracking=Tracking(uri=uri)))
    assert time.monotonic() - begun < 30, "no call is waited for without an end"
    assert len(warned) == 1
    for message in (warned[0], str(caught.value)):
        assert said in message
        assert "secret" not in message
    assert sync(results, experiment).mirrored == 1


def test_a_certificate_that_is_refused_costs_no_run(server, opened, committer, specs, warned):
    with opened(uri=f"https://127.0.0.1:{server.server_port}") as mirror:
        run_one(mirror, committer, specs[0])
    assert len(warned) == 1
    assert "SSL" in warned[0]


def test_a_name_that_is_looked_up_for_ever_is_given_up(
    opened, committer, specs, warned, monkeypatch
):
    asked = threading.Event()

    def hangs(*args, **options):
        asked.wait(30)
        raise OSError("looked up in vain")

    monkeypatch.setattr(mlflow, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with opened(uri="http://far.example") as mirror:
        run_one(mirror, committer, specs[0])
    asked.set()
    assert len(warned) == 1
    assert "did not answer within 0.3 s" in warned[0]


def test_training_begins_although_mlflow_does_not_answer(
    server, opened, committer, specs, monkeypatch, warned
):
    """It connects in its own thread: a command waits for it for seconds, not for a time limit."""
    monkeypatch.setattr(mlflow, "CALL_SECONDS", 3.0)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.1)
    server.how = "drips"
    mirror = opened(uri=f"http://127.0.0.1:{server.server_port}")
    run_one(mirror, committer, specs[0])
    assert warned == [], "it is still being asked"


def garbage(path):
    path.write_bytes(b"no database at all, but some text\n" * 99)


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def a_folder(path):
    path.unlink()
    path.mkdir()


def of_a_newer_mlflow(path):
    _claim(path, "ffffffffffff")


def of_an_older_mlflow(path):
    _claim(path, "451aebb31d03")


def _claim(path, version):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


@pytest.mark.skipif(os.name == "nt", reason="no named pipes among files on Windows")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (garbage, "file is not a database; move it away, and `harness sync` makes a new one"),
        (a_pipe, "mlflow.db is no file; move it away, and `harness sync` makes a new one"),
        (a_folder, "mlflow.db is no file; move it away"),
        (of_a_newer_mlflow, "made by a newer MLflow"),
        (of_an_older_mlflow, "mlflow db upgrade"),
    ],
)
def test_a_spoiled_database_costs_no_run_and_is_left_as_it_is(
    spoil, said, opened, committer, specs, experiment, results, warned, blank
):
    place = results / "mlflow.db"
    spoil(place)
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
    assert len(warned) == 1
    assert said in warned[0]
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        sync(results, experiment)
    place.rename(results / "moved")
    shutil.copy(blank, place)
    assert is_behind(results, experiment)
    assert sync(results, experiment).mirrored == 1


def test_a_database_that_another_program_holds_is_tried_again(
    opened, committer, specs, results, experiment, warned, monkeypatch, read
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 60.0)
    connect = sqlite3.connect

    def hasty(*args, **options):
        return connect(*args, **{**options, "timeout": 0.05})

    held = connect(results / "mlflow.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3.dbapi2, "connect", hasty)
    mirror = opened()
    assert len(warned) == 1
    assert "database is locked" in warned[0]
    held.execute("ROLLBACK")
    held.close()
    with mirror:
        run_one(mirror, committer, specs[0])
    assert read(results).statuses() == ["FINISHED"]


def test_artifacts_that_do_not_fit_on_the_disk_leave_the_run_to_a_sync(
    opened, committer, specs, results, experiment, warned, monkeypatch, read
):
    def full(self, run_id, files, folder=""):
        raise TrackingError("MLflow at …: [Errno 28] No space left on device")

    monkeypatch.setattr(Connection, "artifacts", full)
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
    assert len(warned) == 1
    assert "No space left" in warned[0]
    monkeypatch.undo()
    assert is_behind(results, experiment)
    assert sync(results, experiment).mirrored == 1
    assert "FINISHED" in read(results).statuses()
