"""Recipes against doing nothing: paired differences, the leaderboard, the balanced reference.

Pure functions from the table of `harness.analysis.tables.runs_table` to tidy tables. Means are
over seeds and folds; differences are taken within a seed (and fold).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis import intervals
from harness.analysis.images import ImageScores
from harness.analysis.intervals import MARGIN, Interval
from harness.analysis.tables import BLOCK, DONE, GROUP, PANEL, measured
from harness.experiment.design import NOTHING
from harness.metrics import metric_of

Panel = tuple[str, str, str]
"""Dataset, reference, model."""


def differences(
    runs: pd.DataFrame,
    metric: str | Sequence[str],
    margin: float = MARGIN,
    baseline: str = NOTHING,
    images: Mapping[Panel, ImageScores] | None = None,
) -> pd.DataFrame:
    """Return what each recipe gains over `baseline` on test, paired by seed and fold.

    Columns: those of `GROUP`, ``metric``, ``gain`` (mean difference), ``pairs``, ``sd``; its 95 %
    interval ``low, high`` and ``p`` over seeds, *on this test set* (`intervals.over_seeds`; two
    seeds have none); ``verdict`` (`intervals.verdicts`; each by itself, so exploratory); and
    ``new_low, new_high``, the interval *on new images of this kind*, where `images` has the panel.

    Args:
        runs: From `runs_table`; only runs that are done count.
        metric: Names of summary metrics.
        margin: Largest difference that does not matter, in the metric's unit.
        baseline: Name of a recipe.
        images: Scores of single test images by that one metric, by panel.
    """
    metrics = [name for name in _names(metric) if f"test_{name}" in runs]
    paired = _paired(runs, metrics, baseline)
    groups = paired.groupby(GROUP, sort=False)
    folds = groups["folds"].first()
    mean, sd, size = (getattr(groups[metrics], of)() for of in ("mean", "std", "count"))
    anew = _on_new_images(paired, images or {})
    none = intervals.of_blocks([])
    tables = []
    for name in metrics:
        table = pd.DataFrame({"gain": mean[name], "pairs": size[name], "sd": sd[name]})
        table = table[table["pairs"] > 0]
        found = intervals.over_seeds(
            table["gain"], table["sd"], table["pairs"], folds.loc[table.index]
        ).within(metric_of(name).span())
        table["low"], table["high"], table["p"] = found.low, found.high, found.p
        better = metric_of(name).higher_is_better
        table["verdict"] = intervals.verdicts(found.low, found.high, margin, better)
        ends = [anew.get(group, none).within(metric_of(name).span()) for group in table.index]
        table["new_low"] = [float(interval.low) for interval in ends]
        table["new_high"] = [float(interval.high) for interval in ends]
        tables.append(table.assign(metric=name).reset_index())
    columns = [*GROUP, *_DIFFERENCE]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


_DIFFERENCE = ["metric", "gain", "low", "high", "p", "pairs", "sd", "verdict"]
_DIFFERENCE += ["new_low", "new_high"]


def _names(metric: str | Sequence[str]) -> list[str]:
    return [metric] if isinstance(metric, str) else list(metric)


def _paired(runs: pd.DataFrame, metrics: Sequence[str], baseline: str) -> pd.DataFrame:
    """Return one row per run of another recipe with its partner: differences by metric, both keys.

    The partner is the run of `baseline` with the same dataset, reference, model, seed and fold.
    """
    columns = [f"test_{name}" for name in metrics]
    done = runs[runs["status"] == DONE]
    by = [*PANEL, *BLOCK]
    base = done.loc[done["recipe"] == baseline, [*by, "key", *columns]]
    rest = done.loc[done["recipe"] != baseline, [*by, "recipe", "folds", "key", *columns]]
    both = rest.merge(base, on=by, how="inner", suffixes=("", "_base"))
    for name, column in zip(metrics, columns, strict=True):
        both[name] = both[column] - both[f"{column}_base"]
    return both


def _on_new_images(
    paired: pd.DataFrame, images: Mapping[Panel, ImageScores]
) -> dict[Any, Interval]:
    """Return the interval on new images of each recipe whose predictions were read."""
    found: dict[Any, Interval] = {}
    if not images:
        return found
    for group, pairs in paired.groupby(GROUP, sort=False):
        dataset, reference, model, _ = map(str, group)
        scores = images.get((dataset, reference, model))
        keys = pairs[["key", "key_base"]].to_numpy()
        if scores is not None and set(keys.flat) <= scores.keys():
            found[group] = scores.interval([{key: 1.0, base: -1.0} for key, base in keys])
    return found


def leaderboard(runs: pd.DataFrame, metric: str, failures_last: bool = True) -> pd.DataFrame:
    """Return one row per dataset, reference, model and recipe, best on val first.

    ``val`` and ``test`` are means over seeds and folds, ``sd`` the standard deviation of the test
    metric over them; ``gain``, ``pairs``, ``gain_low``, ``gain_high`` are of `differences`.
    Without val the order is of test. A recipe with runs that failed or diverged stands below
    those without.

    Args:
        runs: From `runs_table`.
        metric: The primary metric.
        failures_last: False: as if runs that are not done had never been started.
    """
    if runs.empty:
        return pd.DataFrame()
    done = runs[runs["status"] == DONE].copy()
    groups = runs.assign(bad=runs["status"] != DONE).groupby(GROUP, sort=False)
    table = groups.agg(failed=("bad", "sum"), n=("bad", lambda bad: int((~bad).sum())))
    if not done.empty:
        table = table.join(done.groupby(GROUP, sort=False).agg(**_columns(done, metric)))
        gains = differences(done, metric).set_index(GROUP)[["gain", "pairs", "low", "high"]]
        table = table.join(gains.rename(columns={"low": "gain_low", "high": "gain_high"}))
    by = next((by for by in ("val", "test") if by in table and table[by].notna().any()), "n")
    first = ["failed"] if failures_last else []
    order = [*[True] * len([*PANEL, *first]), not metric_of(metric).higher_is_better]
    table = table.sort_values([*PANEL, *first, by], ascending=order, kind="stable")
    return table.reset_index()


def _columns(done: pd.DataFrame, metric: str) -> dict[str, tuple[str, Any]]:
    wanted = {
        "val": (f"val_{metric}", "mean"),
        "test": (f"test_{metric}", "mean"),
        "sd": (f"test_{metric}", "std"),
        "many": ("test_recall_many", "mean"),
        "medium": ("test_recall_medium", "mean"),
        "few": ("test_recall_few", "mean"),
        "worst_class": ("test_worst_class_recall", "mean"),
        **{name: (f"test_{name}", "mean") for name in measured(done)},
        "seconds": ("seconds", "median"),
    }
    return {name: pair for name, pair in wanted.items() if pair[0] in done}


def chosen(board: pd.DataFrame) -> dict[Panel, str]:
    """Return the recipe that stands first in each panel: the one that val chose, if there is val.

    Only recipes with as many runs as any other take part, and none of them failed: a mean over
    fewer seeds may be one over easier ones.

    Args:
        board: From `leaderboard`.
    """
    if board.empty or "test" not in board:
        return {}
    most = board.groupby(PANEL)["n"].transform("max")
    complete = board[(board["failed"] == 0) & (board["n"] == most) & (most > 0)]
    first = complete.groupby(PANEL, sort=False)["recipe"].first()
    return {panel: str(recipe) for panel, recipe in first.items()}  # type: ignore[misc]


def gap_closed(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return how much of the gap to the balanced reference each recipe closes.

    The gap is what doing nothing gains from equal classes at the same number of samples and
    steps; ``share`` is gain / gap, paired by seed, with Fieller's 95 % interval ``low, high``
    (none where the gap is not told apart from zero). Other columns: ``dataset, model, recipe,
    gain, gap, pairs``.

    Args:
        runs: From `runs_table`.
        metric: Name of a summary metric.
    """
    rows = []
    for (dataset, model), cells in _cells(runs, metric):
        nothing, balanced = cells.get(("", NOTHING)), cells.get(("balanced", NOTHING))
        if nothing is None or balanced is None:
            continue
        for (reference, recipe), values in cells.items():
            if reference or recipe == NOTHING:
                continue
            pairs = pd.concat([values - nothing, balanced - nothing], axis=1).dropna().to_numpy()
            share = intervals.ratio(pairs[:, 0], pairs[:, 1], _folds(runs))
            gain, gap = pairs.mean(axis=0) if len(pairs) else (float("nan"), float("nan"))
            rows.append([dataset, model, recipe, gain, gap, *share[:3], len(pairs)])
    columns = ["dataset", "model", "recipe", "gain", "gap", "share", "low", "high", "pairs"]
    return pd.DataFrame(rows, columns=columns).astype({"share": float, "low": float, "high": float})


