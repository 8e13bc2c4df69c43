"""`harness tune`, as a user meets it; most tests train nothing."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

import harness
from harness.app import compose, previewing, reporting, search
from harness.cli import main
from harness.errors import ConfigError, DataError
from harness.experiment.spec import RunSpec
from harness.tracking.address import database
from harness.tuning import session
from tests.tuning.conftest import PLUGIN, Fake, _fast, planted

__all__ = ["_fast"]  # a fixture

FILE = """\
name: it
plugins: [planted.py]
datasets: [{name: shapes, classes: 3, size: 8, per_class: 24}]
models: [{name: tiny_cnn, width: 4}]
recipes: {planted: [planted], other: [class_weights], mixup: [mixup]}
seeds: 3
training: {epochs: 1, batch_size: 8}
tune: {recipes: [planted, mixup], trials: 6, seeds: [100, 101]}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("it.yaml").write_text(FILE)
    Path("planted.py").write_text(PLUGIN)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Nothing is trained or drawn, and MLflow is left out."""
    executor = Fake()
    for module in (compose, search):
        monkeypatch.setattr(module, "make_executor", lambda *args: executor)
    monkeypatch.setattr(compose, "mirrored", lambda *args: nullcontext(None))
    monkeypatch.setattr(compose, "is_behind", lambda *args: False)
    monkeypatch.setattr(search, "misses", lambda *args: False)
    monkeypatch.setattr(session, "draw", lambda *args: [])
    return executor


@pytest.fixture
def harness_(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command and gives its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return run


def studies() -> dict[str, optuna.Study]:
    storage = "sqlite:///results/optuna.db"
    return {
        summary.user_attrs["of"][3]: optuna.load_study(
            study_name=summary.study_name, storage=storage
        )
        for summary in optuna.get_all_study_summaries(storage)
    }


def test_tuned_and_untuned_stand_in_one_table_with_the_cost_of_the_search(
    fake: Fake, harness_: Any
) -> None:
    code, text, shown = harness_("tune", "it.yaml")
    assert code == 0
    found = studies()
    assert {name: len(study.trials) for name, study in found.items()} == {"planted": 6, "mixup": 6}
    lines = [line.split() for line in text.splitlines()]
    rows = {" ".join(line[: 2 if line[1:2] == ["(tuned)"] else 1]): line for line in lines if line}
    assert rows["planted (tuned)"][-1] == "24"  # 12 runs of 2 s each
    assert "nothing" in rows
    assert "search s" in text
    (own,) = [line for line in lines if line[:2] == ["planted", "6"]]
    assert f"#{found['planted'].best_trial.number}" in own
    # all trials of mixup are equal here, so its own values are the best: nothing new to run
    assert "own values best" in text
    assert "mixup (tuned)" not in text
    assert "other" not in text
    assert "still missing" not in text
    assert "planted #5  val balanced_accuracy" in shown
    report = [spec.recipe for spec, _ in fake.ran if spec.seed < 100]
    assert sorted(set(report)) == ["mixup", "nothing", "planted", "planted (tuned)"]
    assert len(report) == 12


def test_a_network_that_takes_no_such_images_is_told_before_the_first_trial(
    fake: Fake, harness_: Any
) -> None:
    code, _, shown = harness_("tune", "it.yaml", "--set", 'models=["vit_b_16"]')
    assert code == 2
    assert "dataset 'shapes': model 'vit_b_16'" in shown
    assert not fake.ran


def test_afterwards_every_verb_knows_the_tuned_recipes(fake: Fake, harness_: Any) -> None:
    harness_("tune", "it.yaml")
    fake.ran.clear()
    code, text, _ = harness_("plan", "it.yaml")
    assert code == 0
    assert "15 runs: 3 to do, 12 done" in text  # `other` was never asked for
    assert "harness tune: 2 studies of 6 trials on seeds 100, 101: up to 24 runs" in text
    assert "planted (done): planted.alpha 0.01…10 (log), planted.p 0…1" in text
    assert "mixup (tuned): the same runs as 'mixup'" in text
    code, text, _ = harness_("run", "it.yaml")
    assert code == 0
    assert {spec.recipe for spec, _ in fake.ran} == {"other"}
    assert "planted (tuned)" in text
    assert "search s" in text
    fake.ran.clear()
    code, text, _ = harness_("run", "it.yaml", "--set", "seeds=4", "--only", "* (tuned)")
    assert [(spec.recipe, spec.seed) for spec, _ in fake.ran] == [("planted (tuned)", 3)]
    fake.ran.clear()
    code, text, shown = harness_("tune", "it.yaml")
    assert (code, fake.ran) == (0, [])
    assert "#" not in shown


def test_more_trials_change_the_winner(fake: Fake, harness_: Any) -> None:
    def best() -> dict[str, Any]:
        _, text, _ = harness_("plan", "it.yaml", "--json")
        assert json.loads(text)["tune"]["trials"] == 6
        found = json.loads(Path("results/it/tuned.json").read_text())["found"]
        return {item["recipe"]: item for item in found}

    harness_("tune", "it.yaml")
    before = best()
    harness_("tune", "it.yaml", "--set", "tune.trials=25")
    after = best()
    assert after["planted"]["best"]["mean"] > before["planted"]["best"]["mean"]
    assert sum(after["planted"]["states"].values()) == 25
    _, text, _ = harness_("plan", "it.yaml", "--json")
    assert {run["recipe"] for run in json.loads(text)["runs"] if run["state"] == "to do"} == {
        "other"
    }


def test_json_is_for_programs(fake: Fake, harness_: Any) -> None:
    code, text, _ = harness_("tune", "it.yaml", "--json")
    assert code == 0
    data = json.loads(text)
    first = data["studies"][0]
    assert (first["recipe"], first["default"]["trial"], first["runs"]) == ("planted", 0, 12)
    assert first["states"] == {"complete": 6, "pruned": 0, "failed": 0, "diverged": 0}
    assert first["gain"]["pairs"] == 3
    assert first["gain"]["gain"] is not None
    assert data["failed"] == []
    assert [row["recipe"] for row in data["leaderboard"]].count("planted (tuned)") == 1


def test_the_gain_is_paired_against_the_recipes_own_default(fake: Fake, harness_: Any) -> None:
    _, text, _ = harness_("tune", "it.yaml", "--json")
    data = json.loads(text)
    rows = {row["recipe"]: row for row in data["leaderboard"]}
    gain = rows["planted (tuned)"]["test"] - rows["planted"]["test"]
    assert data["studies"][0]["gain"]["gain"] == pytest.approx(gain)
    assert data["studies"][1]["gain"] == {}


def test_ctrl_c_leaves_all_resumable_and_says_how_to_go_on(
    fake: Fake, harness_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["harness", "tune", "it.yaml", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", command)
    fake.stop_after = 7
    code, text, shown = harness_(*command[1:])
    assert (code, text) == (130, "")
    assert "interrupted; finished runs are kept" in shown
    assert "harness tune it.yaml --jobs 1" in shown
    assert {t.state.name for study in studies().values() for t in study.trials} == {
        "COMPLETE",
        "WAITING",
    }
    assert not Path("results/it/tuned.json").exists()
    fake.stop_after = None
    code, _, _ = harness_(*command[1:])
    assert code == 0
    assert [len(study.trials) for study in studies().values()] == [6, 6]
    keys = [spec.key for spec, _ in fake.ran]
    assert len(keys) == len(set(keys))


def test_failed_trials_are_named_and_end_with_1(fake: Fake, harness_: Any) -> None:
    fake.value = lambda spec: "failed" if spec.recipe == "planted #2" else planted(spec)
    code, text, _shown = harness_("tune", "it.yaml")
    assert code == 1
    assert "1 trial failed" in text
    assert "planted #2: seed 100: it went wrong" in text
    assert "6 (1 failed)" in text
    fake.value = planted
    code, text, _ = harness_("tune", "it.yaml")
    assert (code, len(studies()["planted"].trials)) == (0, 6)
    code, text, _ = harness_("tune", "it.yaml", "--retry-failed")
    assert (code, len(studies()["planted"].trials)) == (0, 7)


def test_what_diverges_is_a_finding_and_no_failure(fake: Fake, harness_: Any) -> None:
    fake.value = lambda spec: "diverged" if spec.recipe == "planted #2" else planted(spec)
    code, text, _ = harness_("tune", "it.yaml")
    assert code == 0
    assert "6 (1 diverged)" in text


def test_a_default_outside_the_space_is_shown_with_its_own_value(fake: Fake, harness_: Any) -> None:
    """The nearest value that the space holds would do better on val, and is not the default."""

    def value(spec: RunSpec) -> float:
        alphas = [getattr(strategy, "alpha", None) for strategy in spec.strategies]
        return 0.75 if alphas == [1.0] else 0.8 if alphas == [0.5] else 0.7

    fake.value = value
    only = ("--only", "mixup", "--set", "tune.space.mixup.alpha=[0.1, 0.5]")
    code, text, shown = harness_("tune", "it.yaml", *only)
    assert code == 0
    assert "the 1 of 'mixup' lies outside 0.1…0.5: only its first trial, of its own" in shown
    row = next(line.split() for line in text.splitlines() if line.startswith("mixup "))
    assert row[1:7] == ["6", "75.0", "±", "0.0", "75.0", "±"]
    assert "own values best" in text
    assert "mixup.alpha=1 " in text


def test_a_search_without_a_value_tunes_nothing(fake: Fake, harness_: Any) -> None:
    def value(spec: RunSpec) -> Any:
        return "diverged" if spec.recipe.startswith("planted #") else planted(spec)

    fake.value = value
    code, text, _ = harness_("tune", "it.yaml")
    assert code == 1
    assert "no trial of it/shapes/tiny_cnn(width=4)/planted-" in text
    assert "planted (tuned)" not in text


def test_a_part_can_be_tuned(fake: Fake, harness_: Any) -> None:
    code, text, _ = harness_("tune", "it.yaml", "--only", "plant*")
    assert (code, list(studies())) == (0, ["planted"])
    assert "mixup" not in text
    code, _, shown = harness_("tune", "it.yaml", "--only", "mixpu")
    assert code == 2
    assert "--only mixpu: matches no search; did you mean 'mixup'?" in shown


def test_a_smoke_test_is_small_and_apart(fake: Fake, harness_: Any) -> None:
    code, text, _ = harness_("tune", "it.yaml", "--smoke")
    assert code == 0
    assert "the figures mean nothing" in text
    assert {len(study.trials) for study in studies().values()} == {3}
    assert {spec.seed for spec, _ in fake.ran} == {0, 100}
    assert [path.name for path in Path("results").iterdir() if path.is_dir()] == ["it-smoke"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("tune=null", "error: it.yaml: tune: a search needs this key, such as"),
        ("datasets.0.val_fraction=0", "error: it.yaml: datasets[0]: 'shapes' has no val"),
        (
            "datasets=[digits] folds=3",
            "error: it.yaml: folds: every image is in the test set of some fold",
        ),
        ("tune.space.planted.alhpa=1", "error: --set tune.space.planted.alhpa: no such parameter"),
        ("tune.seeds=[1]", "error: --set tune.seeds: 1 is a report seed too"),
        ("tune.trials=2000", "error: it.yaml: tune: 2 studies of 2000 trials on 2 seeds are up to"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    fake: Fake, harness_: Any, edit: str, message: str
) -> None:
    edits = [part for one in edit.split() for part in ("--set", one)]
    code, text, shown = harness_("tune", "it.yaml", *edits)
    assert (code, text) == (2, "")
    assert shown.splitlines()[-1].startswith(message)
    assert "Traceback" not in shown
    assert not Path("results").exists()


def test_a_long_search_needs_a_yes(fake: Fake, harness_: Any) -> None:
    edits = ("--set", "tune.trials=300", "--only", "mixup", "--set", "tune.seeds=[100,101,102,103]")
    assert harness_("tune", "it.yaml", *edits)[0] == 2
    fake.value = lambda spec: "diverged"
    assert harness_("tune", "it.yaml", *edits, "--set", "tune.trials=2", "--yes")[0] == 1


@pytest.mark.parametrize("damage", ["read-only", "other"])
def test_a_study_file_that_cannot_be_used_is_left_alone(
    fake: Fake, harness_: Any, damage: str
) -> None:
    harness_("tune", "it.yaml")
    file = Path("results/optuna.db")
    if damage == "read-only":
        file.chmod(0o444)
    else:
        file.write_bytes(b"something else" * 100)
    before = file.read_bytes()
    fake.ran.clear()
    code, text, shown = harness_("tune", "it.yaml", "--set", "tune.trials=9")
    assert (code, text) == (2, "")
    assert str(file.absolute()) in shown
    assert ("is read-only" if damage == "read-only" else "is damaged") in shown
    assert fake.ran == []
    assert file.read_bytes() == before
    assert harness_("run", "it.yaml", "--only", "planted*")[0] == 0  # which does not need it


def test_an_unknown_executor_is_refused_before_anything(harness_: Any) -> None:
    assert harness_("tune", "it.yaml", "--executor", "inlin")[0] == 2
    assert not Path("results").exists()


def test_from_python_the_studies_come_back(fake: Fake) -> None:
    found = harness.tune("it.yaml", track=False)
    assert [study.user_attrs["of"][3] for study in found] == ["planted", "mixup"]
    assert [len(study.trials) for study in found] == [6, 6]
    found[0].optimize(lambda trial: trial.suggest_float("planted.p", 0.0, 1.0), n_trials=1)
    assert len(studies()["planted"].trials) == 7
    runs = harness.run("it.yaml", track=False)
    assert "planted (tuned)" in set(runs["recipe"])
    with pytest.raises(ConfigError, match="did you mean 'inline'"):
        harness.tune("it.yaml", executor="inlin")


def test_a_doing_nothing_that_can_be_tuned_is(fake: Fake, harness_: Any) -> None:
    code, _text, _ = harness_("tune", "it.yaml", "--set", "base=[augment]")
    assert code == 0
    assert {name: len(study.trials) for name, study in studies().items()} == {
        "nothing": 6,
        "planted": 6,
        "mixup": 6,
    }


HEAVY = ("torch", "albumentations", "sklearn", "mlflow", "optuna", "sqlalchemy", "matplotlib")


@pytest.mark.parametrize(
    "arguments",
    [["tune", "--help"], ["plan", "it.yaml"], ["run", "it.yaml"], ["tune", "it.yml"]],
)
def test_what_is_instant_imports_no_optuna(fake: Fake, harness_: Any, arguments: list[str]) -> None:
    harness_("tune", "it.yaml")
    harness_("run", "it.yaml")
    Path("results/mlflow.db").unlink(missing_ok=True)
    script = (
        "import sys\nfrom harness.app import compose\nfrom harness.cli import main\n"
        "compose.is_behind = lambda *args: False\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_pruned_runs_stop_early_for_real() -> None:
    found = harness.tune(
        "it.yaml",
        settings=[
            *("tune.recipes=[mixup]", "tune.space.training.lr=[1e-6, 0.5]", "training.lr=0.5"),
            *("tune.pruner=median", "tune.sampler=random", "tune.trials=14", "tune.seeds=[100]"),
            *("training.epochs=12", "training.eval_every=0.1", "seeds=1", "plugins=[]"),
            "recipes={mixup: [mixup]}",
        ],
        executor="inline",
        track=False,
    )
    trials = found[-1].trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    assert trials[0].state.name == "COMPLETE"  # the recipe's own values
    results = [json.loads(p.read_text()) for p in Path("results/it/tuning").glob("*/result.json")]
    by_status: dict[str, list[int]] = {}
    for result in results:
        by_status.setdefault(result["status"], []).append(result["selected_step"])
    steps = results[0]["steps"]
    assert len(by_status["stopped"]) == sum(
        t.state.name == "PRUNED" for s in found for t in s.trials
    )
    assert set(by_status["done"]) == {steps}
    assert all(steps / 3 <= step for step in by_status["stopped"])
    assert min(by_status["stopped"]) < steps
    assert found[-1].best_trial.state.name == "COMPLETE"


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_for_real(harness_: Any) -> None:
    """Three trials are trained and mirrored; MLflow's and Optuna's own clients agree."""
    edits = ("--set", "tune.trials=3", "--set", "tune.recipes=[mixup]", "--executor", "inline")
    code, _text, shown = harness_("tune", "it.yaml", *edits, "--set", "seeds=1")
    assert code == 0, shown
    (study,) = studies().values()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    client = MlflowClient(database(Path("results")))
    every = client.search_runs([client.get_experiment_by_name("it").experiment_id])
    nested = [run for run in every if run.data.tags.get("harness.kind") == "trial"]
    (parent,) = [run for run in every if run.data.tags.get("harness.kind") == "study"]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    for run in nested:
        trial = study.trials[int(run.data.params["trial"])]
        assert float(run.data.params["mixup.alpha"]) == trial.params["mixup.alpha"]
        assert run.data.metrics["val/balanced_accuracy"] == trial.value
    assert parent.data.metrics["val/balanced_accuracy"] == study.best_value
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {
        "history.png",
        "slice.png",
        "parallel_coordinate.png",
        "trials.csv",
    }
    ordinary = [run for run in every if "harness.key" in run.data.tags]
    assert len(ordinary) == len(list(Path("results/it").glob("*-s0-*")))
    assert not list(Path("results/it/tuning").rglob("model.pt"))
    assert harness_("sync", "it.yaml", *edits[:4], "--set", "seeds=1")[0] == 0
    after = client.search_runs([client.get_experiment_by_name("it").experiment_id])
    assert sorted(run.info.run_id for run in after) == sorted(run.info.run_id for run in every)


@pytest.fixture
def tuned(fake: Fake, harness_: Any, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """The file is run and tuned, and MLflow is left out of what follows."""
    for verb in ("run", "tune"):
        assert harness_(verb, "it.yaml")[0] == 0
    monkeypatch.setattr(reporting.summary, "ahead", lambda target: nullcontext(lambda *args: None))
    monkeypatch.setattr(previewing.summary, "attach", lambda *args: None)
    return studies()["planted"]


def test_the_report_tells_what_was_tuned(tuned: optuna.Study, harness_: Any) -> None:
    code, text, _ = harness_("report", "it.yaml", "--json")
    assert code == 0
    planted_, mixup = json.loads(text)["tables"]["tuned"]
    best = tuned.best_params
    assert planted_["values"] == (
        f"planted.alpha 5 → {best['planted.alpha']:.4g}, planted.p 1 → {best['planted.p']:.4g}"
    )
    assert planted_["val_best"] == pytest.approx(tuned.best_value)
    assert planted_["val_default"] == pytest.approx(tuned.trials[0].value)
    assert (planted_["trials"], planted_["runs"], planted_["seconds"]) == (6, 12, 24.0)
    # the test of a fake run is a trap: what is better on val is as much worse there
    assert planted_["gain"] == pytest.approx(tuned.trials[0].value - tuned.best_value, abs=1e-6)
    assert (planted_["pairs"], planted_["own_best"], mixup["own_best"]) == (3, False, True)
    page = Path("results/it/report/report.md").read_text()
    assert "## Tuned parameters" in page
    assert "own values won" in page


def test_the_report_says_that_a_search_is_out_of_date(tuned: Any, harness_: Any) -> None:
    code, text, _ = harness_(
        "report", "it.yaml", "--set", "tune.space.planted.p=[0.5,1.0]", "--json"
    )
    assert code == 0
    report = json.loads(text)
    assert report["tables"].get("tuned", [{}])[0].get("recipe") != "planted"
    assert any(
        said.startswith("'planted' on shapes") and "in another space" in said
        for said in report["warnings"]
    )


def test_without_the_data_the_report_still_tells_what_was_tuned(
    tuned: Any, harness_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: Any) -> Any:
        raise DataError("the folder is not there")

    monkeypatch.setattr(compose, "planned", gone)
    code, text, _ = harness_("report", "it.yaml", "--json")
    assert code == 0
    report = json.loads(text)
    assert [row["recipe"] for row in report["tables"]["tuned"]] == ["planted", "mixup"]
    assert report["tables"]["tuned"][0]["pairs"] == 3


def test_a_tuned_winner_is_confirmed_on_fresh_seeds(tuned: Any, fake: Fake, harness_: Any) -> None:
    before = len(fake.ran)
    code, text, _ = harness_("confirm", "it.yaml", "--json")
    assert code == 0
    (row,) = json.loads(text)["confirmed"]
    assert (row["recipe"], row["pairs"]) == ("planted (tuned)", 3)
    fresh = [spec for spec, _ in fake.ran[before:]]
    assert {spec.recipe for spec in fresh} == {"nothing", "planted (tuned)"}
    assert {spec.seed for spec in fresh} == {1000, 1001, 1002}
    (values,) = {s.strategies[0].alpha for s in fresh if s.strategies}  # type: ignore[attr-defined]
    assert values == tuned.best_params["planted.alpha"]
    code, text, _ = harness_("report", "it.yaml", "--json")
    assert [row["recipe"] for row in json.loads(text)["tables"]["confirmed"]] == ["planted (tuned)"]


def test_tuned_recipes_are_previewed(tuned: Any, harness_: Any) -> None:
    code, text, _ = harness_("preview", "it.yaml", "--only", "planted (tuned)", "--json")
    assert code == 0
    (picture,) = json.loads(text)["pictures"]
    assert "planted (tuned)" in Path(picture).read_text()
    code, _, err = harness_("preview", "it.yaml", "--only", "planted (tuned)", "--results", "other")
    assert code == 2
    assert "matches no run" in err
