import errno
import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.execution.store import Store, read_json
from harness.experiment.spec import RunSpec
from harness.files import write_atomically

MakeSpec = Callable[..., RunSpec]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", "tiny")
    made.create()
    return made


def attempt(store: Store, spec: RunSpec, **files: Any) -> Path:
    path = store.begin(spec)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def test_a_run_is_done_when_its_folder_is_in_place_and_not_before(
    store: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    path = attempt(store, spec, result={"status": "done"})
    assert store.runs() == {}
    where = store.commit(spec, path)
    assert not path.exists()
    found = store.runs()[spec.key]
    assert (found.path, found.failed) == (where, False)
    assert where.name.endswith(f"-{spec.key}")


def test_a_failure_is_committed_as_one_and_gives_way_to_a_later_success(
    store: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    store.commit(spec, attempt(store, spec, error={"message": "no"}))
    assert store.runs()[spec.key].failed
    store.commit(spec, attempt(store, spec, result={}))
    assert not store.runs()[spec.key].failed
    assert len([path for path in store.path.iterdir() if path.name.endswith(spec.key)]) == 1


def test_a_run_is_found_by_key_whatever_it_is_called(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    where = store.commit(spec, attempt(store, spec, result={}))
    where.rename(where.with_name(f"another name-{spec.key}"))
    assert store.runs()[spec.key].path.name.startswith("another name")


def test_a_new_run_does_not_cost_a_look_at_every_other(
    store: Store, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec()
    old = store.path / f"earlier name-{spec.key}"
    old.mkdir()
    (old / "error.json").write_text("{}")
    listed: list[str] = []

    def watched(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def called(path: Any) -> Any:
            listed.append(str(path))
            return function(path)

        return called

    monkeypatch.setattr(os, "listdir", watched(os.listdir))
    monkeypatch.setattr(os, "scandir", watched(os.scandir))
    for _ in range(4):
        where = store.commit(spec, attempt(store, spec, result={}))
    assert listed.count(str(store.path)) <= 2, "at the beginning, and with the first attempt's file"
    assert where.is_dir()
    assert not old.exists()


def test_what_others_do_to_the_folder_meanwhile_is_seen(
    store: Store, make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec()
    where = store.commit(spec, attempt(store, spec, error={"message": "no"}))
    where.rename(where.with_name(f"mine-{spec.key}"))
    again = store.commit(spec, attempt(store, spec, error={"message": "no"}))
    assert again == where
    assert not where.with_name(f"mine-{spec.key}").exists(), "one folder for a key"
    other = Store(store.results, store.path.name)
    other.commit(spec, attempt(other, spec, result={}))
    assert store.is_done(spec.key)
    under_way = attempt(store, spec, result={})
    shutil.rmtree(where)
    (where / "deeper").mkdir(parents=True)  # a folder of this name, copied here meanwhile
    assert store.commit(spec, under_way) == where
    assert not (where / "deeper").exists()


def test_nothing_is_done_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not Store(tmp_path / "nowhere", "it").is_done("0" * 12)


def test_folders_without_a_result_and_other_names_are_not_runs(store: Store) -> None:
    (store.path / "empty-0123456789ab").mkdir()
    (store.path / "report").mkdir()
    (store.path / "file-0123456789ac").write_text("")
    assert store.runs() == {}


def test_attempts_of_a_dead_driver_are_dropped(store: Store, make_spec: MakeSpec) -> None:
    path = store.begin(make_spec())
    store.create()
    assert not path.exists()


def test_two_attempts_never_share_a_folder(store: Store, make_spec: MakeSpec) -> None:
    first, second = store.begin(make_spec()), store.begin(make_spec())
    assert first != second
    assert first.is_dir(), "one under way is nobody's to take over"


def leave(path: Path, **content: str) -> None:
    for name, text in content.items():
        (path / f"checkpoint.{name}").write_text(text)


def test_checkpoints_of_a_dead_driver_are_handed_to_the_next_attempt(
    store: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    first = attempt(store, spec, result={"status": "done"})
    leave(first, latest="b", previous="a")
    store.create()
    assert sorted(path.name for path in first.iterdir()) == [
        "checkpoint.latest",
        "checkpoint.previous",
    ]
    second = store.begin(spec)
    assert (second / "checkpoint.latest").read_text() == "b"
    assert (second / "checkpoint.previous").read_text() == "a"
    assert not first.exists()
    assert store.attempts.count(spec.key) == 2
    assert Store(store.results, "tiny").attempts.count(spec.key) == 2


def test_checkpoints_of_a_failed_run_are_gone_on_with(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    first = attempt(store, spec, error={"message": "killed", "kind": "killed"})
    leave(first, latest="b")
    failed = store.commit(spec, first)
    second = store.begin(spec)
    assert (second / "checkpoint.latest").read_text() == "b"
    assert store.runs()[spec.key].path == failed


def test_the_last_attempt_hands_its_checkpoints_on(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    paths = []
    for number in range(11):  # ten comes after nine
        path = store.attempts.running / f"{spec.key}.{number + 1}"
        path.mkdir()
        leave(path, latest=str(number))
        paths.append(path)
    assert (store.begin(spec) / "checkpoint.latest").read_text() == "10"
    assert not any(path.exists() for path in paths)


def test_checkpoints_of_a_run_that_is_done_or_long_forgotten_are_deleted(
    store: Store, make_spec: MakeSpec
) -> None:
    done, old = make_spec(), make_spec(["mixup"])
    store.commit(done, attempt(store, done, result={}))
    leave(store.begin(done), latest="x")
    forgotten = store.begin(old)
    leave(forgotten, latest="x")
    os.utime(forgotten, (0, 0))
    store.create()
    assert list(store.attempts.running.iterdir()) == []


def test_an_interrupted_attempt_keeps_its_checkpoints_alone(
    store: Store, make_spec: MakeSpec
) -> None:
    path = attempt(store, make_spec(), half={})
    leave(path, latest="x")
    store.set_aside(path)
    assert [file.name for file in path.iterdir()] == ["checkpoint.latest"]


def test_a_torn_count_of_attempts_counts_what_is_whole(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    store.begin(spec)
    with open(store.path / "attempts.jsonl", "a") as file:
        file.write('{"key": "')
    again = Store(store.results, "tiny")
    again.begin(spec)
    assert Store(store.results, "tiny").attempts.count(spec.key) == 2


def test_i15_a_full_disk_is_named_with_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.execution.store.write_atomically", full)
    with pytest.raises(StoreError, match="No space left on device; free some, and give the same"):
        store.create()
    with pytest.raises(StoreError, match="free some"):  # noqa: SIM117
        with store.locked():
            pass


def test_i11_the_lock_of_a_driver_that_is_gone_is_no_obstacle(store: Store) -> None:
    """The system lets go of it at the driver's end, and at its own: nothing is left to judge."""
    (store.path / ".lock").write_text("")
    write_atomically(
        store.path / ".owner.json",
        json.dumps({"host": "elsewhere", "pid": os.getpid(), "since": "2001-01-01 00:00:00"}),
    )
    with store.locked():
        assert store._owner().startswith(f"process {os.getpid()} on ")


def test_i11_a_process_that_a_killed_driver_was_just_starting_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between fork and exec it has the driver's files open, the lock among them."""
    with (store.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    with monkeypatch.context() as patch:
        patch.setattr("harness.execution.store._PATIENCE", 0)
        with pytest.raises(StoreError, match="in use"), store.locked():
            pass
    threading.Timer(0.3, child.communicate).start()
    with store.locked():
        assert store._owner().startswith(f"process {os.getpid()} on ")
        assert child.wait(10) == 0, "it was alive and held the lock until now"


def test_a_newer_schema_is_refused(store: Store) -> None:
    write_atomically(store.path / "schema.json", json.dumps({"schema": 99}))
    with pytest.raises(StoreError, match=r"newer version .*schema 99"):
        Store(store.results, "tiny")


def test_a_torn_schema_file_is_named(store: Store) -> None:
    (store.path / "schema.json").write_text("{")
    with pytest.raises(StoreError, match=r"schema\.json cannot be read"):
        Store(store.results, "tiny")


def test_a_second_driver_is_refused_and_told_who_holds_the_folder(store: Store) -> None:
    with store.locked(), pytest.raises(StoreError, match="in use by process"):  # noqa: SIM117
        with Store(store.results, "tiny").locked():
            pass
    with store.locked():
        pass


def test_two_experiments_share_a_results_folder_at_a_time(store: Store) -> None:
    with store.locked(), Store(store.results, "other").locked():
        pass
    with pytest.raises(StoreError, match="differs in more than its case"):  # noqa: SIM117
        with Store(store.results, "TINY").locked():
            pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StoreError, match="results is a file"):
        Store(tmp_path / "results", "tiny")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "tiny").write_text("a file")
    with pytest.raises(StoreError, match="tiny is a file"):
        Store(tmp_path / "closed", "tiny").runs()


def test_a_torn_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"a": ')
    with pytest.raises(StoreError, match=r"result\.json cannot be read"):
        read_json(tmp_path / "result.json")


def test_a_run_set_aside_by_a_driver_that_was_killed_is_put_back(
    store: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    done = store.commit(spec, attempt(store, spec, result={"status": "done"}))
    done.rename(store.path / ".running" / f"{spec.key}.replaced0.123")
    store.create()
    assert not store.runs()[spec.key].failed
    assert store.is_done(spec.key)


def test_names_that_differ_in_case_alone_do_not_share_a_folder(store: Store) -> None:
    with pytest.raises(StoreError, match="has an experiment 'tiny', and on Windows"):
        Store(store.results, "Tiny").create()
    store.create()


def test_a_path_is_no_longer_than_the_system_takes(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    assert store.folder_of(spec, None).name == f"{spec.slug}-{spec.key}"
    longest = len(str(store.path)) + 40
    short = store.folder_of(spec, longest)
    assert len(str(short / "predictions.npz")) <= longest
    assert short.name.endswith(f"-{spec.key}")
    assert store.folder_of(spec, 10).name == f"r-{spec.key}"


def test_a_run_that_was_deleted_by_half_is_told_apart(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    where = store.commit(spec, attempt(store, spec, result={}))
    (where / "result.json").unlink()
    assert store.runs() == {}
    assert store.runs(hollow=True)[spec.key].hollow
    store.commit(spec, attempt(store, spec, result={}))
    assert not store.runs(hollow=True)[spec.key].hollow


def test_what_is_no_folder_in_the_place_of_a_run_gives_way(
    store: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    os.mkfifo(store.folder_of(spec))
    where = store.commit(spec, attempt(store, spec, result={}))
    assert (where / "result.json").is_file()
    assert list((store.path / ".running").iterdir()) == []


def test_a_folder_in_an_attempt_that_was_cut_off_stops_no_command(
    store: Store, make_spec: MakeSpec
) -> None:
    attempt = store.begin(make_spec())
    (attempt / "checkpoint.latest").write_bytes(b"x")
    (attempt / "notes" / "inner").mkdir(parents=True)
    store.create()
    assert [path.name for path in attempt.iterdir()] == ["checkpoint.latest"]
