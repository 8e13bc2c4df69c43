import contextlib
import csv
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError, TrackingError
from harness.execution.runner import Progressed
from harness.experiment.expand import expand
from harness.experiment.schema import Tracking
from harness.tracking import mirror as module
from harness.tracking import recorder
from harness.tracking.address import database
from harness.tracking.ledger import Ledger
from harness.tracking.mirror import is_behind, open_tracking, sync
from harness.tracking.mlflow import Connection, UnreachableError


@pytest.fixture
def warned():
    return []


@pytest.fixture
def opened(results, experiment, warned):
    """Opens a mirror that is closed whatever happens, so that no thread outlives a test."""
    mirrors = []

    def make(**tracking):
        changed = replace(experiment, tracking=Tracking(**tracking))
        mirrors.append(open_tracking(results, changed, warned.append))
        return mirrors[-1]

    yield make
    for mirror in mirrors:
        mirror.close()


def evaluation(step, **values):
    return Progressed(step, 40, {"train/loss": 1.0, "lr": 0.1, **values})


def under_way(mirror, spec):
    """A run that MLflow knows of: with `at_once`, from its first evaluation on."""
    mirror.started(spec)
    mirror.progressed(spec, evaluation(4))


def drain(mirror):
    """Wait until the thread of a mirror has done all that it was given."""
    done = threading.Event()
    mirror._tasks.put(done.set)
    assert done.wait(60)


