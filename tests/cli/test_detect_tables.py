"""Tables as people and programs write them, as `harness new` reads them."""

import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from harness.cli import main
from harness.cli.detect import look
from harness.experiment.schema import load

ROWS = 120


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def frame(**columns):
    rng = np.random.default_rng(0)
    label = ["rare" if k % 5 == 0 else "common" for k in range(ROWS)]
    return pd.DataFrame({"a": rng.normal(size=ROWS).round(4), **columns, "label": label})


def drafted(path):
    with pytest.raises(SystemExit) as end:
        main(["new", "x.yaml", "--data", str(path), "--force"])
    assert end.value.code == 0
    return load("x.yaml").datasets[0]


@pytest.mark.parametrize("part", ["from a hundred on", "every third", "blanks"])
def test_numbers_beside_measurements_name_no_images_that_lie_nearby(part):
    Path("near").mkdir()
    for number in range(3 * ROWS):
        cv2.imwrite(f"near/{number}.png", np.zeros((4, 4, 3), np.uint8))
    first, step = (100, 1) if part == "from a hundred on" else (1, 3)
    index = pd.Index(range(first, first + step * ROWS, step))
    if part == "blanks":
        ages = pd.array([None if k % 5 == 0 else k * 7 % 300 for k in range(ROWS)], "Int64")
        frame(age=ages).to_csv("t.csv", index=False)
    else:
        frame().set_index(index).to_csv("t.csv")
    dataset = drafted("t.csv")
    assert dataset.name == "table"
    assert dataset.indexed().shape == ((2,) if part == "blanks" else (1,))


@pytest.mark.parametrize("mark", ["#N/A", "None", "-", "NULL", "?", ""])
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_numbers_with_marks_for_no_value_are_kept(mark, share):
    marked = pd.Series(np.arange(ROWS) * 0.37).astype(object)
    marked[np.random.default_rng(1).random(ROWS) < share] = mark
    frame(b=marked).to_csv("t.csv", index=False)
    dataset = drafted("t.csv")
    assert "drop_columns" not in dataset.config()
    assert dataset.columns()["b"].startswith("numbers; ")
    assert dataset.indexed().shape == (2,)


def test_decimal_commas_dates_and_durations_are_no_identifiers():
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(ROWS) * 7 % 113, "D")
    wide = frame(
        price=[f"{k * 1.37:.2f}".replace(".", ",") for k in range(ROWS)],
        day=days.strftime("%Y-%m-%d"),
        name=[f"n{k}" for k in range(ROWS)],
    )
    wide.to_csv("t.csv", sep=";", index=False)
    assert look(Path("t.csv")).fields["drop_columns"] == ["name"]
    missing = days.to_series().reset_index(drop=True)
    missing[3] = pd.NaT
    frame()[["label"]].assign(day=missing, lasted=missing - days[0]).to_parquet("t.parquet")
    dataset = drafted("t.parquet")
    assert "drop_columns" not in dataset.config()
    assert dataset.indexed().shape == (2,)


def test_a_saved_index_names_no_images_that_lie_nearby():
    Path("photos").mkdir()
    for k in range(ROWS):
        cv2.imwrite(f"photos/{k}.png", np.full((4, 4, 3), k, np.uint8))
    frame().to_csv("t.csv")
    dataset = drafted("t.csv")
    assert dataset.name == "table"
    assert dataset.indexed().shape == (1,)
    pd.DataFrame({"number": range(ROWS), "label": frame()["label"]}).to_csv("i.csv", index=False)
    assert look(Path("i.csv")).name == "manifest", "where nothing is measured, it names images"


def test_a_header_of_numbers_and_a_class_called_na():
    table = frame()
    table.columns = ["2001", "label"]
    table["label"] = table["label"].replace("rare", "NA")
    table.to_csv("t.csv", index=False)
    dataset = drafted("t.csv")
    assert dataset.indexed().class_names == ("NA", "common")
    assert len(dataset.indexed().labels) == ROWS


@pytest.mark.parametrize("place", ["t.csv.gz", "folder"])
def test_a_packed_table_is_read(place):
    Path("folder").mkdir()
    frame().to_csv("folder/t.csv.gz", index=False)
    frame().to_csv("t.csv.gz", index=False)
    assert drafted(place).indexed().shape == (1,)


def told(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["new", "x.yaml", "--force", *arguments])
    return end.value.code, capsys.readouterr()


def test_how_a_file_is_written_can_be_said_and_stands_in_the_draft(capsys):
    table = frame(größe=[f"{1 + k % 9},{100 + k}" for k in range(ROWS)])
    table.to_csv("t.csv", sep=";", index=False, encoding="cp1252")
    code, said = told(capsys, "--data", "t.csv")
    assert code == 2
    assert 'here: --set "encoding=cp1252"' in said.err
    code, said = told(capsys, "--data", "t.csv", "--set", "encoding=cp1252")
    assert code == 2
    assert """here: --set "decimal=','")""" in said.err
    sets = ("--set", "encoding=cp1252", "--set", "decimal=','")
    code, said = told(capsys, "--data", "t.csv", *sets)
    assert code == 0
    dataset = load("x.yaml").datasets[0]
    assert dataset.config()["decimal"] == ","
    assert dataset.config()["encoding"] == "cp1252"
    assert dataset.columns()["größe"] == "numbers; read with a decimal comma"
    with pytest.raises(SystemExit):
        main(["inspect", "t.csv", *sets])
    assert "größe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("encodin=utf-8", "did you mean 'encoding'"),
        ("encoding=utf-99", "no encoding that Python knows"),
        ("delimiter=7", "delimiter: expected text"),
        ("header=[1]", "header"),
        ("x", "expected KEY=VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused(capsys, edit, message):
    frame().to_csv("t.csv", index=False)
    code, said = told(capsys, "--data", "t.csv", "--set", edit)
    assert code == 2
    assert re.search(message, said.err)
    assert "Traceback" not in said.err


def test_rows_of_a_table_without_a_label_are_left_out_by_a_line_that_says_so(capsys):
    table = frame()
    table.loc[3:6, "label"] = None
    table.to_csv("t.csv", index=False)
    assert told(capsys, "--data", "t.csv")[0] == 0
    assert "unlabelled: drop  # 4 rows without a label left out" in Path("x.yaml").read_text()
    assert len(load("x.yaml").datasets[0].indexed().labels) == ROWS - 4


def test_fields_of_class_folders_can_be_set(capsys):
    for k in range(24):
        Path(f"photos/{'ab'[k % 2]}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"photos/{'ab'[k % 2]}/{k}.png", np.full((20, 20, 3), k, np.uint8))
    assert told(capsys, "--data", "photos", "--set", "image_size=9")[0] == 0
    assert load("x.yaml").datasets[0].config()["image_size"] == 9
