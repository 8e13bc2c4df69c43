import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from harness.cli import main
from harness.cli.draft import _beside, _scalar
from harness.experiment.expand import expand
from harness.experiment.schema import load

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def new(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["new", *arguments])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return run


def images(root, counts, size=(12, 12)):
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (Path(root) / name).mkdir(parents=True)
        for k in range(count):
            sides = size if isinstance(size, tuple) else size[k % len(size)]
            cv2.imwrite(
                f"{root}/{name}/{k:03}.png", rng.integers(0, 256, (*sides, 3), dtype=np.uint8)
            )


def table(path, counts, header="a,b,label"):
    lines = [f"{k},{k % 5},{name}" for name, count in counts.items() for k in range(count)]
    Path(path).write_text("\n".join([header, *lines]) + "\n")


def test_class_folders_become_a_file_that_plans_and_says_what_was_seen(new, capsys):
    images("photos", {"cat": 60, "dog": 30, "owl": 10})
    code, out, _ = new("pets.yaml", "--data", "photos")
    assert code == 0
    assert "3 classes; 63 train, 17 val, 20 test; imbalance factor 6.333 in train" in out
    shown = [line.split()[0] for line in out.splitlines() if "█" in line]
    assert shown == ["cat", "dog", "owl"], "sorted by count"
    assert "all 12 × 12 pixels" in out
    assert out.splitlines()[-2:] == ["  harness plan pets.yaml", "  harness run pets.yaml"]
    experiment = load("pets.yaml")
    plan = expand(experiment)
    assert len(plan.runs) == 96
    assert set(experiment.factors) == {"augment", "sampler", "smote", "mixup", "cutmix"}
    assert experiment.metric == "balanced_accuracy"
    assert experiment.seeds == (0, 1, 2)
    assert [model.name for model in experiment.models] == ["tiny_cnn"]
    assert experiment.datasets[0].display() == "photos"
    with pytest.raises(SystemExit) as end:
        main(["plan", "pets.yaml"])
    assert end.value.code == 0
    assert "96 runs: 96 to do" in capsys.readouterr().out


def test_every_line_that_stands_as_a_comment_works_once_it_is_taken_in(new):
    images("photos", {f"p{k}_x": 14 for k in range(3)})
    new("a.yaml", "--data", "photos")
    text = Path("a.yaml").read_text()
    for key in ("val_fraction: 0.2", "design: one_at_a_time", "folds: 5", r"group: '^(\w+?)_'"):
        assert f"# {key}" in text, key
        text = text.replace(f"# {key}", key if "group" not in key else "group: '^(\\w+)'")
    Path("b.yaml").write_text(text)
    experiment = load("b.yaml")
    assert experiment.design == "one_at_a_time"
    assert experiment.datasets[0].config()["group"] == r"^(\w+)"
    assert experiment.folds == 5
    text = text.replace("  # - {name: torchvision/resnet18", "  - {name: torchvision/resnet18")
    Path("c.yaml").write_text(text.replace("    group: '^(\\w+)'", "    "))
    assert load("c.yaml").models[1].weights == "DEFAULT"
    assert len(expand(load("c.yaml")).runs) == 6 * 3 * 5 * 2


def test_a_long_tail_is_suggested_where_the_classes_are_nearly_equal_and_works(new):
    images("even", {"cat": 60, "dog": 60})
    images("uneven", {"cat": 60, "dog": 20})
    new("a.yaml", "--data", "even")
    new("b.yaml", "--data", "uneven")
    text = Path("a.yaml").read_text()
    assert "# imbalance_factor: 7" in text
    assert "imbalance_factor" not in Path("b.yaml").read_text()
    Path("a.yaml").write_text(text.replace("# imbalance_factor", "imbalance_factor"))
    info = expand(load("a.yaml")).infos["even"]
    assert info.counts[0].max() / info.counts[0].min() >= 5


def test_a_table_has_no_images_to_augment_or_cut(new):
    table("t.csv", {"common": 80, "rare": 20})
    assert new("t.yaml", "--data", "t.csv")[0] == 0
    experiment = load("t.yaml")
    assert set(experiment.factors) == {"sampler", "smote", "mixup"}
    assert [model.name for model in experiment.models] == ["mlp"]
    assert len(expand(experiment).runs) == 24
    assert "image_size" not in Path("t.yaml").read_text()


