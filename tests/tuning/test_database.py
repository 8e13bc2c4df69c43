import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from harness.errors import StoreError
from harness.tuning import database
from harness.tuning.database import clear_errors, open_storage, quiet


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    storage = open_storage(folder)
    with quiet():
        optuna.create_study(storage=storage, study_name="one")
    storage.engine.dispose()
    return folder / "optuna.db"


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path))


def refused(folder: Path) -> str:
    """Return what is said of a file; it stays as it is."""
    before = (folder / "optuna.db").read_bytes()
    with pytest.raises(StoreError) as caught:
        open_storage(folder)
    assert (folder / "optuna.db").read_bytes() == before
    assert str(folder / "optuna.db") in str(caught.value)
    return str(caught.value)


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def test_a_study_file_is_opened_again(file: Path) -> None:
    storage = open_storage(file.parent)
    assert [study.study_name for study in storage.get_all_studies()] == ["one"]


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").touch()
    assert open_storage(tmp_path).get_all_studies() == []


def test_a_file_that_was_being_made_when_its_maker_was_killed_is_made_again(
    tmp_path: Path,
) -> None:
    (tmp_path / ".optuna.db.tmp").write_bytes(b"half of a database")
    assert open_storage(tmp_path).get_all_studies() == []
    assert [path.name for path in tmp_path.iterdir()] == ["optuna.db"]


def test_a_file_of_another_version_says_what_to_do(file: Path) -> None:
    change(file, "UPDATE alembic_version SET version_num = 'v1.3.0.a'")
    assert "was made by an older Optuna; make a copy of it, then upgrade it: optuna storage" in (
        refused(file.parent)
    )
    change(file, "UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    assert "was made by a newer Optuna; upgrade Optuna here" in refused(file.parent)


def test_a_file_that_is_none_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("not a database" * 100)
    assert "is damaged" in refused(tmp_path)
    (tmp_path / "optuna.db").unlink()
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
    assert "not one of Optuna's studies" in refused(tmp_path)


def test_a_read_only_file_is_refused(file: Path) -> None:
    file.chmod(0o444)
    assert "is read-only" in refused(file.parent)


def test_a_locked_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.01)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked by another program, perhaps optuna-dashboard" in refused(file.parent)
        other.execute("ROLLBACK")
    assert open_storage(file.parent).get_all_studies()


def test_a_lock_in_the_middle_is_one_clear_message(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.01)
    storage = open_storage(file.parent)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(StoreError, match=r"locked by another program.*nothing is lost"),
            clear_errors(file),
        ):
            storage.set_study_user_attr(1, "a", 1)


@pytest.mark.parametrize("name", ["50 % of # it?", "ünï", "{braces}"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    open_storage(folder)
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert open_storage(folder).get_all_studies() == []
