import json

import cv2
import numpy as np
import pytest

from harness.cli import main
from harness.cli.dataset_summary import _bar


@pytest.fixture
def inspect(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["inspect", *arguments])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return run


def images(root, counts, rng=None, size=(10, 12)):
    rng = rng or np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f"{k:03}.png"), image)
    return root


def test_a_named_dataset_with_fields(inspect):
    code, out, _ = inspect("shapes", "--set", "classes=3", "--set", "imbalance_factor=10")
    assert code == 0
    assert "3 classes; 181 train, 45 val, 120 test; imbalance factor 9.846 in train" in out
    row = next(line for line in out.splitlines() if line.startswith("yellow circle"))
    assert row.split()[2:6] == ["128", "32", "40", "70.7"]
    assert "many" in row
    assert row.count("█") == 30
    last = next(line for line in out.splitlines() if line.startswith("yellow triangle"))
    assert "few" in last
    assert last.count("█") == 3
    assert "image of 32 × 32 × 3" in out


def test_json_tells_the_same_in_plain_values(inspect):
    code, out, _ = inspect("digits", "--set", "imbalance_factor=20", "--json")
    (found,) = json.loads(out)["datasets"]
    assert code == 0
    assert found["dataset"] == "digits-lt20"
    assert found["shape"] == [8, 8, 1]
    assert found["imbalance_factor"] == 20.0
    assert found["samples"]["train"] == sum(entry["train"] for entry in found["classes"])
    assert sum(entry["share"] for entry in found["classes"]) == pytest.approx(1)
    assert {entry["group"] for entry in found["classes"]} == {"medium", "few"}
    assert len(found["content"]) == 64
    assert set(found["row_digests"]) == {"train", "val", "test", "subset", "subset_by_class"}
    code, out, _ = inspect("digits", "--set", "imbalance_factor=20")
    digest = found["row_digests"]["subset_by_class"]
    assert f"; long-tailed subset {digest[:12]} (SHA-256 of classes and places in them)" in out
    assert "subset" not in inspect("digits")[1]


def test_the_histogram_tells_a_rare_class_from_a_rarer_one():
    assert _bar(30, "▏▎▍▌▋▊▉█") == "█" * 30
    assert _bar(2.5, "▏▎▍▌▋▊▉█") == "██▌"
    assert _bar(0.03, "▏▎▍▌▋▊▉█") == "▏"
    assert (_bar(2.5, "#"), _bar(0.03, "#")) == ("##", "#")


def test_every_dataset_of_an_experiment_is_shown(inspect, tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: two\ndatasets: [{name: shapes, classes: 2}, {name: digits}]\nseeds: [7]\n"
        "factors: {smote: [none, smote]}\n"
    )
    code, out, _ = inspect(str(file), "--json")
    assert code == 0
    assert [entry["dataset"] for entry in json.loads(out)["datasets"]] == ["shapes", "digits"]
    code, out, _ = inspect(str(file), "--set", "datasets.0.classes=4", "--json")
    assert len(json.loads(out)["datasets"][0]["classes"]) == 4
    code, out, _ = inspect("quickstart", "--json")
    assert json.loads(out)["datasets"][0]["config"]["name"] == "digits"


def test_with_folds_the_first_fold_is_shown(inspect, tmp_path):
    file = tmp_path / "folds.yaml"
    file.write_text("name: f\ndatasets: [digits]\nfolds: 10\n")
    assert "180 test; imbalance factor" in (out := inspect(str(file))[1])
    assert "test is the first of 10 folds" in out
    _, out, _ = inspect(str(file), "--json")
    (found,) = json.loads(out)["datasets"]
    assert (found["samples"]["test"], found["folds"]) == (180, 10)
    assert "folds" not in inspect("digits")[1]


def test_folds_that_a_file_names_are_shown_without_an_experiment(inspect, tmp_path):
    rows = [f"{k},{k % 3},{'ab'[k % 4 == 0]}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x,fold,label", *rows]))
    fields = (f"file={tmp_path / 't.csv'}", "fold_column=fold")
    edits = [part for field in fields for part in ("--set", field)]
    for arguments in ([str(tmp_path / "t.csv")], ["table", *edits]):
        code, out, err = inspect(*arguments)
        assert code == 0, err
        assert "test is the first of 3 folds" in out
        assert "20 test" in out


def test_a_path_is_read_as_new_would_read_it(inspect, tmp_path):
    root = images(tmp_path / "pets", {"cat": 30, "dog": 12})
    code, out, _ = inspect(str(root))
    assert code == 0
    assert out.startswith("pets\n")
    assert "image of 10 × 10 × 3, uint8; files: all 10 × 12 pixels (height × width)" in out
    code, out, _ = inspect(str(root), "--set", "image_size=16", "--json")
    (found,) = json.loads(out)["datasets"]
    assert found["shape"] == [16, 16, 3]
    assert found["dtype"] == "uint8"


