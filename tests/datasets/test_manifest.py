import gzip
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness import cache
from harness.datasets.base import TEST, TRAIN, VAL, forget
from harness.datasets.columns import in_order
from harness.datasets.complete import MOST
from harness.datasets.manifest import Manifest
from harness.datasets.spelling import one_case, one_spelling
from harness.errors import BadFilesError, DataError
from harness.registry import datasets


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()


@pytest.fixture
def folder(tmp_path):
    """Six images, a.png to f.png."""
    place = tmp_path / "set"
    place.mkdir()
    for value, name in enumerate("abcdef"):
        image = np.full((4, 5, 3), value, np.uint8)
        (place / f"{name}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return place


def table(folder, text, name="list.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def listed(folder, labels, header="path,label", extra=None):
    """Write a manifest of a.png, b.png, … with these labels and further cells."""
    extra = extra or [""] * len(labels)
    rows = [
        f"{name}.png,{label}{cells}"
        for name, label, cells in zip("abcdef", labels, extra, strict=False)
    ]
    return table(folder, "\n".join([header, *rows]) + "\n")


def named_labels(index):
    return [index.class_names[label] for label in index.labels]


def test_the_registry_knows_it():
    assert datasets.get("manifest") is Manifest


def test_paths_and_labels(folder):
    index = Manifest(file=listed(folder, ["dog", "cat", "dog"])).index()
    assert list(index.ids) == ["a.png", "b.png", "c.png"]
    assert index.class_names == ("cat", "dog")
    assert index.labels.tolist() == [1, 0, 1]
    assert index.split is index.group is index.fold is None
    assert index.warnings == ()


def test_images_are_read_in_the_order_of_the_index(folder):
    source = Manifest(file=table(folder, "path,label\nc.png,x\na.png,y\nb.png,x\n"))
    index = source.index()
    assert list(index.ids) == ["a.png", "b.png", "c.png"]
    assert source.read(index)[:, 0, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_any_delimiter(folder, delimiter, start):
    text = start + "path,label\na.png,x\nb.png,y\n".replace(",", delimiter)
    assert Manifest(file=table(folder, text)).index().labels.tolist() == [0, 1]


def test_parquet(folder):
    file = folder / "list.parquet"
    labels = pd.array([3, 12], dtype="Int64")
    pd.DataFrame({"path": ["a.png", "b.png"], "label": labels}).to_parquet(file)
    assert Manifest(file=file).index().class_names == ("3", "12")


def test_a_parquet_label_with_gaps_is_a_whole_number(folder):
    file = folder / "list.parquet"
    pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": [3, None, 12]}).to_parquet(file)
    with pytest.raises(DataError, match="no value in 1 of 3 rows: row 2"):
        Manifest(file=file).index()
    assert Manifest(file=file, drop=[""]).index().class_names == ("3", "12")


def test_the_order_of_the_rows_does_not_matter(folder):
    one = Manifest(file=table(folder, "path,label\na.png,x\nb.png,y\nc.png,x\n", "1.csv")).index()
    other = Manifest(file=table(folder, "label,path\nx,c.png\ny,b.png\nx,a.png\n", "2.csv"))
    assert other.model_copy(update={"path_column": "path"}).index().content == one.content
    labels = Manifest(file=table(folder, "path,label\na.png,x\nb.png,y\nc.png,y\n", "3.csv"))
    assert labels.index().content != one.content


def test_content_does_not_depend_on_the_place(folder, tmp_path):
    file = listed(folder, ["x", "y", "x"])
    shutil.copytree(folder, tmp_path / "copy")
    shutil.move(tmp_path / "copy" / "list.csv", tmp_path / "list.csv")
    moved = Manifest(file=tmp_path / "list.csv", images=tmp_path / "copy")
    assert moved.index().content == Manifest(file=file).index().content


def test_ids_with_a_suffix(folder):
    file = table(folder, "image_id,label\na,x\nb,y\n")
    index = Manifest(file=file, id_column="image_id", suffix=".png").index()
    assert list(index.ids) == ["a.png", "b.png"]


def test_images_in_several_folders(folder, tmp_path):
    (tmp_path / "part2").mkdir()
    shutil.move(folder / "b.png", tmp_path / "part2" / "b.png")
    source = Manifest(file=listed(folder, ["x", "y"]), images=[folder, tmp_path / "part2"])
    assert source.index().files[1] == tmp_path / "part2" / "b.png"
    shutil.copy(folder / "a.png", tmp_path / "part2" / "a.png")
    with pytest.raises(DataError, match=r"1 image lies in more than one of.*a\.png"):
        source.index()


def test_backslashes_and_dots_in_paths(folder):
    (folder / "sub").mkdir()
    shutil.move(folder / "a.png", folder / "sub" / "a.png")
    file = table(folder, "path,label\n.\\sub\\a.png,x\nsub/../b.png,y\n")
    assert list(Manifest(file=file).index().ids) == ["b.png", "sub/a.png"]


@pytest.mark.parametrize("path", ["../b.png", "sub/../../b.png", "/b.png", "C:\\b.png"])
def test_paths_that_lead_out_are_refused(folder, path):
    file = table(folder, f"path,label\na.png,x\n{path},y\n")
    with pytest.raises(DataError, match=r"1 path leads out of .*set: .*allow_outside: true"):
        Manifest(file=file).index()


def test_paths_may_lead_out_where_that_is_allowed(folder):
    inner = folder / "inner"
    inner.mkdir()
    file = table(inner, f"path,label\n../a.png,x\n{folder / 'b.png'},y\n")
    index = Manifest(file=file, allow_outside=True).index()
    assert sorted(os.path.basename(path) for path in index.files) == ["a.png", "b.png"]


@pytest.mark.parametrize("through", ["file", "folder", "loop of links"])
def test_a_link_that_leads_out_is_refused_unless_that_is_allowed(folder, tmp_path, through):
    inner = folder / "inner"
    inner.mkdir()
    shutil.move(folder / "b.png", inner / "b.png")
    if through == "file":
        (inner / "a.png").symlink_to(folder / "a.png")
        name = "a.png"
    elif through == "folder":
        (inner / "sub").symlink_to(folder, target_is_directory=True)
        name = "sub/a.png"
    else:
        (tmp_path / "there").symlink_to(folder, target_is_directory=True)
        (inner / "x").symlink_to(tmp_path / "there", target_is_directory=True)
        name = "x/a.png"
    file = table(inner, f"path,label\nb.png,x\n{name},y\n")
    with pytest.raises(
        DataError, match=r"1 image lies behind a symbolic link out of .*inner: .*a\.png"
    ):
        Manifest(file=file).index()
    assert len(Manifest(file=file, allow_outside=True).index().files) == 2


def test_links_within_the_folder_and_a_folder_that_is_one_are_fine(folder, tmp_path):
    (folder / "twin.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(folder, target_is_directory=True)
    table(folder, "path,label\ntwin.png,x\nb.png,y\n")
    assert len(Manifest(file=tmp_path / "linked" / "list.csv").index().files) == 2


def test_missing_files_are_listed_together(folder):
    file = table(folder, "path,label\na.png,x\nno1.png,x\nno2.png,y\n")
    with pytest.raises(DataError, match=r"2 of 3 images missing below .*no1\.png, no2\.png"):
        Manifest(file=file).index()


def test_of_many_missing_files_all_are_listed_in_a_file_that_the_message_names(folder):
    names = [f"no{k:03}.png" for k in range(MOST + 1)]
    file = table(folder, "\n".join(["path,label", *(f"{name},x" for name in names)]))
    with pytest.raises(BadFilesError, match=r"list\.csv: 101 of 101 images missing") as caught:
        Manifest(file=file).index()
    listed = re.search(r"all are listed in (\S+\.txt)", str(caught.value))
    assert Path(listed[1]).read_text().splitlines() == names
    assert caught.value.reasons == dict.fromkeys(names, "is missing")


def test_a_missing_suffix_is_guessed(folder):
    with pytest.raises(DataError, match=r"set `suffix: \.png`"):
        Manifest(file=table(folder, "path,label\na,x\nb,y\n")).index()


def test_a_missing_file_or_folder_is_named_in_full(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(
        DataError, match=re.escape(f"{folder / 'absent.csv'}: there is no such file")
    ):
        Manifest(file="absent.csv").index()
    file = listed(folder, ["x", "y"])
    with pytest.raises(DataError, match=re.escape(f"no folder {folder / 'absent'}")):
        Manifest(file=file, images="absent").index()


@pytest.mark.parametrize(
    "field", ["label_column", "path_column", "id_column", "split_column", "group_column"]
)
def test_an_unknown_column_is_named_with_the_nearest(folder, field):
    file = listed(folder, ["x", "y"], "path,label,diagnosis", [",1", ",2"])
    with pytest.raises(
        DataError,
        match=rf"{field}: there is no column 'diagnose'; did you mean 'diagnosis'\?"
        r".*path, label, diagnosis",
    ):
        Manifest(file=file, **{field: "diagnose"}).index()


def test_labels_keep_their_zeros_and_whole_numbers_their_order(folder):
    index = Manifest(file=listed(folder, ["10", "01", "9", "2"])).index()
    assert index.class_names == ("01", "2", "9", "10")
    assert named_labels(index) == ["10", "01", "9", "2"]


def test_na_is_a_label_like_any_other(folder):
    labels = ["NA", "None", "null", "nan"]
    assert named_labels(Manifest(file=listed(folder, labels)).index()) == labels


@given(st.lists(st.integers(-50, 50), min_size=1, unique=True))
def test_whole_numbers_are_ordered_by_value(numbers):
    assert in_order(map(str, numbers)) == [str(number) for number in sorted(numbers)]


@given(st.lists(st.text(min_size=1), min_size=1))
def test_other_labels_are_ordered_by_spelling(labels):
    labels = [*labels, "x"]
    assert in_order(labels) == sorted(set(labels))


def test_missing_labels_are_named_by_row(folder):
    file = listed(folder, ["x", "", "y", "  "])
    with pytest.raises(DataError, match=r"column 'label' has no value in 2 of 4 rows: row 3, 5"):
        Manifest(file=file).index()
    assert len(Manifest(file=file, drop=[""]).index().labels) == 2


def test_labels_that_differ_in_case_only_are_named_or_merged(folder):
    file = listed(folder, ["cat", "Cat", "cat", "dog", "c at"])
    index = Manifest(file=file).index()
    assert index.class_names == ("Cat", "c at", "cat", "dog")
    (warning,) = index.warnings
    assert "'cat' = 'Cat' = 'c at'" in warning
    assert "normalize_labels: true" in warning
    index = Manifest(file=file, normalize_labels=True).index()
    assert named_labels(index) == ["cat", "cat", "cat", "dog", "cat"]
    assert index.warnings == ()


@given(st.lists(st.sampled_from(["a", "A", " a", "b", "B", "c"]), min_size=1))
def test_merging_spellings_leaves_one_of_each(labels):
    merged, notes = one_spelling(np.array(labels, dtype=object), True)
    assert notes == []
    assert len(set(merged)) == len({label.strip().lower() for label in labels})
    for label, new in zip(labels, merged, strict=True):
        assert new.strip().lower() == label.strip().lower()
        assert labels.count(new) >= labels.count(label)


def test_classes_that_are_made_one_keep_one_case(folder):
    labels = ["cat", "cat", "Dog", "Dog", "dog"]
    index = Manifest(file=listed(folder, labels), normalize_labels=True).index()
    assert index.class_names == ("cat", "dog")


def test_a_class_that_is_always_written_in_one_way_stays_so():
    labels = np.array(["cat", "cat", "cat", "Cat", "Dog", "BIRD", "Sea Lion"], dtype=object)
    one, _ = one_spelling(labels, True)
    assert set(one_case(labels, one)) == {"cat", "Dog", "BIRD", "Sea Lion"}
    loud = np.array(["CAT", "CAT", "Cat", "dog", "dog", "DOG", "EEL"], dtype=object)
    assert set(one_case(loud, one_spelling(loud, True)[0])) == {"CAT", "DOG", "EEL"}


def test_drop_merge_and_names(folder):
    file = listed(folder, ["0", "1", "2", "3", "0", "9"])
    index = Manifest(
        file=file, drop=[9], merge={"ill": [1, 2]}, names={0: "healthy", "3": "unsure"}
    ).index()
    assert named_labels(index) == ["healthy", "ill", "ill", "unsure", "healthy"]
    assert list(index.ids) == ["a.png", "b.png", "c.png", "d.png", "e.png"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"drop": ["catt"]}, "drop: there is no label 'catt'; did you mean 'cat'"),
        ({"merge": {"x": ["catt"]}}, "merge: there is no label 'catt'; did you mean 'cat'"),
        ({"names": {"catt": "Cat"}}, "names: there is no label 'catt'; did you mean 'cat'"),
        ({"names": {"cat": "dog"}}, "names: several labels are displayed as dog; use merge"),
        ({"drop": ["cat", "dog"]}, "drop leaves no row: cat, dog"),
    ],
)
def test_label_fields_that_fit_no_label(folder, fields, message):
    with pytest.raises(DataError, match=message):
        Manifest(file=listed(folder, ["cat", "dog"]), **fields).index()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path_column": "p", "id_column": "i"}, "give one of them"),
        ({"label_column": "l", "one_hot": "all"}, "give one of them"),
        ({"merge": {"x": ["a", "b"], "y": ["b"]}}, "merge has labels in two places: b"),
    ],
)
def test_fields_that_contradict_each_other(fields, message):
    with pytest.raises(ValidationError, match=message):
        Manifest(file="list.csv", **fields)


