"""What MLflow is told of a recipe over its seeds, as plain values from the results folder."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.deciding import Setting, decide_runs
from harness.analysis.decompose import AS_IT_IS, decomposition
from harness.analysis.tables import DONE, GROUP, records, runs_table
from harness.errors import counted
from harness.execution.store import Store
from harness.metrics import key_of, metric_of
from harness.tracking.asked import Asked, Recipe, rule_key

HANDFUL = ("balanced_accuracy", "macro_f1", "recall_few", "worst_class_recall", "ece")
"""Metrics under each rule, beside the primary one: MLflow draws about a hundred charts."""

_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Values:
    """What is known of a recipe.

    Attributes:
        metrics: Of its summary: means over its runs, the gain over doing nothing with its interval
            on this test set, and under each rule the threshold part and the rest of it.
        runs: Under each rule, by key of the run: ``test_<rule>_<metric>``.
        note: The same in words.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    runs: dict[str, dict[str, float]] = field(default_factory=dict)
    note: str = ""

    def digest(self, key: str) -> str:
        """Twelve digits of what is told of one run."""
        text = json.dumps(self.runs.get(key, {}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def values_of(store: Store, asked: Asked, wanted: Iterable[Recipe]) -> dict[str, Values]:
    """Return what is known of recipes by their key, but for those without a run that is done.

    Panels are decided as a whole: each gain is taken over the same panel's doing nothing.

    Raises:
        HarnessError: Costs or priors do not fit the classes.
    """
    panels = {recipe.panel for recipe in wanted}
    recipes = [recipe for recipe in asked.recipes.values() if recipe.panel in panels]
    specs = [spec for recipe in recipes for spec in recipe.specs]
    labels = list(dict.fromkeys([asked.metric, *HANDFUL]))
    first, *others = (metric_of(label) for label in labels)
    setting = Setting(first, asked.decisions.rules, asked.decisions.deploy, tuple(others))
    runs = runs_table(store, specs)
    decided = decide_runs(runs, specs, setting).table
    if decided.empty:
        return {}
    parts = {_group(row): rows for row, rows in _by_group(decomposition(decided))}
    of_runs = {_group(row): rows for row, rows in _by_group(decided)}
    done = {_group(row): rows for row, rows in _by_group(runs[runs["status"] == DONE])}
    found = {}
    for recipe in recipes:
        group = (*recipe.panel, recipe.name)
        if group in parts:
            metrics = _means(done[group], asked.metric) | _parts(parts[group], asked)
            metrics["n"] = float(of_runs[group]["key"].nunique())
            note = _note(recipe, parts[group], asked, int(metrics["n"]))
            found[recipe.key] = Values(_finite(metrics), _of_runs(of_runs[group]), note)
    return found


def _by_group(table: pd.DataFrame) -> Iterable[tuple[Any, pd.DataFrame]]:
    return table.groupby(GROUP, sort=False)


def _group(name: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in name)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return what is defined, to six places: MLflow's tables show every digit there is."""
    return {name: round(float(v), 6) + 0.0 for name, v in values.items() if math.isfinite(v)}


def _means(done: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return means of what no rule decides: the metric on val, and what a run costs."""
    column = f"val_{metric}"
    val = done[column].mean() if column in done else np.nan
    return {f"mean_val_{key_of(metric)}": val, "mean_seconds": done["seconds"].mean()}


def _parts(rows: pd.DataFrame, asked: Asked) -> dict[str, float]:
    """Return means under each rule, and parts of the gain by the primary metric."""
    found: dict[str, float] = {}
    for row in records(rows):
        rule, metric = rule_key(str(row["rule"])), key_of(str(row["metric"]))
        plain = row["rule"] == AS_IT_IS
        found[f"mean_{metric}" if plain else f"mean_{rule}_{metric}"] = row["value"]
        if row["metric"] != asked.metric:
            continue
        if plain:
            found |= {f"gain{end}": row[f"gain{end}"] for end in _ENDS}
            found["pairs"] = row["pairs"] or np.nan
        else:
            for part in ("threshold_part", "rest"):
                found |= {f"{rule}_{part}{end}": row[f"{part}{end}"] for end in _ENDS}
    return found


def _of_runs(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in records(rows[(rows["rule"] != AS_IT_IS) & rows["value"].notna()]):
        name = f"test_{rule_key(str(row['rule']))}_{key_of(str(row['metric']))}"
        found.setdefault(str(row["key"]), {})[name] = float(row["value"])
    return found


def _note(recipe: Recipe, rows: pd.DataFrame, asked: Asked, done: int) -> str:
    """Return, for the page of the summary, what its metrics say."""
    unit = metric_of(asked.metric).unit
    primary = {str(row["rule"]): row for row in records(rows[rows["metric"] == asked.metric])}
    plain = primary.pop(AS_IT_IS)
    runs = counted(done, "run")
    about = f"**{asked.metric}{unit.percent}** on test: {unit.value(plain['value'])}"
    lines = [f"{recipe.about}: means over {runs}.", "", f"- {about}"]
    if plain["pairs"]:
        lines.append(f"- gain over doing nothing: {_said(plain, 'gain', unit)}")
    for rule, row in primary.items():
        value = unit.value(row["value"])
        lines.append(f"- decided by `{rule}`: {value}")
        if row["pairs"]:
            rest, part = (_said(row, part, unit) for part in ("rest", "threshold_part"))
            lines.append(f"- gain with doing nothing decided so, too: {rest}; threshold: {part}")
    lines += ["", "95 % intervals over seeds on this test set, each by itself."]
    return "\n".join(lines)


def _said(row: Mapping[str, Any], part: str, unit: Any) -> str:
    between = unit.interval(row[f"{part}_low"], row[f"{part}_high"])
    return f"{unit.signed(row[part])} {between}".strip()


def stored_rules(names: Sequence[str]) -> set[str]:
    """Return which metrics of a run in MLflow were told of rules, by the names of all it has.

    What is not of a rule has a second name, with a slash.
    """
    known = set(names)
    return {
        name
        for name in known
        if name.startswith("test_") and "/" not in name
        if f"test/{name.removeprefix('test_')}" not in known
    }
