"""Stratified and group-aware splits, as pure functions of labels, groups and a generator.

scikit-learn has the like, but importing it takes longer than planning ten thousand runs.
"""

import numpy as np
from numpy.typing import NDArray

GROUPS = 3
"""Raised when whole groups come to be cut another way: it is part of what a set of groups is."""

_SEVERAL = 3
"""Groups that the samples of a class should be of where they are held out: one of more than a third
of what is held out stays in train, as long as the class has others."""

_FEWEST = 2
"""How many others it must have: so many groups of a class are small, however large they are."""

_STRETCH = 1.5
"""How far beyond its share a class is held out for the sake of a second group."""


def stratified_split(
    labels: NDArray[np.int64],
    fraction: float,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    minimum: int = 1,
    left: int = 1,
) -> NDArray[np.bool_]:
    """Return which rows are held out, ``bool[N]``.

    Of each class ``max(minimum, round(fraction · n))`` rows are held out, but never its last row.
    With groups, whole groups are held out. Every class gets `minimum` rows first, those of the
    fewest groups before others, and a second group where that is not far beyond its share; then
    each group goes, in random order, that brings the held-out class counts nearer to those targets.
    A group that is large for one of its classes stays in train, unless a class has too few others:
    what is measured on one patient alone is of that patient. No class gives its last group.

    Args:
        labels: ``int64[N]``.
        fraction: Share to hold out, in (0, 1).
        rng: Decides which.
        groups: ``int64[N]`` or None: rows of one group stay together.
        minimum: Fewest rows to hold out of a class that has more than that.
        left: Groups of a class to leave where it has more: 2 where val is carved from the rest.
    """
    counts = np.bincount(labels)
    target = np.maximum(np.minimum(minimum, counts), np.round(fraction * counts).astype(np.int64))
    target = np.minimum(target, np.maximum(counts - 1, 0))
    if groups is not None:
        fewest = np.minimum(minimum, target)
        later = (1 - fraction) / 2 if left > 1 else 0.0
        return _hold_out_groups(labels, groups, target, fewest, left, later, rng)
    held = np.zeros(len(labels), dtype=bool)
    for k in range(len(counts)):
        rows = np.flatnonzero(labels == k)
        held[rng.permutation(rows)[: target[k]]] = True
    return held


def _hold_out_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    target: NDArray[np.int64],
    fewest: NDArray[np.int64],
    left: int,
    later: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    table, inverse = _group_counts(labels, groups)
    order = rng.permutation(len(table))
    choice = _Choice(table[order], target, later)
    rarest_first = np.argsort(choice.groups, kind="stable")
    for k in rarest_first:
        for keep in (left, 1):
            choice.serve(int(k), int(fewest[k]), keep)
    for k in rarest_first:
        choice.second(int(k), left + 1)  # beyond its minimum a class leaves train a second one too
    choice.fill(left + 1)
    held = np.zeros(len(table), dtype=bool)
    held[order] = choice.taken
    return held[inverse]


