"""The password of a tracking server is in no message and in no file."""

import json
import os
import sys
from pathlib import Path

import pytest

from harness.app import compose
from harness.cli import main
from tests.conftest import tiny

SECRET = "s3cr3t-p4ss"
URI = f"http://someone:{SECRET}@127.0.0.1:9/"


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("it.yaml").write_text(json.dumps(tiny()))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code, "".join(capfd.readouterr())


def files_with(text: str) -> list[Path]:
    found = [path for path in Path().rglob("*") if path.is_file()]
    assert len(found) > 1
    return [path for path in found if text.encode() in path.read_bytes()]


@pytest.mark.parametrize("way", ["environment", "set"])
def test_a_run_whose_server_is_down_tells_and_keeps_no_password(
    way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    more = []
    if way == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    else:
        more = ["--set", f"tracking.uri={URI}"]
    code, said = told(capfd, "run", "it.yaml", "--executor", "inline", *more)
    assert code == 0
    assert "***@127.0.0.1:9" in said, "it is told which server does not answer"
    assert SECRET not in said
    assert files_with(SECRET) == []
    code, said = told(capfd, "report", "it.yaml", *more)
    assert code == 0, said
    assert SECRET not in said
    assert files_with(SECRET) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "it.yaml", "--set", f"tracking.url={URI}"],
        ["run", "it.yaml", "--set", f"tracking={URI}"],
        ["run", "it.yaml", "--set", f"tracking.uri.x={URI}"],
        ["run", "it.yaml", "--only", URI],
        ["plan", "it.yaml", "--set", f"name={URI}"],
    ],
)
def test_an_error_that_repeats_an_address_leaves_out_its_password(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = told(capfd, *arguments)
    assert code == 2
    assert said.startswith("error: ")
    assert SECRET not in said


def test_the_command_that_goes_on_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "execute", interrupted)
    arguments = ["run", "it.yaml", "--set", f"tracking.uri={URI}"]
    monkeypatch.setattr(sys, "argv", ["harness", *arguments])
    code, said = told(capfd, *arguments)
    assert code == 130
    assert "tracking.uri=http://***@127.0.0.1:9/" in said
    assert SECRET not in said
