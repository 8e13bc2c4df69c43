"""One damaged run folder: every command names it, none ends with a traceback or waits for ever."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from tests.benchmarks.generated import Generator
from tests.damage import FILES, KINDS

FILE = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
recipes: {mixed: [mixup]}
seeds: 2
training: {max_steps: 3, batch_size: 32}
keep_weights: none
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of four runs that are done."""
    home = tmp_path_factory.mktemp("finished")
    (home / "it.yaml").write_text(FILE)
    generator = Generator(Store(home / "results", "it"), names=tuple("0123456789"))
    for spec in expand(load(str(home / "it.yaml"))).runs:
        generator.write(spec)
    return home


@pytest.fixture
def command(finished, tmp_path, monkeypatch, capsys):
    """Return a function that gives a command in a copy of the study, without MLflow."""
    home = Path(shutil.copytree(finished, tmp_path / "home"))
    monkeypatch.chdir(home)
    monkeypatch.setattr("harness.app.compose.is_behind", lambda *arguments: False)
    monkeypatch.setattr("harness.app.compose.mirrored", _no_mirror)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        told = capsys.readouterr()
        return end.value.code, told.out + told.err

    return run


@contextlib.contextmanager
def _no_mirror(*arguments):
    yield None


@contextlib.contextmanager
def _not_attached(*arguments):
    yield lambda files, note: None


def victim():
    return next(Path("results/it").glob("*mixed*-s1-*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_run_names_the_damage_and_trains_nothing(command, name, kind):
    path = victim()
    KINDS[kind](path / name)
    if (name, kind) == ("result.json", "missing"):
        return  # nothing is left of it, and it is done anew: below
    code, told = command("run", "it.yaml")
    assert code == 1
    assert "seed 1: damaged: " in told
    assert name in told
    assert "1 run is not done" in told
    assert "--retry-failed" in told
    assert path.is_dir()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("result.json", "pipe"), ("result.json", "missing"), ("history.csv", "missing"),
     ("env.json", "truncated"), ("predictions.npz", "other key")],
)  # fmt: skip
def test_plan_report_decide_and_confirm_name_it_too(command, name, kind, monkeypatch):
    monkeypatch.setattr("harness.app.reporting.summary.ahead", _not_attached)
    KINDS[kind](victim() / name)
    code, told = command("plan", "it.yaml")
    assert not code
    assert "1 run is damaged" in told
    code, told = command("report", "it.yaml", "--no-thumbnails")
    assert not code
    page = Path("results/it/report/index.html").read_text()
    assert "damaged" in page
    assert name in page
    code, told = command("decide", "it.yaml")
    assert not code
    assert "is damaged" in told
    assert name in told
    code, told = command("confirm", "it.yaml")
    assert "is damaged" in told
    assert name in told


def test_retry_failed_does_a_damaged_run_again(command):
    path = victim()
    KINDS["pipe"](path / "result.json")
    code, told = command("run", "it.yaml", "--retry-failed", "--executor", "inline")
    assert (code, "1 run to do" in told, "damaged" in told) == (0, True, False), told
    assert json.loads((victim() / "result.json").read_text())["status"] == "done"


def test_a_run_of_which_nothing_is_left_is_done_anew_and_named(command):
    KINDS["missing"](victim() / "result.json")
    code, told = command("run", "it.yaml", "--executor", "inline")
    assert code == 0
    assert "neither result.json nor error.json; the run is done anew" in told
    assert json.loads((victim() / "result.json").read_text())["status"] == "done"
