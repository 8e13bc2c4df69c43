import os
import re
import unicodedata

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from harness import cache
from harness.datasets import name_groups
from harness.datasets.base import TEST, TRAIN, VAL, forget
from harness.datasets.image_folder import ImageFolder
from harness.errors import DataError
from harness.registry import datasets


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


counter = iter(range(10**6))


def fill(folder, *names):
    """Write an image of its own for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = np.zeros((4, 5, 3), np.uint8)
        image[0, 0] = np.frombuffer(next(counter).to_bytes(3, "big"), np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())


def test_the_registry_knows_it():
    assert datasets.get("image_folder") is ImageFolder


def test_class_folders_directly_under_the_path(root):
    fill(root / "b", "1.png", "2.png", "10.png")
    fill(root / "a", "x.png")
    index = ImageFolder(path=root).index()
    assert index.class_names == ("a", "b")
    assert list(index.ids) == ["a/x.png", "b/1.png", "b/10.png", "b/2.png"]
    assert index.labels.tolist() == [0, 1, 1, 1]
    assert index.split is None
    assert index.group is None
    assert index.warnings == ()


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "valid", "Testing"),
        ("TRAIN", "Validation", "TEST"),
        ("train", "dev", "test"),
    ],
)
def test_class_folders_under_splits(root, train, val, test):
    for part, count in ((train, 3), (val, 2), (test, 1)):
        for name in ("cat", "dog"):
            fill(root / part / name, *(f"{k}.png" for k in range(count)))
    index = ImageFolder(path=root).index()
    assert index.class_names == ("cat", "dog")
    part_of = {name.split("/")[0]: part for name, part in zip(index.ids, index.split, strict=True)}
    assert part_of == {train: TRAIN, val: VAL, test: TEST}
    assert ImageFolder(path=root).info().counts.tolist() == [[3, 3], [2, 2], [1, 1]]


def test_folds_are_refused_beside_train_and_test_folders(root):
    for name in ("cat", "dog"):
        fill(root / "train" / name, "1.png", "2.png")
        fill(root / "test" / name, "3.png")
    with pytest.raises(DataError, match=r"own test \(2 samples\), which folds would mix.*folders"):
        ImageFolder(path=root).info(0, 0, 2)


def test_a_class_may_be_called_train(root):
    fill(root / "train", "1.png")
    fill(root / "bus", "1.png")
    index = ImageFolder(path=root).index()
    assert index.class_names == ("bus", "train")
    assert index.split is None


def test_a_class_called_train_may_have_folders_of_its_own(root):
    fill(root / "train" / "steam", "1.png")
    fill(root / "bus", "1.png")
    assert ImageFolder(path=root).index().class_names == ("bus", "train")


def test_folders_of_which_only_one_is_called_like_a_split_are_named(root):
    for part in ("train", "evaluation"):
        fill(root / part / "cat", "1.png")
    source = ImageFolder(path=root).source()
    assert source.class_names == ("evaluation", "train")
    assert "evaluation, train are taken for classes" in source.warnings[0]
    assert source.warnings[0].endswith("and only train is")


def test_folders_beside_the_splits_are_named(root):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            fill(root / part / name, "1.png")
    fill(root / "thumbnails", "1.png")
    index = ImageFolder(path=root).index()
    assert len(index.labels) == 4
    assert index.warnings == ("folders beside the splits are ignored: thumbnails",)


def test_two_folders_for_one_split_are_an_error(root):
    for part in ("train", "val", "valid"):
        fill(root / part / "cat", "1.png")
    with pytest.raises(DataError, match=r"set.val and .*set.valid are both the val split"):
        ImageFolder(path=root).index()


def test_splits_without_train_are_an_error(root):
    for part in ("val", "test"):
        fill(root / part / "cat", "1.png")
    with pytest.raises(DataError, match="test, val but no train"):
        ImageFolder(path=root).index()


def test_t23_a_class_missing_in_a_split_keeps_the_labels_of_the_others(root):
    for name in ("a", "b", "c"):
        fill(root / "train" / name, "1.png", "2.png")
    for name in ("a", "c"):
        fill(root / "val" / name, "1.png")
        fill(root / "test" / name, "1.png")
    source = ImageFolder(path=root)
    index = source.index()
    assert index.labels[index.split == TEST].tolist() == [0, 2]
    assert source.info().counts.tolist() == [[2, 2, 2], [1, 0, 1], [1, 0, 1]]
    assert index.warnings == ("classes without an image in val: 'b'",)


def test_t23_a_class_missing_in_train_is_an_error(root):
    for part, names in (("train", "ac"), ("test", "abc")):
        for name in names:
            fill(root / part / name, "1.png", "2.png")
    with pytest.raises(DataError, match="without a training sample: 'b'; the dataset has its own"):
        ImageFolder(path=root).info()


def test_t23_an_empty_class_folder_is_an_error(root):
    fill(root / "a", "1.png")
    fill(root / "c", "1.png")
    (root / "b").mkdir()
    with pytest.raises(DataError, match="without a sample: 'b'"):
        ImageFolder(path=root).indexed()


def test_a_missing_path_is_named_in_full(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    with pytest.raises(DataError, match=re.escape(f"no folder {root}")):
        ImageFolder(path="set").index()


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"set\.zip is a file"):
        ImageFolder(path=tmp_path / "set.zip").index()


def test_a_folder_without_class_folders_is_an_error(root):
    fill(root, "1.png")
    with pytest.raises(DataError, match=re.escape(f"{root} has no class folders")):
        ImageFolder(path=root).index()


def test_class_folders_without_images_are_an_error(root):
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "notes.txt").write_text("")
    with pytest.raises(
        DataError, match=re.escape(f"no image in the class folders of {root} (cat)")
    ):
        ImageFolder(path=root).index()


def test_other_files_are_counted_and_hidden_ones_passed_over(root):
    for name in ("cat", "dog"):
        fill(root / name, "1.png", "._2.png")
        (root / name / "notes.txt").write_text("")
    (root / "cat" / "README").write_text("")
    fill(root / ".hidden", "1.png")
    fill(root / "__MACOSX" / "cat", "1.png")
    fill(root / "cat" / ".thumbnails", "1.png")
    index = ImageFolder(path=root).index()
    assert list(index.ids) == ["cat/1.png", "dog/1.png"]
    assert index.warnings == (
        "1 hidden folder with images is no class: .hidden; rename what is one",
        "3 files that are not images are ignored: .txt (2), no extension (1)",
    )


def test_class_folders_that_are_one_to_a_person_are_named(root):
    for name in ("Cat", "cat", "dog"):
        fill(root / name, "1.png")
    (note,) = ImageFolder(path=root).source().warnings
    assert "class folders differ only in case or blanks: 'Cat' = 'cat'" in note


def test_folders_in_a_class_folder_belong_to_it(root):
    fill(root / "cat" / "2019" / "may", "1.png")
    fill(root / "dog", "1.PNG")
    index = ImageFolder(path=root).index()
    assert list(index.ids) == ["cat/2019/may/1.png", "dog/1.PNG"]
    assert index.class_names == ("cat", "dog")


def test_links_are_followed_but_not_in_circles(root, tmp_path):
    fill(root / "cat", "1.png")
    fill(tmp_path / "elsewhere", "1.png")
    try:
        (root / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")
    (root / "cat" / "circle").symlink_to(root / "cat", target_is_directory=True)
    (tmp_path / "elsewhere" / "up").symlink_to(root, target_is_directory=True)
    with pytest.raises(DataError, match=r"symbolic links? out of .*allow_outside: true"):
        ImageFolder(path=root).index()
    names = list(ImageFolder(path=root, allow_outside=True).index().ids)
    assert names[0] == "cat/1.png"
    assert "dog/1.png" in names
    assert all(len(name.split("/")) < 6 for name in names)


def test_hidden_class_folders_are_told(root):
    fill(root / "cat", "1.png")
    fill(root / "dog", "1.png")
    fill(root / ".a", "1.png")
    (root / ".git").mkdir()
    index = ImageFolder(path=root).index()
    assert index.class_names == ("cat", "dog")
    assert "1 hidden folder with images is no class: .a; rename what is one" in index.warnings


def test_links_within_the_folder_and_to_it_need_no_leave(root, tmp_path):
    fill(root / "cat", "1.png")
    fill(root / "dog", "1.png")
    try:
        (root / "dog" / "2.png").symlink_to(root / "cat" / "1.png")
        (tmp_path / "way").symlink_to(root, target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")
    assert len(ImageFolder(path=tmp_path / "way").index().labels) == 3
    assert len(ImageFolder(path=root).index().labels) == 3
    given = ImageFolder(path=root, allow_outside=True).identity()
    assert given == ImageFolder(path=root).identity()


def test_a_link_to_nothing_is_a_bad_image(root):
    fill(root / "cat", "1.png")
    fill(root / "dog", "1.png")
    try:
        os.symlink(root / "nothing.png", root / "cat" / "2.png")
    except OSError:
        pytest.skip("links need a privilege here")
    with pytest.raises(DataError, match=r"cat.2\.png: cannot be read: No such file"):
        ImageFolder(path=root).index()
    assert len(ImageFolder(path=root, on_bad_image="skip").index().labels) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_images_is_named_and_not_waited_for(root):
    fill(root / "cat", "1.png")
    fill(root / "dog", "1.png")
    os.mkfifo(root / "cat" / "2.png")
    with pytest.raises(DataError, match=r"cat.2\.png: cannot be read: it is a pipe and no file"):
        ImageFolder(path=root).index()
    assert len(ImageFolder(path=root, on_bad_image="skip").index().labels) == 2


def test_t21_names_have_one_unicode_form(root, tmp_path):
    name = "grün"
    for folder, form in ((root, "NFC"), (tmp_path / "mac", "NFD")):
        fill(folder / unicodedata.normalize(form, name), "1.png")
        fill(folder / "grz", "1.png")
    ids = [list(ImageFolder(path=folder).index().ids) for folder in (root, tmp_path / "mac")]
    assert ids == [["grz/1.png", "grün/1.png"]] * 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [(r"^(p\d)_", [0, 1, 0, 2]), (r"p\d", [0, 1, 0, 2]), (r"_(\w)\.", [0, 0, 1, 0])],
)
def test_groups_come_from_the_file_name(root, pattern, expected):
    fill(root / "cat", "p1_a.png", "p2_a.png")
    fill(root / "dog", "p1_b.png", "p3_a.png")
    assert ImageFolder(path=root, group=pattern).index().group.tolist() == expected


def test_t15_a_group_never_straddles_the_splits(root):
    for name in ("cat", "dog"):
        fill(root / name, *(f"p{k % 8}_{k}.png" for k in range(40)))
    source = ImageFolder(path=root, group=r"^(p\d)_")
    index = source.index()
    rows = source.split(index, 0)
    parts = [set(index.group[part]) for part in (rows.train, rows.val, rows.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 8


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)" * 8 + "x$"])
def test_a_pattern_that_comes_to_no_end_is_an_error(pattern, monkeypatch):
    monkeypatch.setattr(name_groups, "_SECONDS", 0.2)
    names = ["a" * 200 + "!"]
    with pytest.raises(DataError, match="on 1 file names"):
        name_groups.groups_of(names, pattern, names)


def test_file_names_without_a_group_are_named(root):
    fill(root / "cat", "p1_a.png", "other.png", "another.png")
    with pytest.raises(DataError, match=r"2 of 3 file names.*cat/another\.png, cat/other\.png"):
        ImageFolder(path=root, group=r"^(p\d)_").index()


def test_a_broken_pattern_is_an_error_of_the_file(root):
    with pytest.raises(ValidationError, match="not a regular expression"):
        ImageFolder(path=root, group="(")


def test_the_place_is_no_part_of_the_identity(root):
    here, there = ImageFolder(path=root), ImageFolder(path=root.parent)
    assert here.identity() == there.identity()
    skipping = ImageFolder(path=root, on_bad_image="skip")
    assert skipping.identity() != here.identity()
