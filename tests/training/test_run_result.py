"""A run's folder as an object: what is there is read, and what is damaged is named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.training.run_result import (
    DamagedRunError,
    RunResult,
    outcome_of,
    read_run,
    recall_run,
)
from harness.training.run_status import ENDED, FAILURES, RETRIED, UNCOMMITTED, RunStatus
from harness.training.rundir import RunDir
from tests.benchmarks.generated import Generator
from tests.damage import FILES, KINDS
from tests.sealed import reseal

READERS: dict[str, Callable[[RunResult], Any]] = {
    "spec.json": RunResult.spec,
    "history.csv": RunResult.history,
    "per_class.csv": RunResult.per_class,
    "confusion.csv": RunResult.confusion,
    "predictions.npz": RunResult.predictions,
    "env.json": RunResult.env,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    home = tmp_path_factory.mktemp("finished")
    keys = {
        "name": "it",
        "datasets": [{"name": "digits", "imbalance_factor": 20}],
        "seeds": 1,
        "training": {"epochs": 1},
    }
    (spec,) = expand(load(keys)).runs
    return spec, Generator(Store(home, "it")).write(spec)


@pytest.fixture
def run(finished: tuple[RunSpec, Path], tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(finished[1], tmp_path / finished[1].name))


@pytest.fixture
def old(run: Path) -> Path:
    """A finished run of a version that kept no digests."""
    result = json.loads((run / "result.json").read_text())
    for name in ("files", "digest"):
        result.pop(name)
    (run / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return run


def test_a_run_that_is_whole_reads_as_it_was_written(
    finished: tuple[RunSpec, Path], run: Path
) -> None:
    found = read_run(run)
    assert (found.status, found.reason, found.key) == (RunStatus.DONE, "", finished[0].key)
    assert found.spec() == finished[0]
    assert [row["step"] for row in found.history()] == ["10", "20", "30"]
    names, matrix = found.confusion()
    assert names == found.values["class_names"] == [row["name"] for row in found.per_class()]
    stored = found.predictions()
    assert matrix.sum() == len(stored["labels"]) == found.metric("test", "n")
    right = stored["probabilities"].argmax(1) == stored["labels"]
    assert right.mean() == pytest.approx(found.metric("test", "accuracy"))
    assert found.env()["harness"] == "0.1.0"
    assert found.metric("val", "no such") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_named(run: Path, name: str, kind: str) -> None:
    whole = recall_run(run)
    KINDS[kind](run / name)
    with pytest.raises(DamagedRunError, match=name.replace(".", r"\.")) as caught:
        read_run(run)
    assert str(run) in str(caught.value)
    assert "--retry-failed" in str(caught.value)
    assert outcome_of(run)[0] == RunStatus.DAMAGED
    if name in READERS:  # also by who reads it later, or knew the run before
        with pytest.raises(DamagedRunError, match=name.replace(".", r"\.")):
            READERS[name](whole)


@pytest.mark.parametrize("kind", ["missing", "truncated", "other type", "pipe", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_without_digests_damage_is_named_by_who_reads_the_file(
    old: Path, name: str, kind: str
) -> None:
    KINDS[kind](old / name)
    if (name, kind) in {("history.csv", "truncated"), ("per_class.csv", "truncated")}:
        pytest.skip("a table that ends at the end of a cell may read like a whole one")
    with pytest.raises(DamagedRunError, match=name.replace(".", r"\.")):
        READERS[name](read_run(old))


@pytest.mark.parametrize("name", ["spec.json", "predictions.npz"])
def test_without_digests_another_run_and_cut_predictions_are_named(old: Path, name: str) -> None:
    KINDS["other key"](old / name)
    with pytest.raises(DamagedRunError, match=name.replace(".", r"\.")):
        READERS[name](read_run(old))


def test_without_digests_an_edited_spec_has_another_key(old: Path) -> None:
    spec = json.loads((old / "spec.json").read_text())
    (old / "spec.json").write_text(json.dumps({**spec, "seed": spec["seed"] + 1}))
    with pytest.raises(DamagedRunError, match=r"spec\.json was changed"):
        read_run(old).spec()


def test_an_edit_that_keeps_size_and_time_is_found_by_who_reads(run: Path) -> None:
    file = run / "confusion.csv"
    before = file.stat()
    KINDS["other key"](file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    with pytest.raises(DamagedRunError, match=r"confusion\.csv was changed"):
        read_run(run).confusion()


def test_an_edited_metric_is_named(run: Path) -> None:
    text = (run / "result.json").read_text()
    place = text.index('"accuracy": 0.') + len('"accuracy": 0.')
    digit = "1" if text[place] != "1" else "2"
    (run / "result.json").write_text(text[:place] + digit + text[place + 1 :])
    with pytest.raises(DamagedRunError, match=r"result\.json was changed"):
        read_run(run)


def test_files_that_were_copied_anew_are_read_and_found_whole(run: Path) -> None:
    for name in ("spec.json", "predictions.npz"):
        (run / name).touch()
    assert read_run(run).status == RunStatus.DONE


def test_weights_and_log_may_change(run: Path) -> None:
    (run / "model.pt").write_bytes(b"weights")
    RunDir(run).log("a note")
    assert read_run(run).status == RunStatus.DONE


def test_a_result_that_is_changed_on_purpose_can_be_sealed_again(run: Path) -> None:
    reseal(run, notes=["mended"])
    assert read_run(run).values["notes"] == ["mended"]


@pytest.mark.parametrize(
    "content",
    ["[]", "3", '"done"', "{}", '{"status": 3}', '{"status": "well", "metrics": {}, "cost": {}}'],
)
def test_a_result_of_the_wrong_kind_is_named(run: Path, content: str) -> None:
    (run / "result.json").write_text(content)
    with pytest.raises(DamagedRunError, match=r"result\.json"):
        read_run(run)


@pytest.mark.parametrize("kind", ["truncated", "other type", "pipe", "folder"])
def test_damage_to_an_error_is_named(tmp_path: Path, kind: str) -> None:
    RunDir(tmp_path).write_error("killed", "its process ended\nwith SIGKILL")
    found = read_run(tmp_path)
    assert (found.status, found.reason) == (RunStatus.KILLED, "its process ended")
    KINDS[kind](tmp_path / "error.json")
    with pytest.raises(DamagedRunError, match=r"error\.json"):
        read_run(tmp_path)


def test_a_folder_with_neither_is_damaged(tmp_path: Path) -> None:
    assert outcome_of(tmp_path)[0] == RunStatus.DAMAGED
    assert "neither result.json nor error.json" in outcome_of(tmp_path)[1]


def test_every_status_is_of_one_kind() -> None:
    kinds = [ENDED, FAILURES, {RunStatus.DAMAGED}, UNCOMMITTED]
    assert sorted(status for kind in kinds for status in kind) == sorted(RunStatus)
    assert FAILURES | {RunStatus.DAMAGED} == RETRIED
    assert f"{RunStatus.DONE}" == "done"


def test_predictions_that_do_not_fit_are_named(old: Path) -> None:
    with np.load(old / "predictions.npz") as stored:
        arrays = dict(stored)
    arrays["test_labels"] = arrays["test_labels"] + 90
    np.savez(old / "predictions.npz", **arrays)
    with pytest.raises(DamagedRunError, match="labels of no class"):
        read_run(old).predictions()
