"""Has trials executed: hands out their runs, hears of their ends, tells the studies.

The runner pulls the next run when a slot is free; only then is a study asked for its next trial,
so that the sampler knows all that is known. Studies take turns: one that is stopped half-way has
tried every recipe equally often.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.execution.runner import Progressed
from harness.experiment.spec import RunSpec
from harness.training.run_status import RunStatus
from harness.tuning.run_lookup import RunLookup, Scored
from harness.tuning.study import DIVERGED, FAILED, Ending, TuningStudy, values_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

WARM_UP = 1 / 3
"""Share of a run before which nothing is pruned: mixed images are learnt more slowly at first."""

Ended = Callable[[TuningStudy, "FrozenTrial"], None]
"""Hears of a trial that has ended."""


@dataclass(eq=False)
class _Trial:
    """A trial under way: its runs that are to be handed out, and those it waits for."""

    of: TuningStudy
    handle: "optuna.Trial"
    again: bool
    specs: tuple[RunSpec, ...] = ()
    todo: list[RunSpec] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)
    values: dict[int, float] = field(default_factory=dict)
    status: str = "done"
    reason: str = ""

    def give_up(self, status: str, reason: str = "") -> None:
        """Run no more of it; the first reason stays."""
        self.todo = []
        if self.status == "done":
            self.status, self.reason = status, reason

    def hear(self, spec: RunSpec, run: Scored) -> None:
        """Take over what one of its runs came to."""
        if run.status == "stopped":
            if self.status == "done":  # by the pruner of another trial of the same values
                self.todo.append(spec)
            return
        value = run.val.get(spec.metric)
        if run.status == "done" and value is not None:
            self.values[spec.seed] = float(value)
            return
        status = DIVERGED if run.status == "diverged" else FAILED
        why = run.reason or f"{spec.metric} is not defined on this val"
        self.give_up(status, f"seed {spec.seed}: {why}")

    def ending(self) -> Ending:
        """Return how it ended, seeds in their order."""
        seeds = [spec.seed for spec in self.specs]
        values = {seed: self.values[seed] for seed in seeds if seed in self.values}
        return Ending(values, self.status, self.reason)


class Driver:
    """The runs of several studies, as the runner wants them: pending, listener and judge.

    Args:
        studies: What is to be searched.
        lookup: Runs that are done already.
        ended: Hears of every trial that has ended.
    """

    def __init__(self, studies: Sequence[TuningStudy], lookup: RunLookup, ended: Ended) -> None:
        self._studies = studies
        self._lookup = lookup
        self._ended = ended
        self._open: list[_Trial] = []
        self._running: dict[str, RunSpec] = {}

    def pending(self) -> Iterator[RunSpec]:
        """Yield one run after another; each is chosen when it is asked for."""
        while (spec := self._next()) is not None:
            self._running[spec.key] = spec
            yield spec

    def _next(self) -> RunSpec | None:
        """Return the next run of a trial under way, else of a new one; None where all are begun."""
        while True:
            for trial in self._open:
                while trial.todo:
                    spec = trial.todo.pop(0)
                    known = self._lookup.find(spec.key)
                    if spec.key in self._running:  # another trial of the same values is at it
                        trial.waits.add(spec.key)
                    elif known is not None and not self._is_due(trial, known):
                        trial.hear(spec, known)
                    else:
                        self._lookup.clear(spec.key)
                        trial.waits.add(spec.key)
                        return spec
            if self._close():
                continue
            study = max(self._studies, key=lambda s: s.left / s.search.tuning.trials, default=None)
            if study is None or study.left <= 0:
                return None
            self._open.append(self._begin(study))

    @staticmethod
    def _is_due(trial: _Trial, known: Scored) -> bool:
        """Whether a run is to be done again: pruned or damaged, or it failed and is retried."""
        if known.status == RunStatus.FAILED:
            return trial.again
        return known.status in (RunStatus.STOPPED, RunStatus.DAMAGED)

    @staticmethod
    def _begin(study: TuningStudy) -> _Trial:
        handle = study.ask()
        trial = _Trial(study, handle, "retry_of" in handle.user_attrs)
        try:
            trial.specs = study.search.specs(values_of(handle), handle.number)
        except ConfigError as error:
            trial.give_up(FAILED, str(error))
        trial.todo = list(trial.specs)
        return trial

    def _close(self) -> bool:
        """Tell of the trials under way that have ended; return whether there were any."""
        over = [trial for trial in self._open if not trial.todo and not trial.waits]
        self._open = [trial for trial in self._open if trial not in over]
        for trial in over:
            self._ended(trial.of, trial.of.tell(trial.handle, trial.ending()))
        return bool(over)

    def _of(self, key: str) -> list[_Trial]:
        return [trial for trial in self._open if key in trial.waits]

    def judge(self, spec: RunSpec, message: Progressed) -> bool:
        """Return whether every trial that waits for a run has been given up."""
        value = message.values.get(f"val/{spec.metric}")
        waiting = self._of(spec.key)
        if value is not None and message.step >= WARM_UP * message.steps:
            for trial in waiting:
                # one axis for all seeds, so that a seed is compared with the same seed elsewhere
                seed = [one.seed for one in trial.specs].index(spec.seed)
                step = seed * message.steps + message.step
                if trial.status == "done" and trial.of.prune(trial.handle, value, step):
                    trial.give_up("pruned")
        return all(trial.status != "done" for trial in waiting)

    @property
    def ahead(self) -> int:
        """Runs that are still to end, if none is looked up."""
        begun = sum(len(trial.todo) + len(trial.waits) for trial in self._open)
        return begun + sum(s.left * len(s.search.tuning.seeds) for s in self._studies)

    @property
    def is_over(self) -> bool:
        """Whether there is no trial to begin, and none with a run to hand out."""
        return not any(s.left for s in self._studies) and not any(t.todo for t in self._open)

    def started(self, spec: RunSpec) -> None:
        """A run was handed to a slot."""

    def progressed(self, spec: RunSpec, message: Progressed) -> None:
        """A run went on."""

    def finished(self, spec: RunSpec, status: str, path: Path) -> None:
        """A run was committed: its trials hear of it."""
        run = self._lookup.add(spec.key, path)
        del self._running[spec.key]
        for trial in self._of(spec.key):
            trial.waits.discard(spec.key)
            trial.hear(spec, run)
        self._close()

    def abandoned(self, spec: RunSpec) -> None:
        """A run was interrupted: its trials wait for the next command."""
        self._running.pop(spec.key, None)