ONE_HOT = "path,mel,nv,age\na.png,1,0,50\nb.png,0.0,1.0,60\nc.png,0,1,\n"


@pytest.mark.parametrize("one_hot", [["mel", "nv"], ["nv", "mel"], "all"])
def test_one_hot_columns(folder, one_hot):
    index = Manifest(file=table(folder, ONE_HOT), one_hot=one_hot).index()
    assert named_labels(index) == ["mel", "nv", "nv"]
    assert index.class_names == ("mel", "nv")


def test_one_hot_all_leaves_the_named_columns_alone(folder):
    file = table(folder, "path,a,b,fold\na.png,1,0,0\nb.png,0,1,1\n")
    index = Manifest(file=file, one_hot="all", fold_column="fold").index()
    assert index.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,1,1\nb.png,0,1\nc.png,1,1\n", r"2 of 3 rows have several classes.*a\.png, c\.png"),
        ("a.png,1,0\nb.png,0,0\n", r"1 of 2 rows has no class.*b\.png"),
        ("a.png,1,0\nb.png,0,2\n", r"column 'y' holds '2' in row 3; only 0 and 1"),
        ("a.png,1,0\nb.png,,1\n", r"column 'x' holds '' in row 3; only 0 and 1"),
    ],
)
def test_rows_without_exactly_one_class_are_refused(folder, rows, message):
    with pytest.raises(DataError, match=message):
        Manifest(file=table(folder, "path,x,y\n" + rows), one_hot=["x", "y"]).index()


