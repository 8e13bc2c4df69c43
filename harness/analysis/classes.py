"""Per class: what each recipe does to each class, and how much its few test images can say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import intervals
from harness.analysis.formatting import unreadable
from harness.analysis.tables import BLOCK, DONE, GROUP, PANEL
from harness.experiment.design import NOTHING
from harness.training.run_result import DamagedRunError, recall_run
from harness.training.rundir import PER_CLASS

MEASURES = ("precision", "recall", "f1")

FEW_IMAGES = 20
"""Test images below which a class is flagged, and its recall has Wilson's interval beside it."""

_LONG = ["class", "name", "train_count", "support", *MEASURES]


@dataclass
class Read:
    """What `class_table` found.

    Attributes:
        table: One row per run and class.
        unread: Why per-class tables of single runs could not be used.
    """

    table: pd.DataFrame
    unread: list[str] = field(default_factory=list)


def class_table(
    runs: pd.DataFrame, decided: Mapping[str, NDArray[np.float64]] | None = None
) -> Read:
    """Read the per-class tables of test.

    One row per run and class: those of `GROUP`, ``seed, fold, folds, class, name, train_count,
    support, precision, recall, f1`` (missing where the class has no test image).

    Args:
        runs: From `runs_table`.
        decided: By the run's key, `MEASURES` as another decision rule than argmax has them,
            ``float64[3, C]``; runs that are not there are left out.
    """
    read = Read(pd.DataFrame())
    done = runs[runs["status"] == DONE]
    of_run: list[int] = []
    columns: dict[str, list[object]] = {name: [] for name in _LONG}
    for place, (key, path) in enumerate(zip(done["key"], done["path"], strict=True)):
        if decided is not None and key not in decided:
            continue
        try:
            found = _columns(recall_run(path).per_class())
        except DamagedRunError as error:
            read.unread.append(error.short)
            continue
        except (ValueError, KeyError) as error:
            read.unread.append(unreadable(Path(path) / PER_CLASS, error))
            continue
        if decided is not None:
            found |= {m: decided[key][i, found["class"]] for i, m in enumerate(MEASURES)}
        of_run += [place] * len(found["class"])
        for name, values in columns.items():
            values.extend(found[name])
    if of_run:
        whose = done[[*GROUP, *BLOCK, "folds"]].iloc[of_run].reset_index(drop=True)
        read.table = pd.concat([whose, pd.DataFrame(columns)], axis=1)
    return read


def _columns(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the columns of a per-class table for test; what is empty becomes NaN."""
    if not rows:
        raise ValueError("it has no rows of test")
    whole = {name: [int(row[name]) for row in rows] for name in ("class", "train_count", "support")}
    shares = {name: [float(row[name] or "nan") for row in rows] for name in MEASURES}
    return {"name": [row["name"] for row in rows], **whole, **shares}


def in_order(classes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class in the order that every table and figure has.

    Most training samples first; equals stand as their labels do.
    """
    one = classes.drop_duplicates("class")
    return one.sort_values(["train_count", "class"], ascending=[False, True])


def class_differences(table: pd.DataFrame, measure: str = "recall") -> pd.DataFrame:
    """Return a measure of each class under each recipe, and its paired difference to nothing.

    One row per `GROUP` and class: ``class, name, train_count, support`` (test images, over all
    folds), ``value`` (mean over runs), the means of the other measures, ``nothing`` (that of
    doing nothing), ``gain`` with its 95 % interval ``low, high`` over seeds on this test set and
    ``pairs``; ``few_images``; and of recall, for such classes, ``wilson_low, wilson_high``: what
    so few images say of the recall itself. Many classes are compared at once: exploratory,
    without p-values.

    Args:
        table: From `class_table`.
        measure: ``precision``, ``recall`` or ``f1``.
    """
    if table.empty:
        return pd.DataFrame()
    by = [*GROUP, "class"]
    groups = table.groupby(by, sort=False)
    found = groups.agg(
        name=("name", "first"),
        train_count=("train_count", "median"),
        support=("support", "sum"),
        seeds=("seed", "nunique"),
        value=(measure, "mean"),
    )
    found["support"] = (found["support"] / found.pop("seeds")).round().astype(int)
    others = [name for name in MEASURES if name != measure]
    found = found.join(groups[others].mean()).join(_gains(table, measure, by))
    found["few_images"] = found["support"] < FEW_IMAGES
    found["wilson_low"], found["wilson_high"] = np.nan, np.nan
    few = found["few_images"] & found["value"].notna()
    if measure == "recall" and few.any():
        n = found.loc[few, "support"].to_numpy(float)
        low, high = intervals.wilson(found.loc[few, "value"].to_numpy(float) * n, n)
        found.loc[few, "wilson_low"], found.loc[few, "wilson_high"] = low, high
    return found.reset_index()


def _gains(table: pd.DataFrame, measure: str, by: list[str]) -> pd.DataFrame:
    keys = [*PANEL, *BLOCK, "class"]
    base = table.loc[table["recipe"] == NOTHING, [*keys, measure]]
    paired = table.merge(base.rename(columns={measure: "base"}), on=keys, how="left")
    paired["gain"] = (paired[measure] - paired["base"]).where(paired["recipe"] != NOTHING)
    groups = paired.groupby(by, sort=False)
    gain = groups["gain"]
    made = pd.DataFrame({"nothing": groups["base"].mean(), "gain": gain.mean()})
    made["pairs"] = gain.count()
    found = intervals.over_seeds(made["gain"], gain.std(), made["pairs"], groups["folds"].first())
    found = found.within(1.0)  # each measure is a share
    return made.assign(low=found.low, high=found.high)
