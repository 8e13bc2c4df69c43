"""Views of an experiment that MLflow's UI offers under "Views": made for comparing recipes.

MLflow keeps what its "Save as new view" saves as a tag of the experiment (seen in 3.17): JSON whose
``state`` is the page's settings, deflated. An MLflow that reads it otherwise shows its own page.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from harness.metrics import key_of
from harness.tracking.keys import safe_name

TAG = "mlflow.sharedViewState."
RECIPES = "harness-recipes"
"""Key of the view that compares recipes."""

_DONE = "tags.`harness.status` = 'done'"
_MOST = 100
"""Bars and lines of a chart; MLflow draws ten unless asked."""

COMPARED, PARALLEL = "Recipes compared", "Factors in parallel"


_NAME = "attributes.`Run Name`"
_WIDTHS = {_NAME: 400, "metrics": 190}
"""Pixels of a column: by default names of recipes and of metrics are cut."""


def views(metric: str, factors: Sequence[str], recipes: Sequence[str] = ()) -> dict[str, str]:
    """Return the tags of an experiment that hold its views.

    One groups runs by recipe, best on test first: a table of means, a row per recipe, and bars of
    them and of their cost. The other has every run on its own, with its factors as parallel
    coordinates.

    Args:
        metric: The primary metric.
        factors: Names of the factors.
        recipes: Names of the recipes, whose groups are closed until somebody opens one.
    """
    metric = key_of(metric)
    test = f"test/{metric}"
    params = [safe_name(factor) for factor in factors]
    bars = [
        {"type": "BAR", "metricKey": key, "displayName": key}
        for key in dict.fromkeys([test, "test/recall_few", "test/worst_class_recall"])
    ]
    cost = {"type": "SCATTER", "xaxis": _axis("cost/seconds"), "yaxis": _axis(test)}
    lines = {
        "type": "PARALLEL",
        "selectedParams": params or ["recipe"],
        "selectedMetrics": [test],
        "showAllRuns": True,
    }
    grouped = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "harness.recipe"}],
    }
    closed = {f"tag.harness.recipe.{recipe}": False for recipe in recipes[:_MOST]}
    columns = [f"metrics.`{bar['metricKey']}`" for bar in bars]
    columns += [f"metrics.`{key}`" for key in (f"val/{metric}", "cost/seconds")]
    columns += [f"params.`{name}`" for name in (*params, "dataset", "model", "seed")]
    return {
        f"{TAG}{RECIPES}": _view(COMPARED, test, columns, [*bars, cost], grouped, closed),
        f"{TAG}harness-factors": _view(PARALLEL, test, columns, [lines, *bars[:1]], None, {}),
    }


def _axis(key: str) -> dict[str, str]:
    return {"key": key, "type": "METRIC"}


def _view(
    name: str,
    order: str,
    columns: Sequence[str],
    charts: Sequence[dict[str, Any]],
    grouped: dict[str, Any] | None,
    expanded: dict[str, bool],
) -> str:
    section = "harness"
    shown = [_NAME, *columns]
    widths = {column: _WIDTHS.get(column) or _WIDTHS.get(column.split(".")[0]) for column in shown}
    state = {
        "searchFilter": _DONE,
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": shown,
        "columnWidths": {column: width for column, width in widths.items() if width},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": grouped,
        "groupsExpanded": expanded,
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
