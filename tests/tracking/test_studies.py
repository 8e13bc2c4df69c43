"""Searches as MLflow's own client reads them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.address import resolve
from harness.tracking.ledger import Ledger
from harness.tracking.mirror import misses, open_tracking, sync
from harness.tracking.mlflow import Connection
from harness.tracking.studies import FOLDER, PARENT, StudyRecord, StudyRecorder, TrialRecord

NAME = "study/digits/tiny_cnn/mixup-0123abcd"


def trial(number: int, state: str = "complete", **changes: Any) -> TrialRecord:
    value = 0.5 + number / 100
    made = TrialRecord(
        number=number,
        state=state,
        values={"mixup.alpha": 0.1 * (number + 1), "mixup.p": 0.5},
        metrics={"balanced_accuracy": value, "nll": 1.5} if state == "complete" else {},
        by_seed={100: value - 0.125, 101: value + 0.125} if state == "complete" else {},
        sd=0.25 if state == "complete" else None,
        seconds=3.0,
        began=1_000_000 + 1000 * number,
        ended=1_000_500 + 1000 * number,
        default=number == 0,
    )
    return replace(made, **changes)


def study(trials: int = 3, state: Any = "over", **changes: Any) -> StudyRecord:
    made = [trial(number) for number in range(trials)]
    whole = StudyRecord(
        name=NAME,
        dataset="digits",
        model="tiny_cnn",
        recipe="mixup",
        metric="balanced_accuracy",
        state=state,
        params={"metric": "balanced_accuracy", "space.mixup.p": "0…1"},
        tags={"harness.sampler": "tpe"},
        trials=made,
        best=made[-1] if made else None,
        began=1_000_000,
    )
    return replace(whole, **changes)


@pytest.fixture
def record(results: Path) -> Callable[[StudyRecord], None]:
    """Return a function that writes a study as a command of its own."""

    def write(study: StudyRecord) -> None:
        connection = Connection(resolve(results, None), "study")
        StudyRecorder(connection, results / "study" / FOLDER, "it.yaml", "me").write(study)

    return write


@pytest.fixture
def found(results: Path, read: Any) -> Callable[[], tuple[list[Any], list[Any]]]:
    """Return a function that gives the parent runs and the nested runs."""

    def runs() -> tuple[list[Any], list[Any]]:
        every = read(results).runs()
        parents = [run for run in every if PARENT not in run.data.tags]
        nested = [run for run in every if PARENT in run.data.tags]
        return parents, sorted(nested, key=lambda run: int(run.data.tags["harness.trial"]))

    return runs


def test_one_run_for_the_study_and_one_nested_in_it_for_each_trial(
    record: Any, found: Any, read: Any, results: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "history.png"
    plot.write_bytes(b"png")
    record(study(artifacts=(plot,)))
    (parent,), nested = found()
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "tuning mixup · digits · tiny_cnn"
    assert parent.data.params["space.mixup.p"] == "0…1"
    assert float(parent.data.params["best.mixup.alpha"]) == pytest.approx(0.3)
    assert parent.data.metrics["val/balanced_accuracy"] == 0.52
    assert parent.data.metrics["trials/complete"] == 3
    assert parent.data.metrics["cost/seconds"] == 9.0
    assert parent.data.tags["harness.best_trial"] == "2"
    assert parent.data.tags["harness.sampler"] == "tpe"
    assert "harness tune it.yaml" in parent.data.tags["mlflow.note.content"]
    assert read(results).artifacts(parent) == {"history.png"}
    assert [run.data.tags[PARENT] for run in nested] == [parent.info.run_id] * 3
    first = nested[0]
    assert (first.info.run_name, first.info.status) == ("mixup #0", "FINISHED")
    assert first.data.params == {
        "recipe": "mixup",
        "trial": "0",
        "mixup.alpha": "0.1",
        "mixup.p": "0.5",
    }
    assert first.data.metrics["val/balanced_accuracy"] == 0.5
    assert first.data.metrics["val_sd/balanced_accuracy"] == 0.25
    assert read(results).history(first, "val_by_seed/balanced_accuracy") == [
        *((100, 0.375), (101, 0.625))
    ]
    assert (first.info.start_time, first.info.end_time) == (1_000_000, 1_000_500)
    assert not any("test" in key for run in nested for key in run.data.metrics)


def test_how_a_trial_ended_is_told_apart(record: Any, found: Any) -> None:
    states = ("complete", "pruned", "failed", "diverged")
    made = [trial(number, state) for number, state in enumerate(states)]
    made[2] = replace(made[2], reason="seed 100: out of memory")
    record(replace(study(), trials=made, best=made[0]))
    (parent,), nested = found()
    assert [run.info.status for run in nested] == ["FINISHED", "KILLED", "FAILED", "FAILED"]
    assert [run.data.tags["harness.status"] for run in nested] == list(states)
    assert nested[2].data.tags["harness.error"] == "seed 100: out of memory"
    assert nested[3].data.tags["diverged"] == "1"
    for state in states:
        assert parent.data.metrics[f"trials/{state}"] == 1


def test_a_study_that_is_written_again_is_written_once(record: Any, found: Any) -> None:
    for _ in range(3):
        record(study())
    parents, nested = found()
    assert (len(parents), len(nested)) == (1, 3)


def test_an_interrupted_study_goes_on_in_its_run(record: Any, found: Any) -> None:
    record(study(0, "running", best=None))
    (parent,), _ = found()
    assert parent.info.status == "RUNNING"
    record(study(1, "running", best=None))
    record(study(1, "interrupted"))
    (parent,), nested = found()
    assert (parent.info.status, len(nested)) == ("KILLED", 1)
    assert "best.mixup.alpha" not in parent.data.params
    record(study(1, "running", best=None))
    assert found()[0][0].info.status == "RUNNING"
    record(study(3))
    (again,), nested = found()
    assert again.info.run_id == parent.info.run_id
    assert (again.info.status, len(nested)) == ("FINISHED", 3)


def test_more_trials_of_a_finished_study_make_it_a_new_run_with_all_of_them(
    record: Any, found: Any, read: Any, results: Path
) -> None:
    record(study(2))
    (old,), _ = found()
    record(study(2, "running", best=None))
    record(study(5))
    (new,), nested = found()
    assert new.info.run_id != old.info.run_id
    assert [run.data.tags[PARENT] for run in nested] == [new.info.run_id] * 5
    assert float(new.data.params["best.mixup.alpha"]) == pytest.approx(0.5)
    assert [run.info.run_id for run in read(results).removed()] == [old.info.run_id]


def test_a_run_that_somebody_deleted_is_made_again(
    record: Any, found: Any, read: Any, results: Path
) -> None:
    record(study(1, "interrupted"))
    (parent,), _ = found()
    read(results).client.delete_run(parent.info.run_id)
    record(study(2))
    (again,), nested = found()
    assert again.info.run_id != parent.info.run_id
    assert {run.data.tags[PARENT] for run in nested} == {again.info.run_id}


def test_what_is_not_finite_is_left_out(record: Any, found: Any) -> None:
    bad = trial(0, metrics={"balanced_accuracy": 0.5, "nll": float("inf"), "ece": float("nan")})
    record(replace(study(1), trials=[bad], best=bad))
    for runs in found():
        assert runs[0].data.metrics["val/balanced_accuracy"] == 0.5
        assert not {"val/nll", "val/ece"} & runs[0].data.metrics.keys()


def test_ordinary_runs_and_searches_do_not_meddle(
    experiment: Any, specs: Any, committer: Any, results: Path, read: Any, found: Any
) -> None:
    committer.commit(specs[0])
    with open_tracking(results, experiment) as mirror:
        mirror.study(replace(study(1, "running"), best=None))
    assert len(found()[0]) == 2  # the study, and the run that was caught up with
    done = sync(results, experiment)
    assert (done.mirrored, done.closed) == (0, 0)
    (parent,) = [run for run in found()[0] if run.data.tags.get("harness.kind") == "study"]
    assert parent.info.status == "RUNNING"
    sync(results, experiment, lambda: [study(2)])
    (parent,) = [run for run in found()[0] if run.data.tags.get("harness.kind") == "study"]
    assert parent.info.status == "FINISHED"
    assert read(results).one(specs[0]).info.status == "FINISHED"
    assert not any("harness.key" in run.data.tags for run in found()[1])


def test_what_mlflow_misses_is_known_from_our_own_file(
    experiment: Any, results: Path, record: Any
) -> None:
    assert not misses(results, experiment, [])
    assert misses(results, experiment, [study()])
    record(study(2, "running", best=None))
    assert misses(results, experiment, [study(2)])
    record(study(2))
    assert not misses(results, experiment, [study(2)])
    assert misses(results, experiment, [study(3)])
    (results / "mlflow.db").unlink()
    assert misses(results, experiment, [study(2)])


def test_a_server_that_is_down_is_caught_up_with_later(
    experiment: Any, results: Path, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "create", lambda *args: (_ for _ in ()).throw(OSError("gone")))
        with open_tracking(results, experiment, warned.append) as mirror:
            mirror.study(study(1, "running", best=None))
            mirror.study(study(1))
    assert len(warned) == 1
    assert found() == ([], [])
    assert misses(results, experiment, [study(1)])
    with open_tracking(results, experiment, warned.append) as mirror:
        mirror.study(study(1))
    assert [len(runs) for runs in found()] == [1, 1]
    assert Ledger(results / "study" / FOLDER).place(resolve(results, None).fingerprint)
