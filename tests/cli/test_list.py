import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.experiment.model_names import model_names
from harness.metrics import OF_TWO, STANDARD
from harness.registry import datasets, metrics, strategies

OTHERS = sorted({*metrics} - {*STANDARD, *OF_TWO})
ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))


@pytest.fixture
def listed(capsys):
    """Return a function that runs `harness list` and gives what it prints."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main(["list", *arguments])
        assert not done.value.code
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def test_json_lists_all_there_is(listed):
    found = json.loads(listed("--json"))
    assert list(found) == ["strategies", "datasets", "models", "metrics", "experiments"]
    assert list(found["strategies"]) == list(strategies)
    assert list(found["datasets"]) == list(datasets)
    assert list(found["models"]) == [*model_names(), "timm/NAME"]
    assert list(found["metrics"]) == [*STANDARD, *OF_TWO, *OTHERS]
    assert sorted(found["experiments"]) == SHIPPED
    assert found["strategies"]["mixup"] == strategies.get("mixup").summary()
    assert found["metrics"]["nll"].startswith("lower is better: Mean negative log")
    assert found["metrics"]["macro_f1"] == "higher is better: Mean F1 of the classes."
    assert found["metrics"]["expected_cost"].endswith("; needs costs")
    assert found["metrics"]["f_beta"].endswith("; takes beta, positive")
    assert all(found["experiments"].values())


@pytest.mark.parametrize("kind", ["strategies", "datasets", "models", "metrics", "experiments"])
def test_one_kind_is_listed_whole(listed, kind):
    text = listed(kind)
    found = json.loads(listed(kind, "--json"))
    assert list(found) == [kind]
    words = text.split()
    assert all(name in words for name in found[kind])


def test_without_a_kind_long_lists_are_cut_and_say_how_to_see_the_rest(listed):
    text = listed()
    number = len(model_names()) + 1 - 8
    assert f"… and {number} more: harness list models" in text
    assert all(name in text for name in [*strategies, *datasets, *metrics, *SHIPPED])


def test_an_unknown_kind_is_refused_with_what_there_is(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["list", "strategys"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: list strategys: neither a kind (strategies, datasets, models, metrics, "
        "experiments) nor the name of a dataset, strategy, metric or model; "
        "did you mean 'strategies'?\n"
    )


def test_strategies_of_a_plugin_are_listed_as_they_are_written(listed, tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text(
        "from harness.strategies.base import Strategy, strategy\n"
        "@strategy('mine')\n"
        "class Mine(Strategy):\n"
        '    """Do [/nothing] :smile:."""\n'
    )
    assert "Do [/nothing] :smile:." in listed("strategies", "--plugin", str(file))
    assert json.loads(listed("--json", "--plugin", str(file)))["strategies"]["mine"]


def test_listing_imports_no_heavy_library():
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try: main(['list'])\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'torchvision', 'albumentations', 'sklearn', 'imblearn', 'mlflow',\n"
        "         'optuna', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"]])
def test_help_imports_not_even_numpy(arguments):
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as done: assert not done.code\n"
        "print(sorted({'numpy', 'pandas', 'torch'} & set(sys.modules)),"
        " file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "harness" in done.stdout


@pytest.mark.parametrize("name", [*datasets, *strategies, "tiny_cnn", "torchvision/resnet18"])
def test_every_key_of_every_name_has_type_default_and_a_line(listed, name):
    (named,) = json.loads(listed(name, "--json")).values()
    for key in named[name]:
        assert key["type"] not in ("", "anything"), key
        assert key["text"].endswith((".", "`")), key


def test_keys_tell_defaults_ranges_and_what_a_search_moves(listed):
    text = listed("mixup")
    assert text.startswith("strategy mixup: Blend each row")
    assert "alpha" in text
    assert "number > 0; default 1.0; tuned in 0.05 to 2." in text
    text = listed("table")
    lines = text.splitlines()
    assert lines[1].split()[:3] == ["file", "path;", "needed."], "what is needed comes first"
    assert "exp | step; default exp." in text
    assert "number ≥ 0 and < 1 or null; default null." in text
    assert "default none. ``backbone`` trains" in listed("tiny_cnn")


def test_keys_of_a_plugin_are_listed_and_a_name_that_is_none_is_refused(listed, capsys, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from harness.strategies.base import Strategy, strategy\n"
        "@strategy('mine')\n"
        "class Mine(Strategy):\n"
        "    'Of mine.\\n\\n    Attributes:\\n        much: How much of it.\\n    '\n"
        "    much: float = 0.5\n"
    )
    assert "much  number; default 0.5. How much of it." in listed("mine", "--plugin", str(plugin))
    with pytest.raises(SystemExit) as end:
        main(["list", "tabel"])
    assert end.value.code == 2
    assert "neither a kind (strategies, " in (told := capsys.readouterr().err)
    assert "did you mean 'table'?" in told
