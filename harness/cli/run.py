"""`harness run`: do what is missing, show the leaderboard."""

import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rich.table import Table

from harness import compose
from harness.analysis.compare import leaderboard
from harness.analysis.details import environments, mixed
from harness.analysis.tables import runs_table
from harness.cli.shared import err, find, out, print_json
from harness.errors import counted, listing
from harness.experiment.metric_names import METRICS
from harness.experiment.schema import load
from harness.experiment.tune import tuned_name
from harness.tracking.address import mask

_NOTES = 10
_LEGEND = """figures are on test, means over seeds;
many/med/few: recall of classes with > 100, 20–100, < 20 training samples;
vs nothing: paired by seed, with its 95 % """
_INTERVAL = "t-interval over seeds on this test set"
_FOLDS_INTERVAL = "corrected resampled t-interval over seeds and folds (Nadeau and Bengio 2003)"


def run(
    file: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    options: dict[str, Any],
    smoke: bool,
    as_json: bool,
) -> None:
    """Run an experiment and exit with the code that says how it went."""
    experiment = load(find(file), sets, plugins)
    if smoke:
        experiment = compose.smoke(experiment)
    try:
        outcome = compose.execute(experiment, compose.Options(**options), err)
    except KeyboardInterrupt:
        interrupted()
    table = runs_table(outcome.store, outcome.plan.runs)
    board = leaderboard(table, experiment.metric)
    bad = not_done(outcome, table)
    if as_json:
        records = json.loads(board.to_json(orient="records"))
        print_json({"leaderboard": records, "failed": bad, "runs": len(table)})
    else:
        if smoke:
            out.print("a smoke test of a few steps: the figures mean nothing", style="yellow")
        show(board, experiment.metric, outcome, bad, table)
        if options.get("shard"):
            share = f"shard {options['shard']}: {counted(len(outcome.selected), 'run')}"
            out.print(f"{share}; when all are done: harness merge DEST FOLDER...")
    sys.exit(1 if bad else 0)