def test_a_manifest_with_groups_and_two_folders(new):
    rows = ["image_id,dx,patient"]
    for k in range(60):
        Path(f"d/part_{k % 2}").mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(k).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        cv2.imwrite(f"d/part_{k % 2}/i{k}.jpg", image)
        rows.append(f"i{k},{'rare' if k % 6 == 0 else 'common'},p{k // 2}")
    Path("d/meta.csv").write_text("\n".join(rows))
    code, out, _ = new("d.yaml", "--data", "d")
    assert code == 0
    (dataset,) = load("d.yaml").datasets
    assert dataset.config()["group_column"] == "patient"
    assert dataset.config()["image_size"] == 64
    assert "read as manifest (" in out


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)], 28),
        ([(28, 40)], 28),
        ([(64, 64)], 64),
        ([(28, 30), (48, 40)], 32),
        ([(48, 48), (50, 90)], 48),
        ([(300, 400), (250, 500)], 128),
        ([(100, 100)], 64),
    ],
)
def test_the_image_size_follows_the_files(new, sizes, expected):
    images("photos", {"cat": 8, "dog": 8}, size=sizes)
    assert new("s.yaml", "--data", "photos")[0] == 0
    (dataset,) = load("s.yaml").datasets
    assert dataset.config()["image_size"] == expected
    assert "# files: " in Path("s.yaml").read_text()


def test_t22_digits_are_not_mirrored(new):
    images("digits", {"3": 10, "7": 10})
    images("pets", {"cat": 10, "dog": 10})
    new("a.yaml", "--data", "digits")
    new("b.yaml", "--data", "pets")
    assert load("a.yaml").datasets[0].horizontal_flip is False
    assert load("b.yaml").datasets[0].horizontal_flip is True
    assert "does a mirrored image keep its class?" in Path("b.yaml").read_text()


def test_t21_bad_files_are_left_out_and_named(new):
    images("photos", {"cat": 20, "dog": 20})
    Path("photos/cat/torn.png").write_bytes(b"not an image")
    code, out, _ = new("a.yaml", "--data", "photos")
    assert code == 0
    assert "1 file cannot be decoded and is left out: cat/torn.png" in out
    said = (
        "on_bad_image: skip  # 1 file cannot be decoded and is left out; an error without this line"
    )
    assert said in Path("a.yaml").read_text()
    Path("photos/cat/torn.png").unlink()
    Path("photos/cat/000.png").rename("photos/cat/000.jpg")
    new("b.yaml", "--data", "photos")
    said = "on_bad_image: skip  # 1 file is not what its name says, read as what it is; an error"
    assert said in Path("b.yaml").read_text()


def test_folds_are_suggested_where_few_are_tested_or_the_file_names_them(new):
    table("small.csv", {"common": 180, "rare": 95})
    table("large.csv", {"common": 180, "rare": 100})
    for name in ("small", "large"):
        new(f"{name}.yaml", "--data", f"{name}.csv")
    said = "# folds: 5  # only 19 test samples of rare, each worth 5.3 points of its recall; with"
    assert said in Path("small.yaml").read_text()
    assert "folds" not in Path("large.yaml").read_text()
    rows = [f"{k},{k % 3},{'ab'[k % 4 == 0]}" for k in range(60)]
    Path("named.csv").write_text("\n".join(["x,fold,label", *rows]))
    new("named.yaml", "--data", "named.csv")
    text = Path("named.yaml").read_text()
    assert "fold_column: fold" in text
    assert "\nfolds: 3  # the folds that the file names" in text
    assert "# 8 recipes × 1 seed × 3 folds = 24 runs" in text
    assert len(expand(load("named.yaml")).runs) == 24


def test_folds_that_would_cut_through_a_split_or_cannot_be_are_not_suggested(new):
    for part, counts in (("train", {"a": 8, "b": 8}), ("test", {"a": 4, "b": 4})):
        images(f"split/{part}", counts)
    images("one", {"common": 80, "single": 1})
    images("few", {"common": 80, "few": 8})
    for name in ("split", "one", "few"):
        assert new(f"{name}.yaml", "--data", name)[0] == 0
    assert "folds" not in Path("split.yaml").read_text()
    assert "folds" not in Path("one.yaml").read_text()
    assert (
        "# folds: 5  # only 2 test samples of few, each worth 50 points of its recall"
        in Path("few.yaml").read_text()
    )


