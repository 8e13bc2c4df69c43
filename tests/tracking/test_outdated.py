"""Runs of what an experiment's file asked for before."""

import shutil
from dataclasses import replace

from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import Tracking
from harness.tracking.address import database
from harness.tracking.mirror import is_behind, open_tracking, sync
from tests.tracking.conftest import drain, outcomes, run_one, settings


def test_runs_of_what_the_file_asked_for_before_are_outdated_until_it_does_again(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, experiment, asked=specs) as mirror:
        for spec in specs[:2]:
            run_one(mirror, committer, spec)
    assert not is_behind(results, experiment, specs)
    assert is_behind(results, longer, others)
    with open_tracking(results, longer, asked=others) as mirror:
        drain(mirror)
        assert outcomes(read(results), specs[:2]) == {"outdated"}, "from the start"
        run_one(mirror, committer, others[0])
    assert outcomes(read(results), others[:1]) == {"done"}
    assert not is_behind(results, longer, others)
    with open_tracking(results, experiment, asked=specs):
        pass
    assert outcomes(read(results), specs[:2]) == {"done"}
    assert outcomes(read(results), others[:1]) == {"outdated"}


def test_more_seeds_make_nothing_outdated(results, experiment, committer, specs, read):
    more = expand(replace(experiment, seeds=(0, 1))).runs
    assert settings(more) == settings(specs)
    assert len({spec.key for spec in more}) == 2 * len(specs)
    with open_tracking(results, experiment, asked=specs) as mirror:
        run_one(mirror, committer, specs[0])
    assert not is_behind(results, experiment, more)


def test_a_failed_run_of_other_settings_stays_failed(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, experiment, asked=specs) as mirror:
        run_one(mirror, committer, specs[0], status="failed")
    with open_tracking(results, longer, asked=others):
        pass
    assert outcomes(read(results), specs[:1]) == {"failed"}


def test_what_sync_mirrors_of_other_settings_is_outdated_with_the_next_command(
    results, experiment, committer, specs, other_epochs, read
):
    longer, others = other_epochs
    with open_tracking(results, longer, asked=others) as mirror:
        run_one(mirror, committer, others[0])
    committer.commit(specs[0])
    sync(results, longer)
    assert is_behind(results, longer, others)
    with open_tracking(results, longer, asked=others):
        pass
    assert outcomes(read(results), specs[:1]) == {"outdated"}
    assert outcomes(read(results), others[:1]) == {"done"}
    assert not is_behind(results, longer, others)


def test_runs_of_another_results_folder_on_a_shared_store_are_not_ours_to_mark(
    results, experiment, committer, specs, other_epochs, read, tmp_path, monkeypatch
):
    longer, others = other_epochs
    shared = Tracking(uri=database(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    shutil.copy(results / "mlflow.db", tmp_path / "shared" / "mlflow.db")
    theirs = replace(experiment, tracking=shared)
    with open_tracking(results, theirs, asked=specs) as mirror:
        run_one(mirror, committer, specs[0])
    ours = tmp_path / "ours"
    Store(ours, experiment.name).create()
    with open_tracking(ours, replace(longer, tracking=shared), asked=others) as mirror:
        mine = type(committer)(mirror._store)
        run_one(mirror, mine, others[0])
    with open_tracking(ours, replace(longer, tracking=shared), asked=specs):
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
        found = [run.data for run in read(results).runs() if "harness.key" in run.data.tags]
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
        with open_tracking(results, experiment, lambda said: None, specs):
            pass
        lines.append((results / "study" / "mirrored.jsonl").read_text().count('"TOLD"'))
    assert lines == [1, 1, 1]
