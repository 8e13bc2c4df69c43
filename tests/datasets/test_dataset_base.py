import random
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.datasets.base import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    ImageDataset,
    Index,
    content_of,
    forget,
)
from harness.datasets.digits import Digits
from harness.datasets.shapes import Shapes
from harness.errors import DataError


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


def given(labels: Any, images: np.ndarray | None = None, names: Any = None, **index: Any) -> type:
    """Return a dataset class that holds just this."""
    labels = np.asarray(labels, np.int64)
    names = names or tuple(f"c{k}" for k in range(labels.max() + 1 if len(labels) else 0))
    if images is None:
        values = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2, 1))
        images = values.astype(np.uint8)

    class Given(ImageDataset):
        reads: ClassVar[int] = 0

        def index(self) -> Index:
            content = content_of(labels, images)
            return Index(labels, tuple(names), content, images.shape[1:], **index)

        def read(self, index: Index) -> np.ndarray:
            type(self).reads += 1
            return images

    Given.name = "given"
    forget()
    return Given


def parts(rows: Any) -> list[list[int]]:
    return [sorted(part.tolist()) for part in (rows.train, rows.val, rows.test)]


# splits


def test_t02_the_test_set_is_the_same_for_every_seed_and_val_comes_from_train():
    data = Digits()
    index = data.indexed()
    rows = [data.split(index, seed) for seed in range(4)]
    assert len({r.test.tobytes() for r in rows}) == 1
    assert len({np.sort(r.val).tobytes() for r in rows}) == 4
    for r in rows:
        together = np.concatenate([r.train, r.val, r.test])
        assert sorted(together) == list(range(1797))


def test_t02_val_is_carved_from_the_longtailed_subset():
    whole = Digits(imbalance_factor=20, val_fraction=0.0)
    carved = Digits(imbalance_factor=20, val_fraction=0.25)
    subset = whole.split(whole.indexed(), 0).train
    for seed in range(3):
        rows = carved.split(carved.indexed(), seed)
        assert sorted([*rows.train, *rows.val]) == sorted(subset)
        assert not set(rows.test) & set(subset)
        val = np.bincount(carved.indexed().labels[rows.val])
        expected = 0.25 * np.bincount(carved.indexed().labels[subset])
        assert (np.abs(val - expected) <= 1).all()


def test_t02_a_class_too_small_for_val_keeps_its_row_and_is_named():
    source = given([0] * 20 + [1], split=np.zeros(21, np.int8))
    # its one row cannot be test either
    rows = source().split(source().indexed(), 0)
    assert 20 in rows.train
    assert any("val" in note and "'c1'" in note for note in rows.notes)
    assert any("test" in note and "'c1'" in note for note in rows.notes)


def test_t03_the_digest_of_the_subset_is_that_of_the_published_index_list():
    labels = np.arange(50_000) % 10  # as many as in CIFAR-10, and its test set behind
    split = np.repeat([TRAIN, TEST], [50_000, 10]).astype(np.int8)
    source = given([*labels, *range(10)], split=split)
    for seed, fraction in ((0, 0.0), (0, 0.2), (5, 0.2)):
        digests = source(imbalance_factor=100, val_fraction=fraction).info(seed).digests
        # the digest of the index list of the published code: see test_longtail
        assert digests["subset"][:16] == "563055e23a86ca16"
        assert (digests["train"] == digests["subset"]) == (fraction == 0)
    assert "subset" not in source().info().digests
    flat = source(imbalance_factor=100, balanced=True).info().digests
    tail = source(imbalance_factor=100).info().digests
    assert {name for name in tail if flat[name] != tail[name]} == {"train"}


def test_t03_one_subset_has_one_digest_however_its_rows_are_laid_out():
    labels = np.repeat([0, 1], 30)
    split = np.tile(np.repeat([TRAIN, TEST], [20, 10]), 2).astype(np.int8)
    orders = (
        np.arange(60),  # class after class
        np.argsort(split, kind="stable"),  # all of train, then test
        np.argsort(-split, kind="stable"),  # test first
    )
    found = [
        given(labels[order], split=split[order])(imbalance_factor=4).info().digests
        for order in orders
    ]
    assert len({digests["subset_by_class"] for digests in found}) == 1
    assert len({digests["subset"] for digests in found}) == 3
    other = given(labels, split=split)(imbalance_factor=5).info().digests
    assert other["subset_by_class"] != found[0]["subset_by_class"]


