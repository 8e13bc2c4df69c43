"""The leaderboard on a terminal: one table per dataset, reference and model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.metrics import POINTS, Unit, metric_of

RECALLS = {"many": "many", "med": "medium", "few": "few", "worst": "worst_class"}
"""Columns of recalls, by header."""

OF_THE_RARE = {
    "rare AP": "rare_average_precision",
    "rare prec": "rare_precision",
    "rare rec": "rare_recall",
}
"""Columns that two classes have in their place."""

REST = "rest"
"""Column of what is left of each gain with both decided by a rule that moves the threshold."""

_LEAVES_FIRST = ("s", REST, "med", "many", "± sd", "search s", "few", "n", "worst", "rare rec")
"""Columns in the order in which they make room on a narrow terminal."""

_RECIPE = 28
"""Characters of a recipe's name that columns make room for; a longer one is folded."""

Costs = Mapping[tuple[str, str, str], float]


def show(
    out: Console,
    key: tuple[str, str, str],
    group: Any,
    metric: str,
    costs: Costs,
    further: Sequence[str] = (),
) -> None:
    """Print the rows of one dataset and model.

    Args:
        out: Where to.
        key: Dataset, reference and model.
        group: Their rows of `harness.analysis.compare.leaderboard`.
        metric: Label of the primary metric.
        costs: Seconds of the search for a tuned recipe, by dataset, model and recipe.
        further: Labels of other metrics to show.
    """
    dataset, reference, model = key
    rows = group.to_dict("records")
    searched = {} if reference else _searched(costs, (dataset, model), rows)
    columns = _columns(rows, metric, searched, further)
    left_out = _fit(columns, out.width)
    title = " · ".join(
        part for part in (dataset, reference and f"{reference} reference", model) if part
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        left = name == "recipe"
        table.add_column(
            name,
            justify="left" if left else "right",
            no_wrap=not left,
            overflow="fold",
            min_width=_wide(columns[name], name) if left else None,
        )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    out.print(table)
    if left_out:
        hidden = ", ".join(left_out)
        out.print(f"this terminal is too narrow for: {hidden} (--json has all)", style="dim")


def _columns(
    rows: Sequence[dict[str, Any]],
    metric: str,
    searched: Mapping[str, float],
    further: Sequence[str],
) -> dict[str, list[str]]:
    """Return the cells of every column, under its header."""
    unit = metric_of(metric).unit
    val = {"val": "val"} if any(_is_number(row.get("val")) for row in rows) else {}
    found = {
        "recipe": [row["recipe"] for row in rows],
        **{head: [number(row.get(of), unit) for row in rows] for head, of in val.items()},
        f"{metric}{unit.percent}": [number(row.get("test"), unit) for row in rows],
        "± sd": [number(row.get("sd"), unit) for row in rows],
        "n": [_count(row) for row in rows],
        **{head: [number(row.get(of), POINTS) for row in rows] for head, of in _shares(rows)},
        **_further(rows, further),
        "vs nothing": [gain(row, unit) for row in rows],
        **_rest(rows, unit),
        "s": [_seconds(row.get("seconds")) for row in rows],
    }
    if searched:
        costs = [searched.get(row["recipe"]) for row in rows]
        found["search s"] = ["" if cost is None else f"{cost:.0f}" for cost in costs]
    return found


def _rest(rows: Sequence[dict[str, Any]], unit: Unit) -> dict[str, list[str]]:
    if not any(_is_number(row.get(REST)) for row in rows):
        return {}
    return {REST: [gain(row, unit, REST) for row in rows]}


def _shares(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield header and column: with two classes what is said of the rare one, else recalls."""
    two = any(_is_number(row.get("rare_recall")) for row in rows)
    return iter((OF_THE_RARE if two else RECALLS).items())


def _further(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> dict[str, list[str]]:
    units = {label: metric_of(label).unit for label in labels}
    return {
        f"{label}{unit.percent}": [number(row.get(label), unit) for row in rows]
        for label, unit in units.items()
    }


def _is_number(value: float | None) -> bool:
    return value is not None and value == value


def _seconds(value: float | None) -> str:
    return f"{value:.3g}" if _is_number(value) else "n/a"


def _searched(
    costs: Costs, cell: tuple[str, str], rows: Sequence[dict[str, Any]]
) -> dict[str, float]:
    shown = {row["recipe"] for row in rows}
    return {
        name: cost for (*of, name), cost in costs.items() if tuple(of) == cell and name in shown
    }


def _fit(columns: dict[str, list[str]], width: int) -> list[str]:
    """Take columns out until the rest fits, at last the metric's name; return which left."""

    def needed() -> int:
        return sum(_wide(cells, head) + 2 for head, cells in columns.items()) - 2

    left_out = []
    for head in _LEAVES_FIRST:
        if needed() <= width:
            break
        if head in columns:
            del columns[head]
            left_out.append(head)
    if needed() > width:  # the metric's name stands below the table too
        items = [(_short(head), cells) for head, cells in columns.items()]
        columns.clear()
        columns.update(items)
    return left_out


def _short(head: str) -> str:
    if head in ("recipe", "vs nothing"):
        return head
    return "test %" if head.endswith(" %") else "test"


def _wide(cells: Sequence[str], head: str) -> int:
    """Return how wide a column has to be."""
    widest = max(map(len, (head, *cells)))
    return min(widest, _RECIPE) if head == "recipe" else widest


def _count(row: dict[str, Any]) -> str:
    return f"{row['n']} ({row['failed']} failed)" if row["failed"] else f"{row['n']}"


def number(value: float | None, unit: Unit) -> str:
    """Return a value for a table."""
    return _ascii(unit.value(value))


def gain(row: dict[str, Any], unit: Unit, of: str = "gain") -> str:
    """Return a paired difference with its interval, where there is one."""
    interval = unit.interval(row.get(f"{of}_low"), row.get(f"{of}_high"))
    return _ascii(f"{unit.signed(row.get(of), '')} {interval}".strip())


def _ascii(text: str) -> str:
    """Return a number with the minus that every terminal has."""
    return text.replace("−", "-")