def run_one(mirror, committer, spec, **options):
    mirror.started(spec)
    path = committer.commit(spec, **options)
    mirror.finished(spec, options.get("status", "done"), path)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with open(path / "per_class.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def test_a_grid_is_read_back_whole(opened, committer, specs, read, results, warned):
    with opened() as mirror:
        paths = {spec.key: run_one(mirror, committer, spec) for spec in specs}
    reader = read(results)
    assert reader.statuses() == ["FINISHED"] * len(specs)
    assert warned == []
    for spec in specs:
        run = reader.one(spec)
        found = json.loads((paths[spec.key] / "result.json").read_text())
        for split in ("val", "test"):
            for name in ("balanced_accuracy", "macro_f1", "nll"):
                assert run.data.metrics[f"{split}/{name}"] == found["metrics"][split][name]
        for row in table(paths[spec.key]):
            for column in ("precision", "recall", "f1"):
                assert run.data.metrics[f"test_{column}/{row['name']}"] == float(row[column])
        assert run.data.metrics["cost/seconds"] == 2.5
        assert "cost/peak_memory_mb" not in run.data.metrics
        assert run.data.params["mixup"] == dict(spec.levels)["mixup"]
        assert run.data.tags["factor.mixup"] == dict(spec.levels)["mixup"]
        assert run.data.tags["harness.status"] == "done"
        assert run.data.tags["harness.device"] == "cpu"
        assert run.data.tags["harness.subset_digest"] == "5" * 64
        assert run.data.tags["harness.precision"] == "fp32"
        assert run.data.tags["harness.recipe"] == spec.recipe
        assert spec.key in run.data.tags["mlflow.note.content"]
        assert " · digits-lt20 · " in run.info.run_name
        assert reader.artifacts(run) == {
            *("per_class.csv", "confusion.csv", "confusion.svg", "history.csv"),
            *("spec.json", "result.json", "env.json", "log.txt"),
        }


def test_history_has_each_step_once_live_or_not(opened, committer, specs, read, results, at_once):
    live, quiet = specs[:2]
    with opened() as mirror:
        mirror.started(live)
        for step in (4, 8, 12, 16, 20, 40):
            mirror.progressed(live, evaluation(step, **{"val/accuracy": 0.5}))
        mirror.finished(live, "done", committer.commit(live))
        run_one(mirror, committer, quiet)
    reader = read(results)
    for spec in (live, quiet):
        run = reader.one(spec)
        for key in ("train/loss", "lr", "val/accuracy"):
            steps = [step for step, _ in reader.history(run, key)]
            assert steps == list(range(4, 44, 4)), key
        assert run.data.params["steps"] == "40"
        times = reader.times(run, "train/loss")
        assert times == sorted(times)
    assert reader.history(reader.one(live), "train/loss")[0] == (4, 1.0)
    assert reader.history(reader.one(quiet), "train/loss")[0] == (4, 2.0)


def test_points_of_a_live_run_are_seen_before_it_ends(opened, specs, read, results, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    logged = threading.Event()
    log = Connection.log

    def watched(self, run_id, points=(), *rest, **more):
        log(self, run_id, points, *rest, **more)
        if points:
            logged.set()

    monkeypatch.setattr(Connection, "log", watched)
    mirror = opened()
    mirror.started(specs[0])
    mirror.progressed(specs[0], evaluation(4))
    assert logged.wait(30)
    run = read(results).one(specs[0])
    assert run.info.status == "RUNNING"
    assert run.data.metrics["train/loss"] == 1.0
    assert run.data.params["recipe"] == specs[0].recipe


def test_a_run_seen_before_its_first_evaluation_has_all_of_its_parameters(
    opened, committer, specs, read, results, at_once
):
    mirror = opened()
    mirror.started(specs[0])
    mirror.progressed(specs[0], evaluation(4))
    mirror.started(specs[1])
    for spec in specs[:2]:
        mirror.finished(spec, "done", committer.commit(spec))
    mirror.close()
    for spec in specs[:2]:
        assert read(results).one(spec).data.params["steps"] == "40"


def test_a_long_run_is_seen_while_short_ones_come_and_go(opened, committer, specs, monkeypatch):
    made, create = [], Connection.create
    monkeypatch.setattr(
        Connection, "create", lambda self, *args: made.append(args[0]) or create(self, *args)
    )
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
    mirror, full = opened(), threading.Event()
    mirror._tasks.put(full.wait)  # the thread never finds the queue empty
    mirror.started(specs[0])
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
    mirror.started(specs[1])
    mirror.finished(specs[1], "done", committer.commit(specs[1]))
    full.set()
    mirror.close()
    assert made[0].startswith(f"{specs[0].recipe} ")


def test_a_run_that_cannot_be_written_leaves_the_other_live_ones(
    opened, committer, specs, read, results, warned, monkeypatch, at_once
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    log = Connection.log
    mirror = opened()
    for spec in specs[:3]:
        under_way(mirror, spec)
    drain(mirror)
    bad = read(results).one(specs[1]).info.run_id

    def flaky(self, run_id, *args, **more):
        if run_id == bad:
            raise TrackingError("it was deleted")
        log(self, run_id, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 1000.0)
    for spec in specs[:3]:
        mirror.progressed(spec, evaluation(8))
    drain(mirror)
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
    mirror.progressed(specs[0], evaluation(12))  # the points of all are due
    for spec in (specs[0], specs[2]):
        mirror.finished(spec, "done", committer.commit(spec))
    mirror.close()
    assert len(warned) == 1
    assert read(results).statuses() == ["FINISHED", "FINISHED", "RUNNING"]


def test_short_runs_take_one_request_of_points(opened, committer, specs, monkeypatch):
    calls = []
    log = Connection.log
    monkeypatch.setattr(
        Connection, "log", lambda self, *args, **more: (calls.append(1), log(self, *args, **more))
    )
    with opened() as mirror:
        mirror.started(specs[0])
        for step in range(4, 44, 4):
            mirror.progressed(specs[0], evaluation(step))
        mirror.finished(specs[0], "done", committer.commit(specs[0]))
    assert len(calls) == 1


def test_failed_diverged_and_abandoned_runs(
    opened, committer, specs, read, results, at_once, monkeypatch
):
    failed, diverged, abandoned, unseen = specs[:4]
    with opened() as mirror:
        run_one(mirror, committer, failed, status="failed")
        run_one(mirror, committer, diverged, status="diverged")
        under_way(mirror, abandoned)
        mirror.abandoned(abandoned)
    monkeypatch.setattr(recorder, "FLUSH_SECONDS", 5.0)
    with opened() as mirror:
        mirror.started(unseen)
        mirror.abandoned(unseen)
    reader = read(results)
    assert reader.one(failed).info.status == "FAILED"
    assert reader.one(failed).data.tags["harness.error"] == "the data is gone"
    assert "error.json" in reader.artifacts(reader.one(failed))
    assert reader.one(diverged).info.status == "FAILED"
    assert reader.one(diverged).data.tags["diverged"] == "1"
    assert "diverged" not in reader.one(failed).data.tags
    assert reader.one(abandoned).info.status == "KILLED"
    assert reader.one(abandoned).info.end_time is not None
    assert len(reader.runs()) == 3, "nothing of a run that ended before there was anything to say"


def test_nothing_infinite_or_nan_is_logged(opened, committer, specs, read, results, at_once):
    spec = specs[0]
    with opened() as mirror:
        mirror.started(spec)
        mirror.progressed(spec, evaluation(4, **{"val/nll": math.inf, "val/accuracy": math.nan}))
        path = committer.attempt(spec)
        history = (path / "history.csv").read_text().replace("0.45", "inf")
        assert "inf" in history
        (path / "history.csv").write_text(history.replace("0.25", "nan"))
        mirror.finished(spec, "done", committer.store.commit(spec, path))
    run = read(results).one(spec)
    assert run.data.tags["diverged"] == "1"
    points = [p for key in run.data.metrics for p in read(results).history(run, key)]
    assert all(math.isfinite(value) and abs(value) < 1e300 for _, value in points)


def test_strange_class_names_have_keys_and_keep_their_true_names(
    opened, committer, specs, read, results, warned
):
    names = ["🐱", "a/b", 'say "x", (y)', "x" * 300, "..", "Кошка", "100%", "", "c@d", "plus"]
    with opened() as mirror:
        path = run_one(mirror, committer, specs[0], names=names)
    assert warned == []
    run = read(results).one(specs[0])
    keys = [key for key in run.data.metrics if key.startswith("test_recall/")]
    assert len(keys) == 10
    assert {"test_recall/u1F431", "test_recall/a_b", "test_recall/Кошка"} <= set(keys)
    kept = Path(run.info.artifact_uri) / "per_class.csv"
    assert [row["name"] for row in table(kept.parent)] == names == [r["name"] for r in table(path)]


def test_classes_that_share_a_key_leave_no_run_behind(results, experiment, committer, specs, read):
    committer.commit(specs[0], names=["a/b", "a_b"])
    committer.commit(specs[1])
    for _ in range(2):
        assert "both be recorded" in sync(results, experiment).unreadable[0]
    assert read(results).statuses() == ["FINISHED"]


def test_many_classes_keep_within_the_limit(opened, committer, specs, read, results):
    names = [f"class {k}" for k in range(60)]
    counts = [200] * 50 + [5] * 10
    with opened(per_class=12) as mirror:
        run_one(mirror, committer, specs[0], names=names, counts=counts)
    keys = [k for k in read(results).one(specs[0]).data.metrics if k.startswith("test_recall/")]
    assert len(keys) == 12
    assert len([key for key in keys if int(key.split()[-1]) >= 50]) >= 9


def test_t11_what_is_undefined_is_missing_and_never_zero(opened, committer, specs, read, results):
    with opened() as mirror:
        path = run_one(mirror, committer, specs[0], counts=[200] * 5 + [5] * 5)
    found = json.loads((path / "result.json").read_text())["metrics"]["test"]
    assert found["recall_medium"] is None
    metrics = read(results).one(specs[0]).data.metrics
    assert "test/recall_medium" not in metrics
    assert metrics["test/recall_few"] == found["recall_few"]


def test_the_training_set_is_logged_without_data_or_paths(opened, committer, specs, read, results):
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
    (entry,) = read(results).one(specs[0]).inputs.dataset_inputs
    assert entry.dataset.name == "digits-lt20"
    assert len(entry.dataset.digest) == 36
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "train"}
    assert json.loads(entry.dataset.profile)["classes"] == 10
    assert str(results) not in json.dumps(entry.dataset.to_dictionary())


def test_another_attempt_is_a_new_run_and_the_old_one_is_superseded(
    opened, committer, specs, read, results
):
    spec = specs[0]
    for status in ("failed", "done"):  # two commands: within one, a key is run once
        with opened() as mirror:
            run_one(mirror, committer, spec, status=status)
    reader = read(results)
    assert reader.statuses() == ["FINISHED"]
    (old,) = reader.removed()
    assert (old.info.status, old.data.tags["superseded"]) == ("FAILED", "1")
    assert "superseded" not in reader.one(spec, **{"harness.status": "done"}).data.tags


def test_sync_fills_an_empty_mlflow_once(results, experiment, committer, specs, read):
    for spec in specs:
        committer.commit(spec, status="failed" if spec is specs[1] else "done")
    assert is_behind(results, experiment)
    assert sync(results, experiment).mirrored == len(specs)
    assert not is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced()
    reader = read(results)
    assert reader.statuses() == ["FAILED"] + ["FINISHED"] * (len(specs) - 1)
    run = reader.one(specs[0])
    assert run.info.end_time - run.info.start_time == 2500
    assert "mlflow.source.git.commit" not in run.data.tags
    assert len(reader.history(run, "lr")) == 10


def test_nothing_appears_twice_when_mirrored_jsonl_is_lost(
    results, experiment, committer, specs, read
):
    for spec in specs:
        committer.commit(spec)
    sync(results, experiment)
    (committer.store.path / "mirrored.jsonl").unlink()
    assert is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced(known=len(specs))
    assert len(read(results).runs()) == len(specs)
    assert not is_behind(results, experiment)


def test_a_lost_database_is_filled_anew_wherever_the_results_are(
    results, experiment, committer, specs, read, tmp_path, blank
):
    for spec in specs[:2]:
        committer.commit(spec)
    sync(results, experiment)
    moved = tmp_path / "moved 50% ü"
    shutil.copytree(results, moved)
    (moved / "mlflow.db").unlink()
    assert is_behind(moved, experiment)
    shutil.copy(blank, moved / "mlflow.db")
    assert sync(moved, experiment).mirrored == 2
    assert len(read(moved).runs()) == 2
    run = read(moved).one(specs[0])
    assert run.info.artifact_uri.startswith(str(moved / "mlartifacts" / "study"))
    assert "result.json" in read(moved).artifacts(run)


def test_a_moved_database_is_known_and_says_where_artifacts_are(
    results, experiment, committer, specs, read, tmp_path, warned
):
    committer.commit(specs[0])
    sync(results, experiment)
    moved = tmp_path / "moved"
    results.rename(moved)
    assert not is_behind(moved, experiment)
    committer.store = module.Store(moved, experiment.name)
    with open_tracking(moved, experiment, warned.append) as mirror:
        run_one(mirror, committer, specs[1])
    assert len(read(moved).runs()) == 2
    assert not results.exists()
    assert len(warned) == 1
    assert "delete" in warned[0]
    assert str(moved / "mlflow.db") in warned[0]


def test_a_run_that_a_killed_driver_left_is_closed_and_stands_once(
    opened, results, experiment, committer, specs, read, at_once
):
    done, lost = specs[:2]
    mirror = opened()
    under_way(mirror, done)
    under_way(mirror, lost)
    mirror.close()  # the driver dies here, after committing one of them
    committer.commit(done)
    assert read(results).statuses() == ["RUNNING", "RUNNING"]
    assert is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced(mirrored=1, closed=2)
    assert read(results).statuses() == ["FINISHED", "KILLED", "KILLED"]
    left = read(results).one(lost)
    assert left.info.status == "KILLED"
    assert left.data.tags["harness.status"] == "killed"
    assert "is done again" in left.data.tags["mlflow.note.content"]
    assert not is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced()


RESUMED = ["resumed from step 12 of 40"]


def cut_off(opened, store, spec, *, told=True):
    """A run whose driver ended at step 12 of 40, heard of up to step 16."""
    mirror = opened()
    attempt = store.begin(spec)
    mirror.started(spec)
    for step in (4, 8, 12, 16):
        mirror.progressed(spec, evaluation(step))
    if told:
        mirror.abandoned(spec)
    mirror.close()
    (attempt / "checkpoint.latest").write_bytes(b"of step 12")
    store.set_aside(attempt)


@pytest.mark.parametrize("told", [True, False], ids=["interrupted", "driver killed"])
def test_a_run_goes_on_from_its_checkpoint_in_the_same_mlflow_run(
    told, opened, committer, specs, read, results, at_once
):
    spec = specs[0]
    cut_off(opened, committer.store, spec, told=told)
    before = read(results).one(spec)
    assert before.info.status == ("KILLED" if told else "RUNNING")

    mirror = opened()
    attempt = committer.attempt(spec, notes=RESUMED)
    mirror.started(spec)
    for step in (4, 8, 12, 16, 20):  # a slot tells again what was before the checkpoint
        mirror.progressed(spec, evaluation(step))
    path = committer.store.commit(spec, attempt)
    mirror.finished(spec, "done", path)
    mirror.close()

    assert read(results).statuses() == ["FINISHED"]
    after = read(results).one(spec)
    assert after.info.run_id == before.info.run_id
    assert after.info.start_time == before.info.start_time
    assert after.data.tags["harness.status"] == "done"
    steps = [step for step, _ in read(results).history(after, "lr")]
    assert steps == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40], "each once"
    assert read(results).removed() == []


def test_a_checkpoint_that_could_not_be_used_leaves_no_run_of_two_attempts(
    opened, committer, specs, read, results, at_once
):
    spec = specs[0]
    cut_off(opened, committer.store, spec)
    (before,) = read(results).runs()
    mirror = opened()
    attempt = committer.attempt(spec, notes=["the checkpoint of step 12 was not used: …"])
    mirror.started(spec)
    for step in (4, 8, 12, 16, 20):
        mirror.progressed(spec, evaluation(step))
    mirror.finished(spec, "done", committer.store.commit(spec, attempt))
    mirror.close()
    assert read(results).statuses() == ["FINISHED", "KILLED"]
    old = read(results).client.get_run(before.info.run_id)
    assert old.info.status == "KILLED"
    assert "trained again from scratch" in old.data.tags["mlflow.note.content"]
    whole = read(results).one(spec, **{"harness.status": "done"})
    losses = read(results).history(whole, "train/loss")
    assert losses == [(4 * (k + 1), 2.0 / (k + 1)) for k in range(10)], "as history.csv has them"


def test_a_run_with_another_name_since_is_a_run_of_its_own(
    opened, committer, specs, read, results, warned, at_once
):
    spec = specs[0]
    cut_off(opened, committer.store, spec)
    renamed = replace(spec, recipe="by another name")
    assert renamed.key == spec.key
    mirror = opened()
    attempt = committer.attempt(renamed, notes=RESUMED)
    mirror.started(renamed)
    mirror.finished(renamed, "done", committer.store.commit(renamed, attempt))
    mirror.close()
    assert warned == []
    assert read(results).statuses() == ["FINISHED", "KILLED"]
    found = read(results).one(spec, **{"harness.status": "done"})
    assert found.data.params["recipe"] == "by another name"


def test_an_attempt_without_a_checkpoint_is_a_run_of_its_own(
    opened, committer, specs, read, results, at_once
):
    spec = specs[0]
    cut_off(opened, committer.store, spec)
    for path in committer.store.attempts.running.glob("*/checkpoint.latest"):
        path.unlink()
    mirror = opened()
    run_one(mirror, committer, spec)
    mirror.close()
    assert read(results).statuses() == ["FINISHED", "KILLED"]


def test_a_run_deleted_before_it_goes_on_is_made_anew(
    opened, committer, specs, read, results, at_once
):
    spec = specs[0]
    cut_off(opened, committer.store, spec)
    reader = read(results)
    reader.client.delete_run(reader.one(spec).info.run_id)
    mirror = opened()
    attempt = committer.attempt(spec)
    mirror.started(spec)
    mirror.finished(spec, "done", committer.store.commit(spec, attempt))
    mirror.close()
    assert reader.statuses() == ["FINISHED"]
    assert len(reader.history(reader.one(spec), "lr")) == 10


def test_a_run_deleted_while_running_is_not_missed_for_ever(
    opened, results, experiment, specs, read, at_once
):
    mirror = opened()
    under_way(mirror, specs[0])
    mirror.close()
    read(results).client.delete_run(read(results).one(specs[0]).info.run_id)
    assert is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced()
    assert not is_behind(results, experiment)


def test_a_run_deleted_in_the_ui_stays_deleted(results, experiment, committer, specs, read):
    committer.commit(specs[0])
    sync(results, experiment)
    read(results).client.delete_run(read(results).one(specs[0]).info.run_id)
    assert not is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced()
    assert read(results).runs() == []


def test_ctrl_c_closes_the_run_and_backfills_nothing(
    opened, committer, specs, read, results, at_once
):
    committer.commit(specs[1])
    with contextlib.suppress(KeyboardInterrupt), opened() as mirror:
        under_way(mirror, specs[0])
        mirror.abandoned(specs[0])
        raise KeyboardInterrupt
    assert read(results).statuses() == ["KILLED"]
    tags = read(results).one(specs[0]).data.tags
    assert tags["harness.status"] == "killed"
    assert "killed. To do it again" in tags["mlflow.note.content"]


def test_runs_of_other_people_are_left_alone(opened, results, experiment, committer, specs, read):
    committer.commit(specs[0])
    sync(results, experiment)
    client = read(results).client
    place = client.get_experiment_by_name("study").experiment_id
    other = client.create_run(place).info.run_id
    (committer.store.path / "mirrored.jsonl").unlink()
    assert sync(results, experiment).closed == 0
    assert client.get_run(other).info.status == "RUNNING"


def test_a_run_left_on_a_shared_store_is_closed_from_another_machine(
    opened, results, experiment, committer, specs, read, at_once, monkeypatch, tmp_path
):
    (tmp_path / "shared").mkdir()
    shutil.copy(results / "mlflow.db", tmp_path / "shared")
    shared = {"uri": database(tmp_path / "shared")}
    mirror = opened(**shared)
    under_way(mirror, specs[0])
    mirror.close()  # the driver dies here
    monkeypatch.setattr(recorder.platform, "node", lambda: "another machine")
    mirror = opened(**shared)
    run_one(mirror, committer, specs[0])
    mirror.close()
    assert read(tmp_path / "shared").statuses() == ["FINISHED", "RUNNING"]
    changed = replace(experiment, tracking=Tracking(**shared))
    assert sync(results, changed).closed == 1
    assert read(tmp_path / "shared").statuses() == ["FINISHED", "KILLED"]


def test_a_live_run_is_not_closed_by_its_own_driver(
    opened, committer, specs, read, results, at_once
):
    committer.commit(specs[1])
    with opened() as mirror:
        under_way(mirror, specs[0])
    assert read(results).one(specs[0]).info.status == "RUNNING"
    assert read(results).one(specs[1]).info.status == "FINISHED"


def test_a_new_result_of_a_mirrored_key_is_noticed(results, experiment, committer, specs, read):
    committer.commit(specs[0], status="failed")
    sync(results, experiment)
    committer.commit(specs[0])
    assert is_behind(results, experiment)
    assert sync(results, experiment).mirrored == 1
    assert read(results).statuses() == ["FINISHED"]
    assert [run.info.status for run in read(results).removed()] == ["FAILED"]
    assert sync(results, experiment) == recorder.Synced()


def test_an_earlier_run_leaves_the_view_even_when_mirrored_jsonl_is_lost(
    results, experiment, committer, specs, read, monkeypatch
):
    committer.commit(specs[0], status="failed")
    sync(results, experiment)
    monkeypatch.setattr(Connection, "remove", lambda self, run_id: None)  # as versions before did
    committer.commit(specs[0])
    sync(results, experiment)
    monkeypatch.undo()
    assert read(results).statuses() == ["FAILED", "FINISHED"]
    (committer.store.path / "mirrored.jsonl").unlink()
    assert sync(results, experiment) == recorder.Synced(known=1)
    assert read(results).statuses() == ["FINISHED"]


def test_an_earlier_run_that_cannot_be_removed_now_is_removed_by_the_next_sync(
    opened, results, experiment, committer, specs, read, monkeypatch, warned
):
    committer.commit(specs[0])
    sync(results, experiment)

    def dead(self, run_id):
        raise UnreachableError("no answer")

    monkeypatch.setattr(Connection, "remove", dead)
    mirror = opened()
    run_one(mirror, committer, specs[0], seed=1)
    mirror.close()
    monkeypatch.undo()
    assert len(warned) == 1
    assert is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced(known=1)
    assert read(results).statuses() == ["FINISHED"]
    assert len(read(results).removed()) == 1


def test_an_unreadable_run_is_named_and_holds_up_no_other(
    results, experiment, committer, specs, read
):
    torn = committer.commit(specs[0])
    (torn / "spec.json").write_text("{")
    committer.commit(specs[1])
    done = sync(results, experiment)
    assert done.mirrored == 1
    assert [torn.name in message for message in done.unreadable] == [True]
    assert len(read(results).runs()) == 1


def test_what_failed_a_moment_ago_is_tried_once_more_at_the_end(
    opened, committer, specs, read, results, warned, monkeypatch
):
    log, failing = Connection.log, [True]

    def flaky(self, *args, **more):
        if failing[0]:
            raise TrackingError("database is locked")
        log(self, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
        while not warned:
            time.sleep(0.01)
        failing[0] = False  # and within the pause nothing is tried
        run_one(mirror, committer, specs[1])
    assert read(results).statuses() == ["FINISHED"] * 2 + ["KILLED"]


def test_a_failure_is_said_once_and_stops_nothing(
    opened, committer, specs, read, results, warned, monkeypatch
):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    log = Connection.log
    failing = [True]

    def flaky(self, *args, **more):
        if failing[0]:
            raise UnreachableError("the MLflow server http://u:secret@h does not answer")
        log(self, *args, **more)

    monkeypatch.setattr(Connection, "log", flaky)
    mirror = opened()
    for spec in specs[:2]:
        run_one(mirror, committer, spec)
    mirror.close()
    assert len(warned) == 1
    assert "harness sync" in warned[0]
    assert "secret" not in warned[0]
    failing[0] = False
    with opened() as again:
        run_one(again, committer, specs[2])
    assert read(results).statuses() == ["FINISHED"] * 3 + ["KILLED"] * 2


def test_a_dead_server_is_left_alone_for_a_while(opened, committer, specs, warned, monkeypatch):
    tries = []

    def create(self, *args):
        tries.append(args)
        raise UnreachableError("no answer")

    monkeypatch.setattr(Connection, "create", create)
    with opened() as mirror:
        for spec in specs:
            run_one(mirror, committer, spec)
    assert len(tries) == 2, "once, and once more at the end"
    assert len(warned) == 1


def test_a_bug_of_ours_stays_in_the_mirror(opened, committer, specs, read, results, warned):
    with opened() as mirror:
        mirror.started(specs[0])
        mirror.finished(specs[0], "done", results / "nowhere")
        run_one(mirror, committer, specs[1])
    assert len(warned) == 1
    assert read(results).one(specs[1]).info.status == "FINISHED"


def test_the_driver_is_never_blocked(opened, committer, specs, monkeypatch):
    gate, entered = threading.Event(), threading.Event()
    create = Connection.create

    def held(self, *args):
        entered.set()
        assert gate.wait(30)
        return create(self, *args)

    monkeypatch.setattr(Connection, "create", held)
    mirror = opened()
    mirror.started(specs[0])
    assert entered.wait(30)
    mirror.progressed(specs[0], evaluation(4))
    mirror.finished(specs[0], "done", committer.commit(specs[0]))
    assert not gate.is_set()  # and yet we are here
    gate.set()


def test_an_unreachable_server_warns_and_sync_later_fills(
    opened, committer, specs, experiment, results, warned, monkeypatch, read
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with opened(uri=uri) as mirror:
            run_one(mirror, committer, specs[0])
        assert len(warned) == 1
        assert "does not answer" in warned[0]
        assert "secret" not in warned[0]
        there = replace(experiment, tracking=Tracking(uri=uri))
        assert is_behind(results, there)
        with pytest.raises(UnreachableError):
            sync(results, there)
    assert sync(results, experiment).mirrored == 1
    assert read(results).one(specs[0]).info.status == "FINISHED"


def test_sync_waits_for_no_driver(results, experiment, committer):
    with committer.store.locked(), pytest.raises(StoreError, match="in use"):
        sync(results, experiment)


def test_a_deleted_experiment_says_how_to_restore_it(results, experiment, read):
    client = read(results).client
    client.delete_experiment(client.create_experiment("study"))
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id"):
        open_tracking(results, experiment)


def test_the_ledger_knows_what_mlflow_was_told(opened, committer, specs, results, read):
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
    ledger = Ledger(committer.store.path)
    lines = (committer.store.path / "mirrored.jsonl").read_text().splitlines()
    place = json.loads(lines[-1])["place"]
    entry = ledger.last(place)[specs[0].key]
    assert (entry.status, entry.run_id) == ("FINISHED", read(results).one(specs[0]).info.run_id)


def test_the_source_is_named_without_a_folder_of_this_machine(
    results, experiment, committer, specs, read, tmp_path
):
    committer.commit(specs[0])
    sync(results, replace(experiment, source=str(tmp_path / "deep" / "study.yaml")))
    note = read(results).one(specs[0]).data.tags["mlflow.note.content"]
    assert "harness run study.yaml --only" in note
    assert str(tmp_path) not in note


def test_nothing_imports_mlflow_before_a_connection_is_made():
    code = (
        "import sys\n"
        "import harness.tracking.mirror, harness.tracking.ui, harness.execution.runner\n"
        "import harness.execution.executors.local\n"
        "heavy = {'mlflow', 'sqlalchemy', 'alembic', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def other_epochs(experiment):
    """The same experiment trained for longer, and its runs."""
    training = experiment.training.model_copy(update={"epochs": 5})
    longer = replace(experiment, training=training)
    runs = expand(longer).runs
    return longer, tuple(replace(spec, experiment=longer.name) for spec in runs)


def settings(specs):
    return frozenset(spec.settings for spec in specs)


def outcomes(reader, specs):
    return {reader.one(spec).data.tags["harness.status"] for spec in specs}


def test_runs_of_what_the_file_asked_for_before_are_outdated_until_it_does_again(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, experiment, current=settings(specs)) as mirror:
        for spec in specs[:2]:
            run_one(mirror, committer, spec)
    assert not is_behind(results, experiment, settings(specs))
    assert is_behind(results, longer, settings(others))
    with open_tracking(results, longer, current=settings(others)) as mirror:
        drain(mirror)
        assert outcomes(read(results), specs[:2]) == {"outdated"}, "from the start"
        run_one(mirror, committer, others[0])
    assert outcomes(read(results), others[:1]) == {"done"}
    assert not is_behind(results, longer, settings(others))
    with open_tracking(results, experiment, current=settings(specs)):
        pass
    assert outcomes(read(results), specs[:2]) == {"done"}
    assert outcomes(read(results), others[:1]) == {"outdated"}


def test_more_seeds_make_nothing_outdated(results, experiment, committer, specs, read):
    more = expand(replace(experiment, seeds=(0, 1))).runs
    assert settings(more) == settings(specs)
    assert len({spec.key for spec in more}) == 2 * len(specs)
    with open_tracking(results, experiment, current=settings(specs)) as mirror:
        run_one(mirror, committer, specs[0])
    assert not is_behind(results, experiment, settings(more))


def test_a_failed_run_of_other_settings_stays_failed(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, experiment, current=settings(specs)) as mirror:
        run_one(mirror, committer, specs[0], status="failed")
    with open_tracking(results, longer, current=settings(others)):
        pass
    assert outcomes(read(results), specs[:1]) == {"failed"}


def test_what_sync_mirrors_of_other_settings_is_outdated_with_the_next_command(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, longer, current=settings(others)) as mirror:
        run_one(mirror, committer, others[0])
    committer.commit(specs[0])
    sync(results, longer)
    assert is_behind(results, longer, settings(others))
    with open_tracking(results, longer, current=settings(others)):
        pass
    assert outcomes(read(results), specs[:1]) == {"outdated"}
    assert outcomes(read(results), others[:1]) == {"done"}
    assert not is_behind(results, longer, settings(others))


def test_runs_of_another_results_folder_on_a_shared_store_are_not_ours_to_mark(
    results, experiment, committer, specs, other_epochs, read, tmp_path, monkeypatch
):
    longer, others = other_epochs
    shared = Tracking(uri=database(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    shutil.copy(results / "mlflow.db", tmp_path / "shared" / "mlflow.db")
    theirs = replace(experiment, tracking=shared)
    with open_tracking(results, theirs, current=settings(specs)) as mirror:
        run_one(mirror, committer, specs[0])
    ours = tmp_path / "ours"
    (ours / experiment.name).mkdir(parents=True)
    with open_tracking(ours, replace(longer, tracking=shared), current=settings(others)) as mirror:
        mine = type(committer)(mirror._store)
        run_one(mirror, mine, others[0])
    with open_tracking(ours, replace(longer, tracking=shared), current=frozenset(["another"])):
        pass
    reader = read(tmp_path / "shared")
    assert outcomes(reader, specs[:1]) == {"done"}
    assert outcomes(reader, others[:1]) == {"outdated"}


def test_a_command_with_a_changed_file_marks_the_runs_of_before(tmp_path, blank, read):
    from harness.app.compose import run_experiment
    from tests.conftest import tiny

    results = tmp_path / "results"
    results.mkdir()
    shutil.copy(blank, results / "mlflow.db")

    def run(epochs):
        training = {"epochs": epochs, "batch_size": 8, "lr": 0.05, "eval_every": 1.0}
        run_experiment(
            tiny(name="study", training=training), results=results, executor="inline", device="cpu"
        )
        found = [run.data for run in read(results).runs()]
        return sorted((data.params["epochs"], data.tags["harness.status"]) for data in found)

    assert run(1) == [("1", "done")]
    assert run(2) == [("1", "outdated"), ("2", "done")]
    assert run(1) == [("1", "done"), ("2", "outdated")]


def test_a_run_that_cannot_be_read_has_nothing_marked_anew(
    results, experiment, committer, specs, other_epochs
):
    _, others = other_epochs
    torn = committer.commit(others[0])
    (torn / "spec.json").write_text("{")
    lines = []
    for _ in range(3):
        with open_tracking(results, experiment, lambda said: None, settings(specs)):
            pass
        lines.append((results / "study" / "mirrored.jsonl").read_text().count('"TOLD"'))
    assert lines == [1, 1, 1]
