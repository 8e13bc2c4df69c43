import base64
import json
import multiprocessing
import zlib
from pathlib import Path

import pytest

from harness.errors import TrackingError
from harness.tracking import summary
from harness.tracking.mirror import open_tracking, sync
from harness.tracking.views import COMPARED, PARALLEL, views


@pytest.fixture
def reader(read, results):
    return read(results)


@pytest.fixture
def files(tmp_path):
    def make(text):
        path = tmp_path / "index.html"
        path.write_text(text)
        table = tmp_path / "effects.csv"
        table.write_text(text)
        return {"": [path], "tables": [table]}

    return make


def parts(reader):
    return [run for run in reader.runs() if run.data.tags.get("harness.part") == "report"]


def test_one_run_holds_the_report_and_is_replaced(results, experiment, files, reader):
    for text in ("first", "second"):
        summary.attach(summary.Target.of(experiment, results), files(text), f"**{text}**")
    (run,) = parts(reader)
    assert run.info.run_name == "report"
    assert run.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in run.data.tags
    assert run.data.tags["mlflow.note.content"] == "**second**"
    assert {"index.html", "tables"} == reader.artifacts(run)
    stored = reader.client.download_artifacts(run.info.run_id, "index.html")
    assert Path(stored).read_text() == "second"
    found = reader.client.get_experiment_by_name(experiment.name)
    assert found.tags["mlflow.note.content"] == "**second**"


def test_pictures_keep_the_note(results, experiment, files, reader):
    summary.attach(summary.Target.of(experiment, results), files("a"), "the note")
    summary.attach(summary.Target.of(experiment, results), {"preview": files("b")[""]})
    (run,) = parts(reader)
    assert run.data.tags["mlflow.note.content"] == "the note"
    assert "preview" in reader.artifacts(run)


def test_runs_are_mirrored_beside_it_and_leave_it_alone(
    results, experiment, files, reader, committer, specs
):
    summary.attach(summary.Target.of(experiment, results), files("a"), "note")
    committer.commit(specs[0])
    assert sync(results, experiment).mirrored == 1
    assert sync(results, experiment).closed == 0
    assert len(parts(reader)) == 1
    assert len(reader.runs()) == 2


def test_a_deleted_summary_is_made_anew(results, experiment, files, reader):
    summary.attach(summary.Target.of(experiment, results), files("a"), "note")
    reader.client.delete_run(parts(reader)[0].info.run_id)
    summary.attach(summary.Target.of(experiment, results), files("b"), "note")
    assert len(parts(reader)) == 1


def test_a_new_database_is_made_while_a_driver_holds_the_experiment(
    committer, experiment, files, reader
):
    target = summary.Target.of(experiment, committer.store.results)
    with committer.store.locked():
        summary.attach(target, files("a"))
    (run,) = parts(reader)
    assert reader.artifacts(run)


def test_a_process_ahead_attaches_what_it_is_given(results, experiment, files, reader):
    target = summary.Target.of(experiment, results)
    with summary.ahead(target) as attach:
        attach(files("a"), "note")
    (run,) = parts(reader)
    assert reader.artifacts(run) == {"index.html", "tables"}


def test_a_process_ahead_says_what_went_wrong(tmp_path, experiment, files):
    (tmp_path / "mlflow.db").write_text("no database")
    with (
        summary.ahead(summary.Target.of(experiment, tmp_path)) as attach,
        pytest.raises(TrackingError, match="cannot be opened"),
    ):
        attach(files("a"), "note")


def test_a_process_ahead_ends_when_there_is_nothing_to_attach(results, experiment, monkeypatch):
    monkeypatch.setattr(summary, "_END_SECONDS", 60.0)
    with summary.ahead(summary.Target.of(experiment, results)):
        pass
    assert not multiprocessing.active_children()


def state(value):
    stored = json.loads(value)
    packed = stored["state"].removeprefix("deflate;")
    return stored["name"], json.loads(zlib.decompress(base64.b64decode(packed)))


def test_views_show_summaries_of_recipes_and_draw_factors_in_parallel():
    found = dict(state(value) for value in views("macro_f1", ["mixup", "a:b"], ["prior"]).values())
    compared, parallel = found[COMPARED], found[PARALLEL]
    assert "`harness.kind` = 'recipe'" in compared["searchFilter"]
    assert compared["orderByKey"] == "metrics.`mean_macro_f1`"
    assert compared["runsHiddenMode"] == "SHOWALL"
    name, *shown = compared["columnOrder"][:6]
    assert name == "attributes.`Run Name`"
    told = ["mean_macro_f1", "gain", "gain_low", "gain_high", "n"]
    assert shown == [f"metrics.`{key}`" for key in told]
    assert compared["columnWidths"][name] >= 380, "names of recipes are not cut"
    bars = [chart.get("metricKey") for chart in compared["compareRunCharts"]]
    assert bars == ["mean_macro_f1", "gain", "prior_rest", None]
    assert "params.`mixup`" in compared["selectedColumns"]
    (lines, _) = parallel["compareRunCharts"]
    assert lines["selectedParams"] == ["mixup", "a_b"]
    assert lines["selectedMetrics"] == ["test/macro_f1"]
    assert "'done'" in parallel["searchFilter"]


def test_recipes_stand_in_the_order_of_the_rule_that_claims_are_made_with():
    rules = ["prior", "costs(costs={a:1,b:20})"]
    found = dict(state(value) for value in views("macro_f1", [], rules, rules[1]).values())
    first = "metrics.`mean_costs_costs_a_1_b_20_macro_f1`"
    assert found[COMPARED]["orderByKey"] == found[COMPARED]["columnOrder"][1] == first


def test_an_experiment_has_its_views_once_it_is_tracked(results, experiment, reader):
    for _ in range(2):
        with open_tracking(results, experiment):
            pass
    tags = reader.client.get_experiment_by_name(experiment.name).tags
    expected = views(experiment.metric, list(experiment.factors), ["prior"])
    assert expected.items() <= tags.items()
    assert len([name for name in tags if name.startswith("mlflow.sharedViewState")]) == 2


def test_what_a_user_changed_of_the_experiment_is_left_alone(results, experiment, reader):
    with open_tracking(results, experiment):
        pass
    found = reader.client.get_experiment_by_name(experiment.name)
    reader.client.set_experiment_tag(found.experiment_id, "mlflow.sharedViewState.mine", "x")
    with open_tracking(results, experiment):
        pass
    tags = reader.client.get_experiment_by_name(experiment.name).tags
    assert tags["mlflow.sharedViewState.mine"] == "x"