def test_t15_of_folds_beside_a_split_or_through_groups_none_is_in_the_draft(new):
    rows = [
        f"{k},{k % 3},{('train', 'test')[k % 5 == 0]},p{k // 4},{'ab'[k % 4 == 0]}"
        for k in range(60)
    ]
    Path("t.csv").write_text("\n".join(["x,fold,part,patient,label", *rows]))
    code, out, _ = new("t.yaml", "--data", "t.csv")
    assert code == 0
    text = Path("t.yaml").read_text()
    assert "\nfolds:" not in text
    assert "fold_column" not in text
    assert "split_column" not in text
    assert "group_column: patient" in text
    assert "drop_columns: [part, fold]" in text
    assert "note: column 'fold' puts samples of one patient in several folds" in out
    assert "note: column 'part' puts samples of one patient in several splits" in out


def test_a_draft_says_what_it_costs_here_and_fits_an_evening(new, monkeypatch):
    images("photos", {"cat": 60, "dog": 30}, size=(200, 200))
    code, out, _ = new("full.yaml", "--data", "photos")
    assert code == 0
    text = Path("full.yaml").read_text()
    assert re.search(r"^# Cost: about \d+\S* \w+ on this machine.* \(estimated\)$", text, re.M)
    assert re.search(r"# design: one_at_a_time  # 6 recipes instead of 32: about \d", text)
    assert "image_size: 128 " in text
    assert re.search(r"wrote full.yaml: 96 runs, about \d", out)
    monkeypatch.setattr("harness.cli.budget.core_seconds", lambda: 100.0)
    code, out, _ = new("slow.yaml", "--data", "photos")
    text = Path("slow.yaml").read_text()
    assert (
        "\ndesign: one_at_a_time  # 6 recipes: each remedy alone; without this line all 32" in text
    )
    assert "# Chosen to fit an evening: 128 pixels with" in text
    assert "chosen to fit an evening: 128 pixels with" in out
    experiment = load("slow.yaml")
    assert experiment.datasets[0].config()["image_size"] == 32
    assert len(expand(experiment).runs) == 18
    train = int(expand(experiment).infos["photos"].counts[0].sum())
    assert f"18 runs of {experiment.training.steps(train):,} steps" in text


def test_a_file_that_is_there_is_kept_without_force(new):
    table("t.csv", {"a": 20, "b": 20})
    Path("t.yaml").write_text("mine")
    code, _, err = new("t.yaml", "--data", "t.csv")
    assert code == 2
    assert "t.yaml exists already; --force overwrites it" in err
    assert Path("t.yaml").read_text() == "mine"
    assert new("t.yaml", "--data", "t.csv", "--force")[0] == 0
    assert load("t.yaml").name == "t"