def interrupted() -> NoReturn:
    """Say how to go on, and exit."""
    err.print("interrupted; finished runs are kept. To go on:")
    err.print(f"  {_command()}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(130)


def not_done(outcome: compose.Outcome, table: Any) -> list[dict[str, str]]:
    """Return the runs of this selection that are committed but not done."""
    selected = {spec.key for spec in outcome.selected}
    rows = table[(table["status"] != "done") & table["key"].isin(selected)]
    kept = [  # runs that were done again and failed: the finished run of before stays
        {"run": row.key, "status": "failed", "reason": reason, "path": row.path}
        for row in table[table["status"] == "done"].itertuples()
        if (reason := outcome.summary.failures.get(row.key)) is not None
    ]
    return kept + [
        {
            "run": f"{row.dataset} · {row.recipe} · seed {row.seed}",
            "status": row.status,
            "reason": row.reason,
            "path": row.path,
        }
        for row in rows.itertuples()
    ]


def show(
    board: Any, metric: str, outcome: compose.Outcome, bad: list[dict[str, str]], runs: Any
) -> None:
    """Print the leaderboard, and what there is to say of the runs behind it."""
    if not board.empty:
        costs = {(f.dataset, f.model, tuned_name(f.recipe)): f.seconds for f in outcome.found}
        for key, group in board.groupby(["dataset", "reference", "model"], sort=False):
            out.print(_table(key, group, metric, costs))
    _footnotes(board, metric, outcome)
    if outcome.summary.weights_dropped:
        out.print(
            f"{outcome.summary.weights_dropped} runs kept no weights: the cap weights_gb is reached"
        )
    _notes(runs, outcome)
    devices = sorted(set(runs["device"]) - {""})
    if devices:
        out.print(f"trained on {listing(devices)}", style="dim", markup=False)
    made = environments(runs)
    for text in mixed(made[~made["what"].isin(["device", "commit"])]):
        out.print(f"made with different versions: {text}", style="yellow", markup=False)
    missing = len(outcome.plan.runs) - len(runs)
    if missing:
        out.print(f"{missing} of {len(outcome.plan.runs)} runs are still missing", style="yellow")
    if bad:
        out.print(f"{len(bad)} runs are not done:", style="red")
        for item in bad[:10]:
            text = f"  {item['run']}: {item['status']}: {item['reason']}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)
        if any(item["status"] == "failed" for item in bad):
            out.print("do them again with --retry-failed", style="red")
        if any(item["status"] == "diverged" for item in bad):
            out.print("what diverged will do so again: lower training.lr", style="red")
    if outcome.ui_command:
        out.print("\ncompare the runs in MLflow:")
        ours = shlex.join([_program(), "ui", "--results", str(outcome.store.results)])
        for line in (ours, f"or: {outcome.ui_command}"):
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _notes(runs: Any, outcome: compose.Outcome) -> None:
    """Print what runs had to say, each thing once: a lowered k of SMOTE, weights left out."""
    said = " ".join(outcome.plan.notes)
    counts = Counter(
        (row.dataset, note) for row in runs.itertuples() for note in row.notes if note not in said
    )
    for (dataset, note), count in list(counts.items())[:_NOTES]:
        text = f"note: {dataset}: {note} ({count} {'run' if count == 1 else 'runs'})"
        out.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if len(counts) > _NOTES:
        out.print(f"… and {len(counts) - _NOTES} more notes, in each run's log.txt", style="dim")


def _table(
    key: tuple[str, str, str], group: Any, metric: str, costs: Mapping[tuple[str, str, str], float]
) -> Table:
    dataset, reference, model = key
    cell = None if reference else (dataset, model)
    shown = set(group["recipe"])
    searched = {n: cost for (*of, n), cost in costs.items() if tuple(of) == cell and n in shown}
    title = " · ".join(
        part for part in (dataset, reference and f"{reference} reference", model) if part
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe", overflow="fold")
    scale = scale_of(metric)
    unit = " %" if scale > 1 else ""
    for column in (
        f"{metric}{unit}",
        "± sd",
        "n",
        "many",
        "med",
        "few",
        "worst",
        "vs nothing",
        "s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    if searched:
        table.add_column("search s", justify="right", no_wrap=True)
    for row in group.to_dict("records"):
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        table.add_row(
            row["recipe"],
            number(row.get("test"), scale),
            number(row.get("sd"), scale),
            f"{row['n']}{failed}",
            *(number(row.get(name), 100.0) for name in ("many", "medium", "few", "worst_class")),
            gain(row, scale),
            number(row.get("seconds"), 1.0),
            *([_search(searched.get(row["recipe"]))] if searched else []),
        )
    return table


def _search(seconds: float | None) -> str:
    """Return what the search for a recipe cost, where there was one."""
    return "" if seconds is None else f"{seconds:.0f}"


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


def _footnotes(board: Any, metric: str, outcome: compose.Outcome) -> None:
    if board.empty or not board["n"].any():
        out.print("no run is done yet")
        return
    better = "higher" if METRICS[metric] else "lower"
    by_val = "val" in board and board["val"].notna().any()
    order = f"ordered by {metric} on {'val' if by_val else 'test'} ({better} is better)"
    interval = _FOLDS_INTERVAL if outcome.plan.experiment.folds else _INTERVAL
    out.print(f"{order}; {_LEGEND}{interval}", style="dim")
    if not by_val:
        out.print("without val the order is read off test: nothing here is a confirmed gain")
    if "pairs" in board and (board["pairs"].dropna() < 3).all():
        out.print("fewer than 3 seeds: exploratory, no interval")


def _command() -> str:
    """Return the command line that goes on, without the password of a tracking server."""
    return shlex.join([_program(), *map(mask, sys.argv[1:])])


def _program() -> str:
    """Return how this command was called, if that can be typed again."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return "harness"
    found = shutil.which(os.path.basename(called))
    same = found is not None and os.path.realpath(found) == os.path.realpath(called)
    near = os.path.relpath(called)
    return os.path.basename(called) if same else called if near.startswith("..") else near
