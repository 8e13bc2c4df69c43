"""The chapter on the threshold part of gains, and reports by another rule than argmax."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score
from statsmodels.stats.multitest import multipletests

from harness.analysis.report.document import Figure, Table
from harness.analysis.report.page import document
from harness.analysis.report.threshold import TITLE
from harness.analysis.report.write import brief, write
from harness.analysis.report_data import collect
from tests.benchmarks.generated import by_level

HELPS = by_level({"weighted_sampler": 0.9, "mixup": -0.6})
NOISE = (0.03, 1.0, 0.3)


@pytest.fixture
def report(make, tmp_path):
    """Return a function that writes a report of generated runs."""

    def build(decisions=None, **options):
        keys = {**options.pop("keys", {}), "decisions": decisions or {}}
        made = make(keys=keys, worth=HELPS, noise=NOISE, per_class=60, **options)
        found = collect(made.experiment, made.specs, made.store)
        page = document(found)
        files = {path.name: path for path in write(found, page, tmp_path / "report")}
        return made, found, page, files

    return build


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def adjusted(made, spec, split="test"):
    """Return labels and decisions of a run under the rule `prior`, computed here."""
    folder = made.store.runs()[spec.key].path
    result = json.loads((folder / "result.json").read_text())
    with np.load(folder / "predictions.npz") as stored:
        p, labels = stored[f"{split}_probabilities"], stored[f"{split}_labels"]
    return labels, (p / np.array(result["delivered"])).argmax(axis=1)


def test_the_answer_the_chapter_and_the_files_say_the_same(report):
    made, found, page, files = report()
    value = {
        (spec.recipe, spec.seed): balanced_accuracy_score(*adjusted(made, spec))
        for spec in made.specs
    }
    rest = np.mean([value["weighted_sampler", s] - value["nothing", s] for s in range(4)])
    gain = found.gains.set_index("recipe")["gain"]["weighted_sampler"]
    wanted = {"gain": gain, "threshold_part": gain - rest, "rest": rest}
    (row,) = [
        row
        for row in rows_of(files["decisions.csv"])
        if (row["recipe"], row["rule"], row["metric"])
        == ("weighted_sampler", "prior", "balanced_accuracy")
    ]
    told = json.loads(files["report.json"].read_text())
    (said,) = told["threshold"]
    for part, size in wanted.items():
        assert float(row[part]) == pytest.approx(size)
        assert said[part] == pytest.approx(size)
        assert float(row[f"{part}_low"]) == pytest.approx(said[f"{part}_low"])
    assert (said["recipe"], said["rule"], told["rule"]) == ("weighted_sampler", "prior", "argmax")
    assert page.answer[0][1] == said["said"]
    assert "(rule prior)" in said["said"]
    (part,) = page.chapter(TITLE)
    table = next(block for block in part.blocks if isinstance(block, Table))
    shown = {(line[0].text, line[1].text): line for line in table.rows}
    assert shown["weighted_sampler", "prior"][6].text.startswith(f"{100 * rest:+.1f}")
    assert said["said"] in files["report.md"].read_text().replace("\\", "")
    html = brief(page)
    assert "points" in html
    assert "(rule prior)" in html


def test_the_primary_rule_alone_has_holm_and_the_page_says_so(report):
    _, found, page, _ = report()
    table = found.threshold.table
    claims = table[(table["rule"] == "argmax") & (table["metric"] == "balanced_accuracy")]
    claims = claims[claims["recipe"] != "nothing"]
    assert claims["p_holm"].tolist() == pytest.approx(
        multipletests(claims["rest_p"], method="holm")[1].tolist()
    )
    assert table["p_holm"].notna().sum() == len(claims) == 3
    (part,) = page.chapter(TITLE)
    caption = next(block.caption for block in part.blocks if isinstance(block, Table))
    assert "primary rule, argmax" in caption
    assert "by Holm for the 3 recipes" in caption
    assert "exploratory" in caption


def test_the_figure_has_every_recipe_and_calibration_is_before_and_after(report):
    _, found, page, files = report({"rules": ["argmax", "prior", "temperature"]})
    (part,) = page.chapter(TITLE)
    parts, calibration = [b for b in part.blocks if isinstance(b, Figure)]
    for recipe in ("weighted_sampler", "mixup", "weighted_sampler+mixup"):
        assert recipe in parts.picture.alt
    assert "nothing, argmax" in calibration.picture.alt
    assert "nothing, prior" in calibration.picture.alt
    by = found.threshold.table.set_index(["recipe", "rule", "metric"])["value"]
    assert by["nothing", "temperature", "nll"] < by["nothing", "argmax", "nll"]
    said = files["report.md"].read_text().replace("\\", "")
    assert "Trained prior of nothing: a 67.8 %, b 22.4 %, c 7.46 %, d 2.37 %." in said
    assert "Deployment prior: all classes alike, as balanced accuracy asks by default." in said
    assert "prior: Multiply each class by its share in deployment" in said


def test_every_chapter_and_table_of_figures_names_its_rule(report):
    _, _, page, files = report()
    assert "decided by argmax" in page.lead
    rules = {section.title: section.rule for section in page.sections}
    for title in ("Recipes", "Main effects", "Classes", "Confusion", "Calibration", "Cost"):
        assert "Decision rule: argmax" in rules[title], title
        assert f'<h2>{title}</h2>\n<p class="note">{rules[title]}' in files["index.html"].read_text(
            encoding="utf-8"
        )
    for name in ("runs", "classes", "leaderboard", "differences", "main_effects", "interactions"):
        assert {row["rule"] for row in rows_of(files[f"{name}.csv"])} == {"argmax"}, name


def test_all_is_compared_by_a_primary_rule_that_is_not_argmax(report):
    made, found, page, files = report({"primary": "prior"})
    specs = {spec.key: spec for spec in made.specs}
    for row in rows_of(files["runs.csv"]):
        spec = specs[row["key"]]
        labels, decided = adjusted(made, spec)
        assert float(row["test_balanced_accuracy"]) == balanced_accuracy_score(labels, decided)
        assert float(row["test_macro_f1"]) == pytest.approx(
            f1_score(labels, decided, average="macro")
        )
        on_val = balanced_accuracy_score(*adjusted(made, spec, "val"))
        assert float(row["val_balanced_accuracy"]) == pytest.approx(on_val)
        assert row["rule"] == "prior"
    runs = pd.read_csv(files["runs.csv"])
    means = runs.groupby("recipe")["test_balanced_accuracy"].mean()
    board = pd.read_csv(files["leaderboard.csv"]).set_index("recipe")
    assert board["test"].to_dict() == pytest.approx(means.to_dict())
    gains = pd.read_csv(files["differences.csv"])
    gains = gains[gains["metric"] == "balanced_accuracy"].set_index("recipe")
    assert gains["gain"]["mixup"] == pytest.approx(means["mixup"] - means["nothing"])
    rest = found.threshold.table.set_index(["recipe", "rule", "metric"])
    rest = rest.loc["mixup", "prior", "balanced_accuracy"]
    assert rest["rest"] == pytest.approx(gains["gain"]["mixup"])
    assert rest["rest_new_low"] == pytest.approx(gains["new_low"]["mixup"])
    classes = pd.read_csv(files["classes.csv"])
    recall = classes[classes["recipe"] == "mixup"]["value"].mean()
    assert recall == pytest.approx(means["mixup"])
    assert "decided by prior" in page.lead
    (part,) = page.chapter("Confusion")
    assert part.blocks
    labels, decided = zip(
        *(adjusted(made, s) for s in made.specs if s.recipe == "nothing"), strict=True
    )
    hit = np.mean((np.concatenate(decided) == 3)[np.concatenate(labels) == 3])
    assert f"d {100 * hit:.0f} %" in part.blocks[0].picture.alt


def test_a_recipe_that_the_primary_rule_cannot_decide_has_no_value_and_a_reason(report):
    keys = {"recipes": {"focal": ["focal"]}}
    _, found, page, _ = report({"primary": "prior"}, keys=keys)
    board = found.board.set_index("recipe")
    assert np.isnan(board["test"]["focal"])
    assert found.chosen["digits-lt20", "", "tiny_cnn"] != "focal"
    assert any(w.startswith("digits-lt20, focal: rule prior has no value") for w in page.warnings)


def test_costs_are_counted_as_they_are_given(report):
    costs = {"a": {"b": 1, "c": 1, "d": 1}, "b": {"a": 2, "c": 2, "d": 2},
             "c": {"a": 5, "b": 5, "d": 5}, "d": {"a": 20, "b": 9, "c": 7}}  # fmt: skip
    made, found, page, _ = report({"costs": costs})
    table = found.threshold.table
    label = next(name for name in table["metric"].unique() if name.startswith("expected_cost("))
    row = table[(table["metric"] == label) & (table["rule"] == "prior")].set_index("recipe")
    matrix = np.array([[costs[t].get(d, 0) for d in "abcd"] for t in "abcd"])
    spent = [matrix[adjusted(made, s)].mean() for s in made.specs if s.recipe == "nothing"]
    assert row["value"]["nothing"] == pytest.approx(np.mean(spent))
    cheap = table[(table["metric"] == label) & (table["recipe"] == "nothing")].set_index("rule")
    (rule,) = [name for name in cheap.index if name.startswith("costs")]
    assert cheap["value"][rule] < cheap["value"]["argmax"]
    (part,) = page.chapter(TITLE)
    assert any("Mean cost of a decision" in getattr(b, "caption", "") for b in part.blocks)


def test_one_seed_is_exploratory(report):
    _, _, page, _ = report(keys={"seeds": 1})
    assert "from 1 pair: exploratory, no interval" in page.answer[0][1]


def test_without_val_a_rule_that_is_fitted_there_says_so(report):
    _, _, page, _ = report({"rules": ["thresholds"]}, val=False)
    assert "rule thresholds could not be fitted" in page.answer[0][1]
    assert "there is none" in page.answer[0][1]


def test_folds_are_taken_apart_as_well(report):
    keys = {"folds": 3, "seeds": 1, "datasets": [{"name": "digits"}]}
    _, found, page, _ = report(keys=keys)
    row = found.threshold.row(found.panels[0], "weighted_sampler")
    assert row["pairs"] == 3
    assert "(rule prior)" in page.answer[0][1]
