"""`harness run`: do what is missing, show the leaderboard."""

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from harness.analysis.details import environments, mixed, remarks
from harness.analysis.doubts import doubts
from harness.analysis.tables import PANEL, runs_table
from harness.app import compose
from harness.app.deciding import MOST_DECIDED, Compared, compared
from harness.app.options import Options
from harness.cli import leaderboard
from harness.cli.shared import err, find, out, print_json
from harness.errors import counted, listing
from harness.execution.signals import exit_code, terminable
from harness.experiment.design import NOTHING
from harness.experiment.schema import load
from harness.experiment.tune import tuned_name
from harness.metrics import FEW, MANY, metric_of
from harness.tracking.address import mask
from harness.training.run_status import RETRIED, RunStatus

_NOTES = 10
_LEGEND = "figures are on test but for val, means over seeds"
_RECALLS = f"many/med/few: recall of classes with > {MANY}, {FEW}–{MANY}, < {FEW} training samples"
_RARE = "rare: average precision, precision and recall of the rarer class, in %"
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
    with resumable():
        outcome = compose.execute(experiment, Options(**options, track=not smoke), err)
    table = runs_table(outcome.store, outcome.plan.runs)
    found = compared(experiment, table, outcome.plan.runs, take_apart=not smoke)
    bad = not_done(outcome, table)
    if as_json:
        print_json({**as_values(found), "failed": bad, "runs": len(table)})
    else:
        if smoke:
            out.print("a smoke test of a few steps: the figures mean nothing", style="yellow")
        show(found, outcome, bad)
        if options.get("shard"):
            share = f"shard {options['shard']}: {counted(len(outcome.selected), 'run')}"
            out.print(f"{share}; when all are done: harness merge DEST FOLDER...")
    sys.exit(1 if bad else 0)


def as_values(found: Compared) -> dict[str, Any]:
    """Return a comparison for a program."""
    said = [
        {"dataset": dataset, "reference": reference, "model": model, "recipe": recipe, "said": text}
        for (dataset, reference, model), (recipe, text) in found.said().items()
    ]
    doubted = [
        {**dict(zip(PANEL, panel, strict=True)), **asdict(doubt)}
        for panel, reasons in doubts(found.runs, found.threshold.metric).items()
        for doubt in reasons
    ]
    return {
        "rule": found.threshold.primary,
        "leaderboard": json.loads(found.board.to_json(orient="records")),
        "threshold": said,
        "doubts": doubted,
    }


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Say how to go on where what is done inside is interrupted, and exit."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt as error:
        err.print("interrupted; finished runs are kept, and what ran goes on from its checkpoint.")
        err.print("To go on:")
        err.print(f"  {_command()}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(exit_code(error))


def not_done(outcome: compose.ExperimentOutcome, table: Any) -> list[dict[str, str]]:
    """Return the runs of this selection that are committed but not done."""
    selected = {spec.key for spec in outcome.selected}
    rows = table[(table["status"] != RunStatus.DONE) & table["key"].isin(selected)]
    failures = outcome.summary.failures
    kept = [  # runs that were done again and failed: the finished run of before stays
        {"run": row.key, "status": RunStatus.FAILED, "reason": failures[row.key], "path": row.path}
        for row in table[
            (table["status"] == RunStatus.DONE) & table["key"].isin(failures)
        ].itertuples()
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


def show(found: Compared, outcome: compose.ExperimentOutcome, bad: list[dict[str, str]]) -> None:
    """Print the leaderboard, and what there is to say of the runs behind it."""
    board, runs, metric = found.board, found.runs, found.threshold.metric
    if not board.empty:
        costs = {(f.dataset, f.model, tuned_name(f.recipe)): f.seconds for f in outcome.searched}
        said = found.said()
        for panel, group in board.groupby(["dataset", "reference", "model"], sort=False):
            key = (str(panel[0]), str(panel[1]), str(panel[2]))
            further = outcome.plan.experiment.metrics
            leaderboard.show(out, key, group, metric, costs, further)
            if key in said:
                recipe, text = said[key]
                line = text if recipe == NOTHING else f"{recipe}: {text}"
                out.print(line, markup=False, highlight=False, soft_wrap=True)
    _footnotes(found, outcome)
    for text in found.notes:
        out.print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    _doubts(runs, metric)
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
    if outcome.summary.out_of_time:
        out.print("the time of --max-hours is over: no more runs were started", style="yellow")
    if missing:
        left = f"{missing:,} of {counted(len(outcome.plan.runs), 'run')}"
        out.print(f"{left} {'is' if missing == 1 else 'are'} still missing", style="yellow")
    if bad:
        out.print(f"{counted(len(bad), 'run is', 'runs are')} not done:", style="red")
        for item in bad[:10]:
            text = f"  {item['run']}: {item['status']}: {item['reason']}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)
            out.print(f"    see {item['path']}/log.txt", style="dim", soft_wrap=True)
        if any(item["status"] in RETRIED for item in bad):
            out.print("do them again with --retry-failed", style="red")
        if any(item["status"] == RunStatus.DIVERGED for item in bad):
            out.print("what diverged will do so again: lower training.lr", style="red")
    if outcome.ui_command:
        out.print("\ncompare the runs in MLflow:")
        ours = shlex.join([_program(), "ui", "--results", str(outcome.store.results)])
        for line in (ours, f"or: {outcome.ui_command}"):
            out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _doubts(runs: Any, metric: str) -> None:
    """Say why a gain above is not certain of samples that nobody has seen."""
    for panel, reasons in doubts(runs, metric).items():
        place = " · ".join(part for part in panel if part)
        for doubt in reasons:
            out.print(f"{place}: {doubt.sentence()}", style="yellow", soft_wrap=True)


def _notes(runs: Any, outcome: compose.ExperimentOutcome) -> None:
    """Print what runs had to say, each thing once: a lowered k of SMOTE, weights left out."""
    found = remarks(runs, outcome.plan.notes)
    for text in found[:_NOTES]:
        out.print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if len(found) > _NOTES:
        out.print(f"… and {len(found) - _NOTES} more notes, in each run's log.txt", style="dim")


def _footnotes(found: Compared, outcome: compose.ExperimentOutcome) -> None:
    board, metric = found.board, found.threshold.metric
    if board.empty or not board["n"].any():
        out.print("no run is done yet")
        return
    better = "higher" if metric_of(metric).higher_is_better else "lower"
    by_val = "val" in board and board["val"].notna().any()
    order = f"ordered by {metric} on {'val' if by_val else 'test'} ({better} is better)"
    interval = _FOLDS_INTERVAL if outcome.plan.experiment.folds else _INTERVAL
    two = "rare_recall" in board and board["rare_recall"].notna()
    legend = [_LEGEND, *([_RARE] if np.any(two) else []), *([_RECALLS] if not np.all(two) else [])]
    legend.append(f"vs nothing: paired by seed, with its 95 % {interval}")
    if "rest" in board and board["rest"].notna().any():
        some = f", of the first {MOST_DECIDED} runs" if found.left else ""
        legend.append(
            f"rest: the same with both decided by {found.threshold.rule}, which is free{some}"
        )
    said = ";\n".join([f"decided by {found.threshold.primary}", *legend])
    out.print(f"{order}; {said}", style="dim")
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
