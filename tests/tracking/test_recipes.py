"""One summary per recipe in MLflow, and what rules make of each run."""

import math
import shutil
from dataclasses import replace

import pytest

from harness.analysis.deciding import Setting, decide_runs
from harness.analysis.decompose import decomposition
from harness.analysis.tables import runs_table
from harness.decisions.base import rule_from
from harness.errors import UnreachableError
from harness.execution.store import Store
from harness.experiment.decisions import Decisions
from harness.experiment.expand import expand
from harness.experiment.schema import Tracking, load
from harness.metrics import metric_of
from harness.tracking import mirror as module
from harness.tracking.address import database
from harness.tracking.asked import rule_key
from harness.tracking.mirror import is_behind, open_tracking, sync
from harness.tracking.mlflow import Connection
from tests.tracking.conftest import drain, run_one

NAMES = ["nothing", "smote"]


@pytest.fixture(scope="session")
def study():
    """Two recipes at three seeds."""
    return load(
        {
            "name": "study",
            "datasets": [{"name": "digits", "imbalance_factor": 20}],
            "factors": {"smote": ["none", "smote"]},
            "seeds": 3,
            "training": {"epochs": 4, "batch_size": 32},
        }
    )


@pytest.fixture(scope="session")
def asked(study):
    return tuple(replace(spec, experiment=study.name) for spec in expand(study).runs)


@pytest.fixture
def committed(committer, asked):
    """All runs, each with other predictions."""
    return [committer.commit(spec, seed=number) for number, spec in enumerate(asked)]


@pytest.fixture
def summaries(read, results):
    """Reads back the summaries by recipe; two of one recipe are an error."""

    def found(**tags):
        runs = [run for run in read(results).runs() if run.data.tags.get("harness.kind")]
        names = [run.data.tags["recipe"] for run in runs]
        assert len(set(names)) == len(names)
        return dict(zip(names, runs, strict=True))

    return found


def decided_by(study, *rules, **options):
    chosen = (rule_from("argmax"), *map(rule_from, rules))
    return replace(study, decisions=Decisions(chosen, **options))


def command(results, study, asked):
    """What any command does that has no run to do."""
    with open_tracking(results, study, asked=asked):
        pass


def test_a_summary_says_what_harness_decide_says(results, study, asked, committed, summaries):
    sync(results, study, asked=asked)
    store = Store(results, study.name)
    setting = Setting(metric_of(study.metric))
    table = decomposition(decide_runs(runs_table(store, asked), asked, setting).table)
    row = table.set_index(["recipe", "rule"]).loc[("smote", "prior")]
    metrics = summaries()["smote"].data.metrics
    for part in ("gain", "prior_threshold_part", "prior_rest"):
        for end in ("", "_low", "_high"):
            assert metrics[part + end] == pytest.approx(
                row[part.removeprefix("prior_") + end], abs=1e-6
            )
    assert metrics["mean_prior_balanced_accuracy"] == pytest.approx(row["value"], abs=1e-6)
    assert (metrics["n"], metrics["pairs"]) == (3, 3)
    assert "gain" not in summaries()["nothing"].data.metrics


def test_a_summary_has_its_tags_and_the_runs_of_its_seeds_below(
    results, study, asked, committed, read, summaries
):
    sync(results, study, asked=asked)
    found, reader = summaries(), read(results)
    assert list(sorted(found)) == NAMES
    for spec in asked:
        summary, run = found[spec.recipe], reader.one(spec)
        assert run.data.tags["mlflow.parentRunId"] == summary.info.run_id
        shared = {"harness.dataset", "harness.settings", "recipe", "factor.smote"}
        assert all(run.data.tags[name] == summary.data.tags[name] for name in shared)
        assert {"dataset", "model", "smote", "epochs"} <= set(summary.data.params)
        assert "seed" not in summary.data.params
        assert "harness.key" not in summary.data.tags
    assert set(reader.statuses()) == {"FINISHED"}
    assert "gain over doing nothing" in found["smote"].data.tags["mlflow.note.content"]


def test_values_under_a_rule_are_found_without_quotes(results, study, asked, committed, read):
    sync(results, study, asked=asked)
    reader = read(results)
    number = reader.client.get_experiment_by_name("study").experiment_id
    where = "metrics.test_prior_balanced_accuracy > 0 and metrics.test_balanced_accuracy > 0"
    assert len(reader.client.search_runs([number], where)) == len(asked)
    assert len(reader.client.search_runs([number], "metrics.n > 0")) == len(NAMES)
    names = reader.one(asked[0]).data.metrics
    assert len([name for name in names if "prior" in name]) <= 6
    assert not [name for name in names if "argmax" in name]


def test_a_summary_is_kept_up_to_date_as_runs_come(
    results, study, asked, committer, read, summaries
):
    for part, seeds in ((asked[:2], 1), (asked[2:], 3)):
        with open_tracking(results, study, asked=asked) as mirror:
            for number, spec in enumerate(part):
                run_one(mirror, committer, spec, seed=10 * seeds + number)
        assert {run.data.metrics["n"] for run in summaries().values()} == {seeds}
    assert "gain_low" in summaries()["smote"].data.metrics
    assert not is_behind(results, study, asked)
    reader = read(results)
    points = reader.history(reader.one(asked[0]), "test_prior_balanced_accuracy")
    assert len(points) == 1, "what is known of a run is told once"