def test_one_hot_all_needs_two_columns(folder):
    with pytest.raises(DataError, match="finds 1 column of 0 and 1"):
        Manifest(file=table(folder, "path,x,y\na.png,1,5\nb.png,0,6\n"), one_hot="all").index()


def test_splits_by_their_common_names(folder):
    words = ["train", "Training", "VAL", "dev", "valid", "test"]
    file = listed(folder, "xyxyxy", "path,label,part", [f",{word}" for word in words])
    index = Manifest(file=file, split_column="part").index()
    assert index.split.tolist() == [TRAIN, TRAIN, VAL, VAL, VAL, TEST]


def test_unknown_splits_are_listed(folder):
    extra = [",train", ",holdout", ",holdout", ","]
    file = listed(folder, "xyxy", "path,label,part", extra)
    with pytest.raises(
        DataError,
        match=r"'part' holds 'holdout' \(2 rows\), '' \(1 row\), first in row 3 \(allowed: train,",
    ):
        Manifest(file=file, split_column="part").index()


def test_splits_without_train_are_an_error(folder):
    file = listed(folder, "xy", "path,label,part", [",val", ",test"])
    with pytest.raises(DataError, match="no train row, only val, test"):
        Manifest(file=file, split_column="part").index()


def test_folds_and_groups(folder):
    extra = [",10,p2", ",9,p1", ",10,p1", ",2,p3"]
    file = listed(folder, "xyxy", "path,label,fold,patient", extra)
    index = Manifest(file=file, fold_column="fold", group_column="patient").index()
    assert index.fold.tolist() == [2, 1, 2, 0]
    assert index.group.tolist() == [1, 0, 0, 2]


