"""Views of an experiment that MLflow's UI offers under "Views": made for comparing recipes.

MLflow keeps what its "Save as new view" saves as a tag of the experiment (seen in 3.17): JSON whose
``state`` is the page's settings, deflated. An MLflow that reads it otherwise shows its own page.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from harness.tracking.keys import safe_name

_TAG = "mlflow.sharedViewState."
_DONE = "tags.`harness.status` = 'done'"
_MOST = 100
"""Bars and lines of a chart; MLflow draws ten unless asked."""

COMPARED, PARALLEL = "Recipes compared", "Factors in parallel"


def views(metric: str, factors: Sequence[str]) -> dict[str, str]:
    """Return the tags of an experiment that hold its views.

    One groups runs by recipe, best on test first, with bars of each recipe's mean and its cost;
    the other has every run on its own, with its factors as parallel coordinates.

    Args:
        metric: The primary metric.
        factors: Names of the factors.
    """
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
    columns = [f"metrics.`{key}`" for key in (test, f"val/{metric}", "cost/seconds")]
    columns += [f"metrics.`{bar['metricKey']}`" for bar in bars[1:]]
    columns += [f"params.`{name}`" for name in (*params, "dataset", "model", "seed")]
    return {
        f"{_TAG}harness-recipes": _view(COMPARED, test, columns, [*bars, cost], grouped),
        f"{_TAG}harness-factors": _view(PARALLEL, test, columns, [lines, *bars[:1]], None),
    }


def _axis(key: str) -> dict[str, str]:
    return {"key": key, "type": "METRIC"}


def _view(
    name: str,
    order: str,
    columns: Sequence[str],
    charts: Sequence[dict[str, Any]],
    grouped: dict[str, Any] | None,
) -> str:
    section = "harness"
    state = {
        "searchFilter": _DONE,
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": grouped,
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
