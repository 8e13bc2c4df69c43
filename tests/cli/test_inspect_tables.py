"""What `new` and `inspect` make of tables, as people and programs write them."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.cli import main
from harness.cli.detect import look
from harness.datasets.base import forget
from harness.errors import ConfigError
from harness.experiment.schema import load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget()
    yield
    forget()


def frame(rows=120):
    rng = np.random.default_rng(0)
    y = (np.arange(rows) % 6 == 0).astype(int)
    x = rng.normal(size=(rows, 3)).round(3) + y[:, None]
    return pd.DataFrame(x, columns=["f0", "f1", "f2"]).assign(y=y)


def drafted(tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["new", "e.yaml", "--data", "t.csv"])
    assert end.value.code == 0
    return load(tmp_path / "e.yaml").datasets[0]


@pytest.mark.parametrize("mark", ["#N/A", "None", "-", "missing"])
def test_columns_with_marks_for_missing_are_kept(mark, tmp_path):
    marked = frame().astype(object)
    marked.loc[marked.index % 9 == 2, "f1"] = mark
    marked.to_csv("t.csv", index=False)
    table = drafted(tmp_path)
    assert table.drop_columns == ()
    assert table.indexed().shape == (3,)


def test_decimal_commas_are_read(tmp_path):
    frame().to_csv("t.csv", index=False, sep=";", decimal=",")
    table = drafted(tmp_path)
    assert table.drop_columns == ()
    assert table.load(0).features.shape == (120, 3)


def test_a_class_named_na_is_one(tmp_path):
    frame().assign(y=lambda f: np.where(f.y == 1, "NA", "EU")).to_csv("t.csv", index=False)
    assert drafted(tmp_path).indexed().class_names == ("EU", "NA")


def test_a_saved_index_names_no_images_that_lie_around(tmp_path):
    frame().sort_values("y").reset_index(drop=True).to_csv("t.csv")
    (tmp_path / "photos").mkdir()
    for k in range(120):
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / f"{k}.png")
    table = drafted(tmp_path)
    assert table.name == "table"
    assert table.indexed().shape == (3,)


def test_a_packed_table_is_a_table(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(frame().to_csv(index=False).encode()))
    assert look(tmp_path / "t.csv.gz").name == "table"
    assert look(tmp_path).name == "table"


def test_inspect_says_what_became_of_each_column(tmp_path, capsys):
    odd = frame().reset_index().assign(f2="same", f1=lambda f: f.f1.where(f.f1 < 1))
    odd.to_csv("t.csv", index=False)
    with pytest.raises(SystemExit):
        main(["inspect", "t.csv", "--json", "--set", "drop_columns=[f0]"])
    (found,) = json.loads(capsys.readouterr().out)["datasets"]
    assert found["columns"] == {
        "index": "left out: counts the rows",
        "f0": "left out: drop_columns",
        "f1": f"numbers; {int(odd.f1.isna().sum())} of 120 missing",
        "f2": "the same in every row: left out",
        "y": "label, 2 classes",
    }
    with pytest.raises(SystemExit):
        main(["inspect", "t.csv"])
    out = capsys.readouterr().out
    for line in (
        "column  taken as",
        "index   left out: drop_columns",
        "y       label, 2 classes",
    ):
        assert line in out


def test_a_column_that_repeats_the_label_is_left_out_and_named(tmp_path):
    frame = pd.DataFrame({"a": np.arange(60) * 0.7, "label": ["x", "y", "y"] * 20})
    frame.assign(code=frame["label"].map({"x": "D1", "y": "D2"})).to_csv(tmp_path / "t.csv")
    found = look(tmp_path / "t.csv")
    assert "code" in found.fields["drop_columns"]
    assert any("'code' tells the same classes as the label 'label'" in t for t in found.remarks)


def test_infinite_values_are_told_and_nothing_else(tmp_path):
    frame = pd.DataFrame({"a": ["inf", *map(str, range(59))], "label": ["x", "y", "y"] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert look(tmp_path / "t.csv").name == "table"  # warnings are errors here


def test_a_file_of_another_kind_is_no_table(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1, "label": "x"}\n' * 9)
    with pytest.raises(ConfigError, match="neither CSV nor Parquet"):
        look(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(("word", "is_said"), [("holdout", True), ("val", False)])
def test_a_split_of_other_words_is_named(word, is_said, tmp_path):
    split = ["train", "test", word] * 20
    frame().iloc[:60].assign(part=split).to_csv(tmp_path / "t.csv", index=False)
    found = look(tmp_path / "t.csv")
    assert ("split_column" in found.fields) is not is_said
    said = "column 'part' seems to tell the split, and is not used for that because of 'holdout'"
    assert any(said in text for text in found.remarks) is is_said
