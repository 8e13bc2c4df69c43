import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import lasting
from harness.execution.store import Store
from harness.experiment.expand import expand
from harness.experiment.schema import load

ROOT = Path(__file__).parents[2]

FILE = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
factors:
  sampler: [none, weighted_sampler]
  smote: [none, smote]
  loss: [none, class_weights]
recipes: {plain: [], mixed: [mixup]}
references: {balanced: [mixed]}
seeds: 2
training: {epochs: 1, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text(FILE)


@pytest.fixture
def plan(capsys):
    """Return a function that runs `harness plan` and gives what it prints."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["plan", *map(str, arguments)])
        assert not done.value.code
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def commit(spec, seconds=None, status="done"):
    """Put a run into the results folder: done where `seconds` are given, else failed."""
    path = Path("results", "it", f"{spec.slug}-{spec.key}")
    path.mkdir(parents=True)
    if seconds is None:
        (path / "error.json").write_text(json.dumps({"message": "it broke"}))
    else:
        result = {"status": status, "metrics": {"test": {}}, "cost": {"seconds": seconds}}
        (path / "result.json").write_text(json.dumps(result))
    return path


def test_it_shows_counts_matrix_remarks_and_writes_nothing(plan, tmp_path):
    text = plan("it.yaml")
    lines = [line.strip() for line in text.splitlines()]
    assert "digits-lt20: samples per class (seed 0)" in lines
    counts = load("it.yaml").datasets[0].info(0).counts
    for k in (0, 9):
        assert [str(k), *map(str, counts[:, k])] in [line.split() for line in lines]
    size = int(counts[0].sum())
    assert f"{-(-size // 32)} steps for every recipe" in lines
    assert ["digits-lt20", "tiny_cnn", "weighted_sampler+smote", "2"] in [
        line.split() for line in lines
    ]
    assert ["digits-lt20", "balanced", "tiny_cnn", "mixed", "2"] in [line.split() for line in lines]
    assert (
        "digits-lt20 · weighted_sampler+smote: the classes already have equally many rows" in lines
    )
    assert "digits-lt20 · plain: the same runs as 'nothing'" in lines
    assert (
        "digits-lt20 · weighted_sampler+class_weights: weighted_sampler and class_weights each "
        "correct the imbalance; together they may over-correct" in lines
    )
    assert any(line.startswith("22 runs: 22 to do, 0 done, 0 failed") for line in lines)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["it.yaml"]


def test_rare_classes_that_val_hardly_holds_are_named(plan):
    text = plan("it.yaml")
    assert "val has fewer than 5 samples of 9, 8, 7: choosing on val is coarse there" in text
    assert "coarse" not in plan("it.yaml", "--set", "datasets.0.val_fraction=0")
    assert "coarse" not in plan(
        "it.yaml", "--set", "datasets.0={name: digits}", "--set", "references={}"
    )


def test_recipes_left_out_are_named_with_their_reason(plan):
    rows = "\n".join(f"{i},{i * i},{'ab'[i % 2]}" for i in range(90))
    Path("t.csv").write_text("x,y,label\n" + rows)
    text = plan(
        "it.yaml",
        *("--set", "datasets=[{name: digits}, {name: table, file: t.csv}]"),
        *("--set", "models=[mlp]"),
        *("--set", "references={}"),
        *("--set", "recipes.mixed.0=cutmix"),
    )
    assert "cannot run and left out:" in text
    assert "table · mixed: a table row has no area to cut a box from" in text


def test_json_is_for_programs(plan):
    data = json.loads(plan("it.yaml", "--json"))
    assert data["experiment"] == "it"
    assert data["counts"] == {"to do": 22}
    runs = expand(load("it.yaml")).runs
    assert [run["key"] for run in data["runs"]] == [spec.key for spec in runs]
    assert data["runs"][1] == {
        "key": runs[1].key,
        "dataset": "digits-lt20",
        "reference": "",
        "model": "tiny_cnn",
        "recipe": "class_weights",
        "levels": {"sampler": "none", "smote": "none", "loss": "class_weights"},
        "seed": 0,
        "fold": None,
        "state": "to do",
    }
    assert {"dataset": "digits-lt20", "recipe": "plain", "text": "the same runs as 'nothing'"} in (
        data["equivalent"]
    )
    assert [item["recipe"] for item in data["flagged"]] == [
        "weighted_sampler+class_weights",
        "weighted_sampler+smote+class_weights",
    ]
    assert data["unsuitable"] == data["notes"] == []


def test_states_are_those_of_the_results_folder(plan):
    runs = expand(load("it.yaml")).runs
    for spec in runs[:3]:
        commit(spec, seconds=60.0)
    commit(runs[3])
    data = json.loads(plan("it.yaml", "--json"))
    assert [run["state"] for run in data["runs"][:5]] == ["done"] * 3 + ["failed", "to do"]
    assert data["counts"] == {"done": 3, "failed": 1, "to do": 18}
    text = plan("it.yaml")
    assert "22 runs: 18 to do, 3 done, 1 failed" in text
    assert "about 18 min left on one slot, from 3 runs done (60.0 s each)" in text
    assert "22 to do" in plan("it.yaml", "--results", "other")
    assert not Path("other").exists()
    assert Store(Path("results"), "it").runs().keys() == {spec.key for spec in runs[:4]}


def test_a_run_that_diverged_or_cannot_be_read_is_not_called_done(plan):
    runs = expand(load("it.yaml")).runs
    commit(runs[0], seconds=60.0)
    commit(runs[1], seconds=1.0, status="diverged")
    (commit(runs[2], seconds=60.0) / "result.json").write_text('{"status": "do')
    text = plan("it.yaml")
    assert "22 runs: 19 to do, 1 done, 0 failed, 1 diverged, 1 damaged" in text
    assert "1 run is damaged: harness run says which" in text
    assert "from 1 run done (60.0 s each)" in text
    states = [run["state"] for run in json.loads(plan("it.yaml", "--json"))["runs"][:4]]
    assert states == ["done", "diverged", "damaged", "to do"]


def test_only_shows_what_matches(plan):
    data = json.loads(plan("it.yaml", "--json", "--only", "mixed", "--only", "weighted*+smote"))
    assert Counter(run["recipe"] for run in data["runs"]) == {
        "mixed": 4,
        "weighted_sampler+smote": 2,
    }
    key = data["runs"][0]["key"]
    assert [run["key"] for run in json.loads(plan("it.yaml", "--json", "--only", key))["runs"]] == [
        key
    ]


def test_names_are_printed_as_they_are_and_not_as_markup(plan):
    from PIL import Image

    for name in ("[bold]", "[/x]", ":smile:"):
        for i in range(6):
            path = Path("data", name.replace("/", "\N{DIVISION SLASH}"), f"{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (i, 0, len(name))).save(path)
    Path("it.yaml").write_text(
        "name: it\ntraining: {batch_size: 4}\n"
        "recipes: {'[/red]': [mixup], ':smile: [b]': [smote]}\n"
        "datasets: [{name: image_folder, path: data, label: '[/it]'}]\n"
    )
    text = plan("it.yaml")
    for name in ("[bold]", ":smile:", "[/red]", ":smile: [b]", "[/it]"):
        assert name in text


def test_a_shipped_experiment_is_found_by_its_name(plan):
    assert plan("quickstart") == plan(ROOT / "experiments" / "quickstart.yaml")
    assert "96 runs: 96 to do" in plan("quickstart")


def test_long_plans_are_cut_with_their_number(plan):
    levels = ", ".join(f"{{alpha: {i}}}" for i in range(2, 72))
    text = plan("it.yaml", "--set", f"factors={{mixup: [none, {levels}]}}", "--set", "recipes={}",
                "--set", "references={}")  # fmt: skip
    assert "… and 11 more rows" in text
    assert "142 runs" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (1e6, "277.8 h"),
    ],
)
def test_durations_are_rounded_to_what_matters(seconds, text):
    assert lasting(seconds) == text


def test_planning_imports_no_heavy_library():
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try: main(['plan', 'quickstart'])\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'torchvision', 'albumentations', 'sklearn', 'imblearn', 'mlflow',\n"
        "         'optuna', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_measuring_tells_time_memory_disk_and_money_and_leaves_nothing(plan, capsys, tmp_path):
    options = ["it.yaml", "--only", "nothing", "--only", "smote", "--measure", "--jobs", "1"]
    with pytest.raises(SystemExit):
        main(["plan", *options, "--price", "1000000", "--json"])
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert (cost["runs"], cost["shapes"], cost["slots"]) == (6, 3, 1)  # nothing is referenced too
    assert cost["seconds"] == pytest.approx(cost["slot_seconds"])
    assert cost["price"] == pytest.approx(cost["seconds"] / 3600 * 1_000_000)
    assert cost["bytes"] > 6 * 60_000
    assert [path.name for path in tmp_path.iterdir()] == ["it.yaml"]


def test_a_price_needs_hours(capsys):
    with pytest.raises(SystemExit) as done:
        main(["plan", "it.yaml", "--price", "2"])
    assert done.value.code == 2
    assert "--price goes with --measure" in capsys.readouterr().err
