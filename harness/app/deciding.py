"""What `harness decide` does, also for a notebook: finished runs decided again, nothing trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.deciding import Setting, decide_runs
from harness.analysis.decompose import PARTS, decomposition
from harness.analysis.tables import records, runs_table
from harness.app.reporting import asked
from harness.errors import StoreError
from harness.execution.store import Store
from harness.experiment.schema import Experiment


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
    if found.table.empty:
        reasons = f": {found.unread[0]}" if found.unread else ""
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
    return Redecided(table, primary, experiment.metric, (*notes, *found.unread, *said))


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
