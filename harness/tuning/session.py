"""One command's part in the trials of an experiment: executed, shown, mirrored."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.execution.progress import Display
from harness.execution.runner import Executor, Listener, run
from harness.execution.store import Store
from harness.tracking.mirror import Mirror
from harness.tracking.studies import StudyRecord
from harness.tuning.driver import Driver
from harness.tuning.plots import TABLE, draw
from harness.tuning.run_lookup import RunLookup
from harness.tuning.study import TuningStudy, best_of, value_of, values_of
from harness.tuning.summary import record_of, study_record

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDIES = "studies"
"""Folder of the plots, beside the runs of trials."""


class Session:
    """Does the trials that are left of some studies.

    Args:
        studies: What is searched.
        store: Where the runs of trials go; this driver holds its lock.
        lookup: Runs that are done.
        console: Where progress is shown.
        mirror: What writes to MLflow, or None.

    Attributes:
        failed: Trials that failed, each with its reason.
    """

    def __init__(
        self,
        studies: Sequence[TuningStudy],
        store: Store,
        lookup: RunLookup,
        console: Console,
        mirror: Mirror | None,
    ) -> None:
        self.failed: list[str] = []
        self._studies = studies
        self._store = store
        self._lookup = lookup
        self._console = console
        self._mirror = mirror
        self._driver = Driver(studies, lookup, self._ended)
        metric = studies[0].search.metric
        self._display = Display(console, self._driver.ahead, metric, lines=False)
        self._paid: set[str] = set()
        self._moved: set[str] = set()

    def run(self, make: Callable[[], Executor], fail_fast: bool = False) -> None:
        """Execute what is left, and write down what the studies have come to.

        Args:
            make: Returns an executor; called again where runs are left over.
            fail_fast: Stop after the first run that fails.

        Raises:
            KeyboardInterrupt: After running attempts were discarded.
        """
        for studied in self._studies:
            records = [record_of(studied, t, self._lookup, self._paid) for t in studied.ended()]
            self._mirrored(study_record(studied, self._lookup, "running", records))
        try:
            with self._display:
                self._execute(make, fail_fast)
        finally:
            with contextlib.suppress(Exception):  # the next command makes up for it
                for studied in self._studies:
                    studied.requeue()
            for studied in self._studies:
                self._conclude(studied)

    def _execute(self, make: Callable[[], Executor], fail_fast: bool) -> None:
        judged = any(studied.search.tuning.pruner != "none" for studied in self._studies)
        judge = self._driver.judge if judged else None
        listeners: list[Listener] = [self._display, self._driver]
        while not self._driver.is_over:
            executor = make()
            with contextlib.closing(executor):
                pending = self._driver.pending()
                summary = run(pending, self._store, executor, listeners, None, fail_fast, judge)
            if fail_fast and summary.failures:
                return

    def _ended(self, studied: TuningStudy, trial: "FrozenTrial") -> None:
        """Show a trial that has ended, and mirror it."""
        self._moved.add(studied.search.name)
        self._display.expect(self._driver.ahead)
        record = record_of(studied, trial, self._lookup, self._paid)
        self._mirrored(study_record(studied, self._lookup, "running", [record]))
        name = " · ".join([*studied.search.group[:2], f"{studied.search.recipe} #{trial.number}"])
        values = " ".join(f"{path}={value:.4g}" for path, value in values_of(trial).items())
        style = "red" if record.state == "failed" else ""
        if record.state == "failed":
            self.failed.append(f"{name}: {record.reason}")
        self._console.print(
            f"{name}  {_result(studied, trial)}  {values}",
            style=style,
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _conclude(self, studied: TuningStudy) -> None:
        """Draw a study that is over; write to MLflow what it has come to."""
        if not studied.is_over():
            self._mirrored(study_record(studied, self._lookup, "interrupted"))
            return
        folder = self._store.path / STUDIES / folder_name(studied.search.name)
        if studied.search.name in self._moved or not (folder / TABLE).exists():
            for missing in draw(studied.study, folder):
                text = f"note: no plot of {studied.search.name}: {missing}"
                self._console.print(text, style="dim", markup=False, soft_wrap=True)
        files = artifacts_of(self._store, studied.search.name)
        self._mirrored(study_record(studied, self._lookup, "over", artifacts=files))

    def _mirrored(self, record: StudyRecord) -> None:
        if self._mirror is not None:
            self._mirror.study(record)


def folder_name(study: str) -> str:
    """Return the folder of a study: its name without what a file system may refuse."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", study)[-120:]


def artifacts_of(store: Store, study: str) -> list[Path]:
    """Return the plots of a study, as far as there are any."""
    folder = store.path / STUDIES / folder_name(study)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _result(studied: TuningStudy, trial: "FrozenTrial") -> str:
    """Return in words what a trial came to."""
    value = value_of(trial)
    if value is None:
        why = (trial.user_attrs.get(name) for name in ("status", "reason"))
        return ": ".join(str(part) for part in why if part)
    sd = trial.user_attrs.get("sd")
    spread = "" if sd is None else f" ± {sd:.3f}"
    best = best_of(studied.study.get_trials(deepcopy=False), studied.search.higher)
    mark = "  (best so far)" if best is not None and best.number == trial.number else ""
    return f"val {studied.search.metric} {value:.4f}{spread}{mark}"
