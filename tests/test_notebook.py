import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import harness
from harness.errors import ConfigError


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