def test_a_table_at_a_path_takes_its_label_from_set(inspect, tmp_path):
    rows = "\n".join(f"{k},{'ab'[k % 2]},{'cd'[k % 3 == 0]}" for k in range(40))
    (tmp_path / "t.csv").write_text(f"x,colour,size\n{rows}\n")
    code, _, err = inspect(str(tmp_path / "t.csv"))
    assert code == 2
    assert "which column is the label?" in err
    assert "colour (2 values), size (2 values)" in err
    code, out, _ = inspect(str(tmp_path / "t.csv"), "--set", "label_column=size", "--json")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)["datasets"][0]["classes"]] == ["c", "d"]


def test_t15_the_same_image_twice_is_named_also_under_two_labels(inspect, tmp_path):
    root = images(tmp_path / "set", {"cat": 12, "dog": 12})
    (root / "cat" / "copy.png").write_bytes((root / "cat" / "000.png").read_bytes())
    (root / "dog" / "torn.png").write_bytes((root / "cat" / "001.png").read_bytes())
    _, out, _ = inspect(str(root))
    assert "warning: 2 images are there more than once" in out
    assert "cat/000.png = cat/copy.png" in out
    assert "1 image is there under different labels: cat/001.png = dog/torn.png" in out


def test_t21_json_lists_every_bad_or_missing_file_also_where_it_ends_with_two(inspect, tmp_path):
    root = images(tmp_path / "set", {"cat": 12, "dog": 12})
    bad = [root / "cat" / f"bad{k:02}.png" for k in range(23)]
    for path in bad:
        path.write_bytes(b"no image")
    expected = {str(path): "is not an image, or is damaged" for path in bad}
    code, out, _ = inspect(str(root), "--json")
    assert code == 0
    assert json.loads(out)["datasets"][0]["bad_files"] == expected
    arguments = ("image_folder", "--set", f"path={root}")
    code, out, err = inspect(*arguments, "--json")
    assert code == 2
    assert json.loads(out)["bad_files"] == expected
    assert "23 bad image files of 47" in json.loads(out)["error"]
    assert "23 bad image files of 47" in err
    assert inspect(*arguments)[1] == "", "without --json nothing but the message"
    rows = [f"{name}/{k:03}.png,{name}" for name in ("cat", "dog") for k in range(13)]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    code, out, _ = inspect(str(root / "list.csv"), "--json")
    assert code == 0
    assert "2 images are not there and are left out" in out
    listed = ("manifest", "--set", f"file={root / 'list.csv'}")
    code, out, _ = inspect(*listed, "--set", "on_bad_image=skip", "--json")
    assert code == 2
    assert json.loads(out)["bad_files"] == {
        "cat/012.png": "is missing",
        "dog/012.png": "is missing",
    }


