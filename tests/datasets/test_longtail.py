import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.longtail import (
    balanced_subset,
    class_sizes,
    longtail_subset,
    uneven,
)
from harness.errors import DataError

# largest, classes, factor, total, smallest, (many, medium, few)
PUBLISHED = [
    (5000, 10, 200, 11_203, 25, (7, 3, 0)),
    (5000, 10, 100, 12_406, 50, (8, 2, 0)),
    (5000, 10, 50, 13_996, 100, (9, 1, 0)),
    (5000, 10, 10, 20_431, 500, (10, 0, 0)),
    (500, 100, 200, 9_502, 2, (30, 31, 39)),
    (500, 100, 100, 10_847, 5, (35, 35, 30)),
    (500, 100, 50, 12_608, 10, (41, 41, 18)),
    (500, 100, 10, 19_573, 50, (69, 31, 0)),
]
CIFAR10_COUNTS = {
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
}


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"c{k}" for k in range(classes))


def shuffled_labels(largest: int, classes: int) -> np.ndarray:
    labels = np.repeat(np.arange(classes), largest)
    return np.random.default_rng(5).permutation(labels)


def published_snippet(
    targets: np.ndarray, cls_num: int, imb_type: str, imb_factor: float, rand_number: int = 0
) -> np.ndarray:
    """The original, as published: legacy global generator and all."""
    saved = np.random.get_state()
    try:
        np.random.seed(rand_number)
        img_max = len(targets) / cls_num
        per_class = []
        if imb_type == "exp":
            for cls_idx in range(cls_num):
                per_class.append(int(img_max * (imb_factor ** (cls_idx / (cls_num - 1.0)))))
        else:
            per_class += [int(img_max)] * (cls_num // 2)
            per_class += [int(img_max * imb_factor)] * (cls_num - cls_num // 2)
        new = []
        for the_class, the_img_num in zip(np.unique(targets), per_class, strict=True):
            idx = np.where(targets == the_class)[0]
            np.random.shuffle(idx)
            new.append(idx[:the_img_num])
        return np.concatenate(new)
    finally:
        np.random.set_state(saved)


@pytest.mark.parametrize(("largest", "classes", "factor", "total", "smallest", "shots"), PUBLISHED)
def test_t03_class_sizes_are_the_published_ones(largest, classes, factor, total, smallest, shots):
    sizes = class_sizes(largest, classes, factor, "exp")
    assert (sizes.sum(), sizes[0], sizes[-1]) == (total, largest, smallest)
    many, few = (sizes > 100).sum(), (sizes < 20).sum()
    assert (many, classes - many - few, few) == shots


@pytest.mark.parametrize("factor", CIFAR10_COUNTS)
def test_t03_cifar10_sizes_class_by_class(factor):
    assert class_sizes(5000, 10, factor, "exp").tolist() == CIFAR10_COUNTS[factor]


def test_t03_smallest_classes_of_cifar100():
    assert (class_sizes(500, 100, 100, "exp") == 5).sum() == 4
    assert (class_sizes(500, 100, 200, "exp") < 6).sum() == 17


@pytest.mark.parametrize("profile", ["exp", "step"])
@pytest.mark.parametrize(("largest", "classes", "factor"), [p[:3] for p in PUBLISHED])
def test_t03_rows_are_those_of_the_published_code(largest, classes, factor, profile):
    labels = shuffled_labels(largest, classes)
    rows = longtail_subset(labels, names(classes), factor, profile)
    np.testing.assert_array_equal(rows, published_snippet(labels, classes, profile, 1 / factor))


def test_t03_rows_never_change_between_versions():
    labels = np.arange(50_000) % 10
    rows = longtail_subset(labels, names(10), 100, "exp")
    assert rows[:3].tolist() == [3980, 38330, 48360]
    digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "563055e23a86ca16"


def test_t03_another_subset_seed_is_another_subset():
    labels = shuffled_labels(500, 10)
    first, second = (longtail_subset(labels, names(10), 10, "exp", seed) for seed in (0, 1))
    assert len(first) == len(second)
    assert set(first) != set(second)


@given(
    st.integers(2, 12),
    st.integers(1, 40),
    st.floats(1, 40),
    st.sampled_from(["exp", "step"]),
    st.integers(0, 2**16),
)
def test_t03_no_row_is_drawn_twice_and_sizes_fall(classes, largest, factor, profile, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), largest))
    if int(largest / factor) < 1 or class_sizes(largest, classes, factor, profile)[-1] < 1:
        with pytest.raises(DataError, match="no training image"):
            longtail_subset(labels, names(classes), factor, profile, seed)
        return
    rows = longtail_subset(labels, names(classes), factor, profile, seed)
    counts = np.bincount(labels[rows], minlength=classes)
    assert len(set(rows.tolist())) == len(rows)
    assert counts[0] == largest
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] >= int(largest / factor) - 1
    # class after class, as published
    assert (np.diff(labels[rows]) >= 0).all()


