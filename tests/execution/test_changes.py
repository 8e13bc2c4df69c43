"""What a person is told when runs are done anew that looked done."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.app import compose
from harness.cli import main
from harness.datasets.base import forget
from harness.execution.changes import changes
from harness.execution.executors.inline import Inline
from harness.execution.runner import run
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Experiment, load
from harness.experiment.spec import Training
from harness.strategies.mixup import MixUp
from harness.training.run_options import RunOptions
from tests.conftest import tiny
from tests.sealed import reseal


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve images."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 255, (8, 8, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "data" / name / f"{i}.png"), image)
    return tmp_path / "data"


def images(path: object, **more: Any) -> dict[str, Any]:
    dataset = {"name": "image_folder", "path": str(path), "image_size": 8}
    return tiny(
        datasets=[dataset], recipes={"it": ["mixup"]}, training={"max_steps": 1, "batch_size": 8}
    ) | (more)


def do(experiment: Experiment, store: Store) -> list[str]:
    """Execute what is missing, as a command would; return what it would say before."""
    forget()
    specs = expand(experiment).runs
    said = changes(store, specs)
    store.create()
    run([spec for spec in specs if spec.key not in store.runs()], store, Inline(RunOptions("cpu")))
    return said


def test_changed_data_are_named(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "results", "tiny")
    assert do(load(images(folder)), store) == []
    assert do(load(images(folder)), store) == []
    (folder / "a" / "0.png").unlink()
    (said,) = do(load(images(folder)), store)
    assert said.startswith(
        "the files or labels of dataset 'image_folder' have changed: 2 runs made before"
    )
    assert do(load(images(folder)), store) == []
    assert len(store.runs()) == 4


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (MixUp, "strategy 'mixup' is of version 9 now, and was of version 1: 1 run made"),
        (Training, "training is of version 9 now, and was of version 1: 2 runs made"),
    ],
)
def test_a_raised_version_is_named(
    part: type, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load(tiny(recipes={"it": ["mixup"]}))
    store = Store(tmp_path / "results", "tiny")
    do(experiment, store)
    monkeypatch.setattr(part, "version", 9)
    (found,) = do(experiment, store)
    assert found.startswith(said)


def test_other_parameters_are_what_was_asked_for(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    store = Store(tmp_path / "results", "tiny")
    do(make_experiment(), store)
    other = {**tiny()["training"], "lr": 0.01}
    assert do(make_experiment(training=other), store) == []
    assert do(make_experiment(seeds=2), store) == []


def test_runs_of_before_versions_were_kept_and_torn_ones_say_nothing(
    make_experiment: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results", "tiny")
    do(make_experiment(), store)
    (stored,) = store.runs().values()
    spec = json.loads((stored.path / "spec.json").read_text())
    del spec["versions"]
    monkeypatch.setattr(Training, "version", 9)
    for text in (json.dumps(spec), "{"):
        (stored.path / "spec.json").write_text(text)
        assert changes(store, expand(make_experiment()).runs) == []


def test_the_command_says_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "mirrored", lambda *args: contextlib.nullcontext())
    Path("it.yaml").write_text(json.dumps(images(folder)))
    command = ["run", "it.yaml", "--executor", "inline"]
    for number in range(2):
        forget()
        with pytest.raises(SystemExit):
            main(command)
        said = capsys.readouterr()
        assert ("have changed: 2 runs made before" in said.err) == bool(number)
        assert "different versions" not in said.out
        (folder / "a" / "0.png").unlink(missing_ok=True)
    for path in Path("results/tiny").glob("*/env.json"):
        env = json.loads(path.read_text())
        env["versions"]["torch"] = f"9.{path.parent.name[-12:]}"
        path.write_text(json.dumps(env))
        reseal(path.parent)
    with pytest.raises(SystemExit):
        main(command)
    assert "made with different versions: image_folder, tiny_cnn" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize("spelling", ["data", "./data/", "x/../data", "link", "{here}/data"])
def test_a_key_does_not_depend_on_how_a_path_is_spelled(
    spelling: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    keys = [spec.key for spec in expand(load(images(folder))).runs]
    path = spelling.format(here=tmp_path)
    assert [spec.key for spec in expand(load(images(path))).runs] == keys


def test_a_key_does_not_depend_on_what_the_process_did_before(folder: Path) -> None:
    Path("it.yaml").write_text(json.dumps(images("data")))
    code = (
        "from harness.experiment.schema import load; from harness.experiment.expand import expand;"
        "print(*[spec.key for spec in expand(load('it.yaml')).runs])"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expand(load(tiny(recipes={"it": [{"name": "mixup", "alpha": 3}]}, seeds=4)))
    changed = json.loads(Path("it.yaml").read_text())
    shuffled = dict(reversed(changed.items()))
    assert [spec.key for spec in expand(load(shuffled)).runs] == fresh.stdout.split()
