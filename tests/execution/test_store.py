import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.execution.store import Store, read_json, write_atomically
from harness.experiment.spec import RunSpec

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
    assert store.begin(make_spec()) != store.begin(make_spec())


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
        with Store(store.results, "other").locked():
            pass
    with store.locked():
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