@pytest.mark.parametrize("profile", ["exp", "step"])
def test_factor_one_keeps_every_row(profile):
    labels = shuffled_labels(30, 4)
    rows = longtail_subset(labels, names(4), 1.0, profile)
    assert sorted(rows) == list(range(120))


def test_step_profile_of_an_odd_number_of_classes():
    assert class_sizes(100, 5, 20, "step").tolist() == [100, 100, 5, 5, 5]


def test_a_set_that_is_not_quite_balanced_starts_from_its_smallest_class():
    labels = np.repeat([0, 1, 2], [90, 110, 130])
    rows = longtail_subset(labels, names(3), 9, "exp")
    assert np.bincount(labels[rows]).tolist() == [90, 30, 10]
    assert uneven(labels, names(3), rows) == [
        "the classes have 90 to 130 training samples: the long tail starts from the smallest, 'c0' "
        "with 90, and leaves out 200 of 330"
    ]


@pytest.mark.parametrize("counts", [[100] * 3, [101, 100, 99], [90, 102, 108], [130, 110, 60]])
def test_a_set_that_is_nearly_balanced_is_not_worth_a_word(counts):
    labels = np.repeat([0, 1, 2], counts)
    assert uneven(labels, names(3), longtail_subset(labels, names(3), 9, "exp")) == []


@pytest.mark.parametrize("factor", [1, 3, 10, 100])
def test_a_naturally_imbalanced_set_is_refused_with_its_counts(factor):
    labels = np.repeat([0, 1, 2], [20, 48, 3])
    with pytest.raises(DataError) as caught:
        longtail_subset(labels, names(3), factor, "exp")
    message = str(caught.value)
    assert "48 to 3: 'c1' 48, 'c0' 20, 'c2' 3; leave out imbalance_factor" in message
    assert "more than 3 times" in message


def test_a_set_as_uneven_as_svhn_is_still_taken_for_balanced():
    counts = [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
    labels = np.repeat(np.arange(10), counts)
    rows = longtail_subset(labels, names(10), 100, "exp")
    found = np.bincount(labels[rows])
    assert (found[0], found[-1]) == (4659, 46)
    (said,) = uneven(labels, names(10), rows)
    assert "'c9' with 4,659, and leaves out 61,700 of 73,257" in said
    counts[1] += 117
    with pytest.raises(DataError, match="13,978 to 4,659"):
        longtail_subset(np.repeat(np.arange(10), counts), names(10), 100, "exp")


def test_too_large_a_factor_names_the_first_empty_class_and_the_limit():
    labels = np.arange(490) % 10
    with pytest.raises(DataError, match=r"200.*'c7'.*less than 49\b"):
        longtail_subset(labels, names(10), 200, "exp")
    # the published formula truncates 49 · (1 / 49) to 0: "at most 49" would be no advice
    with pytest.raises(DataError, match="less than 49"):
        longtail_subset(labels, names(10), 49, "exp")
    assert len(longtail_subset(labels, names(10), 48.9, "exp")) > 49


def test_t04_numpys_global_generator_is_neither_seeded_nor_read():
    labels = shuffled_labels(50, 10)
    np.random.seed(7)
    before = np.random.get_state()
    first = longtail_subset(labels, names(10), 10, "exp")
    balanced_subset(labels, names(10), 100)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.random.seed(8)
    np.testing.assert_array_equal(first, longtail_subset(labels, names(10), 10, "exp"))


@given(st.integers(2, 10), st.integers(1, 60))
def test_balanced_subset_has_the_total_asked_for_in_equal_classes(classes, total):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), 60))
    rows = balanced_subset(labels, names(classes), total)
    counts = np.bincount(labels[rows], minlength=classes)
    assert len(set(rows.tolist())) == len(rows) == total
    assert counts.max() - counts.min() <= 1


def test_balanced_subset_that_a_class_cannot_fill_names_it():
    labels = np.repeat([0, 1], [100, 10])
    with pytest.raises(DataError, match=r"needs 30 .*'c1'.* are 10"):
        balanced_subset(labels, names(2), 60)
