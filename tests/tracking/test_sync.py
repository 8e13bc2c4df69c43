"""Filling what MLflow misses, once, and closing what was left."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest

from harness.errors import StoreError, UnreachableError
from harness.experiment.schema import Tracking
from harness.tracking import mirror as module
from harness.tracking import recorder
from harness.tracking.address import database
from harness.tracking.ledger import Ledger
from harness.tracking.mirror import is_behind, open_tracking, sync
from harness.tracking.mlflow import Connection
from tests.tracking.conftest import run_one, under_way


def test_classes_that_share_a_key_leave_no_run_behind(results, experiment, committer, specs, read):
    committer.commit(specs[0], names=["a/b", "a_b"])
    committer.commit(specs[1])
    for _ in range(2):
        assert "both be recorded" in sync(results, experiment).unreadable[0]
    assert read(results).statuses() == ["FINISHED"]


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
    assert sync(results, experiment) == recorder.Synced(mirrored=1, closed=1, unheard=1)
    assert read(results).statuses() == ["FINISHED", "KILLED", "KILLED"]
    left = read(results).one(lost)
    assert left.info.status == "KILLED"
    assert left.data.tags["harness.status"] == "killed"
    assert "is done again" in left.data.tags["mlflow.note.content"]
    (unheard,) = [
        run
        for run in read(results).runs()
        if run.info.status == "KILLED"
        and run is not left
        and run.data.tags["harness.key"] == done.key
    ]
    assert "did not hear how it ended" in unheard.data.tags["mlflow.note.content"]
    assert not is_behind(results, experiment)
    assert sync(results, experiment) == recorder.Synced()


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
    assert sync(results, changed).unheard == 1
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


def test_sync_waits_for_no_driver(results, experiment, committer):
    with committer.store.locked(), pytest.raises(StoreError, match="in use"):
        sync(results, experiment)


def test_the_ledger_knows_what_mlflow_was_told(opened, committer, specs, results, read):
    with opened() as mirror:
        run_one(mirror, committer, specs[0])
    ledger = Ledger(committer.store.path)
    lines = (committer.store.path / "mirrored.jsonl").read_text().splitlines()
    place = json.loads(lines[-1])["place"]
    entry = ledger.last(place)[specs[0].key]
    assert (entry.status, entry.run_id) == ("FINISHED", read(results).one(specs[0]).info.run_id)
