"""`harness run --shard` and `harness merge`, as a user meets them."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from harness.app import compose
from harness.cli import main
from tests.conftest import tiny


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(compose, "mirrored", lambda *args: contextlib.nullcontext())
    monkeypatch.setattr(compose, "is_behind", lambda *args: False)
    Path("it.yaml").write_text(json.dumps(tiny(recipes={"it": ["mixup"]}, seeds=2)))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """Return the exit code of a command and what it said, on one line."""
    code: object = 0
    try:
        main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, " ".join((said.out + said.err).split())


def test_shards_are_done_merged_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("1", "2"):
        command = ("run", "it.yaml", "--executor", "inline", "--results", number)
        code, said = told(capsys, *command, "--shard", f"{number}/2")
        assert code == 0, said
        assert f"shard {number}/2: 2 runs; when all are done: harness merge DEST FOLDER" in said
    code, said = told(capsys, "merge", "all", "1", "2")
    assert code == 0, said
    assert said.startswith("tiny: 4 runs copied")
    assert "harness run FILE --results all" in said
    assert "4 runs were there already" in told(capsys, "merge", "all", "1", "2")[1]
    code, said = told(capsys, "run", "it.yaml", "--results", "all")
    assert code == 0, said
    assert "still missing" not in said
    assert "to do" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "it.yaml", "--shard", "3/2"], "--shard 3/2: expected I/N"),
        (["run", "it.yaml", "--address", "local"], "--address local: needs --executor ray"),
        (
            ["run", "it.yaml", "--executor", "inline", "--run-timeout", "9"],
            "--run-timeout needs --executor local or ray",
        ),
        (["run", "it.yaml", "--executor", "ray", "--device", "mps"], "it is auto, cpu or cuda"),
        (["merge", "all", "nowhere"], "there is no such results folder"),
        (["merge", "all"], "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = told(capsys, *arguments)
    assert code == 2
    assert message in said
