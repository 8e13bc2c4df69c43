"""The report of generated results, as a reader and as a program find it."""

import csv
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.analysis.intervals import EXPLORATORY
from harness.analysis.report import cells
from harness.analysis.report.answer import answer, compared
from harness.analysis.report.document import Table
from harness.analysis.report.page import document
from harness.analysis.report.write import write
from harness.analysis.report_data import CONFIRMED, collect
from harness.datasets.digits import Digits
from harness.errors import StoreError
from harness.execution.search_results import SearchResult, Value
from harness.execution.store import Store
from tests.benchmarks.generated import Generator, by_level, fresh
from tests.sealed import reseal

EVIL = "<script>alert(1)</script>"
MIXUP = SearchResult(
    study="mixup", dataset="digits-lt20", model="tiny_cnn", recipe="mixup",
    best=Value(7, 0.9, 0.01), default=Value(0, 0.81, 0.02), values={"mixup.alpha": 0.37}, held={},
    states={"complete": 18, "failed": 2}, runs=60, seconds=240.0, own={"mixup.alpha": 1.0},
)  # fmt: skip
HELPS = by_level({"weighted_sampler": 0.9, "mixup": -0.6})


class Page(HTMLParser):
    """Collects what matters of a page: tags, texts, addresses."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.texts, self.open = 0, [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.addresses += [v for k, v in attributes if k in ("src", "href", "action") and v]
        if tag not in ("meta", "img", "br", "wbr", "line", "rect", "circle", "path", "image"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def report(tmp_path):
    """Return a function that writes the report of what was made, and gives its parts."""

    def build(made, **options):
        found = collect(made.experiment, made.specs, made.store, **options)
        page = document(found)
        files = {path.name: path for path in write(found, page, tmp_path / "report")}
        return found, page, files

    return build


def text_of(files, name="index.html"):
    return files[name].read_text(encoding="utf-8")


def test_the_answer_in_words(make, report):
    made = make(worth=HELPS, noise=(0.03, 1.0, 0.3), per_class=60)
    found, page, _ = report(made)
    ((first, *rest),) = page.answer
    gains = found.gains.set_index("recipe").loc["weighted_sampler"]
    assert first == (
        "On digits-lt20, weighted_sampler (chosen on val) gains "
        f"{100 * gains['gain']:.1f} points of balanced accuracy over doing nothing "
        f"(95 % interval {100 * gains['low']:.1f} to {100 * gains['high']:.1f}, 4 seeds)."
    )
    said = " ".join(rest)
    assert "Not confirmed yet" in said
    assert "“harness confirm experiment --results …” repeats it" in said
    assert re.search(r"weighted_sampler \(\+[\d.]+\) helps; mixup \(−[\d.]+\) hurts", said)


def test_commands_do_what_was_done(make, monkeypatch, tmp_path):
    made = make()
    monkeypatch.chdir(made.store.results.parent)
    found = collect(made.experiment, made.specs, made.store)
    assert found.command("run") == "harness run experiment"
    found.results = found.results.parent / "other results"
    assert found.command("report") == "harness report experiment --results 'other results'"
    found.results = tmp_path.parent
    assert found.command("confirm") == "harness confirm experiment --results …"


def test_no_effect_is_called_undecided_or_none(make, report):
    made = make(noise=(0.03, 1.0, 0.3))
    _, page, _ = report(made)
    said = " ".join(page.answer[0])
    assert "gains" not in page.answer[0][0]
    assert "cannot be told from no effect" in said or "no difference" in said
    _, page, _ = report(made, margin=0.5)
    assert "no difference within ±50 points" in " ".join(page.answer[0])


def test_an_effect_that_holm_overrules_says_among_how_many_it_was_asked(make, report):
    made = make()
    found = collect(made.experiment, made.specs, made.store)
    said = {"estimate": 0.054, "low": 0.018, "high": 0.089, "p": 0.031, "p_holm": 0.062}
    found.effects.loc[0, list(said)] = list(said.values())
    found.effects.loc[0, ["asked", "verdict"]] = 2, "undecided"
    page = document(found)
    files = {path.name: path for path in write(found, page, made.store.results / "report")}
    sentence = (
        "weighted_sampler (+5.4, 1.8 to 8.9 by itself) cannot be told from no effect among the "
        "2 effects asked at once (Holm)"
    )
    assert sentence in " ".join(page.answer[0])
    markdown = text_of(files, "report.md").replace("\\", "")
    assert "+5.4 [+1.8, +8.9]: undecided (2 asked at once, p = 0.062 by Holm)" in markdown
    assert "| 0.062, of 2 |" in markdown
    assert "for the 2 effects asked at once" in markdown
    for name in ("index.html", "brief.html"):
        assert "[+1.8, +8.9] · p 0.062" in text_of(files, name)
    assert json.loads(text_of(files, "report.json"))["tables"]["main_effects"][0]["asked"] == 2


def test_effects_with_failed_runs_say_so(make, report):
    fail = {("mixup", 1), ("weighted_sampler+mixup", 0)}
    made = make(fail=lambda spec: "failed" if (spec.recipe, spec.seed) in fail else "done")
    _, _, files = report(made)
    assert "told by least squares from the others" in text_of(files, "report.md")
    _, _, files = report(make(keys={"name": "whole"}))
    assert "told by least squares from the others" not in text_of(files, "report.md")


def test_what_rests_on_few_groups_is_said_and_not_called_certain(make, report):
    made = make(worth=HELPS, noise=(0.03, 1.0, 0.3), groups=25)
    confirming = Store(made.store.results, made.store.path.name + CONFIRMED)
    again = Generator(confirming, worth=HELPS, noise=(0.03, 1.0, 0.3), groups=25)
    for spec in fresh(made.specs, confirming.path.name, (1001, 1002, 1003)):
        again.write(spec)
    _, page, files = report(made)
    said = " ".join(page.answer[0])
    assert "Not certain of other groups, however many the seeds: 100 % of the metric rests" in said
    assert "not confirmed beyond this test set" in said
    assert "Confirmed on fresh seeds" not in said
    assert "For new images of this kind there is no interval: 100 % of the metric rests on" in said
    markdown = text_of(files, "report.md")
    assert "They make nothing certain" in markdown
    assert "groups in train | groups in val | groups in test" in markdown
    (groups,) = json.loads(text_of(files, "report.json"))["groups"]
    assert groups["certain"] is False
    assert groups["test"] == [1, 1, 1, 1]


def test_many_groups_are_counted_and_confirmed_as_ever(make, report):
    made = make(worth=HELPS, noise=(0.03, 1.0, 0.3), groups=2, per_class=60)
    _, page, files = report(made)
    assert "rests on" not in " ".join(page.answer[0])
    assert "groups in test" in text_of(files, "report.md")
    _, _, files = report(make(keys={"name": "alone"}))
    assert "groups in test" not in text_of(files, "report.md")


def test_dependence_is_told(make, report):
    together = {("weighted_sampler", "mixup"): 1.5}
    made = make(worth=by_level({"mixup": -0.7}, together), noise=(0.03, 1.0, 0.3))
    _, page, _ = report(made)
    assert "weighted_sampler is worth" in " ".join(page.answer[0])
    assert "more where mixup is on than where it is off" in " ".join(page.answer[0])


def test_the_page_is_sound_offline_and_complete(make, report):
    made = make(worth=HELPS)
    _, page, files = report(made)
    text = text_of(files)
    parsed = Page(text)
    assert parsed.scripts == 1
    assert all(a.startswith("#") or a.startswith("data:") for a in parsed.addresses)
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", text)
    titles = [section.title for section in page.sections]
    for title in (
        "Recipes", "Main effects", "Interactions", "Confirmation", "Classes", "Confusion",
        "Learning curves", "Calibration", "Cost", "What the recipes are", "How it was measured",
    ):  # fmt: skip
        assert title in titles
        assert f"<h2>{title}</h2>" in text
    assert {f"#{section.anchor}" for section in page.sections} <= set(parsed.addresses)
    assert text.count("<figure>") == text.count("<summary>In words</summary>")
    assert text.count('role="img"') == text.count("<figure>")


def test_every_file_is_written_and_stale_tables_go(make, report, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "gap.csv").write_text("old")
    _, _, files = report(make())
    assert {"index.html", "brief.html", "report.md", "report.json", "runs.csv", "main_effects.csv",
            "interactions.csv", "differences.csv", "classes.csv"} <= files.keys()  # fmt: skip
    assert not (tmp_path / "report" / "gap.csv").exists()
    assert all(path.stat().st_size for path in files.values())


def test_numbers_can_be_recomputed_from_runs_csv(make, report):
    _, _, files = report(make(worth=HELPS))
    runs = pd.read_csv(files["runs.csv"])
    wide = runs.pivot(index="seed", columns="recipe", values="test_balanced_accuracy")
    given = pd.read_csv(files["differences.csv"])
    given = given[given["metric"] == "balanced_accuracy"].set_index("recipe")
    for recipe in ("mixup", "weighted_sampler", "weighted_sampler+mixup"):
        expected = stats.ttest_rel(wide[recipe], wide["nothing"])
        ends = expected.confidence_interval(0.95)
        row = given.loc[recipe]
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
        assert row["p"] == pytest.approx(expected.pvalue)
    effects = pd.read_csv(files["main_effects.csv"])
    effects = effects[effects["metric"] == "balanced_accuracy"].set_index("level")
    tests = {
        "mixup": wide[["mixup", "weighted_sampler+mixup"]].mean(axis=1)
        - wide[["nothing", "weighted_sampler"]].mean(axis=1),
        "weighted_sampler": wide[["weighted_sampler", "weighted_sampler+mixup"]].mean(axis=1)
        - wide[["nothing", "mixup"]].mean(axis=1),
    }
    p = {level: stats.ttest_1samp(each, 0).pvalue for level, each in tests.items()}
    adjusted = dict(zip(p, multipletests(list(p.values()), method="holm")[1], strict=True))
    for level, each in tests.items():
        assert effects.loc[level, "estimate"] == pytest.approx(each.mean())
        assert effects.loc[level, "p"] == pytest.approx(p[level])
        assert effects.loc[level, "p_holm"] == pytest.approx(adjusted[level])
    assert not runs["path"].str.contains("/").any()


def test_the_json_is_for_programs(make, report):
    _, page, files = report(make(worth=HELPS))
    data = json.loads(text_of(files, "report.json"))
    assert (data["experiment"], data["metric"], data["margin"]) == (
        "study",
        "balanced_accuracy",
        0.005,
    )
    assert data["chosen"][0]["recipe"] == "weighted_sampler"
    assert data["answer"] == [list(sentences) for sentences in page.answer]
    assert data["runs"] == {"done": 16}
    assert len(data["tables"]["leaderboard"]) == 4
    assert "NaN" not in text_of(files, "report.json")


def test_markdown_has_the_same_and_nothing_of_a_name_is_markup(make, report):
    keys = {"recipes": {"a|b*c_[x](y)<i>": ["smote"]}}
    _, _, files = report(make(keys=keys))
    text = text_of(files, "report.md")
    assert text.startswith("# study\n")
    assert r"a\|b\*c\_\[x\](y)\<i\>" in text
    assert "## Main effects" in text
    for line in text.splitlines():
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) >= 3
    assert "<i>" not in text


@pytest.mark.parametrize("name", [EVIL, "é" * 300, "😀 emoji", "a,b\"c'd\n", "{{ 7*7 }}", "%s"])
def test_names_of_classes_do_no_harm(make, report, name):
    made = make(names=(name, "b", "c"), per_class=12)
    _, _, files = report(made)
    text = text_of(files)
    assert Page(text).scripts == 1
    assert EVIL not in text
    assert ">49<" not in text
    shown = [t for t in Page(text).texts if "(200)" in t]
    assert shown
    classes = pd.read_csv(files["classes.csv"], keep_default_na=False)
    assert name in set(classes["name"])
    Page(text_of(files, "brief.html"))


@pytest.mark.parametrize("name", ["=1+1", "+a", "@x", "-y", "\tz", "'=q"])
def test_no_cell_of_a_name_is_a_formula_and_the_page_has_it_as_it_is(make, report, name):
    made = make(names=(name, "b", "c"), per_class=12, keys={"recipes": {"=own": ["smote"]}})
    found, _, files = report(made)
    assert name in set(found.classes["name"])
    for file in files.values():
        if file.suffix == ".csv":
            with open(file, newline="", encoding="utf-8") as stream:
                cells = [cell for row in csv.reader(stream) for cell in row if cell]
            assert not [c for c in cells if c[0] in "=+-@\t\r" and not is_number(c)]
    classes = pd.read_csv(files["classes.csv"], keep_default_na=False)
    assert f"'{name}" in set(classes["name"])
    assert "'=own" in set(classes["recipe"])


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_control_characters_of_names_are_written_out_in_the_page(make, report):
    made = make(names=("a\x1b[2J\x7f\u202e", "b", "c"), per_class=12)
    _, _, files = report(made)
    for name in ("index.html", "brief.html", "report.md"):
        text = text_of(files, name)
        assert not set(text) & {"\x1b", "\x7f", "\u202e"}
        assert r"a\x1b[2J" in text or "a\\\\x1b" in text


def test_each_class_has_precision_recall_and_f1_in_one_order(make, report):
    made = make(worth=HELPS, counts=(9, 200, 9, 40))
    found, page, _ = report(made)
    (part,) = page.chapter("Classes")
    table = next(b for b in part.blocks if isinstance(b, Table) and b.columns[0].name == "class")
    assert [row[0].text for row in table.rows] == ["b", "d", "a", "c"]
    rows = found.classes.set_index(["recipe", "name"])
    chosen = next(iter(found.chosen.values()))
    head = [column.name for column in table.columns]
    assert head[3:5] == ["precision, nothing", f"precision, {cells.text(chosen, 16).text}"]
    assert table.rows[2][3].text == f"{100 * rows.loc[('nothing', 'a'), 'precision']:.1f}"
    assert table.rows[2][8].text == f"{100 * rows.loc[(chosen, 'a'), 'f1']:.1f}"
    heat = part.blocks[-1]
    assert [column.name.rstrip("*") for column in heat.columns[1:]] == ["b", "d", "a", "c"]
    (confusion,) = page.chapter("Confusion")
    svg = confusion.blocks[0].picture.svg
    assert [svg.index(f">{name}</text>") for name in "bdac"] == sorted(
        svg.index(f">{name}</text>") for name in "bdac"
    )


def test_names_of_recipes_and_datasets_do_no_harm(make, report):
    keys = {
        "datasets": [{"name": "digits", "label": EVIL}],
        "recipes": {EVIL: ["smote"]},
        "description": EVIL,
    }
    _, _, files = report(make(keys=keys))
    for name in ("index.html", "brief.html"):
        assert EVIL not in text_of(files, name)
        assert Page(text_of(files, name)).scripts == (name == "index.html")


def test_a_partial_report_says_what_is_missing(make, report):
    made = make(skip=lambda spec: spec.seed == 3 and spec.recipe != "nothing")
    _, page, files = report(made)
    assert page.warnings[0] == (
        "This is a partial report: 3 of 16 planned runs are missing (listed below)."
    )
    missing = pd.read_csv(files["missing.csv"])
    assert missing["runs"].sum() == 3
    assert missing["seeds"].unique().tolist() == [3]
    assert any("recipes have 3 to 4 runs" in text for text in page.warnings)
    assert "Runs that are not done" in text_of(files)
    assert "harness run experiment" in text_of(files)


def test_runs_that_failed_are_counted_ranked_last_and_shown_without(make, report):
    made = make(
        fail=lambda spec: "failed" if spec.recipe == "weighted_sampler" and spec.seed == 1
        else "diverged" if spec.recipe == "mixup" and spec.seed == 2 else "done",
        worth=HELPS,
    )  # fmt: skip
    found, page, files = report(made)
    assert found.board["recipe"].tolist()[:2] == ["nothing", "weighted_sampler+mixup"] or (
        found.board["recipe"].tolist()[:2] == ["weighted_sampler+mixup", "nothing"]
    )
    assert found.board_apart["recipe"].iloc[0] == "weighted_sampler"
    assert any("2 runs are not done (1 failed, 1 diverged)" in text for text in page.warnings) or (
        any("2 runs are not done (1 diverged, 1 failed)" in text for text in page.warnings)
    )
    text = text_of(files)
    assert "RuntimeError: the disk is full" in text
    assert "as if runs that are not done had never been started" in text
    effects = found.effects.set_index("level")
    assert (effects["lost"] > 0).any()


def test_only_failures_are_a_report_that_says_so(make, report):
    _, page, files = report(make(fail=lambda spec: "failed"))
    assert page.answer == [["No run is done yet, so there is nothing to compare."]]
    assert "RuntimeError: the disk is full" in text_of(files)


def test_no_run_at_all_is_an_error_that_says_what_to_do(make):
    made = make(skip=lambda spec: True)
    with pytest.raises(StoreError, match=r"no run of 'study' has ended.*harness run"):
        collect(made.experiment, made.specs, made.store)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_exploratory(make, report, seeds):
    _, page, files = report(make(keys={"seeds": seeds}, worth=HELPS))
    assert "exploratory, no interval" in page.answer[0][0]
    assert any("Fewer than three seeds" in text for text in page.warnings)
    assert Page(text_of(files)).scripts == 1


def test_a_class_missing_from_test_is_named(make, report):
    _, page, _ = report(make(per_class=(20, 0, 20, 20)))
    assert any("Without a test image" in text and "b" in text for text in page.warnings)


def test_what_hangs_on_one_test_image_is_said_and_has_no_interval(make, report):
    found, page, _ = report(make(per_class=(20, 1, 20, 20), worth=HELPS))
    assert found.gains["new_low"].isna().all()
    (said,) = [text for text in page.warnings if "test image" in text]
    assert "has 1 test image, and each is worth 25.0 points of balanced accuracy" in said
    assert document(found).markdown().count("each is worth") == 1
    alike = {"verdict": EXPLORATORY, "gain": 0.25, "low": math.nan, "high": math.nan, "pairs": 3}
    assert compared(found, alike).endswith("than doing nothing (3 seeds, all alike: no interval)")


class Rows(Digits):
    """A table, as far as a report knows."""

    kind: ClassVar[Any] = "table"


def test_of_a_table_it_speaks_of_rows(make, report):
    made = make(per_class=(20, 2, 20, 20), worth=HELPS)
    source = Rows(**made.experiment.datasets[0].model_dump())
    made.experiment = replace(made.experiment, datasets=(source,))
    _, page, files = report(made)
    assert any("2 test rows, and each" in text for text in page.warnings)
    words = re.sub(r"<[^>]*>", " ", text_of(files).partition("<main")[2])
    assert re.findall(r"\b(?:test|training|new|single) images?\b", words) == []


def test_many_test_images_need_no_such_word(make, report):
    _, page, _ = report(make(per_class=(40, 40, 40, 40), worth=HELPS))
    assert not any("test image" in text for text in page.warnings)


def test_t02_without_val_nothing_is_called_confirmed(make, report):
    made = make(val=False, worth=HELPS)
    _, page, files = report(made)
    said = " ".join(page.answer[0])
    assert "best on test, for want of val" in said
    assert "only new test data could confirm it" in said
    assert "val_fraction: 0" in text_of(files)
    assert "harness confirm" not in said


def test_fresh_seeds_confirm_or_do_not(make, report):
    made = make(worth=HELPS)
    name = f"study{CONFIRMED}"
    store = Store(made.store.results, name)
    again = Generator(store, worth=HELPS)
    for spec in fresh(made.specs, name, [1000, 1001, 1002, 1003]):
        if spec.recipe in ("nothing", "weighted_sampler"):
            again.write(spec)
    found, page, _ = report(made)
    assert "Confirmed on fresh seeds: it gains" in " ".join(page.answer[0])
    (row,) = found.confirmed.to_dict("records")
    assert (row["recipe"], row["pairs"]) == ("weighted_sampler", 4)
    weak = Generator(Store(made.store.results, name), noise=(0.3, 1.0, 0.5))
    for path in store.path.glob("*weighted*"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    for spec in fresh(made.specs, name, [1000, 1001, 1002, 1003]):
        if spec.recipe == "weighted_sampler":
            weak.write(spec)
    _, page, _ = report(made)
    assert "Not confirmed: on fresh seeds it" in " ".join(page.answer[0])


@pytest.mark.parametrize(("count", "certain"), [(1, True), (30, False)])
def test_t09_what_rests_on_copies_is_not_called_confirmed(count, certain, make, report):
    made = make(worth=HELPS)
    name = f"study{CONFIRMED}"
    again = Generator(Store(made.store.results, name), worth=HELPS)
    for spec in fresh(made.specs, name, [1000, 1001, 1002, 1003]):
        if spec.recipe in ("nothing", "weighted_sampler"):
            again.write(spec)
    for path in made.store.path.glob("*/result.json"):
        reseal(path.parent, copies={"test": count, "of": 360})
    _, page, _ = report(made)
    said = " ".join(page.answer[0])
    are = "is" if count == 1 else "are"
    assert f"{count} of 360 test images {are} in train or val too" in said
    assert ("Confirmed on fresh seeds" in said) == certain
    assert ("not confirmed beyond this test set: 30 of 360" in said) == (not certain)


def test_versions_that_differ_within_a_table_are_named(make, report):
    made = make()
    path = next(made.store.path.glob("*mixup*"))
    env = json.loads((path / "env.json").read_text())
    env["versions"]["torch"] = "2.11.0"
    (path / "env.json").write_text(json.dumps(env))
    reseal(path)
    unknown = next(made.store.path.glob("*-nothing-*"))
    (unknown / "env.json").unlink()
    reseal(unknown)
    _, page, _ = report(made)
    mixed = next(text for text in page.warnings if "not made alike" in text)
    assert "torch 2.14.1 (14 runs) and 2.11.0 (1 runs)" in mixed or "torch 2.11.0" in mixed
    assert "unknown" in mixed


def test_results_of_two_schema_versions_are_not_mixed(make, report):
    made = make()
    path = next(made.store.path.glob("*mixup*"))
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps({**result, "schema": 2}))
    found, _, files = report(made)
    assert found.bad()["status"].tolist() == ["damaged"]
    assert "is of schema 2, and this version reads 1" in text_of(files)


@pytest.mark.parametrize(
    "gone", ["predictions.npz", "per_class.csv", "history.csv", "env.json", "result.json"]
)
def test_a_half_deleted_run_is_named_and_the_rest_is_reported(make, report, gone):
    made = make()
    path = next(made.store.path.glob("*-nothing-*"))
    (path / gone).unlink()
    _, page, files = report(made)
    assert Page(text_of(files)).scripts == 1
    assert any(gone in text and path.name in text for text in page.warnings)


def test_a_thousand_classes(make, report):
    names = [f"class {k}" for k in range(1000)]
    made = make(names=names, per_class=2, keys={"seeds": 3}, worth=HELPS,
                counts=[max(3, 500 - k) for k in range(1000)])  # fmt: skip
    _, _, files = report(made)
    assert files["index.html"].stat().st_size < 3_000_000
    assert len(pd.read_csv(files["classes.csv"])) == 4000
    assert "The 20 rarest of 1000 classes" in text_of(files)


@pytest.mark.parametrize("design", ["one_at_a_time", "leave_one_out"])
def test_other_designs_say_what_their_effects_mean(make, report, design):
    factors = {
        "sampler": ["none", "weighted_sampler"],
        "mixup": ["none", "mixup"],
        "smote": ["none", "smote"],
    }
    found, page, _ = report(make(keys={"design": design, "factors": factors}, worth=HELPS))
    said = " ".join(page.answer[0])
    assert ("Each alone against doing nothing" in said) == (design == "one_at_a_time")
    assert ("On top of all the other factors" in said) == (design == "leave_one_out")
    assert found.effects["pairs"].tolist() == [1, 1, 1]
    assert found.interactions.empty


def test_hand_named_recipes_alone_have_no_effects(make, report):
    keys = {"factors": {}, "recipes": {"rival": ["balanced_softmax"], "both": ["smote", "mixup"]}}
    found, page, files = report(make(keys=keys))
    assert found.effects.empty
    assert "Main effects" not in [section.title for section in page.sections]
    assert "balanced_softmax" in text_of(files)


def test_several_datasets_and_models(make, report):
    keys = {
        "datasets": [{"name": "digits", "imbalance_factor": f} for f in (10, 20)],
        "models": [{"name": "tiny_cnn", "width": w} for w in (4, 8)],
        "seeds": 3,
    }
    found, page, files = report(make(keys=keys, worth=HELPS))
    assert len(page.answer) == 4
    assert "On digits-lt10 with tiny_cnn(width=4)," in page.answer[0][0]
    text = text_of(files)
    assert "With 2 datasets no test can tell" in text
    assert "all datasets" in text
    assert len(found.ranks) == 8
    assert brief_panels(files) == 2


def brief_panels(files):
    return text_of(files, "brief.html").count("<h2>")


def test_the_balanced_reference(make, report):
    def worth(spec):
        return HELPS(spec) + 2.0 * (spec.reference == "balanced")

    keys = {"references": {"balanced": ["weighted_sampler"]}}
    found, _, files = report(make(keys=keys, worth=worth))
    rows = found.gap.set_index("recipe")
    assert rows.loc["weighted_sampler", "share"] > 0.1
    assert rows.loc["mixup", "share"] < 0
    assert found.balanced["recipe"].tolist() == ["weighted_sampler"]
    assert "The balanced reference" in text_of(files)


def test_tuned_recipes_stand_beside_their_untuned_selves(make, report):
    made = make(worth=HELPS)
    tuned = [
        replace(
            spec, recipe="mixup (tuned)", levels=(),
            strategies=(spec.strategies[0].with_values({"alpha": 0.37}),),
        )
        for spec in made.specs
        if spec.recipe == "mixup"
    ]  # fmt: skip
    generator = Generator(made.store, worth=lambda spec: 3.0)
    for spec in tuned:
        generator.write(spec)
    before, _, _ = report(made)
    made.specs = (*made.specs, *tuned)
    found, page, files = report(made, searched=[MIXUP, replace(MIXUP, recipe="both", best=None)])
    text = text_of(files)
    assert "mixup(alpha=0.37)" in text
    assert "4 recipes and 1 tuned" in page.lead
    (part,) = page.chapter("Tuned parameters")
    (first, second) = ([cell.text for cell in row] for row in part.blocks[0].rows)
    assert first[:2] == ["mixup", "mixup.alpha\xa01\xa0→\xa00.37"]
    assert first[2:5] == ["20 (2 without a value)", "81.0 ± 2.0", "90.0 ± 1.0"]
    gain = found.tuned["gain"].iloc[0]
    assert gain > 0.05
    assert first[5] == f"+{100 * gain:.1f} ▲"
    assert all(interval.startswith("[+") for interval in first[6:8])
    assert first[8] == "4 min"
    assert second[4] == "n/a"
    for name in ("effects", "interactions"):  # the crossing is what it was
        pd.testing.assert_frame_equal(getattr(found, name), getattr(before, name))
    assert "Tuned recipes stand outside the crossing" in text
    (cost,) = page.chapter("Cost")
    searches = {row[0].text: row[-1].text for row in cost.blocks[1].rows}
    assert searches["mixup (tuned)"] == "4 min"
    assert searches["mixup"] == ""
    said = " ".join(page.answer[0])
    assert "It had a search behind it (60 runs, 4 min) that doing nothing had not." in said
    assert f"On test it gains {100 * gain:.1f} points of balanced accuracy over its own def" in said
    with open(files["tuned.csv"]) as file:
        row = next(csv.DictReader(file))
    assert float(row["gain"]) == pytest.approx(gain)
    assert json.loads(text_of(files, "report.json"))["tables"]["tuned"][0]["trials"] == 20
    assert "mixup.alpha 1 → 0.37" in text_of(files, "report.md")


def test_searches_of_unequal_length_are_named(make, report):
    made = make(worth=HELPS)
    other = replace(MIXUP, recipe="both", states={"complete": 3})
    _, page, _ = report(made, searched=[MIXUP, other])
    (said,) = [text for text in page.warnings if "trials" in text]
    assert said.startswith("Searches had 3 to 20 trials")
    assert "tune.trials=20" in said
    _, page, _ = report(made, searched=[MIXUP, replace(other, states=MIXUP.states)])
    assert not [text for text in page.warnings if "trials" in text]


def test_what_runs_had_to_say_is_told_once(make, report):
    made = make(worth=HELPS)
    for spec in made.specs[:3]:
        notes = ["k lowered from 5 to 4", "resumed from step 12 of 40"]
        reseal(made.store.runs()[spec.key].path, notes=notes)
    _, page, _ = report(made)
    assert "digits-lt20: k lowered from 5 to 4 (3 runs)" in page.warnings
    assert not any("resumed" in text for text in page.warnings)


def test_without_a_search_nothing_is_said_of_one(make, report):
    _, page, files = report(make())
    assert not page.chapter("Tuned parameters")
    assert "tuned.csv" not in files
    assert "tuned" not in page.lead.lower()
    assert "outside the crossing" not in text_of(files)


def test_fresh_runs_of_a_recipe_that_was_tuned_again_confirm_nothing(make, report):
    """They have its name and its seeds, and other values."""
    made = make(worth=HELPS)
    tuned = [
        replace(s, recipe="mixup (tuned)", levels=()) for s in made.specs if "mixup" in s.recipe
    ]
    old, new = ([at(spec, alpha) for spec in tuned[:4]] for alpha in (0.3, 0.4))
    generator = Generator(made.store, worth=lambda spec: 3.0)
    for spec in new:
        generator.write(spec)
    made.specs = (*made.specs, *new)
    apart = Generator(Store(made.store.results, "study" + CONFIRMED), worth=lambda spec: 3.0)
    nothing = next(spec for spec in made.specs if spec.recipe == "nothing")
    for seed in (1000, 1001, 1002):
        apart.write(replace(nothing, seed=seed))
        apart.write(replace(old[0], seed=seed))
    found, page, _ = report(made)
    assert found.confirmed.empty
    assert any("3 runs on fresh seeds had other settings than now" in s for s in page.warnings)
    for seed in (1000, 1001, 1002):
        apart.write(replace(new[0], seed=seed))
    found, _, _ = report(made)
    assert found.confirmed["pairs"].tolist() == [3]


def at(spec, alpha):
    return replace(spec, strategies=(mixup_of(spec).with_values({"alpha": alpha}),))


def mixup_of(spec):
    return next(strategy for strategy in spec.strategies if strategy.name == "mixup")


def test_a_metric_where_less_is_better(make, report):
    made = make(keys={"metric": "nll"}, worth=HELPS, noise=(0.02, 1.0, 0.2), per_class=80)
    _, page, _ = report(made)
    assert "weighted_sampler (chosen on val) is lower by" in page.answer[0][0]
    assert "weighted_sampler (−" in " ".join(page.answer[0])
    assert "helps" in " ".join(page.answer[0])


def test_a_metric_that_does_not_split_has_no_interval_on_new_images(make, report):
    found, _, files = report(make(keys={"metric": "worst_class_recall"}))
    assert found.gains["new_low"].isna().all()
    assert "not available for worst class recall" in text_of(files)


def test_folds_have_the_corrected_interval(make, report):
    keys = {"folds": 3, "seeds": 1}
    found, page, files = report(make(keys=keys, worth=HELPS))
    assert found.gains["pairs"].unique().tolist() == [3]
    assert found.gains["new_low"].isna().all()
    assert "corrected resampled t-interval" in text_of(files)
    assert "3 pairs" in page.answer[0][0]


def test_one_page_for_print(make, report):
    _, page, files = report(make(worth=HELPS))
    text = text_of(files, "brief.html")
    assert page.answer[0][0].split(" gains")[0] in text
    assert "size: A4" in text
    assert Page(text).scripts == 0


def test_csv_files_are_tidy(make, report):
    _, _, files = report(make(worth=HELPS))
    for name, path in files.items():
        if name.endswith(".csv"):
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
            assert len({len(row) for row in rows}) == 1, name
            assert len(set(rows[0])) == len(rows[0])


def test_what_is_read_in_detail_is_bounded(make, report, monkeypatch):
    from harness.analysis import details

    monkeypatch.setattr(details, "MOST_RUNS", 8)
    found, _, files = report(make(worth=HELPS))
    assert found.not_detailed == 2
    assert set(found.classes["recipe"]) == {"nothing", "weighted_sampler"}
    known = found.gains.set_index("recipe")["new_low"]
    assert np.isfinite(known["weighted_sampler"])
    assert np.isnan(known["mixup"])
    assert "Predictions of 2 recipes were not read" in text_of(files)


def test_answers_of_a_table_are_one_list_per_panel(make):
    made = make(keys={"factors": {}, "recipes": {"a": ["smote"]}})
    found = collect(made.experiment, made.specs, made.store)
    ((first, *_),) = answer(found)
    assert first.startswith("On digits-lt20, ")
