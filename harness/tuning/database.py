"""`optuna.db`: the one file of all studies of a results folder, with clear errors.

It is looked at before Optuna is: Optuna adds tables to whatever database it opens, waits long for
a lock, and says of each mishap only that a commit failed.
"""

import contextlib
import os
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.errors import StoreError
from harness.files import make_once

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

FILE = "optuna.db"

LOCK_SECONDS = 5.0
"""Longest wait for another program that writes to the file."""

_TABLES = {"studies", "trials", "version_info", "alembic_version"}
_KEPT = "nothing is lost: finished runs are kept, and the same command goes on from here"


def open_storage(results: Path) -> "RDBStorage":
    """Return the storage of the studies in a results folder, made if need be.

    Called by a driver that holds the lock of its experiment; names of studies begin with that of
    the experiment, so that several drivers share the file and no study.

    Raises:
        StoreError: The file is none of Optuna's, of another version, locked or read-only.
    """
    path = results / FILE
    with quiet(), clear_errors(path):
        try:
            make_once(path, _make, empty_is_missing=True)
        except OSError as error:
            what = error.strerror or error
            raise StoreError(f"{path} cannot be made: {what}") from None
        _check(path)
        return _open(path)


def _make(path: Path) -> None:
    """Make the file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    _open(temporary, new=True).engine.dispose()
    os.replace(temporary, path)


def _open(path: Path, new: bool = False) -> "RDBStorage":
    from optuna.storages import RDBStorage

    try:
        return RDBStorage(
            _url(path),
            engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}},
            skip_table_creation=not new,
        )
    except RuntimeError as error:
        raise StoreError(_other_version(path, str(error))) from None


def _url(path: Path) -> str:
    # Optuna formats the URL, and SQLAlchemy unquotes it
    text = path.absolute().as_posix().replace("{", "{{").replace("}", "}}")
    return "sqlite:///" + text.replace("%", "%25").replace("?", "%3F").replace("#", "%23")


def _check(path: Path) -> None:
    """Refuse a file that Optuna could not use, or should not touch."""
    # the owner of a machine may write to what is marked read-only, and should not
    if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
        raise StoreError(
            f"{path} is read-only, and a search records its trials there; make it writable, or "
            "choose another --results folder"
        )
    try:
        with contextlib.closing(
            sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?mode=rw",
                timeout=LOCK_SECONDS,
                uri=True,
                isolation_level=None,
            )
        ) as connection:
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            tables = {str(row[0]) for row in connection.execute(query)}
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version}")  # opens the journal
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreError(_refused(path, str(error))) from None
    if not tables >= _TABLES:
        raise StoreError(
            f"{path} is a database, but not one of Optuna's studies; move it away, or choose "
            "another --results folder"
        )


def _refused(path: Path, message: str) -> str:
    if "locked" in message:
        return (
            f"{path} is locked by another program, perhaps optuna-dashboard; end it, and show it a "
            f"copy of the file instead; {_KEPT}"
        )
    if "not a database" in message or "malformed" in message:
        return (
            f"{path} is damaged ({message}); restore it, or move it away to search anew: runs that "
            "were done are looked up, not done again"
        )
    return f"{path} cannot be written: {message}; {_KEPT}"


def _other_version(path: Path, message: str) -> str:
    if "storage upgrade" in message:
        return (
            f"{path} was made by an older Optuna; make a copy of it, then upgrade it: "
            f"optuna storage upgrade --storage sqlite:///{path.as_posix()}"
        )
    return f"{path} was made by a newer Optuna; upgrade Optuna here to open it"


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn what Optuna raises about its database into one clear message.

    Raises:
        StoreError: The database cannot be written.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        text = str(getattr(cause, "orig", None) or cause).split("\n", 1)[0]
        raise StoreError(_refused(path, text)) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from reporting every trial, and from warning of what is experimental."""
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(before)