class _Choice:
    """Groups taken out of training one after the other, in an order that is random already.

    Args:
        table: Rows of each class in each group, ``int64[G, C]``.
        target: Rows of each class to take, ``int64[C]``.
        later: Share of a class's smaller groups to leave for what is held out after this.
    """

    def __init__(
        self, table: NDArray[np.int64], target: NDArray[np.int64], later: float = 0.0
    ) -> None:
        self.taken = np.zeros(len(table), dtype=bool)
        self._table = table
        self._has: NDArray[np.bool_] = table > 0
        self.groups = self._has.sum(axis=0)
        self._left = self.groups.copy()
        self._small = np.asarray((table <= self._limits(target)).all(axis=1), bool)
        self._small_left: NDArray[np.int64] = self._has[self._small].sum(axis=0)
        self._later = (later * self._small_left).astype(np.int64)
        self._held = np.zeros_like(target)
        self._target = target
        # rare classes weigh as much as common ones: distances are in shares of a class's target
        self._weight = 1.0 / np.maximum(target, 1)

    def serve(self, k: int, fewest: int, keep: int) -> None:
        """Take groups of class `k` until `fewest` of its rows are taken, as far as that can be.

        The first that brings the counts nearer to the targets; where all are too large for that,
        the one that leads them least astray. Small groups go before large ones.
        """
        while self._held[k] < fewest:
            able = np.flatnonzero(self._has[:, k] & self._spared(slice(None), keep))
            if not len(able):
                return
            if self._small[able].any():
                able = able[self._small[able]]
            after = self._distance(self._held + self._table[able])
            nearer = np.flatnonzero(after < self._distance(self._held))
            self._take(able[nearer[0] if len(nearer) else after.argmin()])

    def second(self, k: int, keep: int) -> None:
        """Take a second small group of class `k` where one alone is taken, unless too much."""
        if np.count_nonzero(self._has[self.taken, k]) != 1:
            return
        able = self._has[:, k] & self._spare(slice(None), keep)
        able &= self._held[k] + self._table[:, k] <= _STRETCH * self._target[k]
        if able.any():
            self._take(np.argmin(np.where(able, self._distance(self._held + self._table), np.inf)))

    def fill(self, keep: int) -> None:
        """Take every small group that brings the counts nearer to the targets."""
        for group in range(len(self._table)):
            after = self._held + self._table[group]
            if self._distance(after) < self._distance(self._held) and self._spare(group, keep):
                self._take(group)

    def _limits(self, target: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of each class in a group up to which it is small, ``int64[C]``."""
        last = np.iinfo(np.int64).max
        sizes = np.sort(np.where(self._has, self._table, last), axis=0)
        place = np.clip(np.minimum(_FEWEST, self.groups - 1), 1, None) - 1
        needed = sizes[np.minimum(place, len(sizes) - 1), np.arange(len(target))]
        limits: NDArray[np.int64] = np.maximum(target // _SEVERAL, needed)
        return limits

    def _spare(self, which: "slice | int", keep: int) -> NDArray[np.bool_]:
        """Return which small groups can go: what is held out later must find some too."""
        short = self._has[which] & (self._small_left <= self._later)
        spare: NDArray[np.bool_] = self._small[which] & ~short.any(axis=-1)
        return spare & self._spared(which, keep)

    def _spared(self, which: "slice | int", keep: int) -> NDArray[np.bool_]:
        """Return which groups can go: `keep` of each class, or all but one of fewer, must stay."""
        short = self._left <= np.minimum(keep, np.maximum(self.groups - 1, 1))
        spared: NDArray[np.bool_] = ~self.taken[which] & ~(self._has[which] & short).any(axis=-1)
        return spared

    def _distance(self, held: NDArray[np.int64]) -> NDArray[np.float64]:
        distance: NDArray[np.float64] = (np.abs(held - self._target) * self._weight).sum(axis=-1)
        return distance

    def _take(self, group: "int | np.int64") -> None:
        self.taken[group] = True
        self._held = self._held + self._table[group]
        self._left = self._left - self._has[group]
        self._small_left = self._small_left - (self._has[group] & self._small[group])


def stratified_folds(
    labels: NDArray[np.int64],
    folds: int,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the fold of each row, ``int64[N]`` in ``[0, folds)``.

    Without groups each class is dealt out in random order, each starting where the one before
    stopped, so that fold sizes differ by at most one overall and within each class. With groups,
    those go first that hold classes of few groups, and the largest of them, each to the fold that
    lacks its classes or, where that is equal, where it evens out most how many rows and how many
    groups of each class the folds have.

    Args:
        labels: ``int64[N]``.
        folds: Number of folds, at least 2.
        rng: Decides which.
        groups: ``int64[N]`` or None: rows of one group stay together.
    """
    fold = np.empty(len(labels), dtype=np.int64)
    if groups is None:
        dealt = 0
        for k in range(int(labels.max()) + 1):
            rows = rng.permutation(np.flatnonzero(labels == k))
            fold[rows] = (np.arange(len(rows)) + dealt) % folds
            dealt += len(rows)
        return fold
    table, inverse = _group_counts(labels, groups)
    return _deal_groups(table, folds, rng.permutation(len(table)))[inverse]


def _deal_groups(
    table: NDArray[np.int64], folds: int, order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the fold of each group, ``int64[G]``, of class counts ``int64[G, C]``."""
    share = table / np.maximum(table.sum(axis=0), 1)
    chance = (table > 0) / np.maximum((table > 0).sum(axis=0), 1)
    order = order[np.lexsort((-share[order].sum(axis=1), -chance[order].sum(axis=1)))]
    classes = table.shape[1]
    both = np.concatenate([share, chance], axis=1)
    filled = np.zeros((folds, 2 * classes))
    of_group = np.empty(len(table), dtype=np.int64)
    for group in order:
        lacks = (filled[:, :classes] == 0) @ chance[group]
        spread = [np.std(_with(filled, f, both[group]), axis=0).sum() for f in range(folds)]
        # rounded, or the last bit of a sum would choose among equals
        best = int(np.lexsort(np.round((filled.sum(axis=1), spread, -lacks), 9))[0])
        of_group[group] = best
        filled[best] += both[group]
    return of_group


def _with(
    filled: NDArray[np.float64], fold: int, share: NDArray[np.float64]
) -> NDArray[np.float64]:
    trial = filled.copy()
    trial[fold] += share
    return trial


def _group_counts(
    labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return class counts per group, ``int64[G, C]``, and each row's group, ``int64[N]``."""
    _, inverse = np.unique(groups, return_inverse=True)
    table = np.zeros((int(inverse.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (inverse, labels), 1)
    return table, inverse
