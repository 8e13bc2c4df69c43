"""Runs that go on from a checkpoint, in MLflow."""

from dataclasses import replace

import pytest

from tests.tracking.conftest import evaluation, run_one

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