def test_a_longtail_of_a_set_that_is_not_quite_balanced_says_what_it_leaves_out():
    counts = [50, 60, 70]
    source = given(np.repeat([0, 1, 2], counts), split=np.zeros(180, np.int8))
    data = source(imbalance_factor=5, test_fraction=0.1, val_fraction=0.0)
    assert data.info().counts[0].tolist() == [45, 20, 9]
    (note,) = data.info().warnings
    assert "starts from the smallest, 'c0' with 45, and leaves out 88 of 162" in note
    with pytest.raises(DataError, match="leave out imbalance_factor"):
        given(np.repeat([0, 1, 2], [20, 60, 80]))(imbalance_factor=5).info()


def test_val_minimum_is_respected_where_it_leaves_a_training_sample():
    labels = np.repeat([0, 1, 2], [100, 10, 4])
    split = np.zeros(114 + 3, np.int8)
    split[114:] = TEST
    source = given(np.concatenate([labels, [0, 1, 2]]), split=split)
    data = source(val_fraction=0.1, val_minimum=5)
    counts = data.info().counts
    assert counts[1].tolist() == [10, 5, 3]
    assert counts[0].tolist() == [90, 5, 1]


def test_the_sources_own_val_is_used_and_val_fraction_refused():
    split = np.array([TRAIN, VAL, TEST] * 4, np.int8)
    source = given([0, 0, 0, 1, 1, 1] * 2, split=split)
    rows = source().split(source().indexed(), 0)
    assert rows.val.tolist() == [1, 4, 7, 10]
    with pytest.raises(DataError, match="own val split of 4"):
        source(val_fraction=0.2).info()


def test_balanced_reference_has_as_many_samples_in_equal_classes():
    tail = Digits(imbalance_factor=10, val_fraction=0.0)
    flat = Digits(imbalance_factor=10, val_fraction=0.0, balanced=True)
    a, b = (d.info().counts for d in (tail, flat))
    assert a[0].sum() == b[0].sum()
    assert np.ptp(b[0]) <= 1
    assert np.ptp(a[0]) > 50
    np.testing.assert_array_equal(a[2], b[2])
    with pytest.raises(DataError, match="no imbalance_factor"):
        Digits(balanced=True).info()


def test_folds_partition_the_samples_and_follow_the_seed():
    data = Digits()
    index = data.indexed()
    rows = [data.split(index, 3, fold, 5) for fold in range(5)]
    assert sorted(np.concatenate([r.test for r in rows])) == list(range(1797))
    for r in rows:
        assert sorted(np.concatenate([r.train, r.val, r.test])) == list(range(1797))
        counts = np.bincount(index.labels[r.test])
        assert (np.abs(counts - np.bincount(index.labels) / 5) <= 1).all()
    again = data.split(index, 4, 0, 5)
    assert set(again.test) != set(rows[0].test)


def test_a_longtail_within_a_fold_is_drawn_from_its_training_part():
    data = Digits(imbalance_factor=10)
    rows = data.split(data.indexed(), 0, 1, 5)
    assert not set(rows.test) & {*rows.train, *rows.val}
    assert len(rows.test) > 350


def test_folds_that_the_source_names_are_used_and_their_number_checked():
    fold = np.arange(12) % 3
    source = given([0, 1] * 6, fold=fold)
    rows = source().split(source().indexed(), 9, 2, 3)
    np.testing.assert_array_equal(rows.test, np.flatnonzero(fold == 2))
    with pytest.raises(DataError, match="names 3 folds itself; 5 are asked for"):
        source().split(source().indexed(), 0, 4, 5)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            [TEST],
            r"its own test \(4 samples\), which folds would mix with train; leave out `folds`",
        ),
        ([VAL], r"its own val \(4 samples\), which folds would mix with train"),
        ([TEST, VAL], r"its own test \(4 samples\) and val \(4 samples\), which folds would mix"),
    ],
)
def test_folds_never_cut_through_the_sources_own_split(part, said):
    split = np.full(24, TRAIN, np.int8)
    for k, own in enumerate(part):
        split[4 * k : 4 * k + 4] = own
    source = given([0, 1] * 12, split=split)
    assert source().info().counts.sum(axis=1)[part].tolist() == [4] * len(part)
    for fold in range(3):
        with pytest.raises(DataError, match=said):
            source().split(source().indexed(), 0, fold, 3)