def test_many_classes_are_cut_in_the_middle_but_not_in_json(inspect):
    arguments = ("shapes", "--set", "classes=50", "--set", "per_class=10", "--set", "size=8")
    _, out, _ = inspect(*arguments)
    assert "10 classes in the middle are not shown" in out
    assert sum("█" in line for line in out.splitlines()) == 40
    _, out, _ = inspect(*arguments, "--json")
    assert len(json.loads(out)["datasets"][0]["classes"]) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "did you mean 'digits'?"),
        (["digits", "--set", "imbalance_facto=3"], "did you mean 'imbalance_factor'?"),
        (["digits", "--set", "imbalance_factor=0.5"], "greater than or equal to 1"),
        (["quickstrat"], "did you mean 'quickstart'?"),
        (["nothing.yaml"], "no such experiment file"),
        (["image_folder"], "'image_folder' needs it"),
    ],
)
def test_t26_bad_input_ends_with_two_and_the_nearest_name(inspect, arguments, message):
    code, _, err = inspect(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_inspecting_imports_no_torch(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys\nfrom harness.cli import main\n"
        "try: main(['inspect', 'digits'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'albumentations', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_spellings_that_are_made_one_are_named(inspect, tmp_path):
    path = tmp_path / "t.csv"
    lines = [f"{i},{('Cat', 'cat', 'DOG')[i % 3]}" for i in range(60)]
    path.write_text("\n".join(["x,y", *lines]))
    _, out, err = inspect(str(path), "--set", "label_column=y")
    assert "2 classes" in out
    assert "table of 1 column" in out
    assert "1 columns" not in out
    assert "'Cat' = 'cat'; made one class" in err


def test_labels_cannot_speak_to_the_terminal(inspect, tmp_path):
    table = tmp_path / "it.csv"
    names = ["rare\x1b[2J\x9b", "common", "common", "common"]
    rows = [f"{k % 7},{k % 11},{names[k % 4]}" for k in range(80)]
    table.write_text("\n".join(["a,b,label", *rows]) + "\n", encoding="utf-8")
    given = ("table", "--set", f"file={table}", "--set", "label=label")
    for code, *told in (inspect(*given), inspect(*given, "--json")):
        assert code == 0, told
        text = "".join(told)
        assert not {"\x1b", "\x9b"} & set(text)
        assert "rare" in text
    assert "rare\x1b[2J\x9b" in [c["name"] for c in json.loads(told[0])["datasets"][0]["classes"]]


def test_messages_cannot_speak_to_the_terminal(inspect, tmp_path):
    code, _, err = inspect("table", "--set", r'file="a\x9b2Jb.csv"', "--set", "label=label")
    assert code == 2
    assert "\x9b" not in err
    assert r"\x9b2J" in err


def test_the_centre_crop_is_said_and_squash_offered_where_it_cuts_much(inspect, tmp_path):
    images(tmp_path / "wide", {"a": 6, "b": 6}, size=(20, 40))
    _, out, _ = inspect(str(tmp_path / "wide"), "--set", "image_size=16")
    assert "each cut to its centre square" in out
    assert "more than 25% is cut off 12 of 12 images, at most 50%" in out
    assert "`resize: squash` keeps all of it" in out
    _, out, _ = inspect(str(tmp_path / "wide"), "--set", "image_size=16", "--set", "resize=squash")
    assert "cut" not in out
    images(tmp_path / "nearly", {"a": 6, "b": 6}, size=(20, 22))
    _, out, _ = inspect(str(tmp_path / "nearly"), "--set", "image_size=16")
    assert "each cut to its centre square" in out
    assert "squash" not in out


def test_pictures_that_the_file_does_not_list_are_counted(inspect, tmp_path):
    images(tmp_path / "set", {"a": 9, "b": 9})
    rows = [f"{name}/{k:03}.png,{name}" for name in "ab" for k in range(9 if name == "a" else 6)]
    (tmp_path / "set" / "list.csv").write_text("path,label\n" + "\n".join(rows))
    _, _, err = inspect(str(tmp_path / "set" / "list.csv"))
    assert "3 images below" in err
    assert "in no row that is used" in err


def of_people(path):
    """Write a table of which one class is of few people, one of whom has most of its rows."""
    rng = np.random.default_rng(0)
    people = [("fear", f"f{k}") for k, n in enumerate((29, 3, 1, 1, 1, 1)) for _ in range(n)]
    people += [("joy", f"j{k % 60}") for k in range(180)]
    people += [("awe", f"a{k % 2}") for k in range(20)]
    lines = [f"{a:.4f},{b:.4f},{who},{what}" for (what, who), (a, b)
             in zip(people, rng.normal(size=(len(people), 2)), strict=True)]  # fmt: skip
    path.write_text("\n".join(["a,b,person,mood", *lines]) + "\n")
    return path


def test_groups_per_class_and_split_are_shown_by_inspect_and_plan(inspect, tmp_path, capsys):
    file = of_people(tmp_path / "moods.csv")
    sets = ("--set", "label_column=mood", "--set", "group_column=person")
    code, out, _ = inspect(str(file), *sets)
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("fear"))
    assert row.split()[1:7] == ["32", "(2)", "1", "(1)", "3", "(3)"]
    assert "in brackets: of how many groups, none of which is in two splits" in out
    assert "test rests on one or two groups for 'awe' (10 samples of 1 group)" in out
    _, out, _ = inspect(str(file), *sets, "--json")
    classes = {entry["name"]: entry for entry in json.loads(out)["datasets"][0]["classes"]}
    assert classes["fear"]["groups"] == {"train": 2, "val": 1, "test": 3}
    (tmp_path / "it.yaml").write_text(
        f"name: it\ndatasets:\n  - {{name: table, file: {file}, label_column: mood, "
        "group_column: person}\nmodels: [mlp]\nseeds: 1\ntraining: {epochs: 1, batch_size: 32}\n"
    )
    with pytest.raises(SystemExit) as end:
        main(["plan", str(tmp_path / "it.yaml"), "--results", str(tmp_path / "results")])
    out = capsys.readouterr().out
    assert not end.value.code
    assert "samples per class, in brackets of how many groups" in out
    assert next(line for line in out.splitlines() if line.strip().startswith("fear")).split()[1:3] \
        == ["32", "(2)"]  # fmt: skip
    assert "test rests on one or two groups for 'awe'" in out
