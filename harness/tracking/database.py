"""MLflow's database as we make it, and as we check it before MLflow opens it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import TrackingError, UnreachableError
from harness.files import make_once
from harness.tracking.address import DATABASE, Address, sqlite

_ANEW = "`harness sync` makes a new one of the results"


def make_database(results: Path) -> None:
    """Have MLflow make the database of a results folder beside its place, where there is none.

    It takes seconds and many transactions: ended in the middle, it would be neither new nor whole,
    and two processes that make it at once both fail.
    """
    results.mkdir(parents=True, exist_ok=True)
    make_once(results / DATABASE, _make)


def _make(place: Path) -> None:
    from mlflow import MlflowClient

    made = place.with_name(f".{DATABASE}.new")
    for left in place.parent.glob(f"{made.name}*"):
        left.unlink()
    client = MlflowClient(tracking_uri=sqlite(made))
    client.search_experiments(max_results=1)
    client._tracking_client.store.engine.dispose()  # or Windows would not rename it
    made.rename(place)


def check_database(address: Address) -> None:
    """Try a database before MLflow does, which retries for minutes and upgrades unasked.

    Raises:
        UnreachableError: It cannot be reached now, or another program holds it.
        TrackingError: It is none, or of another version of MLflow.
    """
    place = address.results / DATABASE
    if address.own and not place.is_file():  # to open a pipe could wait for ever
        raise TrackingError(f"{place} is no file; move it away, and {_ANEW}")
    import sqlalchemy
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    try:
        engine = sqlalchemy.create_engine(address.uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            versions = list(_versions(sqlalchemy, connection))
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"{address.shown}: the driver '{error.name}' of this database is not installed"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        text = address.masked(str(getattr(error, "orig", error)))
        passing = isinstance(error, sqlalchemy.exc.OperationalError) and (
            not address.is_file or "locked" in text
        )
        kind = UnreachableError if passing else TrackingError
        advice = f"; move it away, and {_ANEW}" if address.own and not passing else ""
        raise kind(f"{address.shown} cannot be opened: {text}{advice}") from None
    scripts = ScriptDirectory(str(Path(utils.__file__).parents[1] / "db_migrations"))
    if versions and versions != list(scripts.get_heads()):
        raise TrackingError(_other_schema(address, versions, scripts))


def _versions(sqlalchemy: Any, connection: Any) -> list[str]:
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return []
    query = sqlalchemy.text("SELECT version_num FROM alembic_version")
    return [str(version) for version in connection.execute(query).scalars()]


def _other_schema(address: Address, versions: Sequence[str], scripts: Any) -> str:
    known = {script.revision for script in scripts.walk_revisions()}
    if set(versions) <= known:
        return (
            f"{address.shown} was made by an older MLflow; make a copy of it, then upgrade it: "
            f"mlflow db upgrade '{address.shown}'"
        )
    return f"{address.shown} was made by a newer MLflow; upgrade MLflow here to open it"
