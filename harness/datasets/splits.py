"""Stratified and group-aware splits, as pure functions of labels, groups and a generator.

scikit-learn has the like, but importing it takes longer than planning ten thousand runs.
"""

import numpy as np
from numpy.typing import NDArray


def stratified_split(
    labels: NDArray[np.int64],
    fraction: float,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
    minimum: int = 1,
) -> NDArray[np.bool_]:
    """Return which rows are held out, ``bool[N]``.

    Of each class ``max(minimum, round(fraction · n))`` rows are held out, but never its last row.
    With groups, whole groups are held out, in random order, as long as each brings the held-out
    class counts nearer to those targets and leaves every class a training row.

    Args:
        labels: ``int64[N]``.
        fraction: Share to hold out, in (0, 1).
        rng: Decides which.
        groups: ``int64[N]`` or None: rows of one group stay together.
        minimum: Fewest rows to hold out of a class that has more than that.
    """
    counts = np.bincount(labels)
    target = np.maximum(np.minimum(minimum, counts), np.round(fraction * counts).astype(np.int64))
    target = np.minimum(target, np.maximum(counts - 1, 0))
    if groups is not None:
        return _hold_out_groups(labels, groups, target, rng)
    held = np.zeros(len(labels), dtype=bool)
    for k in range(len(counts)):
        rows = np.flatnonzero(labels == k)
        held[rng.permutation(rows)[: target[k]]] = True
    return held


def _hold_out_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    target: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    table, inverse = _group_counts(labels, groups)
    left = table.sum(axis=0)
    present = left > 0
    missing = target.copy()
    held = np.zeros(len(table), dtype=bool)
    # rare classes weigh as much as common ones: distances are in shares of each class's target
    weight = 1.0 / np.maximum(target, 1)
    for group in rng.permutation(len(table)):
        after = missing - table[group]
        nearer = (np.abs(after) * weight).sum() < (np.abs(missing) * weight).sum()
        if nearer and ((left - table[group])[present] > 0).all():
            held[group] = True
            missing = after
            left = left - table[group]
    return held[inverse]


def stratified_folds(
    labels: NDArray[np.int64],
    folds: int,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the fold of each row, ``int64[N]`` in ``[0, folds)``.

    Without groups each class is dealt out in random order, each starting where the one before
    stopped, so that fold sizes differ by at most one overall and within each class. With groups,
    the largest go first, each to the fold whose class shares it evens out most.

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
    share = table / np.maximum(table.sum(axis=0), 1)
    order = rng.permutation(len(table))
    order = order[np.argsort(-share[order].sum(axis=1), kind="stable")]
    filled = np.zeros((folds, table.shape[1]))
    of_group = np.empty(len(table), dtype=np.int64)
    for group in order:
        spread = [np.std(_with(filled, f, share[group]), axis=0).sum() for f in range(folds)]
        best = int(np.argmin(spread))
        of_group[group] = best
        filled[best] += share[group]
    return of_group[inverse]


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
