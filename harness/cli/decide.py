"""`harness decide`: finished runs decided by other rules, and what of each gain is left."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from harness.analysis.decompose import PARTS
from harness.analysis.tables import PANEL, records
from harness.app import deciding
from harness.cli.shared import err, find, out, print_json
from harness.experiment.schema import load
from harness.metrics import metric_of


def run(
    file: str, sets: Sequence[str], plugins: Sequence[str], results: Path, as_json: bool
) -> None:
    """Decide and print; nothing is trained or written."""
    experiment = load(find(file), sets, plugins)
    found = deciding.decide(experiment, results)
    if as_json:
        print_json(deciding.rows(found.table))
    else:
        shown = found.table[found.table["metric"] == found.metric]
        for panel, group in shown.groupby(PANEL, sort=False):
            out.print(_table(panel, group, found.metric))
            out.print()
        out.print(
            "gain: over doing nothing, both by argmax. rest: both by this rule. threshold part: "
            "gain less rest, which doing nothing can have for free. Means over seeds, with 95 % "
            "intervals on this test set, each by itself.",
            soft_wrap=True,
        )
    for text in found.notes:
        err.print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _table(panel: Any, group: pd.DataFrame, metric: str) -> Table:
    title = " · ".join(str(part) for part in panel if part)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe")
    table.add_column("rule")
    unit = metric_of(metric).unit
    for name in (f"{metric}{unit.percent}", "gain", "threshold part", "rest"):
        table.add_column(name, justify="right")
    sign = -1 if metric_of(metric).higher_is_better else 1
    signed = group.assign(by=sign * group["value"])
    order = signed.assign(by=signed.groupby("recipe")["by"].transform("min"))
    last = None
    for row in records(order.sort_values(["by", "recipe"], kind="stable")):
        recipe = "" if row["recipe"] == last else str(row["recipe"])
        last = row["recipe"]
        parts = []
        for part in PARTS:
            between = unit.interval(row[f"{part}_low"], row[f"{part}_high"])
            parts.append(f"{unit.signed(row[part], '–')} {between}".strip())
        table.add_row(recipe, str(row["rule"]), unit.value(row["value"]), *parts)
    return table
