"""How to run: the options of a command, and what they make of an experiment's runs."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from harness.errors import ConfigError, did_you_mean, listing
from harness.execution.executors import ray_capacity
from harness.execution.executors.local import Local
from harness.execution.executors.resources import check_device, layout
from harness.execution.runner import Executor
from harness.execution.shard import parse
from harness.execution.store import Store, Stored
from harness.experiment.spec import RunSpec
from harness.training.run_options import RunOptions
from harness.training.run_result import outcome_of
from harness.training.run_status import RETRIED
from harness.training.rundir import CHECKPOINT_SECONDS

ExecutorName = Literal["local", "inline", "ray"]
EXECUTORS: tuple[str, ...] = get_args(ExecutorName)

GRID_LIMIT = 1000
"""Runs beyond which a grid needs an explicit yes."""


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a result.

    Attributes:
        results: The results folder.
        only: Patterns, or one alone; a run is kept if one matches its recipe, dataset, model, key
            or folder.
        limit: Most runs to do now.
        shard: Which part of the runs is this machine's, such as ``2/8``; None for all of them.
        jobs: Slots; by default one per core, or `runs_per_gpu`.
        runs_per_gpu: Runs that share a GPU.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        executor: ``local``, ``inline`` or ``ray``.
        address: Of the Ray cluster: ``auto``, ``local`` or ``HOST:PORT``.
        retry_failed: Also do runs that failed before.
        force: Also do runs that are done.
        fail_fast: Stop after the first failure.
        max_failures: Start no more after so many runs failed or diverged.
        max_hours: Start no more after so many hours.
        run_timeout: Seconds after which a run is taken to hang and ended (not `inline`).
        checkpoint_every: Seconds of training between two checkpoints of a run.
        yes: Go on beyond `GRID_LIMIT` runs.
        track: Mirror to MLflow.
    """

    results: Path = Path("results")
    only: tuple[str, ...] = ()
    limit: int | None = None
    shard: str | None = None
    jobs: int | None = None
    runs_per_gpu: int = 1
    device: str = "auto"
    executor: ExecutorName = "local"
    address: str = "auto"
    retry_failed: bool = False
    force: bool = False
    fail_fast: bool = False
    max_failures: int | None = None
    max_hours: float | None = None
    run_timeout: float | None = None
    checkpoint_every: float = CHECKPOINT_SECONDS
    yes: bool = False
    track: bool = True

    @classmethod
    def of(cls, results: str | Path, given: Mapping[str, Any]) -> Self:
        """Return options that a program gives by name.

        Raises:
            ConfigError: One of them is none.
        """
        known = cls.__dataclass_fields__
        for name in given:
            if name not in known:
                raise ConfigError(
                    f"there is no option '{name}'{did_you_mean(name, known)} (options: settings, "
                    f"plugins, {listing(known, 40)})"
                )
        return cls(results=Path(results), **given)

    def __post_init__(self) -> None:
        if isinstance(self.only, str):
            object.__setattr__(self, "only", (self.only,))


def check_options(options: Options) -> None:
    """Refuse a device, an executor or a shard that is none.

    Raises:
        ConfigError: As said.
    """
    if options.executor == "ray":
        ray_capacity.check_device(options.device)
    else:
        check_device(options.device)
        if options.address != "auto":
            raise ConfigError(f"--address {options.address}: needs --executor ray")
    if options.executor not in EXECUTORS:
        raise ConfigError(
            f"--executor {options.executor}: unknown{did_you_mean(options.executor, EXECUTORS)} "
            f"({', '.join(EXECUTORS)})"
        )
    if options.shard is not None:
        parse(options.shard)
    if options.run_timeout is not None and options.executor == "inline":
        raise ConfigError(
            "--run-timeout needs --executor local or ray: a process cannot end a run of its own"
        )


def select(runs: Sequence[RunSpec], only: Sequence[str]) -> tuple[RunSpec, ...]:
    """Return the runs that a pattern matches, or all where there is none.

    Raises:
        ConfigError: A pattern matches nothing.
    """
    if not only:
        return tuple(runs)
    names = {
        spec.key: {spec.recipe, spec.dataset_label, spec.model.label(), spec.key, spec.slug}
        for spec in runs
    }
    for pattern in only:
        if not any(_matches(pattern, known) for known in names.values()):
            known = sorted({spec.recipe for spec in runs})
            raise ConfigError(
                f"--only {pattern}: matches no run{did_you_mean(pattern, known)} "
                f"(recipes: {listing(known)})"
            )
    return tuple(
        spec for spec in runs if any(_matches(pattern, names[spec.key]) for pattern in only)
    )


def _matches(pattern: str, known: set[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for text in known)


def pending(runs: Sequence[RunSpec], store: Store, options: Options) -> list[RunSpec]:
    """Return what is still to do: never a finished run, a failed or damaged one only when asked."""
    if options.force:
        missing = list(runs)
    else:
        stored = store.runs()
        missing = [
            spec
            for spec in runs
            if spec.key not in stored or (options.retry_failed and _is_retried(stored[spec.key]))
        ]
    return missing[: options.limit]


def _is_retried(run: Stored) -> bool:
    return run.failed or outcome_of(run.folder)[0] in RETRIED


def make_executor(options: Options, keep_weights: bool, runs: int) -> Executor:
    """Return the executor that the options ask for; imports torch only for ``inline``."""
    how = RunOptions(options.device, keep_weights, checkpoint_every=options.checkpoint_every)
    if options.executor == "inline":
        from harness.execution.executors.inline import Inline

        return Inline(how)
    if options.executor == "ray":
        from harness.execution.executors.ray import Ray

        return Ray(
            options.address,
            how,
            options.jobs,
            options.runs_per_gpu,
            options.run_timeout,
        )
    shared = layout(options.device, options.jobs, options.runs_per_gpu, runs)
    return Local(shared, how, options.run_timeout)
