"""What searches came to, beside what the tuned recipes gain over their own defaults."""

from collections.abc import Mapping, Sequence

import pandas as pd

from harness.analysis.compare import Panel, differences
from harness.analysis.images import ImageScores
from harness.analysis.intervals import MARGIN
from harness.execution.search_results import SearchResult, Value
from harness.experiment.tune import tuned_name

_GAIN = ["gain", "low", "high", "p", "pairs", "sd", "verdict", "new_low", "new_high"]
COLUMNS = ["dataset", "model", "recipe", "tuned", "values", "trials", "lost", "runs", "seconds"]
COLUMNS += ["val_default", "val_default_sd", "val_best", "val_best_sd", "own_best", *_GAIN]


def table(
    searched: Sequence[SearchResult],
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
        said: list[object] = [
            one.dataset,
            one.model,
            one.recipe,
            tuned_name(one.recipe),
            _written(one),
        ]
        said += [one.trials, one.trials - one.states["complete"], one.runs, one.seconds]
        said += [*_score(one.default), *_score(one.best), one.own_won]
        rows.append([*said, *_gain(one, runs, metric, margin, images)])
    numbers = [name for name in COLUMNS if name.startswith("val_")] + ["gain", "low", "high", "p"]
    numbers += ["pairs", "sd", "new_low", "new_high"]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(numbers, float))


def _score(value: Value | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.sd)


def _written(one: SearchResult) -> str:
    own = one.own
    return ", ".join(
        f"{path} {own[path]:.4g} → {won:.4g}" if own.get(path, won) != won else f"{path} {won:.4g}"
        for path, won in one.won.items()
    )


def _gain(
    one: SearchResult,
    runs: pd.DataFrame,
    metric: str,
    margin: float,
    images: Mapping[Panel, ImageScores] | None,
) -> list[object]:
    here = (runs["dataset"] == one.dataset) & (runs["model"] == one.model)
    here &= (runs["reference"] == "") & runs["recipe"].isin((one.recipe, tuned_name(one.recipe)))
    found = differences(runs[here], metric, margin, one.recipe, images)
    if found.empty:
        return [None] * len(_GAIN)
    return [found[name].iloc[0] for name in _GAIN]
