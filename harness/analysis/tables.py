"""Tidy tables of committed runs, and the leaderboard.

One row per run; aggregation only here, with its rule said beside it: means over seeds (and
folds), differences paired by seed and fold against doing nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from harness.errors import StoreError
from harness.execution.runner import status_of
from harness.execution.store import Store, read_json
from harness.experiment.design import NOTHING
from harness.experiment.metric_names import METRICS
from harness.experiment.spec import RunSpec

GROUP = ["dataset", "reference", "model", "recipe"]
_PAIR = ["dataset", "reference", "model", "seed", "fold"]
FEWEST_SEEDS = 3
"""Below this many pairs there is no interval: the comparison is exploratory."""


def runs_table(store: Store, specs: Iterable[RunSpec]) -> pd.DataFrame:
    """Return one row per committed run among `specs`.

    Columns: ``key, dataset, reference, model, recipe, seed, fold, folds, status, path, seconds,
    device, notes``, one ``factor.<name>`` per factor, and ``val_<metric>`` and
    ``test_<metric>`` of each summary metric (missing where it is undefined or the run is not
    done). Without folds ``fold`` is -1 and ``folds`` 0.
    """
    stored = store.runs()
    rows = [
        _row(spec, stored[spec.key].path, stored[spec.key].failed)
        for spec in specs
        if spec.key in stored
    ]
    columns = [
        "key",
        *GROUP,
        "seed",
        "fold",
        "folds",
        "status",
        "path",
        "seconds",
        "device",
        "notes",
    ]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(rows)


def _row(spec: RunSpec, path: Path, failed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": spec.key,
        "dataset": spec.dataset_label,
        "reference": spec.reference,
        "model": spec.model.label(),
        "recipe": spec.recipe,
        "seed": spec.seed,
        "fold": -1 if spec.fold is None else spec.fold,
        "folds": spec.folds or 0,
        "status": "failed",
        "path": str(path),
        "seconds": np.nan,
        "device": "",
        "notes": (),
        **{f"factor.{factor}": level for factor, level in spec.levels},
    }
    if failed:
        row["status"] = status_of(path)
        return row
    try:
        result = read_json(path / "result.json")
        row["status"] = result["status"]
        row["seconds"] = result["cost"]["seconds"]
        row["notes"] = tuple(result["notes"])
        row["device"] = f"{result['device']['name']} ({result['device']['precision']})"
        metrics: Mapping[str, Mapping[str, float | None]] = result["metrics"]
    except (StoreError, KeyError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and run again") from None
    for split, values in metrics.items():
        for name in METRICS:
            value = values.get(name)
            row[f"{split}_{name}"] = np.nan if value is None else value
    return row


def leaderboard(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row per dataset, reference, model and recipe, best on val first.

    Means are over seeds and folds; ``sd`` is the standard deviation of the test metric over them;
    ``gain`` is the mean paired difference to doing nothing (same dataset, model, seed, fold) and
    ``gain_low``, ``gain_high`` its 95 % t-interval where there are at least `FEWEST_SEEDS` pairs.
    Folds share most of their training rows: theirs is the corrected resampled t-interval (Nadeau
    and Bengio 2003), whose variance is that of a difference times 1/pairs + 1/(folds − 1).
    A recipe with runs that failed or diverged stands below those without.

    Args:
        runs: From `runs_table`.
        metric: The primary metric.
    """
    if runs.empty:
        return pd.DataFrame()
    done = runs[runs["status"] == "done"].copy()
    groups = runs.assign(bad=runs["status"] != "done").groupby(GROUP, sort=False)
    table = groups.agg(failed=("bad", "sum"), n=("bad", lambda bad: int((~bad).sum())))
    if not done.empty:
        means = done.groupby(GROUP, sort=False).agg(**_columns(done, metric))
        table = table.join(means).join(_gains(done, metric))
    by = next((by for by in ("val", "test") if by in table and table[by].notna().any()), "n")
    higher = METRICS[metric]
    table = table.sort_values(
        ["dataset", "reference", "model", "failed", by],
        ascending=[True, True, True, True, not higher],
        kind="stable",
    )
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
        "seconds": ("seconds", "median"),
    }
    return {name: pair for name, pair in wanted.items() if pair[0] in done}


def _gains(done: pd.DataFrame, metric: str) -> pd.DataFrame:
    column = f"test_{metric}"
    base = done.loc[done["recipe"] == NOTHING, [*_PAIR, column]].rename(columns={column: "base"})
    paired = done[done["recipe"] != NOTHING].merge(base, on=_PAIR, how="inner")
    paired["gain"] = paired[column] - paired["base"]
    groups = paired.dropna(subset="gain").groupby(GROUP, sort=False)
    gain, folds = groups["gain"], groups["folds"].first()
    table = pd.DataFrame({"gain": gain.mean(), "pairs": gain.size(), "sd_gain": gain.std()})
    enough = table["pairs"] >= FEWEST_SEEDS
    overlap = (1 / (folds - 1)).where(folds > 1, 0.0)
    spread = table["sd_gain"] * np.sqrt(1 / table["pairs"] + overlap)
    half = stdtrit(table["pairs"] - 1, 0.975) * spread
    table["gain_low"] = (table["gain"] - half).where(enough)
    table["gain_high"] = (table["gain"] + half).where(enough)
    return table.drop(columns="sd_gain")
