"""Views of an experiment that MLflow's UI offers under "Views": made for comparing recipes.

One shows the summaries of recipes, a row each, best on test first under the rule that claims are
made with, with the gain over doing nothing and what of it other rules leave. The other has every
run on its own, with its factors as parallel coordinates.

MLflow keeps what its "Save as new view" saves as a tag of the experiment (seen in 3.17): JSON whose
``state`` is the page's settings, deflated. An MLflow that reads it otherwise shows its own page.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from harness.experiment.decisions import ARGMAX
from harness.experiment.schema import Experiment
from harness.metrics import key_of
from harness.tracking.asked import rule_key
from harness.tracking.keys import safe_name

TAG = "mlflow.sharedViewState."
RECIPES = "harness-recipes"
"""Key of the view that compares recipes."""

_SUMMARIES = "tags.`harness.kind` = 'recipe' AND tags.`harness.status` = 'current'"
_DONE = "tags.`harness.status` = 'done'"
_MOST = 100
"""Bars and lines of a chart; MLflow draws ten unless asked."""

COMPARED, PARALLEL = "Recipes compared", "Factors in parallel"


_NAME = "attributes.`Run Name`"
_NAME_WIDTH = 420
"""Pixels of the column, and 7 per letter for others: by default names are cut."""


def views_of(experiment: Experiment) -> dict[str, str]:
    """Return the tags of an experiment that hold its views."""
    decisions = experiment.decisions
    rules = [label for rule in decisions.rules if (label := rule.label()) != ARGMAX]
    return views(experiment.metric, tuple(experiment.factors), rules, decisions.primary)


def views(
    metric: str, factors: Sequence[str], rules: Sequence[str] = (), primary: str = ARGMAX
) -> dict[str, str]:
    """Return the tags that hold the views of an experiment.

    Args:
        metric: The primary metric.
        factors: Names of the factors.
        rules: Labels of the rules beside argmax.
        primary: Label of the rule that claims are made with.
    """
    metric = key_of(metric)
    test = f"test/{metric}"
    params = [safe_name(factor) for factor in factors]
    keys = {label: rule_key(label) for label in rules}
    mean = f"mean_{metric}"
    first = mean if primary == ARGMAX else f"mean_{keys[primary]}_{metric}"
    gains = [f"gain{end}" for end in ("", "_low", "_high")]
    rests = [[f"{key}_rest{end}" for end in ("", "_low", "_high")] for key in keys.values()]
    told = [mean, *gains, "n"]
    for (label, key), rest in zip(keys.items(), rests, strict=True):
        own, decided = [*rest, f"{key}_threshold_part"], f"mean_{key}_{metric}"
        told = [decided, *own, *told] if label == primary else [*told, *own, decided]
    compared = _bars([first, "gain", *(rest[0] for rest in rests)])
    cost = {"type": "SCATTER", "xaxis": _axis("mean_seconds"), "yaxis": _axis(first)}
    summary = _columns([*told, f"mean_val_{metric}", "mean_seconds"], [*params, "dataset", "model"])
    bars = _bars([test, "test/recall_few", "test/worst_class_recall"])
    lines = {
        "type": "PARALLEL",
        "selectedParams": params or ["recipe"],
        "selectedMetrics": [test],
        "showAllRuns": True,
    }
    shown = [*(str(bar["metricKey"]) for bar in bars), f"val/{metric}", "cost/seconds"]
    columns = _columns(shown, [*params, "dataset", "model", "seed"])
    return {
        f"{TAG}{RECIPES}": _view(COMPARED, _SUMMARIES, first, summary, [*compared, cost]),
        f"{TAG}harness-factors": _view(PARALLEL, _DONE, test, columns, [lines, *bars[:1]]),
    }


def _columns(metrics: Sequence[str], params: Sequence[str]) -> list[str]:
    return [f"metrics.`{key}`" for key in metrics] + [f"params.`{name}`" for name in params]


def _bars(keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{"type": "BAR", "metricKey": key, "displayName": key} for key in dict.fromkeys(keys)]


def _axis(key: str) -> dict[str, str]:
    return {"key": key, "type": "METRIC"}


def _view(
    name: str,
    where: str,
    order: str,
    columns: Sequence[str],
    charts: Sequence[dict[str, Any]],
) -> str:
    section = "harness"
    shown = [_NAME, *columns]
    metrics = [column for column in columns if column.startswith("metrics.")]
    widths = {_NAME: _NAME_WIDTH, **{column: max(7 * len(column) - 30, 95) for column in metrics}}
    state = {
        "searchFilter": where,
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": shown,
        "columnWidths": widths,
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "compareRunSections": [
            {
                "uuid": section,
                "name": name,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "compareRunCharts": [
            {
                "uuid": f"{section}-{i}",
                "metricSectionId": section,
                "runsCountToCompare": _MOST,
                "deleted": False,
                "isGenerated": False,
                **chart,
            }
            for i, chart in enumerate(charts)
        ],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