def on_balanced(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return what each recipe gains on the balanced reference, beside its gain here.

    ``difference`` (gain − balanced_gain) with its 95 % interval ``low, high`` is what it gains
    because of the imbalance; the rest it would gain anyway, as regularisation does. Other
    columns: ``dataset, model, recipe, gain, balanced_gain, pairs``.

    Args:
        runs: From `runs_table`.
        metric: Name of a summary metric.
    """
    rows = []
    for (dataset, model), cells in _cells(runs, metric):
        for reference, recipe in cells:
            needed = [("", recipe), ("", NOTHING), ("balanced", recipe), ("balanced", NOTHING)]
            if not reference or recipe == NOTHING or any(cell not in cells for cell in needed):
                continue
            values = pd.concat([cells[cell] for cell in needed], axis=1).dropna().to_numpy()
            here, there = values[:, 0] - values[:, 1], values[:, 2] - values[:, 3]
            found = intervals.of_blocks(here - there, _folds(runs)).within(
                2 * metric_of(metric).span()
            )
            gains = (here.mean(), there.mean()) if len(values) else (float("nan"),) * 2
            rows.append([dataset, model, recipe, *gains, *map(float, found[:3]), len(values)])
    columns = ["dataset", "model", "recipe", "gain", "balanced_gain"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "low", "high", "pairs"])


def _cells(
    runs: pd.DataFrame, metric: str
) -> list[tuple[tuple[str, str], dict[tuple[str, str], "pd.Series[float]"]]]:
    """Return, per dataset and model, the values of each (reference, recipe) by block.

    Nothing where no run is of a reference.
    """
    column = f"test_{metric}"
    done = runs[runs["status"] == DONE]
    if column not in done or not (done["reference"] != "").any():
        return []
    return [
        (
            (str(dataset), str(model)),
            {
                (str(reference), str(recipe)): cell.set_index(BLOCK)[column]
                for (reference, recipe), cell in panel.groupby(["reference", "recipe"], sort=False)
            },
        )
        for (dataset, model), panel in done.groupby(["dataset", "model"], sort=False)
    ]


def _folds(runs: pd.DataFrame) -> int:
    return int(runs["folds"].max())
