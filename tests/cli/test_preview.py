import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from harness.analysis.svg import WIDTH
from harness.app import previewing
from harness.cli import main
from harness.errors import StoreError, TrackingError

FILE = """\
name: it
datasets:
  - {name: digits, imbalance_factor: 20}
recipes: {both: [smote, mixup], "<script>alert(1)</script>": [cutmix]}
seeds: 1
training: {max_steps: 30, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def attached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text(FILE)
    calls = []
    monkeypatch.setattr(previewing.summary, "attach", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def preview(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["preview", *map(str, arguments)])
        told = capsys.readouterr()
        return end.value.code or 0, told.out, told.err

    return run


def test_a_picture_per_recipe_and_a_page(preview, attached):
    code, out, _ = preview("it.yaml", "--json")
    assert code == 0
    data = json.loads(out)
    assert len(data["pictures"]) == 3
    page = Path(data["page"]).read_text()
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert Path(data["page"]).parent == Path("results/it/preview").absolute()
    both = next(path for path in data["pictures"] if "both" in path)
    said = " ".join(ET.parse(both).getroot().itertext())
    assert "mixed by mixup" in said
    assert "0.8" in said or "0.9" in said or "0.7" in said
    ((target, files),) = attached
    assert target.name == "it"
    assert len(files["preview"]) == 4


def test_a_recipe_has_one_picture_however_it_was_chosen(preview):
    """A folder and an artifact store that are written twice hold no picture twice."""
    preview("it.yaml", "--only", "both", "--json")
    (alone,) = Path("results/it/preview").glob("*.svg")
    (alone.parent / "07 gone.svg").write_text("of a recipe that the file no longer has")
    _, out, _ = preview("it.yaml", "--json")
    pictures = json.loads(out)["pictures"]
    assert str(alone.absolute()) in pictures
    assert sorted(map(str, alone.parent.absolute().glob("*.svg"))) == sorted(pictures)


def test_pictures_as_png_take_the_place_of_svg(preview):
    preview("it.yaml", "--only", "nothing")
    _, out, _ = preview("it.yaml", "--png", "--json")
    pictures = [Path(path) for path in json.loads(out)["pictures"]]
    assert [path.suffix for path in pictures] == [".png"] * 3
    assert not list(pictures[0].parent.glob("*.svg"))
    with Image.open(pictures[0]) as drawn:
        assert drawn.size[0] == 2 * (WIDTH + 16)


def test_patterns_choose(preview):
    code, out, _ = preview("it.yaml", "--only", "both", "--json")
    assert len(json.loads(out)["pictures"]) == 1
    code, _, err = preview("it.yaml", "--only", "bth")
    assert code == 2
    assert "did you mean 'both'" in err


def test_a_dataset_alone_has_each_strategy(preview, attached):
    code, out, _ = preview("digits", "--set", "imbalance_factor=20", "--json")
    assert code == 0
    names = [Path(path).stem for path in json.loads(out)["pictures"]]
    assert len(names) == 6
    assert {name.split()[-1] for name in names} == {"nothing", *previewing.ALONE}
    assert "results/preview/digits-lt20" in json.loads(out)["page"]
    assert attached == []


def test_a_table_is_drawn_as_strips(preview, tmp_path):
    rows = "\n".join(f"{i % 7},{i * i % 11},{'ab'[i % 5 == 0]}" for i in range(80))
    (tmp_path / "t.csv").write_text("x,y,label\n" + rows)
    code, out, err = preview("t.csv", "--json")
    assert code == 0, err
    assert len(json.loads(out)["pictures"]) == 4


def test_it_opens_and_says_where_it_is(preview, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    _, out, err = preview("it.yaml", "--open", "--only", "nothing")
    assert "1 picture: " in out
    assert opened[0].endswith("results/it/preview/index.html")
    assert "digits-lt20: nothing" in err


def test_what_is_no_experiment_and_no_dataset(preview):
    code, _, err = preview("digts")
    assert code == 2
    assert "did you mean 'digits'" in err


def test_a_large_design_is_cut_and_said_to_be(preview, monkeypatch):
    monkeypatch.setattr(previewing, "MOST", 2)
    _, out, err = preview("it.yaml")
    assert "2 pictures" in out
    assert "1 more recipe not drawn" in err


@pytest.mark.parametrize("error", [TrackingError, StoreError])
def test_mlflow_may_fail(preview, monkeypatch, error):
    def fails(*arguments):
        raise error("no")

    monkeypatch.setattr(previewing.summary, "attach", fails)
    code, _, err = preview("it.yaml", "--only", "nothing")
    assert code == 0
    assert "not attached to MLflow: no" in err