def test_nothing_is_written_again_where_nothing_has_changed(
    results, study, asked, committed, read, summaries, monkeypatch
):
    sync(results, study, asked=asked)
    before = (results / "study" / "mirrored.jsonl").read_text()
    monkeypatch.setattr(Connection, "log", None)
    sync(results, study, asked=asked)
    assert (results / "study" / "mirrored.jsonl").read_text() == before


def test_while_runs_go_on_recipes_are_summarised_now_and_then(
    results, study, asked, committer, summaries, monkeypatch
):
    monkeypatch.setattr(module, "SUMMARY_SECONDS", 0.0)
    with open_tracking(results, study, asked=asked) as mirror:
        run_one(mirror, committer, asked[0])
        drain(mirror)
        drain(mirror)
        (summary,) = summaries().values()
        assert (summary.info.status, summary.data.metrics["n"]) == ("FINISHED", 1)


def test_what_takes_long_waits_for_the_end(results, study, asked, committer, monkeypatch):
    monkeypatch.setattr(module, "SUMMARY_SECONDS", 0.0)
    monkeypatch.setattr(module, "SUMMARY_LIMIT", -1.0)
    calls = []
    monkeypatch.setattr(module.Recorder, "summarize", lambda recorder, **how: calls.append(1))
    with open_tracking(results, study, asked=asked) as mirror:
        for spec in asked[:3]:
            run_one(mirror, committer, spec)
            drain(mirror)
        assert len(calls) == 1
    assert len(calls) == 2


def test_who_interrupts_does_not_wait_for_every_summary(
    results, study, asked, committed, summaries
):
    sync(results, study)
    mirror = open_tracking(results, study, asked=asked)
    mirror._hurried.set()
    mirror._summarize_at = 0.0
    drain(mirror)
    mirror.close()
    assert len(summaries()) == 1
    assert is_behind(results, study, asked)


def test_other_rules_take_the_place_of_those_of_before(
    results, study, asked, committed, read, summaries
):
    command(results, study, asked)
    assert not is_behind(results, study, asked)
    other = decided_by(study, {"name": "prior", "temperature": True})
    assert is_behind(results, other, asked)
    command(results, other, asked)
    assert not is_behind(results, other, asked)
    reader = read(results)
    for run in [*(reader.one(spec) for spec in asked), *summaries().values()]:
        old = {k: v for k, v in run.data.metrics.items() if "prior" in k and "temp" not in k}
        assert old
        assert all(map(math.isnan, old.values()))
        new = [value for name, value in run.data.metrics.items() if "prior_temperature" in name]
        assert new
        assert not any(map(math.isnan, new))
    number = reader.client.get_experiment_by_name("study").experiment_id
    gone = "metrics.test_prior_macro_f1 <= 1"
    assert not reader.client.search_runs([number], gone)
    command(results, study, asked)
    assert len(reader.client.search_runs([number], gone)) == len(asked)


def test_another_deployment_prior_changes_the_values(results, study, asked, committed, summaries):
    command(results, study, asked)
    before = summaries()["smote"].data.metrics["mean_prior_balanced_accuracy"]
    train = decided_by(study, "prior", deploy="train")
    assert is_behind(results, train, asked)
    command(results, train, asked)
    assert summaries()["smote"].data.metrics["mean_prior_balanced_accuracy"] != before


def test_a_recipe_that_is_no_longer_asked_for_is_outdated_until_it_is_again(
    results, study, asked, committed, summaries
):
    fewer = [spec for spec in asked if spec.recipe == "nothing"]

    def statuses(specs):
        with open_tracking(results, study, asked=specs):
            pass
        assert not is_behind(results, study, specs)
        return {name: run.data.tags["harness.status"] for name, run in summaries().items()}

    assert statuses(asked) == {"nothing": "current", "smote": "current"}
    assert is_behind(results, study, fewer)
    assert statuses(fewer) == {"nothing": "current", "smote": "outdated"}
    assert is_behind(results, study, asked)
    assert statuses(asked) == {"nothing": "current", "smote": "current"}


def test_a_lost_ledger_makes_no_second_summary(results, study, asked, committed, summaries):
    command(results, study, asked)
    before = {run.info.run_id for run in summaries().values()}
    (results / "study" / "mirrored.jsonl").unlink()
    assert is_behind(results, study, asked)
    command(results, study, asked)
    assert {run.info.run_id for run in summaries().values()} == before
    assert not is_behind(results, study, asked)


def test_a_deleted_summary_is_made_anew_by_sync_with_its_runs_below(
    results, study, asked, committed, read, summaries
):
    sync(results, study, asked=asked)
    reader = read(results)
    reader.client.delete_run(summaries()["smote"].info.run_id)
    sync(results, study, asked=asked)
    new = summaries()["smote"].info.run_id
    below = {reader.one(s).data.tags["mlflow.parentRunId"] for s in asked if s.recipe == "smote"}
    assert below == {new}
    assert reader.history(reader.one(asked[0]), "test_prior_ece")[1:] == []


