"""`harness tune`: search, run what won, show what the search cost beside what it gained."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.table import Table

from harness.analysis import compare
from harness.analysis.tables import runs_table
from harness.app import search
from harness.app.deciding import Compared, compared
from harness.app.options import Options
from harness.cli import leaderboard
from harness.cli import run as runs
from harness.cli.shared import err, find, out, print_json
from harness.errors import counted
from harness.execution.search_results import SearchResult
from harness.experiment.design import NOTHING
from harness.experiment.schema import load
from harness.experiment.tune import tuned_name
from harness.metrics import Unit, metric_of
from harness.tuning.database import FILE

_STATES = ("pruned", "failed", "diverged")
_LEGEND = """val: mean over the tuning seeds ± their sd, which flatters the best of many trials;
val default: of the recipe's own values, whether or not the space holds them;
gain: the tuned recipe on test against its own default, on the report seeds, paired by seed, with
its 95 % t-interval; search s: what all runs of its trials took, added up"""


def run(
    file: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    options: dict[str, Any],
    smoke: bool,
    as_json: bool,
) -> None:
    """Tune an experiment and exit with the code that says how it went."""
    experiment = load(find(file), sets, plugins)
    if smoke:
        experiment = search.smoke(experiment)
    with runs.resumable():
        done = search.tune(experiment, Options(**options, track=not smoke), err)
    # only what was compared: the other recipes of the file may never have been run
    outcome = replace(done.outcome, plan=replace(done.outcome.plan, runs=done.outcome.selected))
    table = runs_table(outcome.store, outcome.selected)
    found = compared(experiment, table, outcome.selected, take_apart=not smoke)
    bad = runs.not_done(outcome, table)
    lost = [result.study for result in done.results if result.best is None]
    if as_json:
        _print_json(done, found, bad, experiment.metric)
    else:
        if smoke:
            out.print("a smoke test of a few steps: the figures mean nothing", style="yellow")
        _show(done, found.runs, experiment.metric)
        runs.show(found, outcome, bad)
        _footnotes(done, lost)
    sys.exit(1 if bad or done.failed or lost else 0)


def _print_json(
    done: search.TuneOutcome, found: Compared, bad: list[dict[str, str]], metric: str
) -> None:
    studies = [
        {**asdict(result), "gain": gain_of(result, found.runs, metric)} for result in done.results
    ]
    print_json(
        {
            "studies": studies,
            **runs.as_values(found),
            "failed": [*bad, *({"trial": reason} for reason in done.failed)],
            "runs": len(found.runs),
        }
    )


def gain_of(result: SearchResult, runs: Any, metric: str) -> dict[str, float | None]:
    """Return the gain of a tuned recipe over its default on test, paired by seed.

    Args:
        result: What was tuned.
        runs: From `runs_table`.
        metric: The primary metric.
    """
    names = {result.recipe: NOTHING, tuned_name(result.recipe): tuned_name(result.recipe)}
    cell = (runs["dataset"] == result.dataset) & (runs["model"] == result.model)
    pair = runs[cell & runs["recipe"].isin(list(names))]
    board = compare.leaderboard(pair.assign(recipe=pair["recipe"].map(names)), metric)
    if board.empty or "gain" not in board:
        return {}
    rows = board.loc[board["recipe"] != NOTHING, ["gain", "gain_low", "gain_high", "pairs"]]
    found: list[dict[str, float | None]] = json.loads(rows.to_json(orient="records"))
    return found[0] if found else {}


def _show(done: search.TuneOutcome, runs_: Any, metric: str) -> None:
    """Print one row per study."""
    cells = {result.group[:2] for result in done.results}
    for cell in sorted(cells):
        title = " · ".join(["search", *cell])
        table = Table(
            title=title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        table.add_column("recipe", overflow="fold")
        for column in ("trials", "val default", "val best", "at", "gain", "runs", "search s"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("values", overflow="fold")
        for result in done.results:
            if result.group[:2] == cell:
                table.add_row(*_row(result, runs_, metric))
        out.print(table)
    out.print(_LEGEND, style="dim")
    trials = {result.trials for result in done.results}
    if len(trials) > 1:
        text = f"recipes had {min(trials)} to {max(trials)} trials: not the same number of chances"
        out.print(text, style="yellow")
    out.print()


def _row(result: SearchResult, table: Any, metric: str) -> list[str]:
    unit = metric_of(metric).unit
    states = [f"{n} {state}" for state in _STATES if (n := result.states[state])]
    return [
        result.recipe,
        f"{result.trials} ({', '.join(states)})" if states else str(result.trials),
        _value(result.default, unit),
        _value(result.best, unit),
        f"#{result.best.trial}" if result.best else "",
        "own values best"
        if result.own_won
        else leaderboard.gain(gain_of(result, table, metric), unit),
        str(result.runs),
        f"{result.seconds:.0f}",
        " ".join(f"{path}={value:.4g}" for path, value in result.won.items()),
    ]


def _value(value: Any, unit: Unit) -> str:
    if value is None:
        return "n/a"
    spread = "" if value.sd is None else f" ± {leaderboard.number(value.sd, unit)}"
    return leaderboard.number(value.mean, unit) + spread


def _footnotes(done: search.TuneOutcome, lost: Sequence[str]) -> None:
    for name in lost:
        out.print(f"no trial of {name} came to a value: nothing of it is tuned", style="red")
    if done.failed:
        out.print(f"{counted(len(done.failed), 'trial')} failed:", style="red")
        for reason in done.failed[:10]:
            out.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)
        out.print("try them again with --retry-failed", style="red")
    path = done.outcome.store.results / FILE
    out.print(f"\nthe studies are in {path}", highlight=False, soft_wrap=True)
