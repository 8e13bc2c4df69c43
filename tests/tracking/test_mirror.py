"""What MLflow has of runs that were mirrored while they went on, or whole."""

import json
import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from harness.tracking import mirror as module
from harness.tracking import recorder
from harness.tracking.mirror import sync
from harness.tracking.mlflow import Connection
from tests.tracking.conftest import evaluation, run_one, table, under_way


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
        assert run.data.tags["harness.subset"] == "6" * 64
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
    for timed in (module, recorder):
        monkeypatch.setattr(timed, "FLUSH_SECONDS", 0.01)
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


def test_the_search_of_mlflow_finds_runs_by_plain_names(opened, committer, specs, read, results):
    with opened() as mirror:
        for spec in specs[:2]:
            run_one(mirror, committer, spec)
    reader = read(results)
    wanted = reader.one(specs[0])
    place = [wanted.info.experiment_id]
    for split in ("test", "val"):
        value = wanted.data.metrics[f"{split}/balanced_accuracy"]
        assert wanted.data.metrics[f"{split}_balanced_accuracy"] == value
        above = reader.client.search_runs(place, f"metrics.{split}_balanced_accuracy >= {value}")
        assert wanted.info.run_id in [run.info.run_id for run in above]
        assert not reader.client.search_runs(place, f"metrics.{split}_balanced_accuracy > 1")
    (found,) = reader.client.search_runs(place, f"tags.recipe = '{specs[0].recipe}'")
    assert found.info.run_id == wanted.info.run_id


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
    source = json.loads(entry.dataset.source)["tags"]
    assert (source["dataset"], source["imbalance_factor"]) == ("digits-lt20", "20")
    assert source["content"] == specs[0].content
    from mlflow.data.schema import TensorDatasetSchema

    schema = TensorDatasetSchema.from_dict(json.loads(entry.dataset.schema))
    assert schema.features.inputs[0].shape == (-1, 8, 8, 1)
    assert schema.targets.inputs[0].type == "int64"
    assert str(results) not in json.dumps(entry.dataset.to_dictionary())


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