def test_a_split_that_is_all_train_can_be_cut_in_folds():
    source = given([0, 1] * 6, split=np.zeros(12, np.int8))
    assert source().info(0, 0, 3).counts[2].sum() == 4


def test_folds_that_the_source_names_are_never_cut_through_or_passed_over():
    fold = np.arange(12) % 3
    source = given([0, 1] * 6, fold=fold)
    with pytest.raises(DataError, match=r"names 3 folds itself.*ask for `folds: 3`, or leave out"):
        source().info()
    split = np.array([TRAIN] * 10 + [TEST] * 2, np.int8)
    source = given([0, 1] * 6, fold=fold, split=split)
    for folds in (None, 3):
        with pytest.raises(
            DataError, match=r"own test \(2 samples\), and 3 folds besides; leave out"
        ):
            source().info(0, None if folds is None else 0, folds)


@pytest.mark.parametrize("folds", [None, 4])
@pytest.mark.parametrize("seed", range(4))
def test_groups_never_straddle(folds, seed):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(40), 3)
    source = given(np.repeat(rng.permutation(np.arange(40) % 3), 3), group=group)
    fold = None if folds is None else 1
    rows = source().split(source().indexed(), seed, fold, folds)
    of_part = [set(group[part]) for part in (rows.train, rows.val, rows.test)]
    assert sum(map(len, of_part)) == 40
    assert all(of_part)
    assert set.union(*of_part) == set(range(40))


def test_groups_that_straddle_given_splits_or_folds_are_refused():
    group = np.arange(12) // 2
    split = np.array([TRAIN] * 8 + [TEST] * 4, np.int8)
    labels = [0, 1] * 6
    source = given(labels, group=group, split=np.roll(split, 1))
    with pytest.raises(DataError, match="straddle the given splits"):
        source().info()
    source = given(labels, group=group, split=split)
    source().info()
    source = given(labels, group=group, fold=np.arange(12) % 3)
    with pytest.raises(DataError, match="straddle the given splits"):
        source().info(0, 0, 3)


def test_nothing_to_hold_out_is_an_error():
    source = given([0, 0, 1, 1], group=np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="held out as test"):
        source().info()


def patients(*sizes: tuple[int, ...]) -> type:
    """Return a dataset with groups of these sizes in each class."""
    own = [(label, size) for label, groups in enumerate(sizes) for size in groups]
    labels = np.repeat([label for label, _ in own], [size for _, size in own])
    return given(labels, group=np.repeat(np.arange(len(own)), [size for _, size in own]))


def test_classes_of_few_large_groups_have_val_and_test():
    counts = patients((5,) * 20, (10,) * 3, (4,) * 3)().info().counts
    assert counts[:, 1:].tolist() == [[10, 4]] * 3


def test_a_class_that_cannot_spare_a_group_is_named_with_the_reason():
    source = patients((5,) * 20, (10,), (4, 4), (3,))
    for seed in range(3):
        assert source().info(seed).warnings == (
            "no val sample of 'c1', 'c2', 'c3': 1 group left, which train keeps",
            "no test sample of 'c1', 'c3': 1 group only, which train keeps",
            "test rests on one or two groups for 'c2' (4 samples of 1 group): what is measured "
            "there is of these groups, and not certain of others",
        )


def test_a_class_whose_groups_another_class_needs_is_named_with_the_reason():
    # class 0 is in the only groups of classes 1 and 2
    source = given([0, 1, 0, 2, 3, 3], group=np.array([0, 0, 1, 1, 2, 3]))
    said = "no test sample of 'c0': its 2 groups hold other classes too, which need them in train"
    assert said in source().info().warnings


def test_groups_per_class_and_split_are_counted_and_few_are_named():
    source = patients((5,) * 20, (30, 1, 1, 1, 1), (8, 3, 3, 3), (30, 30, 40, 1, 1, 1))
    info = source().info()
    assert info.groups.sum(axis=0).tolist() == [20, 5, 4, 6]
    assert (info.groups <= info.counts).all()
    assert info.groups[2].tolist() == [4, 2, 1, 2]
    (said,) = [text for text in info.warnings if "rests on" in text]
    assert "'c1' (2 samples of 2 groups), 'c2' (3 samples of 1 group)" in said
    assert "'c0'" not in said
    loaded = source().load(0).groups()
    assert np.array_equal(np.stack([loaded[n] for n in ("train", "val", "test")]), info.groups)
    assert given([0, 1] * 6)().info().groups is None
    assert given([0, 1] * 6)().load(0).groups() == {}


