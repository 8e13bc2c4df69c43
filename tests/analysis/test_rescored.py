"""Metrics computed from stored predictions: one's own, with parameters, of runs of before."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, fbeta_score

from harness.analysis import compare
from harness.analysis.report.page import document
from harness.analysis.report_data import collect
from harness.analysis.tables import load_results, runs_table
from harness.cli import leaderboard
from harness.errors import ConfigError
from harness.experiment.expand import expand
from harness.experiment.schema import load
from harness.registry import metrics
from tests.analysis.conftest import FILE
from tests.sealed import reseal

PLUGIN = '''
from typing import Annotated

from pydantic import Field

from harness.metrics.base import Metric, Split, metric
from tests.sealed import reseal


@metric("recall_at_least")
class RecallAtLeast(Metric):
    """Share of the classes whose recall is at least so high."""

    least: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    def value(self, split: Split) -> float | None:
        return float((split.recall[split.support > 0] >= self.least).mean())


@metric("fails")
class Fails(Metric):
    """Fails."""

    def value(self, split):
        raise RuntimeError("no such thing")
'''

TWO = {"names": ("well", "ill"), "counts": (200, 9)}
"""Options of generated runs of two classes, the second one rare."""


@pytest.fixture
def plugin(tmp_path):
    with metrics.temporary():
        (tmp_path / "mine.py").write_text(PLUGIN)
        yield str(tmp_path / "mine.py")


def predicted(row, split="test"):
    with np.load(Path(row["path"]) / "predictions.npz") as stored:
        return stored[f"{split}_probabilities"], stored[f"{split}_labels"]


def test_a_metric_with_a_parameter_is_computed_for_runs_that_are_done(make):
    table = load_results(make().store.path, metrics=["f_beta(beta=3)", "macro_average_precision"])
    for _, row in table.iterrows():
        for split in ("val", "test"):
            p, labels = predicted(row, split)
            want = fbeta_score(labels, p.argmax(1), beta=3, average="macro", zero_division=0)
            assert row[f"{split}_f_beta(beta=3)"] == pytest.approx(want)
    with pytest.raises(ConfigError, match="unknown metric 'f_bet'"):
        load_results(make().store.path, metrics=["f_bet"])


def test_a_metric_of_ones_own_answers_without_a_run_being_done_again(make, plugin):
    made = make(names=tuple("abcdefghij"))
    own = {"name": "recall_at_least", "least": 0.6}
    asked = load({**FILE, "plugins": [plugin], "metric": own, "metrics": ["fails", "macro_auc"]})
    specs = expand(asked).runs
    assert [spec.key for spec in specs] == [spec.key for spec in made.specs]
    assert asked.metric == specs[0].metric == "recall_at_least(least=0.6)"
    found = collect(asked, specs, made.store)
    assert (found.runs["status"] == "done").all()
    for _, row in found.runs.iterrows():
        p, labels = predicted(row)
        recall = [(p.argmax(1) == labels)[labels == k].mean() for k in range(10)]
        assert row[f"test_{asked.metric}"] == pytest.approx(np.mean(np.array(recall) >= 0.6))
    assert found.runs["test_fails"].isna().all()
    assert "fails could not be computed: RuntimeError: no such thing" in found.runs["notes"][0]
    assert found.by == "val"
    page = document(found).markdown()
    assert "recall at least (least 0.6)" in page
    assert "| macro\\_auc % |" in page


def test_two_classes_show_the_rare_one_also_of_results_of_before(make):
    made = make(**TWO, keys={"factors": {"sampler": ["none", "weighted_sampler"]}})
    for file in made.store.path.glob("*/result.json"):
        result = json.loads(file.read_text())
        for values in result["metrics"].values():
            for name in [name for name in values if name.startswith(("rare_", "macro_average"))]:
                del values[name]
        file.write_text(json.dumps(result))
        reseal(file.parent)
    table = runs_table(made.store, made.specs)
    for _, row in table.iterrows():
        p, labels = predicted(row)
        want = average_precision_score(labels == 1, p[:, 1])
        assert row["test_rare_average_precision"] == pytest.approx(want)
        called = p.argmax(1) == 1
        assert row["test_rare_recall"] == pytest.approx(called[labels == 1].mean())
    board = compare.leaderboard(table, "balanced_accuracy")
    console = Console(width=160, record=True, file=io.StringIO())
    group = board[board["recipe"].notna()]
    leaderboard.show(console, ("digits", "", "tiny_cnn"), group, "balanced_accuracy", {})
    text = console.export_text()
    head = text.splitlines()[1]
    assert all(name in head for name in ("val", "rare AP", "rare prec", "rare rec"))
    assert "worst" not in head
    first = board.iloc[0]
    assert f"{100 * first['val']:.1f}" in text
    assert f"{100 * first['rare_precision']:.1f}" in text


def test_the_answer_of_two_classes_says_what_becomes_of_the_rare_one(make):
    made = make(**TWO, worth=lambda spec: 2.0 * len(spec.strategies))
    found = collect(made.experiment, made.specs, made.store)
    chosen = next(iter(found.chosen.values()))
    board = found.board.set_index("recipe")
    (said,) = [text for text in document(found).answer[0] if text.startswith("Of the rarer class")]
    for name in ("rare_average_precision", "rare_precision", "rare_recall"):
        before, now = (100 * board.loc[recipe, name] for recipe in ("nothing", chosen))
        assert f"goes from {before:.1f} to {now:.1f} %" in said
    assert "class ill" in said


def test_a_run_whose_predictions_are_gone_is_damaged(make):
    made = make(keys={"factors": {}, "seeds": 1})
    (file,) = made.store.path.glob("*/predictions.npz")
    file.write_bytes(b"no")
    row = runs_table(made.store, made.specs, ["f_beta"]).iloc[0]
    assert row["status"] == "damaged"
    assert row["reason"].startswith("predictions.npz has 2 of ")


def test_a_metric_that_makes_no_sense_for_the_classes_is_refused_at_plan_time():
    for metric, said in (
        ({"name": "expected_cost", "costs": [[0, 1], [1, 0]]}, "costs is 2 × 2, for 10 classes"),
        ({"name": "rare_recall", "positive": "x"}, "no class 'x'"),
    ):
        with pytest.raises(ConfigError, match=said):
            expand(load({**FILE, "metric": metric}))
    with pytest.raises(ConfigError, match=r"metric\.beta: must be greater than 0"):
        load({**FILE, "metric": {"name": "f_beta", "beta": 0}})
    with pytest.raises(ConfigError, match=r"metrics\[1\]\.gamma: unknown key for 'f_beta'"):
        load({**FILE, "metrics": ["mcc", {"name": "f_beta", "gamma": 0}]})
