import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.splits import stratified_folds, stratified_split
from harness.streams import stream

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=8)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)


def labels_of(counts: list[int], seed: int) -> np.ndarray:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@given(counts_of_classes, fractions, seeds, st.integers(0, 5))
def test_t02_split_holds_out_the_share_of_each_class_and_leaves_it_a_row(
    counts, fraction, seed, minimum
):
    labels = labels_of(counts, seed)
    held = stratified_split(labels, fraction, stream(seed, "x"), minimum=minimum)
    out = np.bincount(labels[held], minlength=len(counts))
    for n, m in zip(counts, out, strict=True):
        assert n - m >= 1
        if m < n - 1:
            assert m >= minimum
        if m > minimum:
            assert abs(m - fraction * n) <= 1


@given(counts_of_classes, fractions, seeds)
def test_split_depends_on_the_generator_only(counts, fraction, seed):
    labels = labels_of(counts, 0)
    once, again = (stratified_split(labels, fraction, stream(seed, "x")) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_split_differs_between_seeds_and_is_random_within_a_class():
    labels = np.repeat([0, 1], 50)
    held = np.stack([stratified_split(labels, 0.3, stream(s, "x")) for s in range(200)])
    assert len({row.tobytes() for row in held}) == 200
    # every row is held out about as often as any other
    often = held.mean(axis=0)
    assert 0.15 < often.min() < often.max() < 0.45


def test_a_class_of_one_or_two_rows():
    held = stratified_split(np.array([0, 1, 1, *[2] * 8]), 0.25, stream(0, "x"))
    assert held[0] == 0
    assert held[1:3].sum() == 1
    assert held[3:].sum() == 2


@given(counts_of_classes, fractions, seeds, st.integers(1, 12))
def test_groups_never_straddle_a_split_and_every_class_keeps_a_row(counts, fraction, seed, many):
    labels = labels_of(counts, seed)
    groups = np.random.default_rng(seed).integers(0, many, len(labels)) * 7 - 3
    held = stratified_split(labels, fraction, stream(seed, "x"), groups)
    assert not set(groups[held]) & set(groups[~held])
    assert (np.bincount(labels[~held], minlength=len(counts)) > 0).all()
    np.testing.assert_array_equal(
        held, stratified_split(labels, fraction, stream(seed, "x"), groups)
    )


@pytest.mark.parametrize("seed", range(5))
def test_small_groups_come_near_the_share_of_every_class(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(300), 4)
    labels = np.repeat(rng.choice(3, 300, p=[0.7, 0.2, 0.1]), 4)
    held = stratified_split(labels, 0.2, stream(seed, "x"), groups)
    share = np.bincount(labels[held]) / np.bincount(labels)
    np.testing.assert_allclose(share, 0.2, atol=0.05)


def test_groups_that_cannot_be_spared_stay():
    labels = np.array([0, 0, 1, 1])
    held = stratified_split(labels, 0.5, stream(0, "x"), np.array([4, 4, 9, 9]))
    assert not held.any()


# sizes of the groups of each class: no group holds two classes
groups_of_classes = st.lists(
    st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=5
)


def grouped(sizes: list[list[int]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and groups, in random order."""
    flat = [(label, size) for label, groups in enumerate(sizes) for size in groups]
    labels = np.concatenate([np.full(size, label) for label, size in flat])
    groups = np.concatenate([np.full(size, group) for group, (_, size) in enumerate(flat)])
    order = np.random.default_rng(seed).permutation(len(labels))
    return labels[order], groups[order]


def three_parts(
    labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, float], seed: int, minimum=1
) -> np.ndarray:
    """Return 0 for train, 1 for val, 2 for test, as a dataset is cut."""
    part = np.zeros(len(labels), int)
    test = stratified_split(labels, fractions[0], stream(0, "test"), groups, left=2)
    part[test] = 2
    rest = np.flatnonzero(~test)
    val = stratified_split(labels[rest], fractions[1], stream(seed, "val"), groups[rest], minimum)
    part[rest[val]] = 1
    return part


@given(groups_of_classes, fractions, fractions, seeds, st.integers(1, 12))
def test_a_class_of_three_groups_is_in_train_val_and_test(sizes, test, val, seed, minimum):
    labels, groups = grouped(sizes, seed)
    part = three_parts(labels, groups, (test, val), seed, minimum)
    for group in set(groups):
        assert len(set(part[groups == group])) == 1
    for label, own in enumerate(sizes):
        wanted = {1: {0}, 2: {0, 2}}.get(len(own), {0, 1, 2})
        assert set(part[labels == label]) == wanted
        if len(own) > 2:  # val has its minimum, or all that train can spare
            left = len(set(groups[(labels == label) & (part == 0)]))
            assert (part[labels == label] == 1).sum() >= minimum or left == 1


def test_groups_of_more_than_twice_the_share_are_held_out_where_there_are_no_smaller():
    # three patients of ten rows: of a share of 6 and of 4 rows the nearest whole group is 10
    labels, groups = grouped([[5] * 20, [10] * 3, [4] * 2], 0)
    part = three_parts(labels, groups, (0.2, 0.2), 0)
    assert [np.bincount(part[labels == k], minlength=3).tolist() for k in (1, 2)] == [
        [10, 10, 10],
        [4, 0, 4],
    ]


def test_of_groups_that_are_all_too_large_the_smallest_is_held_out():
    labels, groups = grouped([[5] * 20, [40, 22, 30]], 0)
    for seed in range(5):
        held = stratified_split(labels, 0.1, stream(seed, "x"), groups)
        assert held[labels == 1].sum() == 22


def test_groups_of_several_classes_serve_the_class_of_fewest_groups_first():
    # class 2 is in two groups, and one of them also holds one of the two groups of class 1
    table = np.array([[9, 0, 0]] * 8 + [[0, 5, 0], [0, 5, 3], [1, 0, 3]])
    labels = np.concatenate([np.repeat([0, 1, 2], row) for row in table])
    groups = np.repeat(np.arange(len(table)), table.sum(axis=1))
    for seed in range(20):
        held = stratified_split(labels, 0.2, stream(seed, "x"), groups)
        for part in (held, ~held):
            assert set(labels[part]) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_small_groups_come_near_the_shares_of_test_and_val(seed):
    rng = np.random.default_rng(seed)
    sizes = [rng.integers(1, 6, count).tolist() for count in (200, 60, 30)]
    labels, groups = grouped(sizes, seed)
    part = three_parts(labels, groups, (0.2, 0.25), seed)
    for label in range(3):
        share = np.bincount(part[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(share, [0.6, 0.2, 0.2], atol=0.05)


def faces(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and people: few people make most photos of two rare moods, and show others."""
    rng = np.random.default_rng(seed)
    labels, people = [], []

    def add(label: int, person: int, photos: int) -> None:
        labels.extend([label] * photos)
        people.extend([person] * photos)

    for label, sizes in enumerate([[29, 11, 10, 3, 2, 1, 1, 1, 1, 1], [5, 2, *[1] * 14], [1] * 9]):
        for place, photos in enumerate(sizes):
            add(label, 100 * label + place, photos)
    for label, count in ((3, 300), (4, 120)):
        for person in rng.choice(1000, count, replace=False):
            add(label, int(person), 1 + int(rng.geometric(0.8) == 1) * int(rng.integers(0, 3)))
    add(4, 100, 15)
    return np.array(labels), np.array(people)


def groups_in(labels: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> list[int]:
    """Return of how many groups the rows of each class are."""
    return [len(set(groups[rows & (labels == k)])) for k in range(labels.max() + 1)]


@pytest.mark.parametrize("seed", range(6))
def test_a_class_is_not_tested_on_the_one_person_who_makes_half_of_it(seed):
    labels, people = faces(seed)
    part = three_parts(labels, people, (0.2, 0.2), seed)
    of_test = groups_in(labels, people, part == 2)
    assert of_test[0] >= 3
    assert of_test[1] >= 3
    assert min(of_test) >= 2
    assert min(groups_in(labels, people, part == 1)) >= 1
    for person in (0, 1, 2):  # with 29, 11 and 10 of the 60 photos of a mood
        assert set(part[people == person]) == {0}
    largest = np.bincount(people[(part == 2) & (labels == 0)]).max()
    assert 2 * largest <= ((part == 2) & (labels == 0)).sum()
    common = np.bincount(part[labels == 3], minlength=3) / (labels == 3).sum()
    np.testing.assert_allclose(common, [0.64, 0.16, 0.2], atol=0.04)


@given(st.lists(st.integers(1, 60), min_size=4, max_size=12), seeds)
def test_a_class_of_many_small_groups_and_some_large_is_tested_on_several(large, seed):
    """Whatever the large ones are, twelve groups of one row each can make a test set."""
    labels, groups = grouped([large[:3] + [1] * 12, [2] * 60], seed)
    part = three_parts(labels, groups, (0.2, 0.2), seed)
    assert groups_in(labels, groups, part == 2)[0] >= min(3, round(0.2 * sum(large[:3]) + 2))
    assert groups_in(labels, groups, part == 1)[0] >= 1


def test_a_second_group_is_held_out_where_that_is_little_more():
    labels, groups = grouped([[50] * 7, [5] * 100], 0)
    part = three_parts(labels, groups, (0.2, 0.2), 0)
    assert groups_in(labels, groups, part == 2)[0] == 2
    labels, groups = grouped([[50] * 4, [5] * 100], 0)
    part = three_parts(labels, groups, (0.2, 0.2), 0)
    assert groups_in(labels, groups, part == 2)[0] == 1, "two of four would be half of the class"


def test_a_large_share_is_held_out_in_full():
    labels, groups = grouped([[2] * 100, [3] * 50], 0)
    part = three_parts(labels, groups, (0.8, 0.2), 0)
    for label in (0, 1):
        assert (part[labels == label] == 2).mean() == pytest.approx(0.8, abs=0.03)


def test_folds_spread_people_as_well_as_photos():
    labels, people = faces(0)
    fold = stratified_folds(labels, 5, stream(0, "folds"), people)
    for k, least in ((0, 2), (1, 3)):
        assert min(len(set(people[(labels == k) & (fold == f)])) for f in range(5)) >= least


def test_which_groups_are_val_follows_the_seed():
    labels, groups = grouped([[5, 6, 7] * 8, [4, 5] * 3], 0)
    held = {stratified_split(labels, 0.2, stream(s, "val"), groups).tobytes() for s in range(20)}
    assert len(held) == 20


@given(groups_of_classes, st.integers(2, 6), seeds)
def test_a_class_is_in_as_many_folds_as_its_groups_allow(sizes, folds, seed):
    labels, groups = grouped(sizes, seed)
    fold = stratified_folds(labels, folds, stream(seed, "folds"), groups)
    for label, own in enumerate(sizes):
        assert len(set(fold[labels == label])) == min(len(own), folds)


def test_classes_of_few_groups_do_not_all_go_to_the_first_folds():
    labels, groups = grouped([[6, 6]] * 6, 0)
    fold = stratified_folds(labels, 4, stream(0, "folds"), groups)
    assert np.bincount(fold).tolist() == [18] * 4


@pytest.mark.parametrize(
    ("folds", "table"),
    [
        (2, [[2, 0, 6], [7, 6, 0], [0, 6, 4], [0, 0, 5]]),
        (2, [[2, 8, 1], [4, 1, 6], [7, 0, 3], [7, 0, 8]]),
        (3, [[0, 1, 2], [7, 0, 7], [7, 5, 0], [1, 7, 3], [5, 0, 8]]),
        (3, [[0, 0, 8], [0, 4, 2], [7, 7, 0], [0, 3, 6], [5, 6, 0], [5, 0, 3]]),
    ],
)
def test_folds_of_groups_of_several_classes_have_every_class(folds, table):
    labels = np.concatenate([np.repeat(np.arange(3), row) for row in table])
    groups = np.repeat(np.arange(len(table)), np.sum(table, axis=1))
    fold = stratified_folds(labels, folds, stream(0, "folds"), groups)
    for k in range(3):
        assert set(fold[labels == k]) == set(range(folds))


@given(counts_of_classes, st.integers(2, 7), seeds)
def test_folds_partition_every_class_evenly(counts, folds, seed):
    labels = labels_of(counts, seed)
    fold = stratified_folds(labels, folds, stream(seed, "folds"))
    assert ((fold >= 0) & (fold < folds)).all()
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for k in range(len(counts)):
        in_fold = np.bincount(fold[labels == k], minlength=folds)
        assert in_fold.max() - in_fold.min() <= 1
    np.testing.assert_array_equal(fold, stratified_folds(labels, folds, stream(seed, "folds")))


def test_folds_differ_between_seeds():
    labels = np.arange(60) % 3
    found = {stratified_folds(labels, 5, stream(s, "folds")).tobytes() for s in range(50)}
    assert len(found) == 50


@given(counts_of_classes, st.integers(2, 5), seeds, st.integers(1, 12))
def test_folds_keep_groups_whole(counts, folds, seed, many):
    labels = labels_of(counts, seed)
    groups = np.random.default_rng(seed).integers(0, many, len(labels))
    fold = stratified_folds(labels, folds, stream(seed, "folds"), groups)
    assert ((fold >= 0) & (fold < folds)).all()
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1
    np.testing.assert_array_equal(
        fold, stratified_folds(labels, folds, stream(seed, "folds"), groups)
    )


@pytest.mark.parametrize("seed", range(3))
def test_folds_of_small_groups_are_stratified(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(150), 4)
    labels = np.repeat(rng.choice(3, 150, p=[0.7, 0.2, 0.1]), 4)
    fold = stratified_folds(labels, 5, stream(seed, "folds"), groups)
    for k in range(3):
        groups_in_fold = np.bincount(fold[labels == k], minlength=5) // 4
        assert groups_in_fold.max() - groups_in_fold.min() <= 1


@pytest.mark.parametrize("groups", [None, np.arange(40) // 2])
def test_t04_splits_do_not_touch_numpys_global_generator(groups):
    before = np.random.get_state()
    labels = np.arange(40) % 4
    stratified_split(labels, 0.3, stream(0, "x"), groups)
    stratified_folds(labels, 4, stream(0, "x"), groups)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
