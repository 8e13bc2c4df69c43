"""Where MLflow records: a local database by default, or what the user named.

Credentials in an address never reach a message, and do not tell two addresses apart.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from harness.errors import TrackingError

DATABASE = "mlflow.db"

_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_SECRET = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|token|secret))=[^&\s'\"]+")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Address:
    """An MLflow tracking store.

    Attributes:
        uri: Its URI, perhaps with credentials.
        results: The results folder, absolute.
        own: Whether it is the database in the results folder.
    """

    uri: str
    results: Path
    own: bool

    @property
    def is_database(self) -> bool:
        """Whether MLflow opens a database itself, without a server in between."""
        return urlsplit(self.uri).scheme.partition("+")[0] in _DATABASES

    @property
    def is_file(self) -> bool:
        """Whether it is a database in one file."""
        return self.uri.startswith("sqlite:")

    @property
    def is_server(self) -> bool:
        """Whether it is an MLflow server."""
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def fingerprint(self) -> str:
        """Twelve digits that tell stores apart; the same wherever the results folder moves."""
        text = "own" if self.own else _USER_INFO.sub("", self.uri)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def shown(self) -> str:
        """The URI for a message."""
        return mask(self.uri)

    def masked(self, text: str) -> str:
        """Return `text` without the credentials of this address, however they are written."""
        try:
            password = urlsplit(self.uri).password
        except ValueError:
            password = None
        for secret in {password, unquote(password)} if password else ():
            text = text.replace(secret, "***")
        return mask(text)


def mask(text: str) -> str:
    """Return `text` with user, password and tokens of every URI in it hidden."""
    return _SECRET.sub(r"\1=***", _USER_INFO.sub("***@", text))


def database(results: Path) -> str:
    """Return the URI of the database in a results folder."""
    return sqlite(results.expanduser().absolute() / DATABASE)


def sqlite(path: Path) -> str:
    """Return the URI of a database in a file, by its absolute path."""
    # the path of a database URI is unquoted when read; what is not ambiguous stays readable
    return "sqlite:///" + re.sub(r"[%?#]", lambda match: quote(match[0]), path.as_posix())


def resolve(results: Path, uri: str | None) -> Address:
    """Return where to record: `uri`, else MLFLOW_TRACKING_URI, else the results folder.

    Raises:
        TrackingError: It is a folder, which MLflow no longer writes to.
    """
    results = results.expanduser().absolute()
    local = database(results)
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or local
    scheme = urlsplit(chosen).scheme
    # one letter is the drive of a Windows path
    if chosen != "databricks" and (scheme in ("", "file") or len(scheme) == 1):
        raise TrackingError(
            f"tracking URI '{mask(chosen)}' is a folder, and MLflow no longer records into folders "
            "(its file store, ./mlruns); give a database (sqlite:///FILE.db) or a server "
            "(http://…), or leave tracking.uri and MLFLOW_TRACKING_URI out to use the database in "
            "the results folder. Old folders are converted by: mlflow migrate-filestore"
        )
    return Address(chosen, results, own=chosen == local)
