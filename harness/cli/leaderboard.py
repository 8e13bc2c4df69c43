"""The leaderboard on a terminal: one table per dataset, reference and model."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_LEAVES_FIRST = ("s", "med", "many", "± sd", "search s", "few", "n", "worst")
"""Columns in the order in which they make room on a narrow terminal."""

_RECIPE = 28
"""Characters of a recipe's name that columns make room for; a longer one is folded."""

Costs = Mapping[tuple[str, str, str], float]


def show(out: Console, key: tuple[str, str, str], group: Any, metric: str, costs: Costs) -> None:
    """Print the rows of one dataset and model.

    Args:
        out: Where to.
        key: Dataset, reference and model.
        group: Their rows of `harness.analysis.compare.leaderboard`.
        metric: The primary metric.
        costs: Seconds of the search for a tuned recipe, by dataset, model and recipe.
    """
    dataset, reference, model = key
    rows = group.to_dict("records")
    columns = _columns(rows, metric, {} if reference else _searched(costs, (dataset, model), rows))
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
    rows: Sequence[dict[str, Any]], metric: str, searched: Mapping[str, float]
) -> dict[str, list[str]]:
    """Return the cells of every column, under its header."""
    scale = scale_of(metric)
    shares = {"many": "many", "med": "medium", "few": "few", "worst": "worst_class"}
    found = {
        "recipe": [row["recipe"] for row in rows],
        f"{metric} %" if scale > 1 else metric: [number(row.get("test"), scale) for row in rows],
        "± sd": [number(row.get("sd"), scale) for row in rows],
        "n": [_count(row) for row in rows],
        **{head: [number(row.get(of), 100.0) for row in rows] for head, of in shares.items()},
        "vs nothing": [gain(row, scale) for row in rows],
        "s": [number(row.get("seconds"), 1.0) for row in rows],
    }
    if searched:
        costs = [searched.get(row["recipe"]) for row in rows]
        found["search s"] = ["" if cost is None else f"{cost:.0f}" for cost in costs]
    return found


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


def scale_of(metric: str) -> float:
    """Return what a metric is multiplied with in tables: 100 where it is a share."""
    return 1.0 if metric in ("nll", "mcc", "ece") else 100.0


def number(value: float | None, scale: float) -> str:
    """Return a value for a table: in percent where `scale` is 100."""
    if value is None or value != value:
        return "n/a"
    return f"{value * scale:.1f}" if scale > 1 else f"{value:.3g}"


def gain(row: dict[str, Any], scale: float) -> str:
    """Return a paired difference with its interval, where there is one."""
    mean, low, high = row.get("gain"), row.get("gain_low"), row.get("gain_high")
    if mean is None or mean != mean:
        return ""
    digits = 1 if scale > 1 else 3
    text = f"{mean * scale:+.{digits}f}"
    if low is None or low != low or high is None:
        return text
    return f"{text} [{low * scale:+.{digits}f}, {high * scale:+.{digits}f}]"
