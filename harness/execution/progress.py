"""What a person sees while runs are executed: one live display, or one line per finished run."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.errors import lasting
from harness.execution.runner import Progressed
from harness.experiment.spec import RunSpec
from harness.text import visible
from harness.training.run_result import outcome_of
from harness.training.run_status import RunStatus
from harness.training.rundir import LOG


class Display:
    """A listener that shows an overall bar with ETA and one line per running run.

    Without a terminal it prints one line per finished run, with the time left. Failures are shown
    at once.

    Args:
        console: Where to show it.
        total: Runs to do.
        metric: The metric shown beside a running run.
        lines: Whether finished runs are printed where there is no terminal.
    """

    def __init__(self, console: Console, total: int, metric: str, lines: bool = True) -> None:
        self._console = console
        self._total = total
        self._metric = metric
        self._lines = lines and not console.is_interactive
        self._done = 0
        self._since: float | None = None
        self._share: dict[str, float] = {}  # of each run in work, what is done of it
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,
        )
        self._overall = self._progress.add_task("runs", total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def expect(self, more: int) -> None:
        """Set how many runs are still to end, where that is not known from the beginning."""
        self._total = self._done + more
        self._progress.update(self._overall, total=self._total)

    def started(self, spec: RunSpec) -> None:
        """Show a new line."""
        self._begun[spec.key] = time.monotonic()
        self._since = self._since or self._begun[spec.key]
        self._tasks[spec.key] = self._progress.add_task(
            f"  {visible(name(spec))}", total=None, note=""
        )

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """Move a run's line on."""
        value = message.values.get(f"val/{self._metric}")
        self._share[spec.key] = message.step / max(1, message.steps)
        note = "" if value is None else f"val {value:.3f}"
        self._progress.update(
            self._tasks[spec.key], completed=message.step, total=message.steps, note=note
        )

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        """Take a run's line away; print it where there is no terminal or it failed."""
        self._remove(spec)
        self._done += 1
        self._progress.update(self._overall, completed=self._done)
        seconds = time.monotonic() - self._begun[spec.key]
        if status != RunStatus.DONE:
            named, reason = outcome_of(path)
            self._console.print(
                f"{named}: {name(spec)}: {reason}\n  see {path / LOG}",
                style="red",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        elif self._lines:
            self._console.print(
                f"[{self._done}/{self._total}] {name(spec)}  {seconds:.1f} s{self._left()}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def abandoned(self, spec: RunSpec) -> None:
        """Take away the line of a run that was interrupted."""
        self._remove(spec)

    def _left(self) -> str:
        """Return the time left in words, from what was done since the first run began.

        What the runs in work have done counts; of a resumed run, from its beginning.
        """
        missing = self._total - self._done
        if missing <= 0 or self._since is None:
            return ""
        share = sum(self._share.values())
        spent = time.monotonic() - self._since
        left = spent / (self._done + share) * (missing - share)
        return f"; about {lasting(left)} left" if left >= 1 else ""

    def _remove(self, spec: RunSpec) -> None:
        self._share.pop(spec.key, None)
        self._progress.remove_task(self._tasks.pop(spec.key))


def name(spec: RunSpec) -> str:
    """Return what a person calls a run."""
    parts = [
        spec.dataset_label,
        spec.reference,
        spec.recipe,
        spec.model.label(),
        f"seed {spec.seed}",
    ]
    if spec.fold is not None:
        parts.append(f"fold {spec.fold}")
    return " · ".join(part for part in parts if part)
