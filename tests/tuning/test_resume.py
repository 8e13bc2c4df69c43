"""Searches in processes of their own, killed and started again."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

SCRIPT = """
import json, sys
import harness
harness.tune(json.loads(sys.argv[1]), results=sys.argv[2], track=False, **json.loads(sys.argv[3]))
"""

KEYS: dict[str, Any] = {
    "name": "tiny",
    "datasets": [{"name": "shapes", "classes": 3, "size": 8, "per_class": 24}],
    "models": [{"name": "tiny_cnn", "width": 4}],
    "recipes": {"mixup": ["mixup"]},
    "seeds": 1,
    "training": {"epochs": 3, "batch_size": 8, "lr": 0.05, "eval_every": 0.5},
    "tune": {"trials": 6, "seeds": [100, 101], "space": {"mixup.p": [0.25, 1.0]}},
}


def start(results: Path, **options: Any) -> "subprocess.Popen[str]":
    arguments = [json.dumps(KEYS), str(results), json.dumps(options)]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", pattern: str) -> None:
    """Read what a search says until a line of it matches."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError("".join(said))


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def trials(results: Path) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of the one study, as Optuna's own client sees them."""
    storage = f"sqlite:///{results / 'optuna.db'}"
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage).trials


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"executor": "inline"}, id="inline"),
        pytest.param({"jobs": 2}, id="two slots", marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_twice_does_exactly_the_trials_that_are_left(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    begun = []
    for pattern in ("mixup #", "mixup #[345]"):  # before the kill more may have been done
        process = start(tmp_path, **options)
        wait_for(process, pattern)
        kill(process)
        left = trials(tmp_path)
        begun.append(len(left))
        assert left[0].params == {"mixup.alpha": 1.0, "mixup.p": 1.0}
    assert begun[0] <= begun[1] <= 6
    process = start(tmp_path, **options)
    _, said = process.communicate()
    assert process.returncode == 0, said
    done = trials(tmp_path)
    assert [trial.state.name for trial in done] == ["COMPLETE"] * 6
    assert [trial.user_attrs.get("default") for trial in done] == [True] + [None] * 5
    assert len({tuple(trial.params.items()) for trial in done}) == 6
    folders = [path.name for path in (tmp_path / "tiny" / "tuning").glob("*-s10?-*")]
    assert len(folders) == 12
    assert not list((tmp_path / "tiny" / "tuning" / ".running").iterdir())
    assert not list((tmp_path / "tiny" / "tuning").rglob("model.pt"))
    again = start(tmp_path, **options)
    _, said = again.communicate()
    assert "#" not in said
    assert [(t.number, t.value) for t in trials(tmp_path)] == [(t.number, t.value) for t in done]
