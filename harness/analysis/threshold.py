"""Is a gain only a moved decision threshold? What rules leave of it, as tables."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import intervals
from harness.analysis.deciding import Decided, Setting, decide_runs
from harness.analysis.decompose import AS_IT_IS, Panel, decomposition
from harness.analysis.intervals import MARGIN
from harness.analysis.rescored import known
from harness.analysis.tables import BLOCK, DONE, GROUP, measured, records
from harness.decisions.base import Case, Fitted
from harness.decisions.priors import TrainedPrior
from harness.errors import StoreError
from harness.experiment.decisions import Decisions
from harness.experiment.design import NOTHING
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.metrics import Metric, metric_of
from harness.training.run_result import recall_run

_NO_SHIFT = ("argmax", "temperature")
"""Rules that leave the decision threshold where it is."""

Row = dict[str, Any]


@dataclass
class Threshold:
    """What decision rules make of the gains of an experiment.

    Attributes:
        metric: Label of the primary metric.
        primary: Label of the rule that claims are made with.
        rule: Label of the rule that the answer adjusts both by; empty where the experiment names
            none that moves a threshold.
        margin: Largest difference that does not matter, in the metric's unit.
        table: From `decomposition`, with ``own`` and its interval ``own_low, own_high`` (what the
            rule changes of the recipe's own value), ``verdict`` of the rest and, of `primary`
            and the primary metric, ``p_holm``.
        decided: What it was made from.
    """

    metric: str
    primary: str
    rule: str
    margin: float = MARGIN
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    decided: Decided = field(default_factory=lambda: Decided(pd.DataFrame()))

    def row(self, panel: Panel, recipe: str, rule: str | None = None) -> Row | None:
        """Return a recipe's row of `table`, by default under `rule`."""
        wanted = (*panel, recipe, self.rule if rule is None else rule, self.metric)
        by = [*GROUP, "rule", "metric"]
        table = self.table
        if table.empty:
            return None
        here = np.logical_and.reduce(
            [table[name] == value for name, value in zip(by, wanted, strict=True)]
        )
        found = records(table[here])
        return found[0] if found else None

    def of_folders(self, runs: pd.DataFrame, rule: str) -> dict[str, Fitted]:
        """Return the fitted rule of each run that has one, by its folder."""
        fitted = self.decided.fitted
        return {
            str(path): fitted[key, rule]
            for key, path in zip(runs["key"], runs["path"], strict=True)
            if (key, rule) in fitted
        }

    def why_not(self, panel: Panel, recipe: str) -> str:
        """Return why nothing is known of a recipe under `rule`, or nothing."""
        texts = self.decided.notes.get((panel[0], recipe, self.rule), [])
        return texts[0] if texts else ""


def adjusting(decisions: Decisions) -> str:
    """Return the rule that both are adjusted by where a gain is taken apart, or nothing.

    The primary one; where that is argmax `prior`, which fits nothing, or else the first of the
    file's rules that moves the threshold.
    """
    labels = {rule.label(): rule.name for rule in decisions.rules}
    moving = [label for label, name in labels.items() if name not in _NO_SHIFT]
    if decisions.primary in moving:
        return decisions.primary
    return "prior" if "prior" in moving else next(iter(moving), "")


def threshold(
    runs: pd.DataFrame,
    specs: Iterable[RunSpec],
    experiment: Experiment,
    margin: float = MARGIN,
    metrics: Iterable[str | Metric] = (),
) -> Threshold:
    """Fit and apply the rules of an experiment, and take every gain apart.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
        specs: Those of the runs.
        experiment: What was asked.
        margin: Largest difference that does not matter, in the metric's unit.
        metrics: Further metrics, in which gains are taken apart as well.

    Raises:
        ConfigError: Costs, classes or priors do not fit the classes.
    """
    wanted, metric = experiment.decisions, experiment.metric
    found = Threshold(metric, wanted.primary, adjusting(wanted), margin)
    if runs.empty:
        return found
    further = [*metrics, *_expected_cost(runs, wanted)]
    found.decided = decide_runs(runs, specs, Setting.of(experiment, further))
    found.table = taken_apart(found.decided, metric, wanted.primary, margin)
    return found


def taken_apart(
    decided: Decided, metric: str, primary: str, margin: float = MARGIN
) -> pd.DataFrame:
    """Return the table of a `Threshold`.

    Args:
        decided: What rules make of runs.
        metric: Label of the primary metric.
        primary: Label of the rule that claims are made with.
        margin: Largest difference that does not matter, in the metric's unit. In a metric of
            another unit, such as a cost beside a share, every difference matters.
    """
    table = decomposition(decided.table, images=decided.images)
    if table.empty:
        return table
    table = table.merge(_own(decided.table), on=[*GROUP, "rule", "metric"], how="left")
    claims = (table["rule"] == primary) & (table["metric"] == metric)
    claims &= table["reference"] == ""
    table["p_holm"] = intervals.holm(table["rest_p"].where(claims))
    table["verdict"] = ""
    gained, unit = table["recipe"] != NOTHING, metric_of(metric).unit
    for (label, claimed), part in table[gained].groupby(["metric", claims[gained]], sort=False):
        own = metric_of(str(label))
        ends = part["rest_low"], part["rest_high"]
        p = part["p_holm"].fillna(1.0) if claimed else None
        least = margin if own.unit == unit else 0.0
        said = intervals.verdicts(*ends, least, own.higher_is_better, p)
        table.loc[part.index, "verdict"] = said
    return table


def _expected_cost(runs: pd.DataFrame, decisions: Decisions) -> list[Metric]:
    """Return the metric that counts the costs of an experiment, where it has some."""
    given = next((rule for rule in decisions.rules if rule.name == "costs"), None)
    for path in runs.loc[runs["status"] == DONE, "path"] if given is not None else ():
        try:
            names = tuple(recall_run(path).values["class_names"])
        except (StoreError, KeyError, TypeError):
            continue  # what it lacks is said where it is read as a run
        even = np.full(len(names), 1 / len(names))
        plain = given.model_copy(update={"temperature": False})  # type: ignore[union-attr]
        matrix = plain.fit(Case(names, TrainedPrior(even), even)).costs
        rows = ",".join(
            "[" + ",".join(f"{cost:.17g}" for cost in row) + "]" for row in matrix or ()
        )
        return [metric_of(f"expected_cost(costs=[{rows}])")]
    return []


def not_decided(decided: Decided, rule: str, metric: str) -> list[str]:
    """Return of which recipes a rule has no value in some run, each with the reason."""
    table = decided.table
    rows = table[(table["rule"] == rule) & (table["metric"] == metric) & table["value"].isna()]
    gone = {(row.dataset, row.recipe) for row in rows.itertuples()}
    return [
        f"{dataset}, {recipe}: rule {rule} has no value: {texts[0]}."
        for (dataset, recipe, label), texts in decided.notes.items()
        if label == rule and (dataset, recipe) in gone
    ]


def _own(decided: pd.DataFrame) -> pd.DataFrame:
    """Return what each rule changes of each recipe, doing nothing included, against argmax."""
    by = [*GROUP, "rule", "metric"]
    raw = decided.loc[decided["rule"] == AS_IT_IS, [*GROUP, *BLOCK, "metric", "value"]]
    both = decided.merge(raw, on=[*GROUP, *BLOCK, "metric"], suffixes=("", "_raw"))
    both["own"] = both["value"] - both["value_raw"]
    groups = both.groupby(by, sort=False)
    own = groups["own"]
    table = pd.DataFrame({"own": own.mean()})
    found = intervals.over_seeds(table["own"], own.std(), own.count(), groups["folds"].first())
    spans = table.index.get_level_values("metric").map(lambda label: metric_of(label).span())
    found = found.within(spans.to_numpy(np.float64))
    return table.assign(own_low=found.low, own_high=found.high).reset_index()


def under_primary(
    runs: pd.DataFrame, specs: Iterable[RunSpec], experiment: Experiment
) -> tuple[pd.DataFrame, Decided | None]:
    """Return runs with every metric of val and test as the primary rule decides it.

    Where the rule could not be fitted for a run it has no value there, and the notes of what is
    returned say why. None, and the runs as they are, where argmax is the primary rule.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
        specs: Those of the runs.
        experiment: What was asked.

    Raises:
        ConfigError: Costs, classes or priors do not fit the classes.
    """
    primary = experiment.decisions.primary
    if primary == AS_IT_IS or runs.empty:
        return runs, None
    setting = Setting.of(experiment, known(measured(runs)), in_full=True)
    only = tuple(rule for rule in setting.rules if rule.label() == primary)
    decided = decide_runs(runs, specs, replace(setting, rules=only))
    anew = runs.copy()
    labels = list(setting.every_metric())
    columns = [name for m in labels for name in (f"val_{m}", f"test_{m}") if name in runs]
    done = runs["status"] == DONE
    anew.loc[done, columns] = np.nan
    table = decided.table[decided.table["rule"] == primary]
    for split, column in (("val", "val"), ("test", "value")):
        if table.empty:
            break
        wide = table.pivot(index="key", columns="metric", values=column)
        for label in wide.columns:
            if (name := f"{split}_{label}") in columns:
                anew.loc[done, name] = runs.loc[done, "key"].map(wide[label]).to_numpy()
    return anew, decided
