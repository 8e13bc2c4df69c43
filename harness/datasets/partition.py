"""How the samples of a source become train, val and test: the same rules for every source."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from harness.datasets import remarks
from harness.datasets.longtail import Profile, balanced_subset, longtail_subset, uneven
from harness.datasets.records import SPLITS, TEST, TRAIN, VAL, Index, Rows
from harness.datasets.splits import stratified_folds, stratified_split
from harness.errors import DataError, counted, listing
from harness.streams import stream

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Partition(BaseModel):
    """The fields that decide the three parts, and the one way to cut by them.

    The test set is the source's own, or `test_fraction` held out with split seed 0: the same for
    every recipe and every seed; or each fold in turn, where the source has no split. The
    long-tailed subset is drawn from the full training part with split seed 0, val is carved from
    that subset with the run's seed.
    """

    imbalance_factor: Annotated[float | None, Field(ge=1.0)] = None
    """Largest class count / smallest class count of the long-tailed subset to draw from a balanced
    set: one in which no class has more than 3 times the training samples of another."""
    profile: Profile = "exp"
    """Shape of the tail: ``exp`` or ``step``."""
    balanced: bool = False
    """The balanced reference: as many training samples as the subset, in equal classes."""
    val_fraction: Fraction | None = None
    """Share of the training part carved as val; by default the source's own val, else 0.2."""
    val_minimum: Annotated[int, Field(ge=0)] = 1
    """Fewest val samples of a class, as long as that leaves it a training sample."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share held out as test where the source has no test set of its own."""

    def split(
        self, index: Index, seed: int, fold: int | None = None, folds: int | None = None
    ) -> Rows:
        """Return train, val and test rows.

        Args:
            index: The samples.
            seed: Decides val, and the folds where the source names none.
            fold: Which fold is the test set, or None for a fixed test set.
            folds: Number of folds.

        Raises:
            DataError: A class is left without a training sample, nothing is left as test, a
                group straddles a split, or folds and what the source names contradict each other.
        """
        _require_one_way(index, folds if fold is not None else None)
        pool, val, test = self._official(index, seed, fold, folds)
        subset, notes = self._subset(index, pool)
        train = subset
        if val is None:
            train, val, said = self._carve(index, subset, seed)
            notes += said
        if self.balanced:
            train = self._levelled(index, pool, train, val)
        _require_training_rows(index, train)
        _require_test_rows(test)
        if index.group is not None:
            _require_whole_groups(index.group, (train, val, test))
        notes += remarks.untested(index, test, None if fold is None else folds)
        notes += remarks.resting(index, test)
        notes += remarks.same_sample_twice(index, (train, val, test))
        notes += remarks.nearly_the_same(index, (train, val, test))
        if self.imbalance_factor is None:
            return Rows(train, val, test, tuple(notes))
        places = _places(index.labels, pool, subset)
        return Rows(train, val, test, tuple(notes), subset, places)

    def _official(
        self, index: Index, seed: int, fold: int | None, folds: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64]]:
        """Return the training pool, the source's own val if it counts, and the test rows."""
        if fold is not None and folds is not None:
            of_row = index.fold
            if of_row is None:
                rng = stream(seed, "folds")
                of_row = stratified_folds(index.labels, folds, rng, index.group)
            return np.flatnonzero(of_row != fold), None, np.flatnonzero(of_row == fold)
        split = index.split
        if split is None:
            split = np.zeros(len(index.labels), np.int8)
        pool, val, test = (np.flatnonzero(split == part) for part in (TRAIN, VAL, TEST))
        if not len(test):
            held = stratified_split(
                index.labels[pool],
                self.test_fraction,
                stream(0, "test"),
                None if index.group is None else index.group[pool],
                left=2,
            )
            pool, test = pool[~held], pool[held]
        if not len(val):
            return pool, None, test
        if self.val_fraction is not None:
            raise DataError(
                f"the dataset has its own val split of {len(val)} samples; leave out val_fraction"
            )
        return pool, val, test

    def _subset(self, index: Index, pool: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
        if self.imbalance_factor is None:
            if self.balanced:
                raise DataError(
                    "the dataset has no imbalance_factor, and only a long-tailed subset of a "
                    "balanced set has a balanced reference of the same size"
                )
            return pool, []
        labels, names = index.labels[pool], index.class_names
        rows = longtail_subset(labels, names, self.imbalance_factor, self.profile)
        return pool[rows], uneven(labels, names, rows)

    def _levelled(
        self,
        index: Index,
        pool: NDArray[np.int64],
        train: NDArray[np.int64],
        val: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return as many rows as `train` in equal classes, beside the same val.

        Levelled after val is carved: rounding shares of other class sizes would leave another n.
        """
        rest = np.setdiff1d(pool, val)
        if index.group is not None:
            rest = rest[~np.isin(index.group[rest], index.group[val])]
        return rest[balanced_subset(index.labels[rest], index.class_names, len(train))]

    def _carve(
        self, index: Index, train: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
        fraction = 0.2 if self.val_fraction is None else self.val_fraction
        if fraction == 0.0:
            return train, train[:0], []
        labels = index.labels[train]
        groups = None if index.group is None else index.group[train]
        held = stratified_split(labels, fraction, stream(seed, "val"), groups, self.val_minimum)
        rest, val = train[~held], train[held]
        return rest, val, remarks.unvalidated(index, rest, val, self.val_minimum)


def _places(
    labels: NDArray[np.int64], pool: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the class of each row, and its place among the rows of the pool of this class."""
    place = np.full(len(labels), -1)
    for k in np.unique(labels[rows]):
        own = pool[labels[pool] == k]
        place[own] = np.arange(len(own))
    return np.stack([labels[rows], place[rows]], axis=1)


def _require_one_way(index: Index, folds: int | None) -> None:
    """Check that what is test is told once: by the source's split, by its folds or by `folds`."""
    parts = np.zeros(3, np.int64) if index.split is None else np.bincount(index.split, minlength=3)
    own = " and ".join(
        f"{SPLITS[k]} ({counted(parts[k], 'sample')})" for k in (TEST, VAL) if parts[k]
    )
    named = index.first_fold()[1]
    in_table = " (drop_columns takes it)" if len(index.shape) == 1 else ""
    if own and named:
        raise DataError(
            f"the dataset names its own {own}, and {named} folds besides; leave out split_column "
            f"or fold_column{in_table}"
        )
    if own and folds:
        raise DataError(
            f"the dataset has its own {own}, which folds would mix with train; leave out `folds`, "
            f"or the split: split_column{in_table}, or the folders train, val and test above class "
            "folders"
        )
    if named and not folds:
        raise DataError(
            f"the dataset names {named} folds itself, through which a test set held out at random "
            f"would cut; ask for `folds: {named}`, or leave out fold_column{in_table}"
        )
    if named and named != folds:
        raise DataError(f"the dataset names {named} folds itself; {folds} are asked for")


def _require_training_rows(index: Index, train: NDArray[np.int64]) -> None:
    counts = np.bincount(index.labels[train], minlength=len(index.class_names))
    if (counts == 0).any():
        empty = listing(f"'{index.class_names[k]}'" for k in np.flatnonzero(counts == 0))
        way = ""
        if index.split is not None:
            way = (
                "; the dataset has its own split, which leaves them none: move some there, or "
                "leave the split out (split_column, or the folders train, val and test)"
            )
        raise DataError(f"classes without a training sample: {empty}{way}")


def _require_test_rows(test: NDArray[np.int64]) -> None:
    if not len(test):
        raise DataError(
            "no sample can be held out as test: every class or group needs a second one"
        )


def _require_whole_groups(group: NDArray[np.int64], parts: tuple[NDArray[np.int64], ...]) -> None:
    for a, b in ((0, 1), (0, 2), (1, 2)):
        both = np.intersect1d(group[parts[a]], group[parts[b]])
        if len(both):
            raise DataError(
                f"{counted(len(both), 'group straddles', 'groups straddle')} the given splits "
                f"{SPLITS[a]} and {SPLITS[b]}; "
                "mend the split or fold column, or leave it out to have whole groups held out"
            )
