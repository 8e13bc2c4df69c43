"""What a cut leaves to be desired, in words: classes without val or test, the same image twice."""

import numpy as np
from numpy.typing import NDArray

from harness.datasets.records import SPLITS, TEST, VAL, Index
from harness.errors import counted, listing

Part = NDArray[np.int64]
"""Rows, ``int64[n]``."""


def untested(index: Index, test: Part, folds: int | None) -> list[str]:
    """Return remarks on classes without a test sample, with the reason.

    Args:
        index: The samples.
        test: Which of them are test.
        folds: Number of folds of which this is one, or None.
    """
    absent = _short(index, test, 1)
    if folds is not None and index.fold is not None:
        return _remarks(index, "test", dict.fromkeys(absent, "this fold of the set's own has none"))
    if folds is not None:
        return _remarks(index, "test", {k: _in_folds(index, k, folds) for k in absent})
    if index.split is not None and (index.split == TEST).any():
        return _remarks(index, "test", dict.fromkeys(absent, "the set's own test has none"))
    own_val = index.split == VAL if index.split is not None else np.zeros(len(index.labels), bool)
    pool = np.flatnonzero(~own_val)
    return _remarks(index, "test", {k: _not_spared(index, pool, k, "only") for k in absent})


def unvalidated(index: Index, train: Part, val: Part, minimum: int) -> list[str]:
    """Return remarks on classes with fewer val samples than they should have, with the reason.

    Args:
        index: The samples.
        train: What val was carved from and left.
        val: What was carved.
        minimum: Fewest val samples of a class, where it can spare them.
    """
    pool = np.concatenate([train, val])
    absent = _short(index, val, 1)
    if minimum:
        found = _remarks(index, "val", {k: _not_spared(index, pool, k, "left") for k in absent})
    else:
        too_small = "val_minimum is 0, and their share is too small"
        found = _remarks(index, "val", dict.fromkeys(absent, too_small))
    fewer = [f"'{index.class_names[k]}'" for k in _short(index, val, minimum) if k not in absent]
    if fewer:
        unit = "sample" if index.group is None else "group"
        found.append(
            f"fewer than {minimum} val samples (val_minimum) of {listing(fewer)}: train keeps "
            f"at least one {unit} of each class"
        )
    return found


FEW_GROUPS = 2
"""Groups up to which what is measured on a class is of these groups rather than of the class."""


def resting(index: Index, test: Part) -> list[str]:
    """Return a remark on classes whose test samples are mostly of one group, or all of two."""
    if index.group is None:
        return []
    said = []
    for k in range(len(index.class_names)):
        own = test[index.labels[test] == k]
        sizes = np.sort(np.unique(index.group[own], return_counts=True)[1])[::-1]
        if not len(own):
            continue
        if len(sizes) <= FEW_GROUPS:
            of = f"{counted(len(own), 'sample')} of {counted(len(sizes), 'group')}"
        elif 2 * sizes[0] > len(own):
            of = f"{sizes[0]} of {len(own)} samples of one group"
        else:
            continue
        said.append(f"'{index.class_names[k]}' ({of})")
    if not said:
        return []
    return [
        f"test rests on one or two groups for {listing(said)}: what is measured there is of these "
        "groups, and not certain of others"
    ]


def _short(index: Index, part: Part, minimum: int) -> list[int]:
    """Return the classes with fewer samples in a part."""
    counts = np.bincount(index.labels[part], minlength=len(index.class_names))
    return np.flatnonzero(counts < minimum).tolist()


def _remarks(index: Index, part: str, reasons: dict[int, str]) -> list[str]:
    names: dict[str, list[str]] = {}
    for k, reason in reasons.items():
        names.setdefault(reason, []).append(f"'{index.class_names[k]}'")
    return [f"no {part} sample of {listing(found)}: {reason}" for reason, found in names.items()]


def _units(index: Index, pool: Part, k: int) -> tuple[int, str]:
    """Return how many things of class `k` can go one way or another, and what they are."""
    rows = pool[index.labels[pool] == k]
    if index.group is None:
        return len(rows), "sample"
    return len(np.unique(index.group[rows])), "group"


def _not_spared(index: Index, pool: Part, k: int, only: str) -> str:
    units, unit = _units(index, pool, k)
    if units == 1:
        return f"1 {unit} {only}, which train keeps"
    return f"its {units} {unit}s hold other classes too, which need them in train"


def _in_folds(index: Index, k: int, folds: int) -> str:
    units, unit = _units(index, np.arange(len(index.labels)), k)
    if units < folds:
        return f"{counted(units, unit)} for {folds} folds"
    return f"its {units} {unit}s hold other classes too, and went to other folds"


def sample_nouns(index: Index) -> tuple[str, str]:
    """Return what one sample is called, and several."""
    return ("row", "rows") if len(index.shape) == 1 else ("image", "images")


def _what_to_do(index: Index) -> str:
    if index.by_chance:
        return "so few different rows are possible that chance makes them equal"
    table = len(index.shape) == 1
    key = "group_column" if table else "group_column; group for class folders"
    return f"delete the copies, or keep them together with a group ({key})"


def same_sample_twice(index: Index, parts: tuple[Part, Part, Part]) -> list[str]:
    """Return a remark for each two parts that hold the same image, or row of a table."""
    if not len(index.digests):
        return []
    one, many = sample_nouns(index)
    notes = []
    found = [{index.digests[row]: int(row) for row in part} for part in parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        both = [digest for digest in found[b] if digest in found[a]]
        if both:
            pairs = (
                f"{index.id_of(found[a][digest])} = {index.id_of(found[b][digest])}"
                for digest in both
            )
            notes.append(
                f"{counted(len(both), f'{one} is', f'{many} are')} both in {SPLITS[a]} and in "
                f"{SPLITS[b]}: {listing(pairs, 3)}; {_what_to_do(index)}"
            )
    return notes


def nearly_the_same(index: Index, parts: tuple[Part, Part, Part]) -> list[str]:
    """Return a remark for each two parts that hold one picture in two files."""
    if not len(index.alike):
        return []
    part_of = np.full(len(index.labels), -1)
    for place, part in enumerate(parts):
        part_of[part] = place
    notes = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        torn = [pair for pair in index.alike if sorted(part_of[list(pair)]) == [a, b]]
        if torn:
            pairs = (f"{index.id_of(one)} ≈ {index.id_of(other)}" for one, other in torn)
            notes.append(
                f"{counted(len(torn), 'image seems', 'images seem')} to be both in {SPLITS[a]} and "
                f"in {SPLITS[b]}, encoded again, resized or cropped: {listing(pairs, 3)}; look at "
                "them, and delete the copies or keep them together with a group (group_column; "
                "group for class folders)"
            )
    return notes
