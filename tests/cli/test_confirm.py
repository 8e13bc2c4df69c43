import json
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.doubts import Doubt
from harness.analysis.tables import load_results
from harness.app import reporting
from harness.cli import confirm as confirm_verb
from harness.cli import main
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load
from tests.benchmarks.generated import Generator
from tests.sealed import reseal

FILE = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
recipes: {sampled: [weighted_sampler], mixed: [mixup]}
seeds: [0, 1, 1000]
training: {max_steps: 3, batch_size: 32}
keep_weights: none
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text(FILE)
    monkeypatch.setattr("harness.app.compose.open_tracking", _no_tracking)


class _no_tracking:
    def __init__(self, *arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        pass

    def __getattr__(self, name):
        return lambda *arguments: None


def generate(worth, skip=lambda spec: False, **options):
    specs = expand(load("it.yaml")).runs
    generator = Generator(
        Store(Path("results"), "it"), worth=worth, names=tuple("0123456789"), **options
    )
    for spec in specs:
        if not skip(spec):
            generator.write(spec)
    return specs


@pytest.fixture
def confirm(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["confirm", "it.yaml", "--executor", "inline", *arguments])
        told = capsys.readouterr()
        return end.value.code or 0, told.out, told.err

    return run


def sampled(spec):
    return 0.9 * (spec.recipe == "sampled")


def test_vals_choice_and_nothing_run_on_seeds_that_chose_nothing(confirm):
    generate(sampled)
    code, out, _ = confirm("--json")
    assert code == 0
    runs = load_results("results/it-confirm")
    assert sorted(runs["recipe"].unique()) == ["nothing", "sampled"]
    assert sorted(runs["seed"].unique()) == [1001, 1002, 1003]
    (row,) = json.loads(out)["confirmed"]
    assert (row["recipe"], row["pairs"]) == ("sampled", 3)
    keys = set(runs["key"])
    code, out, _ = confirm()
    assert set(load_results("results/it-confirm")["key"]) == keys
    assert "sampled" in out
    assert "3 fresh seeds" in out
    assert "confirmed" in out


def test_t02_the_choice_is_not_read_off_test(confirm):
    generate(sampled)
    for path in Path("results/it").glob("*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"]["test"]["balanced_accuracy"] *= -1
        reseal(path.parent, metrics=result["metrics"])
    choice = reporting.choose(load("it.yaml"), Path("results"))
    assert list(choice.recipes.values()) == ["sampled"]


def test_more_seeds_when_asked(confirm):
    generate(sampled)
    choice = reporting.choose(load("it.yaml"), Path("results"), 5)
    assert {spec.seed for spec in choice.plan.runs} == {1001, 1002, 1003, 1004, 1005}
    assert len(choice.plan.runs) == 10
    assert {spec.experiment for spec in choice.plan.runs} == {"it-confirm"}


def test_missing_runs_are_asked_for_first(confirm):
    generate(sampled, skip=lambda spec: spec.seed == 1)
    code, _, err = confirm()
    assert code == 2
    assert "3 runs of 9 missing" in err
    assert "harness run it.yaml" in err


def test_t02_without_val_the_claim_needs_new_test_data(confirm):
    Path("it.yaml").write_text(FILE.replace("20}", "20, val_fraction: 0}"))
    generate(sampled, val=False)
    code, _, err = confirm()
    assert code == 2
    assert "no val is held out" in err
    assert "the claim needs new test data" in err
    assert not Path("results/it-confirm").exists()


def test_where_nothing_stands_first_there_is_nothing_to_confirm(confirm):
    generate(lambda spec: 0.9 * (spec.recipe == "nothing"))
    code, out, err = confirm()
    assert code == 0
    assert out == "nothing to confirm: no remedy stands above doing nothing on val\n"
    assert "val puts doing nothing first" in err


def test_every_dataset_has_its_own_choice():
    text = FILE.replace(
        "  - {name: digits, imbalance_factor: 20}\n",
        "  - {name: digits, imbalance_factor: 20}\n  - {name: digits, imbalance_factor: 10}\n",
    )
    Path("it.yaml").write_text(text)
    best = {"digits-lt20": "sampled", "digits-lt10": "mixed"}
    generate(lambda spec: 1.2 * (spec.recipe == best[spec.dataset_label]))
    choice = reporting.choose(load("it.yaml"), Path("results"))
    assert {panel[0]: recipe for panel, recipe in choice.recipes.items()} == best
    cells = {(spec.dataset_label, spec.recipe) for spec in choice.plan.runs}
    assert cells == {
        (dataset, recipe) for dataset, chosen in best.items() for recipe in ("nothing", chosen)
    }


def test_where_no_recipe_has_all_its_runs_val_has_chosen_none(confirm):
    for spec in expand(load("it.yaml")).runs:
        Generator(Store(Path("results"), "it")).write(spec, "failed")
    code, out, err = confirm()
    assert (code, out) == (2, "")
    assert "no recipe has all its runs done" in err
    assert "harness run it.yaml --retry-failed" in err


def test_a_dataset_whose_runs_all_failed_is_named(confirm):
    text = FILE.replace(
        "  - {name: digits, imbalance_factor: 20}\n",
        "  - {name: digits, imbalance_factor: 20}\n  - {name: digits, imbalance_factor: 10}\n",
    )
    Path("it.yaml").write_text(text)
    specs = expand(load("it.yaml")).runs
    generator = Generator(Store(Path("results"), "it"), worth=sampled)
    for spec in specs:
        generator.write(spec, "failed" if spec.dataset_label == "digits-lt10" else "done")
    choice = reporting.choose(load("it.yaml"), Path("results"))
    assert list(choice.recipes.values()) == ["sampled"]
    assert choice.skipped == ("digits-lt10, tiny_cnn: no recipe has all its runs done",)


@pytest.mark.parametrize("certain", [True, False])
def test_a_gain_about_which_there_are_doubts_is_not_called_confirmed(certain, capsys):
    panel = ("d", "", "m")
    row = {"recipe": "r", "gain": 0.1, "low": 0.05, "high": 0.15, "pairs": 3, "verdict": "better"}
    gains = pd.DataFrame([{"dataset": "d", "reference": "", "model": "m", **row}])
    found = {panel: [Doubt("30 of 90 are copies", "new rows", certain, "delete them")]}
    confirm_verb._show(reporting.Confirmed(None, pd.DataFrame(), gains, found), "accuracy")
    said = capsys.readouterr().out
    doubted = "3 fresh seeds: repeated, but not certain of new rows: 30 of 90 are copies"
    assert ("3 fresh seeds: confirmed" if certain else doubted) in said
