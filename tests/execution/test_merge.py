import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.analysis.tables import runs_table
from harness.errors import StoreError
from harness.execution.merge import Merged, merge
from harness.execution.store import Store
from harness.experiment.spec import RunSpec
from tests.conftest import tiny
from tests.sealed import reseal

GRID: dict[str, Any] = tiny(
    factors={"smote": ["none", "smote"], "mixup": ["none", "mixup"]}, seeds=2
)
APART = ["path", "seconds"]
"""Columns that say where a run is and how long it took."""


def do(results: Path, **options: Any) -> pd.DataFrame:
    return harness.run(GRID, results=results, executor="inline", track=False, **options)


@pytest.fixture(autouse=True, scope="module")
def _no_disk() -> Iterator[None]:
    """Wait for no disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The results of one machine, and their table."""
    results = tmp_path_factory.mktemp("whole")
    return results, do(results)


@pytest.fixture
def parts(whole: tuple[Path, pd.DataFrame], tmp_path: Path) -> list[Path]:
    """The same runs in two folders, half of them in each."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(folders):
        shutil.copytree(whole[0], folder)
        for stored in list(Store(folder, "tiny").runs().values())[number::2]:
            shutil.rmtree(stored.path)
    return folders


def test_shards_that_were_merged_give_the_table_of_one_machine_bit_for_bit(
    whole: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    parts = [tmp_path / str(number) for number in (1, 2, 3)]
    for number, folder in enumerate(parts, start=1):
        do(folder, shard=f"{number}/3")
        assert 2 <= len(Store(folder, "tiny").runs()) <= 3
    (merged,) = merge(tmp_path / "all", parts)
    assert merged == Merged("tiny", copied=8, known=0, failed=0)
    table = do(tmp_path / "all")  # nothing is missing: nothing is trained
    # compared bit by bit, not within a tolerance
    pd.testing.assert_frame_equal(
        table.drop(columns=APART), whole[1].drop(columns=APART), check_exact=True
    )
    one, other = (Store(folder, "tiny").runs() for folder in (whole[0], tmp_path / "all"))
    for key in one:
        for name in ("predictions.npz", "per_class.csv", "confusion.csv", "model.pt"):
            assert (one[key].path / name).read_bytes() == (other[key].path / name).read_bytes()


def test_runs_that_two_machines_did_are_the_same_run(
    whole: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    do(tmp_path / "again", only=("smote",))
    assert merge(tmp_path / "all", [whole[0], tmp_path / "again"]) == (Merged("tiny", 8, 0, 0),)


def test_what_was_merged_is_not_copied_again(parts: list[Path], tmp_path: Path) -> None:
    assert merge(tmp_path / "all", parts[:1]) == (Merged("tiny", 4, 0, 0),)
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 4, 4, 0),)
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 0, 8, 0),)
    assert list((tmp_path / "all" / "tiny" / ".running").iterdir()) == []


def test_merging_leaves_the_folders_as_they_are(parts: list[Path], tmp_path: Path) -> None:
    before = [sorted(Store(folder, "tiny").runs()) for folder in parts]
    merge(tmp_path / "all", parts)
    assert [sorted(Store(folder, "tiny").runs()) for folder in parts] == before


def one_of(folder: Path) -> Path:
    return next(iter(Store(folder, "tiny").runs().values())).path


def change_metric(path: Path) -> None:
    result = json.loads((path / "result.json").read_text())
    result["metrics"]["test"]["accuracy"] += 1e-16 + 1e-3
    reseal(path, metrics=result["metrics"])


def change_prediction(path: Path) -> None:
    with np.load(path / "predictions.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    arrays["test_probabilities"] = np.nextafter(arrays["test_probabilities"], 2)
    np.savez_compressed(path / "predictions.npz", allow_pickle=False, **arrays)
    reseal(path)


def change_history(path: Path) -> None:
    (path / "history.csv").write_text("step\n8\n")
    reseal(path)


def lose_confusion(path: Path) -> None:
    (path / "confusion.csv").unlink()
    reseal(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (change_metric, r"result\.json"),
        (change_prediction, r"predictions\.npz"),
        (change_history, r"history\.csv"),
        (lose_confusion, r"confusion\.csv"),
    ],
)
def test_two_different_results_of_a_run_are_refused_and_nothing_is_copied(
    change: Callable[[Path], object], what: str, parts: list[Path], tmp_path: Path
) -> None:
    path = one_of(parts[0])
    shutil.copytree(path, parts[1] / "tiny" / path.name)
    change(path)
    with pytest.raises(
        StoreError, match=rf"(?s)two different results.*{re.escape(path.name)}.*{what}"
    ):
        merge(tmp_path / "all", parts)
    assert Store(tmp_path / "all", "tiny").runs() == {}


def test_a_pipe_in_a_run_of_an_older_version_is_named_and_not_waited_for(
    parts: list[Path], tmp_path: Path
) -> None:
    path = one_of(parts[0])
    result = json.loads((path / "result.json").read_text())
    old = {name: value for name, value in result.items() if name not in ("files", "digest")}
    (path / "result.json").write_text(json.dumps(old))  # which lists no files
    twin = parts[1] / "tiny" / path.name
    shutil.copytree(path, twin)
    (twin / "history.csv").unlink()
    os.mkfifo(twin / "history.csv")
    with pytest.raises(StoreError, match=r"history\.csv cannot be read: .*a pipe"):
        merge(tmp_path / "all", parts)


def test_the_same_result_with_other_costs_is_the_same(parts: list[Path], tmp_path: Path) -> None:
    path = one_of(parts[0])
    twin = parts[1] / "tiny" / path.name
    shutil.copytree(path, twin)
    result = json.loads((twin / "result.json").read_text())
    result["cost"]["seconds"] = 1e6
    result["device"]["name"] = "another"
    reseal(twin, cost=result["cost"], device=result["device"])
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 8, 0, 0),)


def fail(path: Path) -> None:
    (path / "result.json").unlink()
    (path / "error.json").write_text(json.dumps({"schema": 1, "kind": "x", "message": "it broke"}))


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_failed_in_one_folder_and_is_done_in_another_is_done(
    which: int, parts: list[Path], tmp_path: Path
) -> None:
    path = one_of(parts[0])
    shutil.copytree(path, parts[1] / "tiny" / path.name)
    fail(parts[which] / "tiny" / path.name)
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 8, 0, 0),)
    assert not any(run.failed for run in Store(tmp_path / "all", "tiny").runs().values())


def test_a_run_that_failed_there_gives_way_to_the_one_that_is_done(
    parts: list[Path], tmp_path: Path
) -> None:
    merge(tmp_path / "all", parts[:1])
    fail(one_of(tmp_path / "all"))
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 5, 3, 0),)
    assert not any(run.failed for run in Store(tmp_path / "all", "tiny").runs().values())


def test_failed_runs_are_counted(parts: list[Path], tmp_path: Path) -> None:
    fail(one_of(parts[0]))
    assert merge(tmp_path / "all", parts) == (Merged("tiny", 8, 0, 1),)


def test_attempts_that_were_cut_off_are_refused_unless_they_may_be_left(
    parts: list[Path], tmp_path: Path, make_spec: Callable[..., RunSpec]
) -> None:
    Store(parts[1], "tiny").begin(make_spec())
    with pytest.raises(StoreError, match=r"cut off in .*b/tiny \(1 run\).*--unfinished"):
        merge(tmp_path / "all", parts)
    assert merge(tmp_path / "all", parts, unfinished=True) == (Merged("tiny", 8, 0, 0),)


def test_a_folder_in_which_a_driver_is_at_work_is_refused(
    parts: list[Path], tmp_path: Path
) -> None:
    with Store(parts[0], "tiny").locked(), pytest.raises(StoreError, match="a/tiny is in use by"):
        merge(tmp_path / "all", parts)


def test_folders_that_make_no_sense_are_refused(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "again").symlink_to(parts[0])
    for folders, message in (
        ([tmp_path / "none"], "no such results folder"),
        ([tmp_path / "empty"], "holds no experiment"),
        ([parts[0] / "tiny"], "holds no experiment"),
        ([parts[0], tmp_path / "again"], "named twice"),
        ([tmp_path / "all"], "no such results folder"),
    ):
        with pytest.raises(StoreError, match=message):
            merge(tmp_path / "all", folders)
    with pytest.raises(StoreError, match="named twice"):
        merge(parts[0], parts)


def test_a_folder_of_a_run_that_leads_out_of_itself_is_refused(
    parts: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("not yours")
    (one_of(parts[0]) / "log2.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match=r"log2\.txt is no file"):
        merge(tmp_path / "all", parts)


def test_a_folder_that_holds_another_run_than_its_name_says_is_refused(
    parts: list[Path], tmp_path: Path
) -> None:
    path = one_of(parts[0])
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "key": "0" * 12}))
    reseal(path)
    with pytest.raises(StoreError, match="is of another run"):
        merge(tmp_path / "all", parts)


def test_every_experiment_of_the_folders_is_merged(parts: list[Path], tmp_path: Path) -> None:
    shutil.copytree(parts[0] / "tiny", parts[0] / "other")
    assert [merged.experiment for merged in merge(tmp_path / "all", parts)] == ["other", "tiny"]


def test_the_table_of_a_store_is_what_was_compared(whole: tuple[Path, pd.DataFrame]) -> None:
    from harness.experiment.expand import expand
    from harness.experiment.schema import load

    again = runs_table(Store(whole[0], "tiny"), expand(load(GRID)).runs)
    pd.testing.assert_frame_equal(again, whole[1], check_exact=True)