def test_t15_a_group_that_straddles_given_splits_is_an_error(folder):
    extra = [",train,p1", ",train,p2", ",test,p1", ",test,p3"]
    file = listed(folder, "xyxy", "path,label,part,patient", extra)
    with pytest.raises(DataError, match="1 group straddles the given splits train and test"):
        Manifest(file=file, split_column="part", group_column="patient", val_fraction=0.0).info()


def test_a_missing_group_is_named_by_row(folder):
    file = listed(folder, "xyx", "path,label,patient", [",p1", ",", ",p2"])
    with pytest.raises(DataError, match="column 'patient' has no value in 1 of 3 rows: row 3"):
        Manifest(file=file, group_column="patient").index()


def test_rows_that_repeat_an_image_are_left_out_and_named(folder):
    file = table(folder, "path,label\na.png,x\nb.png,y\n./a.png,x\n")
    index = Manifest(file=file).index()
    assert list(index.ids) == ["a.png", "b.png"]
    (warning,) = index.warnings
    assert "a.png (rows 2 and 4)" in warning


@pytest.mark.parametrize("extra", [["x,train", "y,train"], ["x,train", "x,test"]])
def test_rows_that_contradict_each_other_are_an_error(folder, extra):
    rows = "".join(f"a.png,{cells}\n" for cells in extra)
    file = table(folder, f"path,label,part\nb.png,y,train\n{rows}")
    with pytest.raises(DataError, match=r"label.*a\.png \(rows 3 and 4\).*on_conflict: skip"):
        Manifest(file=file, split_column="part").index()


