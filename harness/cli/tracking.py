"""`harness sync` and `harness ui`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.shared import err, find, out
from harness.errors import counted
from harness.execution.store import Store
from harness.experiment.schema import load

if TYPE_CHECKING:
    from harness.tracking.recorder import Synced

_LEFT = "runs that a killed driver left running are"
_UNHEARD = "runs whose end MLflow did not hear are"


def sync(file: str, sets: Sequence[str], plugins: Sequence[str], results: Path) -> None:
    """Mirror what MLflow has not seen, and say how much that was."""
    from harness.app import reporting, search
    from harness.tracking import mirror

    experiment = load(find(file), sets, plugins)
    store = Store(results, experiment.name)
    specs, _, _ = reporting.asked(experiment, store)
    done = mirror.sync(results, experiment, lambda: search.sync_records(experiment, results), specs)
    for message in done.unreadable:
        err.print(f"not mirrored: {message}", style="red", highlight=False, soft_wrap=True)
    total = len(store.runs())
    out.print(_summary(done, total), highlight=False, soft_wrap=True)
    if done.unreadable:
        sys.exit(1)


def _summary(done: "Synced", total: int) -> str:
    """Return in words what was done; `total` is how many runs the results folder has."""
    if not total and not done.closed and not done.unheard:
        return "no run has ended yet: nothing to mirror"
    parts = [f"{counted(done.mirrored, 'run')} mirrored"] if done.mirrored else []
    if done.known:
        parts.append(f"{counted(done.known, 'run was', 'runs were')} there already")
    if done.closed:
        what = counted(done.closed, "run that a killed driver left running is", _LEFT)
        parts.append(f"{what} closed")
    if done.unheard:
        what = counted(done.unheard, "run whose end MLflow did not hear is", _UNHEARD)
        parts.append(f"{what} closed there, and mirrored whole")
    if not done.unreadable and total:
        parts.append("MLflow has " + (f"all {total:,} runs" if total > 1 else "the one run"))
    return "; ".join(parts) or "nothing mirrored"


def ui(results: Path, host: str, port: int, allow_public: bool) -> None:
    """Serve the MLflow UI until interrupted."""
    from harness.tracking import ui as server

    server.ui(results, host, port, allow_public)