def test_one_group_that_outweighs_the_others_in_test_is_named():
    own = np.repeat(np.arange(8), [12, 2, 2, 4, 4, 4, 4, 4])
    split = np.where(own < 3, 2, np.where(own == 3, 1, 0)).astype(np.int8)
    labels = (np.arange(len(own)) % 2).astype(np.int64)
    (said,) = given(labels, group=own, split=split)().info().warnings
    assert "'c0' (6 of 8 samples of one group)" in said


def test_fewer_val_samples_than_the_minimum_are_named():
    note, _ = patients((5,) * 20, (2,) * 4)(val_minimum=5).info().warnings
    assert note == (
        "fewer than 5 val samples (val_minimum) of 'c1': train keeps at least one group of each "
        "class"
    )
    source = given(np.repeat([0, 1], [50, 2]), split=np.zeros(52, np.int8))
    (note,) = source(val_minimum=0, test_fraction=0.5).info().warnings
    assert note == "no val sample of 'c1': val_minimum is 0, and their share is too small"


def test_a_class_of_fewer_groups_than_folds_is_named_where_it_is_not_tested():
    source = patients((2,) * 10, (2, 2))
    notes = [source().info(0, fold, 3).warnings for fold in range(3)]
    said = "no test sample of 'c1': 2 groups for 3 folds"
    assert sum(said in found for found in notes) == 1
    fold = np.array([0, 1, 2] * 4 + [0, 1])
    source = given([0] * 12 + [1] * 2, fold=fold)
    assert "no test sample of 'c1': this fold of the set's own has none" in (
        source().info(0, 2, 3).warnings
    )


def test_a_class_absent_from_the_sets_own_test_is_named():
    split = np.array([TRAIN] * 10 + [TEST] * 2, np.int8)
    (note,) = given([0, 1] * 5 + [0, 0], split=split)().info().warnings
    assert note == "no test sample of 'c1': the set's own test has none"


@pytest.mark.parametrize("group", [None, np.arange(12)])
def test_how_groups_are_cut_is_part_of_the_content_where_there_are_groups(group, monkeypatch):
    source = given([0, 1] * 6, group=group)
    content = source().indexed().content
    assert (content == source().index().content) == (group is None)
    forget()
    monkeypatch.setattr("harness.datasets.base.GROUPS", 99)
    assert (content == source().indexed().content) == (group is None)


# checks


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        ([], ("a", "b"), "no samples"),
        ([0, 0, 0], ("a",), r"1 class \(a\); at least 2"),
        ([0, 1, 1], ("a", "a"), "twice: a"),
        ([0, 2, 2, 0], ("a", "b", "c"), "without a sample: 'b'"),
    ],
)
def test_t23_empty_missing_and_double_classes_are_named(labels, names, said):
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    with pytest.raises(DataError, match=said):
        given(labels, images, names)().indexed()


def test_t23_a_class_without_a_training_sample_is_named():
    split = np.array([TRAIN, TRAIN, TEST, TEST], np.int8)
    with pytest.raises(DataError, match="without a training sample: 'c1'"):
        given([0, 0, 1, 1], split=split)().info()
    with pytest.raises(DataError, match="without a training sample: 'c1'"):
        given([0] * 8 + [1])().info(0, fold_of(8, [0] * 8 + [1]), 3)


def fold_of(row: int, labels: list[int]) -> int:
    """Return the fold (seed 0, of 3) whose test set holds the row."""
    source = given([0] * 8 + [1])()
    for fold in range(3):
        try:
            source.split(source.indexed(), 0, fold, 3)
        except DataError:
            return fold
    raise AssertionError("the only row of a class is in no test fold")


def test_t15_the_same_image_in_two_splits_is_named():
    split = np.array([TRAIN] * 4 + [TEST] * 2, np.int8)
    source = given(
        [0, 1, 0, 1, 0, 1], split=split, digests=list("abcdxb"), ids=[f"{k}.png" for k in range(6)]
    )
    notes = source(val_fraction=0.0).split(source().indexed(), 0).notes
    (note,) = notes
    assert note.startswith("1 image is both in train and in test: 1.png = 5.png; delete the copies")
    assert "group_column" in note


# loading


def test_info_reads_no_sample_and_agrees_with_load():
    source = given(np.arange(60) % 3)
    info = source().info(2)
    assert source.reads == 0
    data = source().load(2)
    assert source.reads == 1
    np.testing.assert_array_equal(info.counts[0], data.train_counts)
    assert info.counts.sum() == 60
    assert info.shape == data.shape == (2, 2, 1)
    source().load(3)
    assert source.reads == 1


