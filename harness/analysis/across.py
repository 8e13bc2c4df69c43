"""Several datasets: which recipe does well on all of them, and when that may be tested.

The unit is the dataset: seeds on one dataset say nothing of the next. Below `FEWEST` datasets no
test can call a difference real, and none is made.
"""

import numpy as np
import pandas as pd

from harness.analysis.intervals import holm
from harness.analysis.tables import DONE
from harness.experiment.design import NOTHING
from harness.metrics import metric_of

FEWEST = 6
"""Datasets from which on Wilcoxon's signed-rank test can come below 5 %: 2 / 2⁶ = 0.031."""


def means(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean test metric of each recipe on each dataset, with its rank.

    Columns ``model, dataset, recipe, test, failed, rank``; rank 1 is best, equals share a rank,
    and a recipe with runs that failed or diverged comes after all without.

    Args:
        runs: From `runs_table`; the balanced reference plays no part.
        metric: Name of a summary metric.
    """
    column = f"test_{metric}"
    here = runs[runs["reference"] == ""]
    if here.empty or column not in here:
        return pd.DataFrame(columns=["model", "dataset", "recipe", "test", "failed", "rank"])
    table = (
        here.assign(value=here[column].where(here["status"] == DONE), failed=here["status"] != DONE)
        .groupby(["model", "dataset", "recipe"], sort=False)
        .agg(test=("value", "mean"), failed=("failed", "any"))
        .reset_index()
    )
    best_first = -table["test"] if metric_of(metric).higher_is_better else table["test"]
    place = best_first.where(~table["failed"], np.inf)
    table["rank"] = place.groupby([table["model"], table["dataset"]]).rank(na_option="bottom")
    return table


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean ranks over the datasets, best first, and the test against doing nothing.

    Columns ``model, recipe, datasets, mean_rank, p, p_holm``. Only recipes that ran on every
    dataset have a mean rank that compares. ``p`` is Wilcoxon's signed-rank test of the recipe's
    means against those of doing nothing, from `FEWEST` datasets on (Demšar 2006); ``p_holm`` is
    adjusted over the recipes of a model (Benavoli, Corani and Mangili 2016 on why not by Nemenyi).

    Args:
        table: From `means`.
    """
    rows = []
    for model, part in table.groupby("model", sort=False):
        values = part.pivot(index="dataset", columns="recipe", values="test")
        failed = part.pivot(index="dataset", columns="recipe", values="failed") == True  # noqa: E712
        mean = part.groupby("recipe", sort=False)["rank"].agg(["mean", "size"])
        complete = mean[mean["size"] == len(values)]["mean"].sort_values(kind="stable")
        p = [_p(values, failed, str(recipe)) for recipe in complete.index]
        adjusted = holm(p)
        for i, (recipe, rank) in enumerate(complete.items()):
            rows.append([model, recipe, len(values), rank, p[i], adjusted[i]])
    return pd.DataFrame(
        rows, columns=["model", "recipe", "datasets", "mean_rank", "p", "p_holm"]
    ).astype({"p": float, "p_holm": float})


def _p(values: pd.DataFrame, failed: pd.DataFrame, recipe: str) -> float:
    """Return the p-value of a recipe against doing nothing; a failure is the worst difference."""
    if recipe == NOTHING or NOTHING not in values or len(values) < FEWEST:
        return float("nan")
    from scipy.stats import wilcoxon

    gains = (values[recipe] - values[NOTHING]).to_numpy(float, copy=True)
    lost = failed[recipe].to_numpy(bool)
    if failed[NOTHING].any() or np.isnan(gains[~lost]).any():
        return float("nan")
    largest = np.abs(gains[~lost]).max(initial=0.0)
    gains[lost] = -1.0 - largest
    if not gains.any():
        return 1.0
    return float(wilcoxon(gains).pvalue)


def why_no_test(datasets: int) -> str:
    """Return in a sentence why so many datasets are not tested, or nothing if they are."""
    if datasets >= FEWEST:
        return ""
    return (
        f"With {datasets} datasets no test can tell whether a recipe would help on others too: "
        f"even if it won on every one, the smallest two-sided p-value of a signed-rank test is "
        f"{2 / 2**datasets:.2g}. From {FEWEST} datasets on there is one here; until then each "
        "dataset speaks for itself."
    )
