"""How much of a gain is a moved decision threshold: gain = threshold part + rest.

A recipe's gain over doing nothing is taken with the outputs of both as they are. The rest is the
gain once both are adjusted by the same rule, which costs nothing; the threshold part is what is
lost of the gain by that. Each is a mean of differences paired by seed (or seed and fold), so each
has the intervals of `harness.analysis.intervals`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from harness.analysis import intervals
from harness.analysis.images import ImageScores
from harness.analysis.intervals import ImageSample, Interval
from harness.analysis.tables import BLOCK, GROUP, PANEL
from harness.experiment.design import NOTHING
from harness.metrics import metric_of

AS_IT_IS = "argmax"
"""The rule of outputs that are not adjusted, which gains are taken with."""

PARTS = ("gain", "threshold_part", "rest")

Panel = tuple[str, str, str]
"""Dataset, reference, model."""


class Parts(NamedTuple):
    """A gain with what it is made of."""

    gain: Interval
    threshold_part: Interval
    rest: Interval


def parts(
    recipe: ArrayLike,
    recipe_adjusted: ArrayLike,
    nothing: ArrayLike,
    nothing_adjusted: ArrayLike,
    folds: int = 0,
) -> Parts:
    """Return the parts of gains *on this test set*: only the runs vary.

    Args:
        recipe: ``[..., blocks]``: a metric of the recipe with outputs as they are, by seed or by
            seed and fold.
        recipe_adjusted: The same with outputs adjusted.
        nothing: The same runs of doing nothing.
        nothing_adjusted: The same with outputs adjusted.
        folds: Number of folds, or 0: as in `intervals.over_seeds`.
    """
    gain, threshold, rest = _contrasts(recipe, recipe_adjusted, nothing, nothing_adjusted)
    return Parts(*(intervals.of_blocks(value, folds) for value in (gain, threshold, rest)))


def parts_on_new_images(
    sample: ImageSample,
    recipe: NDArray[np.floating[Any]],
    recipe_adjusted: NDArray[np.floating[Any]],
    nothing: NDArray[np.floating[Any]],
    nothing_adjusted: NDArray[np.floating[Any]],
) -> Parts:
    """Return the parts of gains *on new images of this kind*: test images vary as well.

    Args:
        sample: The test images.
        recipe: ``[..., S, n]``: a number per seed and image whose weighted sum is the metric.
        recipe_adjusted: The same with outputs adjusted.
        nothing: The same of doing nothing.
        nothing_adjusted: The same with outputs adjusted.
    """
    contrasts = _contrasts(recipe, recipe_adjusted, nothing, nothing_adjusted)
    return Parts(*map(sample.interval, contrasts))


def _contrasts(
    recipe: ArrayLike, recipe_adjusted: ArrayLike, nothing: ArrayLike, nothing_adjusted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return gain, threshold part and rest within each block."""
    gain = np.asarray(recipe, np.float64) - np.asarray(nothing, np.float64)
    rest = np.asarray(recipe_adjusted, np.float64) - np.asarray(nothing_adjusted, np.float64)
    return gain, gain - rest, rest


def decomposition(
    decided: pd.DataFrame,
    baseline: str = NOTHING,
    images: Mapping[tuple[Panel, str], ImageScores] | None = None,
) -> pd.DataFrame:
    """Return what each recipe gains over `baseline` under each rule, and what it is made of.

    Args:
        decided: One row per run, rule and metric: columns of `GROUP` and `BLOCK`, ``folds``,
            ``key``, ``rule``, ``metric`` and ``value``. Rows of the rule `AS_IT_IS` are needed.
        baseline: Name of a recipe.
        images: Scores of single test images by run's key, for one metric, by (panel, rule).

    Returns:
        One row per dataset, reference, model, recipe, rule and metric: the mean ``value``; for
        ``gain``, ``threshold_part`` and ``rest`` the mean over pairs, its 95 % interval ``_low,
        _high`` on this test set and ``_p``, and where `images` has the panel ``_new_low,
        _new_high`` on new images; ``pairs``. The baseline has no gain: NaN, with no pairs. A run
        that a rule could not be fitted for takes part in no pair of that rule.
    """
    columns = [*GROUP, "rule", "metric", "value", "pairs", *_COLUMNS]
    if decided.empty:
        return pd.DataFrame(columns=columns)
    by = [*GROUP, "rule", "metric"]
    known = decided[decided["value"].notna()]
    means = known.groupby(by, sort=False)["value"].mean().rename("value")
    pairs = _pairs(known, baseline)
    groups = pairs.groupby(by, sort=False)
    folds = groups["folds"].first().to_numpy(np.float64)
    found = pd.DataFrame({"pairs": groups.size(), **dict.fromkeys(_NEW, np.nan)})
    for part in PARTS:
        mean, sd = groups[part].mean(), groups[part].std()
        widest = found.index.get_level_values("metric").map(_span).to_numpy(np.float64)
        if part == "threshold_part":  # the difference of two gains
            widest = 2 * widest
        interval = intervals.over_seeds(mean, sd, found["pairs"], folds).within(widest)
        found[part] = mean
        found[f"{part}_low"], found[f"{part}_high"] = interval.low, interval.high
        found[f"{part}_p"] = interval.p
    if images and len(found):
        none = (np.nan,) * len(_NEW)
        found[_NEW] = [_on_new_images(g, members, images) or none for g, members in groups]
    table = pd.DataFrame(means).join(found).reset_index()
    table["pairs"] = table["pairs"].fillna(0).astype(int)
    return table[columns]


_COLUMNS = [
    f"{part}{end}" for part in PARTS for end in ("", "_low", "_high", "_p", "_new_low", "_new_high")
]


_NEW = [f"{part}_new_{end}" for part in PARTS for end in ("low", "high")]


def _pairs(known: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return one row per run of another recipe, rule and metric, with its parts and four keys."""
    run = [*PANEL, *BLOCK, "metric"]
    raw = known.loc[known["rule"] == AS_IT_IS, [*run, "recipe", "value"]]
    base = known.loc[known["recipe"] == baseline, [*run, "rule", "key", "value"]]
    rest = known[known["recipe"] != baseline]
    both = rest.merge(base, on=[*run, "rule"], suffixes=("", "_base"))
    both = both.merge(raw, on=[*run, "recipe"], suffixes=("", "_raw"))
    both = both.merge(
        raw[raw["recipe"] == baseline].drop(columns="recipe"), on=run, suffixes=("", "_raw_base")
    )
    gain, threshold, left = _contrasts(
        both["value_raw"], both["value"], both["value_raw_base"], both["value_base"]
    )
    return both.assign(gain=gain, threshold_part=threshold, rest=left)


def _on_new_images(
    group: Any, members: pd.DataFrame, images: Mapping[tuple[Panel, str], ImageScores]
) -> list[float] | None:
    """Return the ends of a row's intervals on new images, where all its predictions were read."""
    dataset, reference, model, _, rule, _ = group
    panel = (str(dataset), str(reference), str(model))
    raw, adjusted = images.get((panel, AS_IT_IS)), images.get((panel, str(rule)))
    keys = members[["key", "key_base"]].to_numpy()
    if raw is None or adjusted is None or not set(keys.flat) <= raw.keys() & adjusted.keys():
        return None
    scores = [s.of(keys[:, which]) for which in (0, 1) for s in (raw, adjusted)]
    anew = parts_on_new_images(raw.sample, *scores)
    return [float(end) for interval in anew for end in (interval.low, interval.high)]


def _span(metric: str) -> float:
    return metric_of(metric).span()
