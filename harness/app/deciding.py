"""What `harness decide` does, also for a notebook: finished runs decided again, nothing trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.compare import chosen, leaderboard
from harness.analysis.deciding import Setting, decide_runs
from harness.analysis.decompose import PARTS, Panel, decomposition
from harness.analysis.details import in_detail
from harness.analysis.report.threshold_answer import sentences
from harness.analysis.tables import GROUP, damaged_runs, records, runs_table
from harness.analysis.threshold import (
    Threshold,
    adjusting,
    not_decided,
    threshold,
    under_primary,
)
from harness.app.reporting import asked
from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec


@dataclass(frozen=True)
class Redecided:
    """What rules make of an experiment.

    Attributes:
        table: From `harness.analysis.decompose.decomposition`.
        primary: Label of the rule that claims are made with.
        metric: Label of the primary metric.
        notes: What the user should know.
    """

    table: pd.DataFrame
    primary: str
    metric: str
    notes: tuple[str, ...]


def decide(experiment: Experiment, results: Path) -> Redecided:
    """Fit and apply the rules of an experiment to its finished runs.

    Raises:
        HarnessError: No run is there, or costs or priors do not fit the classes.
    """
    store = Store(results, experiment.name)
    specs, notes, _ = asked(experiment, store)
    runs = runs_table(store, specs)
    found = decide_runs(runs, specs, Setting.of(experiment, experiment.metrics))
    unread = (*damaged_runs(runs), *found.unread)
    if found.table.empty:
        reasons = f": {unread[0]}" if unread else ""
        raise StoreError(
            f"no finished run of '{experiment.name}' can be read in {results}{reasons}; "
            f"harness run {experiment.called} makes them"
        )
    said = [
        f"{dataset}, {recipe}, {rule}: {text}"
        for (dataset, recipe, rule), texts in found.notes.items()
        for text in texts
    ]
    table = decomposition(found.table, images=found.images)
    primary = experiment.decisions.primary
    return Redecided(table, primary, experiment.metric, (*notes, *unread, *said))


MOST_DECIDED = 300
"""Runs that are decided for a leaderboard, which stands at the end of every command."""

_REST = [f"{part}{end}" for part in ("threshold_part", "rest") for end in ("", "_low", "_high")]


@dataclass(frozen=True)
class Compared:
    """Finished runs compared by the primary rule of their experiment.

    Attributes:
        runs: From `runs_table`, with metrics as the primary rule decides.
        board: From `leaderboard`, with ``threshold_part`` and ``rest`` of each gain, their
            intervals, and ``rest_rule``, by which both are adjusted.
        threshold: What rules make of the gains.
        notes: Of which recipes the primary rule has no value, and why.
        left: Recipes whose gains were not taken apart, for there are too many runs.
    """

    runs: pd.DataFrame
    board: pd.DataFrame
    threshold: Threshold
    notes: tuple[str, ...] = ()
    left: int = 0

    def said(self) -> dict[Panel, tuple[str, str]]:
        """Return what is left of the gain of each chosen recipe, in a sentence, by panel."""
        found = {}
        for panel, recipe in chosen(self.board).items():
            text = " ".join(sentences(self.threshold, panel, recipe))
            if text and not panel[1]:
                found[panel] = (recipe, text)
        return found


def compared(
    experiment: Experiment, runs: pd.DataFrame, specs: Sequence[RunSpec], take_apart: bool = True
) -> Compared:
    """Compare finished runs by the primary rule, and take their gains apart.

    Args:
        experiment: What was asked.
        runs: From `runs_table`.
        specs: Those of the runs.
        take_apart: Whether to say what of each gain is only a moved threshold.

    Raises:
        ConfigError: Costs, classes or priors do not fit the classes.
    """
    metric, decisions = experiment.metric, experiment.decisions
    runs, decided = under_primary(runs, specs, experiment)
    notes = () if decided is None else tuple(not_decided(decided, decisions.primary, metric))
    board = leaderboard(runs, metric)
    found, left = Threshold(metric, decisions.primary, adjusting(decisions)), 0
    if take_apart and len(board) and board["n"].any():
        some, left = in_detail(runs, board, MOST_DECIDED)
        found = threshold(some, specs, experiment)
        if len(found.table):
            shown = (found.table["rule"] == found.rule) & (found.table["metric"] == metric)
            board = board.merge(found.table.loc[shown, [*GROUP, *_REST]], on=GROUP, how="left")
            board["rest_rule"] = found.rule
    return Compared(runs, board, found, notes, left)


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a decomposition as plain values; what is not defined is None.

    Fractions, means over seeds and folds; intervals are those on this test set.
    """
    columns = ["dataset", "reference", "model", "recipe", "rule", "metric", "value", "pairs"]
    columns += [f"{part}{end}" for part in PARTS for end in ("", "_low", "_high")]
    columns += [f"{part}_new_{end}" for part in PARTS for end in ("low", "high")]
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in records(table[columns])
    ]
