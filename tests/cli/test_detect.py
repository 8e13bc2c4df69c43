"""What lies at a path: which files, which columns."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from harness.cli.detect import Asked, look
from harness.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(path, seed=0):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)


def pictures(folder, names, suffix=".jpg"):
    for k, name in enumerate(names):
        picture(Path(folder) / f"{name}{suffix}", k)


NAMES = [f"img_{k:03}" for k in range(24)]
LABELS = ["abc"[k % 3] for k in range(24)]


def write(path, /, **columns):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(columns)
    if str(path).endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return Path(path)


def fields(path, label=None):
    found = look(Path(path), Asked(label))
    return found.name, dict(found.fields)


def test_class_folders_with_and_without_splits():
    for part in ("train", "test"):
        for name in "ab":
            pictures(f"set/{part}/{name}", NAMES[:2])
    assert fields("set") == ("image_folder", {"path": "set"})
    assert fields("set/train") == ("image_folder", {"path": "set/train"})


def test_a_folder_around_the_class_folders_is_looked_into():
    for name in "ab":
        pictures(f"download/photos/{name}", NAMES[:2])
    found = look(Path("download"))
    assert found.fields == {"path": "download/photos"}
    assert "looked into download/photos" in found.remarks[0]


def test_paths_relative_to_the_file():
    pictures("d/images", NAMES)
    write("d/list.csv", file=[f"images/{name}.jpg" for name in NAMES], label=LABELS)
    expected = {"file": "d/list.csv", "path_column": "file", "label_column": "label"}
    assert fields("d/list.csv") == ("manifest", expected)
    assert fields("d") == ("manifest", expected), "the folder that holds the file will do"


def test_names_of_files_in_a_folder_below():
    pictures("d/deep/images", NAMES)
    write("d/list.csv", file=[f"{name}.jpg" for name in NAMES], dx=LABELS)
    name, found = fields("d/list.csv")
    assert name == "manifest"
    assert found["images"] == "d/deep/images"
    assert found["label_column"] == "dx"


def test_ids_in_two_folders_take_the_suffix_and_both_folders():
    pictures("d/part_1", NAMES[:12], ".png")
    pictures("d/part_2", NAMES[12:], ".png")
    write("d/meta.csv", lesion_id=[f"L{k // 2}" for k in range(24)], image_id=NAMES, dx=LABELS)
    name, found = fields("d")
    assert name == "manifest"
    assert found["images"] == ["d/part_1", "d/part_2"]
    assert found["id_column"] == "image_id"
    assert found["suffix"] == ".png"
    assert found["group_column"] == "lesion_id"


def test_ids_that_are_numbers_and_images_beside_the_folder_of_the_file():
    pictures("d/images", map(str, range(24)), ".png")
    write("d/images/ids.csv", number=range(24), label=LABELS)
    assert fields("d/images/ids.csv")[1]["id_column"] == "number"
    write("d/labels/paths.csv", name=[f"{k}.png" for k in range(24)], label=LABELS)
    found = fields("d/labels/paths.csv")[1]
    assert found["path_column"] == "name"
    assert found["images"] == "d/images"


def test_the_same_names_in_a_second_folder_are_named():
    pictures("d/images", NAMES)
    pictures("d/thumbnails", NAMES)
    write("d/list.csv", id=NAMES, label=LABELS)
    found = look(Path("d/list.csv"))
    assert found.fields["images"] == "d/images"
    assert "d/thumbnails too; those are not used" in found.remarks[0]


def test_absolute_paths_and_paths_that_lead_out_are_allowed_explicitly(tmp_path):
    pictures("images", NAMES)
    write("d/a.csv", path=[str(tmp_path / f"images/{name}.jpg") for name in NAMES], label=LABELS)
    write("d/b.csv", path=[f"../images/{name}.jpg" for name in NAMES], label=LABELS)
    assert fields("d/a.csv")[1]["allow_outside"] is True
    assert fields("d/b.csv")[1]["allow_outside"] is True


def test_one_hot_columns_are_the_label_where_no_column_is_called_so():
    pictures("d", NAMES)
    hot = {name: [float(label == name) for label in LABELS] for name in "abc"}
    write("d/list.csv", image=NAMES, **hot, hairy=[k % 2 for k in range(24)])
    assert fields("d/list.csv")[1]["one_hot"] == ["a", "b", "c"]
    write("d/list.csv", image=NAMES, **hot, target=LABELS)
    found = fields("d/list.csv")[1]
    assert "one_hot" not in found
    assert found["label_column"] == "target"


def test_split_fold_and_group_columns():
    pictures("d", NAMES)
    parts = ["train" if k < 16 else "valid" if k < 20 else "TEST" for k in range(24)]
    write(
        "d/list.csv",
        image=NAMES,
        label=LABELS,
        subset=parts,
        fold=[k % 4 for k in range(24)],
        PatientID=[f"p{k // 4}" for k in range(24)],
        lesion=[f"l{k // 2}" for k in range(24)],
        patient_age=[40 + k % 9 for k in range(24)],
        age_group=["xyzuvw"[k % 6] for k in range(24)],
    )
    found = look(Path("d/list.csv"))
    assert found.fields["split_column"] == "subset"
    assert found.fields["group_column"] == "PatientID"
    assert "fold_column" not in found.fields, "it cuts through patients"


def test_a_fold_column_stands_alone_or_beside_groups_that_it_keeps_whole():
    columns = {"x": np.arange(24.0), "label": LABELS, "fold": [k // 4 % 3 for k in range(24)]}
    patient = [f"p{k // 2}" for k in range(24)]
    write("t.csv", **columns)
    assert fields("t.csv")[1]["fold_column"] == "fold"
    write("t.csv", **columns, patient=patient)
    found = fields("t.csv")[1]
    assert (found["fold_column"], found["group_column"]) == ("fold", "patient")
    assert "drop_columns" not in found


@pytest.mark.parametrize(
    ("others", "kept", "said"),
    [
        (
            {"patient": [f"p{k // 3}" for k in range(24)]},
            {"group_column": "patient"},
            "column 'fold' puts samples of one patient in several folds, and is not used",
        ),
        (
            {"split": ["train"] * 18 + ["test"] * 6},
            {"split_column": "split"},
            "column 'fold' is not used: the test set is what column 'split' says",
        ),
    ],
)
def test_t15_folds_that_contradict_groups_or_a_split_are_dropped_and_named(others, kept, said):
    fold = [k % 4 for k in range(24)]
    write("t.csv", x=np.arange(24.0), label=LABELS, fold=fold, **others)
    found = look(Path("t.csv"))
    expected = {"file": "t.csv", "label_column": "label", **kept, "drop_columns": ["fold"]}
    assert found.fields == expected, "nor is it a feature"
    assert said in found.remarks[0]


def test_a_split_that_is_not_used_is_no_feature():
    parts = ["train" if k % 2 else "test" for k in range(24)]
    patients = [f"p{k // 4}" for k in range(24)]
    write("t.csv", x=np.arange(24.0), label=LABELS, split=parts, patient=patients)
    assert fields("t.csv")[1]["drop_columns"] == ["split"]


CODES = [k % 3 for k in range(24)]
NAMED = [("cat", "dog", "great owl")[k % 3] for k in range(24)]


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        ("label", "label_name"),
        ("label", "animal"),
        ("ClassId", "SignName"),
        ("class_id", "class_name"),
        ("target", "target_names"),
        ("kind_code", "kind"),
    ],
)
@pytest.mark.parametrize("first", ["codes", "names"])
def test_names_of_classes_are_taken_rather_than_their_codes(codes, names, first):
    pair = {codes: CODES, names: NAMED}
    if first == "names":
        pair = dict(reversed(pair.items()))
    write("t.csv", **pair, x=np.arange(24.0))
    assert fields("t.csv")[1] == {
        "file": "t.csv",
        "label_column": names,
        "drop_columns": [codes],
    }, "the codes would tell a model the class"
    pictures("d", NAMES)
    write("d/list.csv", image=NAMES, **pair)
    found = look(Path("d/list.csv"))
    assert found.fields["label_column"] == names
    assert "drop_columns" not in found.fields


def test_the_choice_of_names_over_codes_is_said_and_another_can_be_asked_for():
    write("t.csv", label=CODES, group_name=NAMED, class_name=NAMED, x=np.arange(24.0))
    found = look(Path("t.csv"))
    assert found.fields["label_column"] == "class_name"
    assert found.fields["drop_columns"] == ["label", "group_name"]
    said = "column 'class_name' names the classes that 'label' numbers, and is taken as the label"
    same = "columns 'label', 'group_name' tell the same classes as the label 'class_name'"
    assert found.remarks == (said, f"{same}, and are left out")
    found = look(Path("t.csv"), Asked("label"))
    assert found.fields["label_column"] == "label"
    assert found.fields["drop_columns"] == ["group_name", "class_name"]


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog", "owl", "ape"] * 6,  # another partition of as many rows
        ["cat", "dog", "cat"] * 8,  # two codes of one name
        ["cat", "dog", "owl"] * 7 + ["cat", "dog", "bird"],  # two names of one code
        ["cat", "dog", ""] * 8,  # a class without a name
        [10, 20, 30] * 8,  # other codes
    ],
)
def test_codes_stay_the_label_where_no_column_names_every_class_once(names):
    write("t.csv", label=CODES, animal=names, x=np.arange(24.0))
    assert fields("t.csv")[1]["label_column"] == "label"


@pytest.mark.parametrize(
    "notes",
    [
        [f"seen in the {('wood', 'field')[k % 2]} at noon" for k in range(60)],
        [f"note{k // 2}" for k in range(60)],
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_free_text_is_no_label_unless_its_name_says_so(notes, last):
    columns = {"x": np.arange(60.0), "notes": notes}
    write("t.csv", **(columns if last else dict(reversed(columns.items()))))
    with pytest.raises(ConfigError, match=r"no column looks like a class.*no free text.*--label"):
        look(Path("t.csv"))
    assert look(Path("t.csv"), Asked("notes")).fields["label_column"] == "notes"
    kind = ["ab"[k % 2] for k in range(60)]
    write("t.csv", x=np.arange(60.0), kind=kind, notes=notes[::-1] if last else notes)
    assert look(Path("t.csv")).fields["label_column"] == "kind"
    write("t.csv", x=np.arange(60.0), diagnosis=notes)
    assert look(Path("t.csv")).fields["label_column"] == "diagnosis"


def test_a_listing_of_images_with_one_column_of_many_classes_has_its_label_there():
    pictures("d", [f"i{k}" for k in range(60)])
    write("d/list.csv", image=[f"i{k}" for k in range(60)], breed=[f"b{k // 2}" for k in range(60)])
    assert fields("d/list.csv")[1]["label_column"] == "breed"


def test_t15_a_split_through_groups_is_dropped_and_named():
    pictures("d", NAMES)
    parts = ["train" if k % 2 else "test" for k in range(24)]
    patients = [f"p{k // 4}" for k in range(24)]
    write("d/list.csv", image=NAMES, label=LABELS, split=parts, patient=patients)
    found = look(Path("d/list.csv"))
    assert "split_column" not in found.fields
    assert found.fields["group_column"] == "patient"
    assert "column 'split' puts samples of one patient in several splits" in found.remarks[0]


def test_rows_without_a_label_are_left_out_and_counted_but_na_is_a_label():
    pictures("d", NAMES)
    write("d/list.csv", image=NAMES, label=["", "", *(["NA", "x"] * 11)])
    found = look(Path("d/list.csv"))
    assert found.fields["drop"] == [""]
    assert found.remarks == ("2 rows without a value in column 'label' left out",)


def test_images_without_a_header_are_refused_with_the_remedy():
    pictures("d", NAMES)
    rows = "\n".join(f"{k},{name}.jpg,{k % 2}" for k, name in enumerate(NAMES))
    Path("d/list.csv").write_text(rows)
    with pytest.raises(DataError, match="has no header; add a first row"):
        look(Path("d/list.csv"))


def test_a_listing_beside_class_folders_that_says_the_same_is_not_needed():
    for name in "ab":
        pictures(f"set/{name}", NAMES[:4])
    paths = [f"{name}/{image}.jpg" for name in "ab" for image in NAMES[:4]]
    write("set/list.csv", path=paths, label=[path[0] for path in paths])
    assert fields("set")[0] == "image_folder"
    assert fields("set", "label")[0] == "manifest"
    write("set/list.csv", path=paths, label=["x", "y"] * 4)
    assert fields("set")[0] == "manifest"


def test_parquet_lists_images_and_holds_tables():
    pictures("d", NAMES)
    write("d/list.parquet", image=NAMES, target=LABELS)
    assert fields("d")[1] == {
        "file": "d/list.parquet",
        "id_column": "image",
        "suffix": ".jpg",
        "label_column": "target",
    }
    write("t/t.parquet", x=np.arange(24.0), target=LABELS)
    assert fields("t")[1] == {"file": "t/t.parquet", "label_column": "target"}


def test_a_table_without_a_header_has_its_label_in_the_last_column():
    Path("t.csv").write_text("\n".join(f"{k}.5,{k % 2},{k % 3}" for k in range(30)))
    found = look(Path("t.csv"))
    assert (found.name, found.fields["label_column"]) == ("table", -1)
    assert "no header" in found.comments["label_column"]
    assert look(Path("t.csv"), Asked("1")).fields["label_column"] == "column_1"


def test_a_column_that_names_rows_is_dropped_from_a_table():
    write(
        "t.csv",
        id=range(60),
        x=np.arange(60) * 0.5,
        name=[f"n{k}" for k in range(60)],
        label=["ab"[k % 2] for k in range(60)],
        patient_id=[k // 3 for k in range(60)],
    )
    found = look(Path("t.csv")).fields
    assert found["drop_columns"] == ["id", "name"]
    assert found["group_column"] == "patient_id"


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (["x", "Class", "class_id"], "Class"),
        (["label", "x", "y"], "label"),
        (["x", "image_label", "z"], "image_label"),
        (["x", "className", "q"], "className"),
        (["x", "y", "z"], "y"),
    ],
)
def test_the_label_is_known_by_its_name(columns, label):
    write(
        "t.csv",
        **{name: ["abc"[k // 3**i % 3] for k in range(30)] for i, name in enumerate(columns)},
    )
    assert look(Path("t.csv")).fields["label_column"] == label


def test_a_column_with_too_many_values_is_no_label_whatever_its_name():
    write("t.csv", target=np.arange(60) * 0.5, kind=["ab"[k % 2] for k in range(60)])
    assert look(Path("t.csv")).fields["label_column"] == "kind", "the only one that can be"


def test_t26_where_the_label_cannot_be_told_the_candidates_are_listed_not_asked():
    write("t.csv", x=range(60), a=[k % 2 for k in range(60)], b=[k % 7 for k in range(60)])
    with pytest.raises(ConfigError, match=r"--label.*one of: a \(2 values\), b \(7 values\)"):
        look(Path("t.csv"))
    assert look(Path("t.csv"), Asked("b")).fields["label_column"] == "b"
    with pytest.raises(ConfigError, match=r"no such column.*there are: x, a, b"):
        look(Path("t.csv"), Asked("c"))
    write("t.csv", x=range(60), z=np.arange(60) * 0.5)
    with pytest.raises(ConfigError, match="no column looks like a class"):
        look(Path("t.csv"))
    write("t.csv", x=range(60), y=["sick"] * 60)
    with pytest.raises(ConfigError, match=r"column 'y' holds one class only, 'sick'; at least 2"):
        look(Path("t.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.csv", None, "there is neither a file nor a folder nothing.csv"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"x,label\n", "no rows|which column|no column"),
        ("binary.csv", bytes(range(128, 256)) * 20, "not UTF-8 text"),
        ("photo.jpg", b"x", "is one image; give the folder"),
        ("all.zip", b"x", "is an archive; unpack it"),
        ("sheet.xlsx", b"x", "neither CSV nor Parquet"),
        ("broken.parquet", b"PAR1 not really", "not a readable Parquet file"),
    ],
)
def test_what_is_no_data_says_so(name, content, message):
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises((ConfigError, DataError), match=message):
        look(Path(name))


def test_a_folder_without_data_or_with_several_tables_says_so():
    os.mkdir("empty")
    with pytest.raises(DataError, match="no class folders"):
        look(Path("empty"))
    pictures("flat", NAMES[:3])
    with pytest.raises(DataError, match="no class folders"):
        look(Path("flat"))
    for name in ("one", "two"):
        write(f"many/{name}.csv", x=range(24), label=LABELS)
    with pytest.raises(ConfigError, match=r"give one of them to --data: many/one.csv, many/two"):
        look(Path("many"))


def test_a_label_for_class_folders_is_not_ignored():
    for name in "ab":
        pictures(f"set/{name}", NAMES[:2])
    with pytest.raises(ConfigError, match="holds class folders, whose names are the labels"):
        look(Path("set"), Asked("dx"))


def test_links_in_a_circle_end(tmp_path):
    pictures("d/images", NAMES)
    os.symlink(tmp_path / "d", tmp_path / "d" / "images" / "again")
    write("d/list.csv", id=NAMES, label=LABELS)
    assert look(Path("d/list.csv")).fields["images"] == "d/images"


def listed(values, **others):
    """Return a file that lists images which are not there."""
    suffix = others.pop("file", "list.csv")
    return write(f"d/{suffix}", id=range(24), image=values, emotion=LABELS, **others)


ELSEWHERE = {
    "names": [f"{name}.jpg" for name in NAMES],
    "upper case": [f"{name}.JPG" for name in NAMES],
    "folders": [f"part_{k % 2}/{name}.png" for k, name in enumerate(NAMES)],
    "ids": NAMES,
    "absolute": [f"/data/of/another/{name}.jpg" for name in NAMES],
    "Windows": [rf"C:\photos\{name}.bmp" for name in NAMES],
    "backslashes": [rf"photos\{name}.webp" for name in NAMES],
    "numbers": range(100, 124),
    "each several times": [f"{name}.jpg" for name in NAMES[:6]] * 4,
    "some missing": [f"{name}.jpg" for name in NAMES[:20]] + [None] * 4,
}


@pytest.mark.parametrize("kind", ELSEWHERE)
@pytest.mark.parametrize("file", ["list.csv", "list.parquet"])
def test_images_that_are_not_found_are_asked_for_and_never_a_table_of_identifiers(kind, file):
    path = listed(ELSEWHERE[kind], file=file, age=[40.5 + k % 7 for k in range(24)])
    with pytest.raises(ConfigError, match=r"lists images: column 'image' holds .*images: FOLDER"):
        look(path)
    with pytest.raises(ConfigError, match=r"below d or the folder around it"):
        look(Path("d"))


def test_images_elsewhere_are_found_where_the_user_says_they_are():
    pictures("far/away/photos", NAMES)
    write("d/list.csv", user=range(24), image=ELSEWHERE["names"], emotion=LABELS)
    found = look(Path("d/list.csv"), Asked(images=(Path("far"),)))
    assert found.name == "manifest"
    assert found.fields["images"] == "far/away/photos"
    with pytest.raises(ConfigError, match="there is no folder fra"):
        look(Path("d/list.csv"), Asked(images=(Path("fra"),)))
    pictures("other", ["x", "y"])
    with pytest.raises(ConfigError, match=r"are files below other\. Where are they"):
        look(Path("d/list.csv"), Asked(images=(Path("other"),)))


def test_a_table_beside_names_of_images_is_read_as_one_where_that_is_said():
    path = listed(ELSEWHERE["names"], width=[0.5 * k for k in range(24)])
    found = look(path, Asked(table=True))
    assert (found.name, found.fields["drop_columns"]) == ("table", ["id", "image"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([f"https://a.b/{name}.jpg?size=9" for name in NAMES], "nothing is downloaded here"),
        ([f"{name}.dcm" for name in NAMES], r"ending in \.dcm are not read here: convert them"),
    ],
)
def test_addresses_and_formats_that_are_not_read_have_a_word_of_their_own(values, message):
    with pytest.raises(ConfigError, match=message):
        look(listed(values))


def test_several_columns_of_images_are_all_named():
    pair = {"left": ELSEWHERE["names"], "right": [f"r{name}.jpg" for name in NAMES]}
    write("d/list.csv", **pair, label=LABELS)
    with pytest.raises(ConfigError, match=r"column 'left' holds .* \(and so does 'right'\)"):
        look(Path("d/list.csv"))
    pictures("d", [*NAMES, *(f"r{name}" for name in NAMES)])
    found = look(Path("d/list.csv"))
    assert found.fields["path_column"] == "left"
    assert "so does 'right', not used" in found.remarks[0]


def test_a_file_of_identifiers_alone_is_no_table():
    write("t.csv", id=range(60), note=[f"n{k}" for k in range(60)], label=LABELS[:20] * 3)
    with pytest.raises(ConfigError, match=r"nothing to learn 'label' from: 'id', 'note'"):
        look(Path("t.csv"))


def test_measurements_and_categories_are_no_images():
    measured = [k + 0.25 for k in range(24)]
    write("t.csv", image=measured, frame=["wood", "steel"] * 12, x=range(24), label=LABELS)
    found = look(Path("t.csv"))
    assert found.name == "table"
    assert "drop_columns" not in found.fields


def test_images_in_the_cells_of_a_parquet_file_are_refused():
    write("d/t.parquet", image=[{"bytes": b"x", "path": None}] * 24, label=LABELS)
    with pytest.raises(ConfigError, match="column 'image' holds images themselves"):
        look(Path("d/t.parquet"))


def test_a_second_column_that_is_called_like_a_label_is_named():
    other = ["uvw"[k // 8] for k in range(24)]
    write("t.csv", x=np.arange(24.0), label=LABELS, diagnosis=other, y=[k % 5 for k in range(24)])
    found = look(Path("t.csv"))
    assert found.fields["label_column"] == "label"
    (remark,) = found.remarks
    assert (
        "column 'label' is taken as the label; 'diagnosis' (3 values) may be it: --label" in remark
    )
    assert "under drop_columns" in remark
    assert look(Path("t.csv"), Asked("diagnosis")).remarks == ()
    write("t.csv", x=np.arange(24.0), label=LABELS)
    assert look(Path("t.csv")).remarks == ()


def test_one_folder_of_all_images_is_no_class_where_a_file_asks_for_its_label():
    pictures("d/images", NAMES)
    write(
        "d/list.csv", image=ELSEWHERE["names"], mood=LABELS, place=["ab"[k % 2] for k in range(24)]
    )
    with pytest.raises(ConfigError, match=r"which column is the label.*mood .*place"):
        look(Path("d"))
