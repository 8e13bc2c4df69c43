"""What searches came to, beside what the tuned recipes gain over their own defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.compare import Panel, differences
from harness.analysis.images import ImageScores
from harness.analysis.intervals import MARGIN

_GAIN = ["gain", "low", "high", "p", "pairs", "sd", "verdict", "new_low", "new_high"]
COLUMNS = ["dataset", "model", "recipe", "tuned", "values", "trials", "lost", "runs", "seconds"]
COLUMNS += ["val_default", "val_default_sd", "val_best", "val_best_sd", "own_best", *_GAIN]

Score = tuple[float, float | None]
"""Mean and standard deviation over the tuning seeds, on val; no deviation of a single seed."""


@dataclass(frozen=True)
class Searched:
    """What the search of one recipe came to, in plain values.

    Attributes:
        dataset: As tables call it.
        model: As tables call it.
        recipe: Name of the recipe, untuned.
        tuned: Name of the recipe, tuned.
        values: By path, the recipe's own value and the one that won; empty without a winner.
        trials: How many were made.
        lost: How many of them came to no value of their own: pruned, failed, diverged.
        default: Score of the recipe's own values, where they came to one.
        best: Score of the winner, where there is one.
        own_best: Whether the recipe's own values won.
        runs: Runs that the trials asked for.
        seconds: What these runs took, added up.
    """

    dataset: str
    model: str
    recipe: str
    tuned: str
    values: Mapping[str, tuple[float, float]]
    trials: int
    lost: int
    default: Score | None
    best: Score | None
    own_best: bool
    runs: int
    seconds: float


def table(
    searched: Sequence[Searched],
    runs: pd.DataFrame,
    metric: str,
    margin: float = MARGIN,
    images: Mapping[Panel, ImageScores] | None = None,
) -> pd.DataFrame:
    """Return one row per search, with the gain of the tuned recipe over its own default on test.

    ``gain`` and what follows it are of `differences`, paired by seed on the runs of the report,
    of which no trial was part; missing where the recipe's own values won, which are the same runs.
    ``values`` reads ``path own → tuned``; scores on val are over the tuning seeds.

    Args:
        searched: What the searches came to.
        runs: From `harness.analysis.tables.runs_table`.
        metric: The primary metric.
        margin: Largest difference that does not matter, in the metric's unit.
        images: Scores of single test images, by panel.
    """
    rows = []
    for one in searched:
        default, default_sd = one.default or (None, None)
        best, best_sd = one.best or (None, None)
        said = [one.dataset, one.model, one.recipe, one.tuned, _written(one.values), one.trials]
        said += [one.lost, one.runs, one.seconds, default, default_sd, best, best_sd, one.own_best]
        rows.append([*said, *_gain(one, runs, metric, margin, images)])
    numbers = [name for name in COLUMNS if name.startswith("val_")] + ["gain", "low", "high", "p"]
    numbers += ["pairs", "sd", "new_low", "new_high"]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(numbers, float))


def _written(values: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(
        f"{path} {own:.4g}" if own == won else f"{path} {own:.4g} → {won:.4g}"
        for path, (own, won) in values.items()
    )


def _gain(
    one: Searched,
    runs: pd.DataFrame,
    metric: str,
    margin: float,
    images: Mapping[Panel, ImageScores] | None,
) -> list[object]:
    here = (runs["dataset"] == one.dataset) & (runs["model"] == one.model)
    here &= (runs["reference"] == "") & runs["recipe"].isin((one.recipe, one.tuned))
    found = differences(runs[here], metric, margin, one.recipe, images)
    if found.empty:
        return [None] * len(_GAIN)
    return [found[name].iloc[0] for name in _GAIN]