def test_a_deleted_run_of_a_seed_is_left_alone(results, study, asked, committed, read, summaries):
    sync(results, study, asked=asked)
    read(results).client.delete_run(read(results).one(asked[0]).info.run_id)
    sync(results, decided_by(study, "prior", deploy="train"), asked=asked)
    assert set(summaries()) == set(NAMES)


@pytest.mark.parametrize("call", ["create", "log", "end", "metrics"])
@pytest.mark.parametrize("after", [False, True])
def test_whatever_is_cut_off_is_completed_and_stands_once(
    results, study, asked, committed, read, summaries, monkeypatch, call, after
):
    """The server goes away, or the command is killed, before or after a call has its effect."""
    sync(results, study)  # runs are there, summaries are not
    with monkeypatch.context() as patch:
        real = getattr(Connection, call)

        def cut_off(*arguments, **options):
            if after:
                real(*arguments, **options)
            raise UnreachableError("gone")

        patch.setattr(Connection, call, cut_off)
        with pytest.raises(UnreachableError):
            sync(results, study, asked=asked)
    assert is_behind(results, study, asked)
    with open_tracking(results, study, asked=asked):
        pass
    assert set(summaries()) == set(NAMES)
    assert set(read(results).statuses()) == {"FINISHED"}
    assert summaries()["smote"].data.metrics["n"] == 3
    assert {"smote", "epochs"} <= set(summaries()["smote"].data.params)
    assert not is_behind(results, study, asked)


def test_a_second_summary_gives_way(results, study, asked, committed, read, summaries):
    sync(results, study, asked=asked)
    (results / "study" / "mirrored.jsonl").unlink()
    first = summaries()["smote"]
    reader = read(results)
    reader.client.create_run(first.info.experiment_id, tags=first.data.tags)
    sync(results, study, asked=asked)
    assert set(summaries()) == set(NAMES)
    assert set(reader.statuses()) == {"FINISHED"}


def test_a_server_that_is_down_in_the_middle_costs_no_run(
    results, study, asked, committer, summaries, monkeypatch, warned
):
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "runs", _raise)
        with open_tracking(results, study, warned.append, asked) as mirror:
            run_one(mirror, committer, asked[0])
    assert len(warned) == 1
    assert is_behind(results, study, asked)
    with open_tracking(results, study, warned.append, asked):
        pass
    assert set(summaries()) == {asked[0].recipe}


def _raise(*arguments, **options):
    raise UnreachableError("down")


def test_runs_that_cannot_be_decided_have_no_summary_and_are_not_tried_for_ever(
    results, study, asked, committed, summaries
):
    for path in committed:
        (path / "predictions.npz").unlink()
    command(results, study, asked)
    assert not summaries()
    assert not is_behind(results, study, asked)


def test_failed_runs_stand_below_the_summary_of_those_that_are_done(
    results, study, asked, committer, read, summaries
):
    same = [spec for spec in asked if spec.recipe == "smote"]
    committer.commit(same[0])
    committer.commit(same[1], status="failed")
    sync(results, study, asked=asked)
    summary = summaries()["smote"]
    assert summary.data.metrics["n"] == 1
    assert read(results).one(same[1]).data.tags["mlflow.parentRunId"] == summary.info.run_id


def test_rules_are_fitted_on_the_folds_of_a_seed_together(
    results, study, committer, read, summaries
):
    folded = replace(study, folds=3, seeds=(0,))
    specs = tuple(replace(spec, experiment=study.name) for spec in expand(folded).runs)
    with open_tracking(results, folded, asked=specs) as mirror:
        for number, spec in enumerate(specs):
            run_one(mirror, committer, spec, seed=number)
    assert summaries()["smote"].data.metrics["n"] == 3
    assert "test_prior_macro_f1" in read(results).one(specs[0]).data.metrics
    assert not is_behind(results, folded, specs)


def test_summaries_of_another_results_folder_on_a_shared_store_are_not_ours(
    results, study, asked, committed, read, tmp_path
):
    shared = Tracking(uri=database(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    shutil.copy(results / "mlflow.db", tmp_path / "shared" / "mlflow.db")
    there = replace(study, tracking=shared)
    sync(results, there, asked=asked)
    other = tmp_path / "other"
    shutil.copytree(results, other)
    (other / "study" / "mirrored.jsonl").unlink()
    sync(other, there, asked=asked[:2])
    kinds = [run for run in read(tmp_path / "shared").runs() if "harness.kind" in run.data.tags]
    assert len(kinds) == 2 * len(NAMES)
    assert {run.data.tags["harness.status"] for run in kinds} == {"current"}


def test_a_long_label_of_a_rule_makes_a_short_name():
    label = f"costs(costs={{{','.join(f'c{k}:1' for k in range(40))}}})"
    assert rule_key("prior(temperature=true)") == "prior_temperature_true"
    assert len(rule_key(label)) < 80
    assert rule_key(label) != rule_key(label.replace("c1:1", "c1:2"))
