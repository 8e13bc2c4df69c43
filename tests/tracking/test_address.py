from urllib.parse import unquote

import pytest

from harness.errors import TrackingError
from harness.tracking.address import database, mask, resolve


def test_default_is_the_database_in_the_results(tmp_path, monkeypatch):
    address = resolve(tmp_path / "r", None)
    assert address.own
    assert address.is_database
    assert address.uri == f"sqlite:///{tmp_path}/r/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve(tmp_path, None).uri == "http://server:5000"
    assert resolve(tmp_path, "https://other").uri == "https://other"
    assert not resolve(tmp_path, None).own


def test_a_path_with_odd_characters_is_quoted(tmp_path):
    uri = database(tmp_path / "50% ü?#")
    assert "?" not in uri
    assert "#" not in uri
    assert unquote(uri) == f"sqlite:///{tmp_path}/50% ü?#/mlflow.db"


@pytest.mark.parametrize(
    "uri", ["./mlruns", "mlruns", "file:///tmp/mlruns", "/abs/mlruns", r"C:\x"]
)
def test_a_folder_is_refused_with_what_to_do(tmp_path, uri):
    with pytest.raises(TrackingError, match="mlflow migrate-filestore"):
        resolve(tmp_path, uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:s3cret@host:5000/x",
        "postgresql://user:s3cret@host/db",
        "mysql+pymysql://user:p@s3cret@host/db",
        "https://s3cret@host",
        "postgresql://host/db?user=me&password=s3cret&ssl=1",
        "https://host/?access_token=s3cret",
    ],
)
def test_credentials_are_masked(tmp_path, uri):
    address = resolve(tmp_path, uri)
    assert "s3cret" not in address.shown
    assert "host" in address.shown
    assert "s3cret" not in address.masked(f"no route to {uri}: refused for {uri}")


def test_a_password_is_masked_wherever_it_stands(tmp_path):
    address = resolve(tmp_path, "postgresql://me:p%40ss%2Fw@host/db")
    assert "p@ss/w" not in address.masked("password 'p@ss/w' of me (p%40ss%2Fw) is wrong")
    assert mask("plain text, a@b.c") == "plain text, a@b.c"


def test_fingerprint_tells_stores_apart_but_not_users_or_moves(tmp_path):
    def fingerprint(uri, results="a"):
        return resolve(tmp_path / results, uri).fingerprint

    assert fingerprint("http://u:p@h") == fingerprint("http://v:q@h") == fingerprint("http://h")
    assert fingerprint("http://h") != fingerprint("http://i")
    assert fingerprint(None, "a") == fingerprint(None, "b")