def test_t21_a_bad_image_keeps_the_columns_in_line(folder):
    (folder / "b.png").write_bytes(b"")
    extra = [",train,p1", ",train,p2", ",test,p3", ",val,p4"]
    file = listed(folder, ["x", "y", "y", "x"], "path,label,part,patient", extra)
    fields = {"file": file, "split_column": "part", "group_column": "patient"}
    with pytest.raises(DataError, match=r"b\.png: is empty"):
        Manifest(**fields).index()
    index = Manifest(**fields, on_bad_image="skip").index()
    assert list(index.ids) == ["a.png", "c.png", "d.png"]
    assert named_labels(index) == ["x", "y", "x"]
    assert index.split.tolist() == [TRAIN, TEST, VAL]
    assert len(set(index.group)) == len(index.digests) == 3


def test_where_and_how_names_look_is_no_part_of_the_identity(folder):
    plain = Manifest(file="a.csv")
    other = Manifest(file="b.csv", images="x", names={"0": "zero"}, allow_outside=True)
    assert plain.identity() == other.identity() == {"name": "manifest", "version": 1}
    assert Manifest(file="a.csv", drop=["0"]).identity() != plain.identity()


# ways on, and other ways of writing


def test_rows_without_an_image_or_a_label_or_with_two_can_be_left_out(folder):
    text = "path,label\na.png,x\nb.png,y\nno.png,x\na.png,y\nc.png,\nb.png,y\n"
    fields = {"on_missing_image": "skip", "on_conflict": "skip", "unlabelled": "drop"}
    said = {
        "on_missing_image": r"no\.png.*`on_missing_image: skip`",
        "on_conflict": r"a\.png \(rows 2 and 5\).*`on_conflict: skip`",
        "unlabelled": "row 6.*`unlabelled: drop`",
    }
    for key, message in said.items():
        rest = {name: value for name, value in fields.items() if name != key}
        with pytest.raises(DataError, match=message):
            Manifest(file=table(folder, text), **rest).index()
    source = Manifest(file=table(folder, text), **fields).source()
    assert source.ids == ["b.png"]
    remarks = "\n".join(source.warnings)
    for remark in (
        "1 row has no label and is left out: row 6",
        "1 image is not there and is left out: no.png",
        "1 image of which rows say different things (label, split, group or fold) left out: a.png",
        "1 row lists an image again",
    ):
        assert remark in remarks


def test_labels_called_like_a_missing_value_are_named_and_can_be_missing(folder):
    file = listed(folder, ["NA", "x", "NA", "x"])
    source = Manifest(file=file).source()
    assert set(source.class_names) == {"NA", "x"}
    assert any("'NA' (2 rows) is taken as the name of a class" in w for w in source.warnings)
    asked = Manifest(file=file, na_values=["NA"], unlabelled="drop").source()
    assert asked.class_names == ("x",)
    assert Manifest(file=file, na_values=["NA"], drop=["NA"]).source().class_names == ("x",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_a_list_in_another_encoding_or_packed(encoding, folder):
    text = "path,label\na.png,hö\nb.png,x\n"
    file = folder / "list.csv.gz"
    file.write_bytes(gzip.compress(text.encode(encoding)))
    fields = {"encoding": encoding} if encoding == "cp1252" else {}
    assert Manifest(file=file, **fields).source().class_names == ("hö", "x")


def test_groups_that_look_alike_are_named_or_made_one(folder):
    text = "path,label,who\na.png,x,7\nb.png,y,07\nc.png,y,8\n"
    source = Manifest(file=table(folder, text), group_column="who").source()
    assert len(set(source.group)) == 3
    assert any("groups in column 'who' differ only in how a number" in w for w in source.warnings)
    one = Manifest(file=table(folder, text), group_column="who", normalize_labels=True).source()
    assert one.group[0] == one.group[1] != one.group[2]