def test_t15_normalisation_is_fitted_on_training_rows_only():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(0, 256, (200, 3, 3, 2)).astype(np.uint8)
    split = np.where(np.arange(200) < 150, TRAIN, TEST).astype(np.int8)
    data = given(labels, images, split=split)().load(0)
    changed = images.copy()
    changed[data.rows.test] = 255
    changed[data.rows.val] = 0
    other = given(labels, changed, split=split)().load(0)
    np.testing.assert_array_equal(data.mean, other.mean)
    np.testing.assert_array_equal(data.std, other.std)
    unit = images[data.rows.train] / 255
    np.testing.assert_allclose(data.mean, unit.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(data.std, unit.std((0, 1, 2)), rtol=1e-5)
    assert data.intensity == (0.0, 255.0)


def test_t15_intensity_of_16_bit_images_comes_from_training_rows():
    images = np.full((20, 2, 2, 1), 1000, np.uint16)
    images[:10:2] = 3000
    images[19] = 60_000
    split = np.array([TRAIN] * 10 + [TEST] * 10, np.int8)
    data = given(np.arange(20) % 2, images, split=split)(val_fraction=0.0).load(0)
    assert data.intensity == (1000.0, 3000.0)
    assert data.mean == pytest.approx([0.5])
    assert data.std == pytest.approx([0.5])


def test_constant_images_do_not_divide_by_zero():
    images = np.full((20, 2, 2, 1), 7, np.uint16)
    data = given(np.arange(20) % 2, images)().load(0)
    assert data.intensity == (7.0, 8.0)
    assert data.std.tolist() == [1.0]


def test_given_mean_and_std_are_used_and_counted():
    source = given(np.arange(20) % 2)
    data = source(mean=(0.25,), std=(0.5,)).load(0)
    assert (data.mean.tolist(), data.std.tolist()) == ([0.25], [0.5])
    with pytest.raises(DataError, match="need 1 values"):
        source(mean=(0.1, 0.2), std=(1.0, 1.0)).load(0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean": (0.5,)}, "go together"),
        ({"mean": (0.5,), "std": (0.0,)}, "larger than 0"),
        ({"intensity": (5, 5)}, "low < high"),
        ({"imbalance_factor": 0.01}, "greater than or equal to 1"),
        ({"val_fraction": 1.0}, "less than 1"),
    ],
)
def test_impossible_parameters_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Digits(**fields)


@pytest.mark.parametrize("data", [Digits(imbalance_factor=10), Shapes(size=8, per_class=10)])
def test_t04_loading_leaves_the_global_generators_alone(data: Dataset):
    np.random.seed(123)
    random.seed(123)
    before, plain = np.random.get_state(), random.getstate()
    first = data.load(0)
    Digits().info(1, 0, 5)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert random.getstate() == plain
    # and does not depend on it either
    np.random.seed(321)
    random.seed(321)
    forget()
    again = data.load(0)
    assert parts(first.rows) == parts(again.rows)
    np.testing.assert_array_equal(first.features, again.features)


# identity


def test_identity_is_what_changes_a_result():
    assert Digits().identity() == {"name": "digits", "version": 1}
    assert Digits(label="a").identity() == Digits().identity()
    assert Digits(imbalance_factor=10).identity() != Digits().identity()
    assert Digits(label="a", val_fraction=0.5).config() == {
        "name": "digits",
        "label": "a",
        "val_fraction": 0.5,
    }


def test_display_names_the_tail():
    assert Digits().display() == "digits"
    assert Digits(imbalance_factor=50).display() == "digits-lt50"
    assert Digits(imbalance_factor=50, profile="step").display() == "digits-lt50-step"
    assert Digits(label="x", imbalance_factor=50).display() == "x"


def test_content_tells_arrays_apart_by_value_type_and_shape():
    a = np.arange(6)
    assert content_of(a) == content_of(a.copy())
    different = [a, a.astype(np.int32), a.reshape(2, 3), a + 1, [0, 1, 2, 3, 4, 5]]
    assert len({content_of(value) for value in different}) == len(different)
    assert content_of(a, a) != content_of(a)
    swapped = np.asfortranarray(a.reshape(2, 3))
    assert content_of(swapped) == content_of(a.reshape(2, 3))