def test_t23_data_that_cannot_be_split_is_refused_and_nothing_is_written(new):
    for name in "ab":
        (Path("photos") / name).mkdir(parents=True)
    cv2.imwrite("photos/a/1.png", np.zeros((8, 8, 3), np.uint8))
    code, _, err = new("x.yaml", "--data", "photos")
    assert code == 2
    assert "classes without a sample: 'b'" in err
    images("one", {"cat": 5})
    code, _, err = new("x.yaml", "--data", "one")
    assert code == 2
    assert "at least 2 are needed" in err
    assert "Traceback" not in err
    assert not Path("x.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.yaml", "--data", "nothing"], "there is neither a file nor a folder nothing"),
        (["x.yaml", "--data", "t.cvs"], "did you mean 't.csv'?"),
        (["x.yaml", "--data", "t.csv", "--label", "lable"], "did you mean 'label'?"),
        ([".", "--data", "t.csv"], "is a folder; name the experiment file"),
        (["t.csv/x.yaml", "--data", "t.csv"], "cannot write t.csv/x.yaml"),
    ],
)
def test_t26_bad_input_ends_with_two_and_without_a_traceback(new, arguments, message):
    table("t.csv", {"a": 20, "b": 20})
    code, _, err = new(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_names_that_yaml_would_take_for_something_else_come_back(new):
    table("no # [odd]: 1.csv", {"a": 20, "b": 20}, header="a,b,'true: \\x")
    code, _, err = new("1 é.yaml", "--data", "no # [odd]: 1.csv", "--label", "2")
    assert code == 0, err
    experiment = load("1 é.yaml")
    assert experiment.name == "1"
    assert experiment.datasets[0].config()["file"] == "no # [odd]: 1.csv"
    assert experiment.datasets[0].display() == "no # [odd]: 1"


@pytest.mark.parametrize("name", ["ecoli", "glass", "mammography", "new-thyroid", "oil-spill"])
def test_real_tables(new, name):
    path = DATA / "tabular" / f"{name}.csv"
    if not path.is_file():
        pytest.skip("needs the tables of ../shared/data")
    assert new(f"{name}.yaml", "--data", str(path))[0] == 0
    assert len(expand(load(f"{name}.yaml")).runs) == 24


def test_a_new_file_trains(new, capsys):
    images("photos", {"cat": 20, "dog": 10})
    new("a.yaml", "--data", "photos")
    arguments = ["--smoke", "--executor", "inline", "--device", "cpu", "--only", "nothing"]
    with pytest.raises(SystemExit) as end:
        main(["run", "a.yaml", *arguments, "--json"])
    assert end.value.code == 0
    assert '"runs": 1' in capsys.readouterr().out


def _yaml(text):
    return YAML(typ="safe", pure=True).load(text)


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_comes_back_from_yaml(text):
    line = f"- {_scalar(text)}{_beside(text)}\n- [{_scalar(text)}]\n"
    assert _yaml(line) == [text, [text]]


@pytest.mark.parametrize("value", [True, False, 3, -1, 0.5, "yes", "No", "1e3", "null", "~", ""])
def test_plain_values_keep_their_type(value):
    found = _yaml(f"a: {_scalar(value)}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_no_line_is_without_end(new):
    images("photos", {"cat": 20, "dog": 10})
    new("a.yaml", "--data", "photos")
    text = Path("a.yaml").read_text()
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 160


def test_labels_in_several_spellings_are_made_one(new):
    lines = ["x,y"] + [f"{i},{('Cat', 'cat', 'DOG')[i % 3]}" for i in range(60)]
    Path("t.csv").write_text("\n".join(lines))
    _, out, *_ = new("a.yaml", "--data", "t.csv", "--label", "y")
    assert re.search(r"normalize_labels: true  # \w", Path("a.yaml").read_text())
    assert "2 classes" in out
    assert "'Cat' = 'cat'; made one class" in out


def test_spellings_of_a_manifest_are_made_one(new):
    images("pets", {"x": 12, "y": 12})
    names = sorted(p.relative_to("pets").as_posix() for p in Path("pets").rglob("*.png"))
    rows = [f"{name},{('Cat', 'cat', 'dog')[i % 3]}" for i, name in enumerate(names)]
    Path("pets/list.csv").write_text("\n".join(["image,label", *rows]))
    _, out, *_ = new("a.yaml", "--data", "pets/list.csv")
    assert "normalize_labels: true" in Path("a.yaml").read_text()
    assert "2 classes" in out


def test_one_large_file_among_small_ones_enlarges_none(new):
    images("photos", {"cat": 20, "dog": 10})
    large = np.zeros((90, 120, 3), np.uint8)
    cv2.imwrite("photos/cat/large.png", large)
    new("a.yaml", "--data", "photos")
    sizes = [cv2.imread(str(p)).shape[0] for p in Path("photos/dog").iterdir()]
    assert f"image_size: {sizes[0]} " in Path("a.yaml").read_text()


def faces(names, labels, folder="d/faces", **others):
    """Write images of these names, and a file that lists them."""
    Path(folder).mkdir(parents=True)
    for k, name in enumerate(names):
        image = np.random.default_rng(k).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        (Path(folder) / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(f"{folder}/{name}", image)
    columns = {"file": names, "label": labels, **others}
    rows = zip(*columns.values(), strict=True)
    Path("d/list.csv").write_text("\n".join(map(",".join, [columns, *rows])))


PEOPLE = [f"{name}_{k:04}.jpg" for name in ("ann", "J_Doe", "li", "mo", "x", "y") for k in range(8)]
MOODS = [("happy", "sad", "sad")[k % 3] for k in range(48)]


@pytest.mark.parametrize(
    ("names", "pattern", "groups"),
    [
        (PEOPLE, r"([^/]+)[_-]\d+\.\w+$", 6),
        ([name.replace("_0", "-0") for name in PEOPLE], r"([^/]+)[_-]\d+\.\w+$", 6),
        ([f"p{k % 8}_{'abcdef'[k // 8]}left.png" for k in range(48)], r"([^/_]+)_[^/]*$", 8),
        ([f"{'abcdefgh'[k % 8]}nn{k}.png" for k in range(48)], r"([^/\d]+)\d+\.\w+$", 8),
        ([f"p{k % 8}/{k}.png" for k in range(48)], r"([^/]+)/[^/]+$", 8),
    ],
)
def test_names_of_files_that_tell_persons_offer_a_group_that_works(new, names, pattern, groups):
    faces(names, MOODS)
    code, out, _ = new("a.yaml", "--data", "d")
    assert code == 0
    assert f"note: names of files tell {groups} groups of up to " in out
    text = Path("a.yaml").read_text()
    assert f"# group: '{pattern}'  # names of files tell {groups} groups" in text
    Path("b.yaml").write_text(text.replace("# group:", "group:"))
    (dataset,) = load("b.yaml").datasets
    assert len(set(dataset.indexed().group)) == groups


@pytest.mark.parametrize(
    "names",
    [
        [f"img_{k:04}.jpg" for k in range(48)],  # one group
        [f"{mood}_{k:04}.jpg" for k, mood in enumerate(MOODS)],  # the classes
        [f"{k * 7919 % 10007}.jpg" for k in range(48)],  # names of nothing
        [f"a{k}_1.jpg" for k in range(48)],  # each alone
    ],
)
def test_names_of_files_that_tell_no_group_offer_none(new, names):
    faces(names, MOODS)
    new("a.yaml", "--data", "d")
    assert "names of files" not in Path("a.yaml").read_text()


def test_class_folders_of_persons_offer_a_group_too(new):
    for k, name in enumerate(PEOPLE):
        Path(f"photos/{MOODS[k]}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"photos/{MOODS[k]}/{name}", np.full((8, 8, 3), 5 * k, np.uint8))
    new("a.yaml", "--data", "photos")
    text = Path("a.yaml").read_text()
    assert r"# group: '([^/]+)[_-]\d+\.\w+$'  # names of files tell 6 groups" in text
    Path("b.yaml").write_text(text.replace("# group:", "group:"))
    assert len(set(load("b.yaml").datasets[0].indexed().group)) == 6


def test_missing_images_and_rows_that_disagree_are_left_out_by_lines_that_say_so(new):
    faces(PEOPLE, MOODS)
    with open("d/list.csv", "a") as file:
        file.write("\nghost_0001.jpg,sad\nann_0000.jpg,sad")  # ann_0000 is happy above
    code, out, _ = new("a.yaml", "--data", "d")
    assert code == 0
    text = Path("a.yaml").read_text()
    assert "on_missing_image: skip  # 1 image is not there and is left out: an error" in text
    assert "on_conflict: skip  # 1 image of which rows say different things" in text
    assert "ghost_0001.jpg" in out
    assert "ann_0000.jpg (rows 2 and 51)" in out
    assert len(load("a.yaml").datasets[0].indexed().labels) == 47


def test_rows_that_disagree_of_very_many_images_are_no_slip(new):
    faces(PEOPLE, MOODS)
    with open("d/list.csv", "a") as file:
        file.writelines(f"\n{name},other" for name in PEOPLE[:16])
    code, _, err = new("a.yaml", "--data", "d")
    assert code == 2
    assert "16 images" in err
    assert "An image has one label here" in err
    assert "on_conflict: skip" in err


def test_images_that_the_file_does_not_list_are_counted(new):
    faces(PEOPLE, MOODS)
    for name in ("more_1.jpg", "more_2.jpg"):
        cv2.imwrite(f"d/faces/{name}", np.zeros((8, 12, 3), np.uint8))
    _, out, _ = new("a.yaml", "--data", "d")
    assert "note: 2 images below d/faces in no row that is used, of 50: more_1.jpg, more_2" in out


def test_the_centre_crop_is_said_and_another_way_offered_where_it_cuts_much(new):
    images("wide", {"cat": 20, "dog": 20}, size=(40, 80))
    images("even", {"cat": 20, "dog": 20}, size=(80, 80))
    new("a.yaml", "--data", "wide")
    new("b.yaml", "--data", "even")
    text = Path("a.yaml").read_text()
    assert "; the centre is cut out: 50 % of the usual image is lost" in text
    assert "# resize: squash  # all of an image" in text
    Path("c.yaml").write_text(text.replace("# resize", "resize"))
    assert load("c.yaml").datasets[0].config()["resize"] == "squash"
    assert "centre" not in Path("b.yaml").read_text()
    assert "resize" not in Path("b.yaml").read_text()
