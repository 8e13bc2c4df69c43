import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import harness
from harness.errors import ConfigError, StoreError


def test_a_folder_that_changed_between_two_calls_is_looked_at_again(tmp_path: Path) -> None:
    def draw(first: int, last: int) -> None:
        for k, name in enumerate("ab"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            for i in range(first, last):
                image = np.full((8, 8, 3), 100 * k + i, np.uint8)
                cv2.imwrite(str(tmp_path / "data" / name / f"{i}.png"), image)

    experiment = {
        "name": "x",
        "datasets": [{"name": "image_folder", "path": str(tmp_path / "data"), "image_size": 8}],
        "seeds": 1,
        "training": {"max_steps": 1, "batch_size": 8},
    }
    sizes = []
    for first, last in ((0, 12), (12, 24)):
        draw(first, last)
        runs = harness.run(experiment, results=tmp_path / "r", executor="inline", track=False)
        result = json.loads((Path(runs["path"][0]) / "result.json").read_text())
        sizes.append(result["train_size"])
    assert sizes[1] > sizes[0]


def test_an_executor_that_is_none_is_refused_here_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'inline'"):
        harness.run({"name": "x", "datasets": ["digits"]}, results=tmp_path, executor="inlin")
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_experiment_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["seeds=1", "training.max_steps=1", "training.batch_size=8"]
    runs = harness.run(
        "quickstart", settings=settings, executor="inline", only="smote", track=False
    )
    assert list(runs["recipe"]) == ["smote"]
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        harness.run("quickstar")


def test_a_mistake_is_its_message_alone_in_a_notebook() -> None:
    """IPython prints what `_render_traceback_` returns in place of the traceback."""
    with pytest.raises(ConfigError) as caught:
        harness.run("quickstar")
    (line,) = caught.value._render_traceback_()
    assert line == f"ConfigError: {caught.value}"
    assert "did you mean 'quickstart'" in line
    for call in (harness.run, harness.tune):
        with pytest.raises(ConfigError, match="no option 'exectuor'; did you mean 'executor'"):
            call("quickstart", exectuor="inline")


def test_the_folder_above_an_experiment_names_those_in_it(tmp_path: Path) -> None:
    keys = {
        "name": "one",
        "datasets": [{"name": "shapes", "classes": 2, "size": 8, "per_class": 8}],
        "models": [{"name": "tiny_cnn", "width": 2}],
        "seeds": 1,
        "training": {"max_steps": 1, "batch_size": 4},
    }
    for name in ("one", "two"):
        harness.run({**keys, "name": name}, results=tmp_path / "r", executor="inline", track=False)
    assert len(harness.load_results(tmp_path / "r" / "two")) == 1
    with pytest.raises(StoreError, match=r"no committed run in .*; give one of .*: one, two$"):
        harness.load_results(tmp_path / "r")
    with pytest.raises(StoreError, match=r"there is no folder .*; did you mean 'two'"):
        harness.load_results(tmp_path / "r" / "tow")
