"""One Optuna study: opened or made, asked for trials, told of their ends.

What a driver that was killed left RUNNING waits to be asked for again: a trial keeps its number
and its values, so nothing is tried twice and nothing is lost.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.experiment.canonical import canonical_json
from harness.experiment.keys import Pruner, Sampler
from harness.streams import name_key
from harness.tuning.database import quiet
from harness.tuning.searches import Search

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FAILED, DIVERGED = "failed", "diverged"
"""Why a trial has no value, in its attribute ``status``; ``pruned`` is the third."""

DEFAULT = "default"
"""Attribute of the trial of the recipe's own values."""

OUTSIDE = "outside"
"""Attribute of a trial whose values lie outside the space: those values, by path.

No sampler could use it, and several break on what a logarithmic scale does not have, such as a
weight decay of 0. So Optuna has it without parameters and as failed, which every sampler passes
over, with the value that it came to in the attribute ``value``.
"""


@dataclass(frozen=True)
class Ending:
    """How a trial ended.

    Attributes:
        values: The metric on val by tuning seed, as far as it was measured.
        status: ``done``, ``pruned``, ``failed`` or ``diverged``.
        reason: Why it has no value, or empty.
    """

    values: Mapping[int, float]
    status: str = "done"
    reason: str = ""


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation, None for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


class TuningStudy:
    """The study of one search.

    Args:
        storage: Where studies are kept.
        search: What is searched.
        retry_failed: Whether trials that failed are tried again, with the same values.

    Attributes:
        search: As given.
        study: Optuna's own object.
        note: Why this study begins anew beside an earlier one, or empty.
        left: Trials that are still to be begun.
    """

    def __init__(self, storage: "BaseStorage", search: Search, retry_failed: bool = False) -> None:
        import optuna

        self.search = search
        self._storage = storage
        self._keys: dict[int, tuple[str, ...]] = {}
        names = {summary.study_name: summary for summary in storage.get_all_studies()}
        self.note = "" if search.name in names else _renewed(search, list(names.values()))
        with quiet():
            self.study = optuna.create_study(
                storage=storage,
                study_name=search.name,
                direction="maximize" if search.higher else "minimize",
                sampler=make_sampler(search.tuning.sampler, 0),
                pruner=make_pruner(search.tuning.pruner),
                load_if_exists=True,
            )
            if "identity" not in self.study.user_attrs:
                self._describe()
            self.requeue()
            self._enqueue(retry_failed)
        trials = self.study.get_trials(deepcopy=False)
        self._number = len(trials)
        self._waiting = [trial for trial in trials if trial.state.name == "WAITING"]
        self.left = max(0, search.tuning.trials - counted(trials))

    def _describe(self) -> None:
        dataset, model, recipe = self.search.group
        self.study.set_metric_names([f"val {self.search.metric}"])
        described = {
            "of": [self.search.experiment, dataset, model, recipe],
            "held": dict(self.search.space.fixed),
            "identity": self.search.identity(),
        }
        for key, value in described.items():
            self.study.set_user_attr(key, value)

    def requeue(self) -> None:
        """Have trials that nobody is at any more wait for their turn."""
        from optuna.trial import TrialState

        study_id = self._storage.get_study_id_from_name(self.search.name)
        for trial in self._storage.get_all_trials(study_id, states=(TrialState.RUNNING,)):
            of = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            self._storage.set_trial_state_values(of, TrialState.WAITING)

    def _enqueue(self, retry_failed: bool) -> None:
        """Queue the recipe's own values, once, and what is to be tried again."""
        space = self.search.space
        own = dict(space.own)
        if space.holds_own:
            moving = {one.path: own[one.path] for one in space.dimensions}
            self.study.enqueue_trial(moving, {DEFAULT: True}, skip_if_exists=True)
        else:
            self._enqueue_outside(own)
        trials = self.study.get_trials(deepcopy=False)
        again = retried(trials)
        for trial in trials if retry_failed else ():
            if trial.user_attrs.get("status") == FAILED and trial.number not in again:
                kept = {k: v for k, v in trial.user_attrs.items() if k in (DEFAULT, OUTSIDE)}
                self.study.enqueue_trial(trial.params, {"retry_of": trial.number} | kept)

    def _enqueue_outside(self, own: Mapping[str, float]) -> None:
        """Queue own values that the space does not hold.

        In studies of before, the nearest that it holds were tried in their place; the trial of
        the real ones counts instead.
        """
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.user_attrs.get(OUTSIDE) == own for trial in trials):
            return
        nearest = [trial.number for trial in trials if DEFAULT in trial.user_attrs]
        instead = {"retry_of": nearest[-1]} if nearest else {}
        self.study.enqueue_trial({}, {DEFAULT: True, OUTSIDE: own} | instead)

    def ask(self) -> "optuna.Trial":
        """Begin the next trial: one that waits, or a new one.

        The sampler's seed follows from study and number, so that a search that was interrupted
        goes on as if it had not been. (One that was killed between two values of a trial draws the
        others anew, and not what it drew for the first.)
        """
        number, drawn, distributions = self._number, 0, self._distributions()
        if self._waiting:
            waiting = self._waiting.pop(0)
            number, drawn = waiting.number, len(waiting.params)
            if OUTSIDE in waiting.user_attrs:
                distributions = {}
        self._number = max(self._number, number + 1)
        self.left -= 1
        with quiet():
            seed = name_key(f"{self.search.name}#{number}+{drawn}") % 2**32
            # what a quasi-random sequence draws next is counted in the database
            fixed = self.search.tuning.sampler == "qmc"
            self.study.sampler = make_sampler(self.search.tuning.sampler, 0 if fixed else seed)
            return self.study.ask(distributions)

    def keys(self, trial: "FrozenTrial") -> tuple[str, ...]:
        """Return the keys of a trial's runs, one per tuning seed; none where it could have none."""
        if trial.number not in self._keys:
            try:
                specs = self.search.specs(values_of(trial), trial.number)
            except ConfigError:
                specs = ()
            self._keys[trial.number] = tuple(spec.key for spec in specs)
        return self._keys[trial.number]

    def ended(self) -> list["FrozenTrial"]:
        """Return the trials that have ended, in their order."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished()]

    def is_over(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return counted(self.study.get_trials(deepcopy=False)) >= self.search.tuning.trials

    def _distributions(self) -> dict[str, "BaseDistribution"]:
        from optuna.distributions import FloatDistribution, IntDistribution

        return {
            one.path: IntDistribution(int(one.low), int(one.high), log=one.log)
            if one.integer
            else FloatDistribution(one.low, one.high, log=one.log)
            for one in self.search.space.dimensions
        }

    def prune(self, trial: "optuna.Trial", value: float, step: int) -> bool:
        """Note an intermediate value; return whether the pruner gives the trial up."""
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # after an interruption a step may be there already
            trial.report(value, step)
            return trial.should_prune()

    def tell(self, trial: "optuna.Trial", ending: Ending) -> "FrozenTrial":
        """End a trial; a value that is not finite never gets into the study."""
        from optuna.trial import TrialState

        values = list(ending.values.values())
        status, reason = ending.status, ending.reason
        if status == "done" and not all(map(math.isfinite, values)):
            status, reason = DIVERGED, f"{self.search.metric} is not finite"
        outside = OUTSIDE in trial.user_attrs
        attributes: dict[str, Any] = {}  # each is a transaction of its own
        if status != "done":
            attributes["status"] = status
        if reason:
            attributes["reason"] = reason
        if values and status in ("done", "pruned"):
            mean, sd = mean_and_sd(values)
            attributes |= {"sd": sd, "by_seed": dict(ending.values)}
            attributes |= {"value": mean} if outside and status == "done" else {}
        with quiet():
            for key, value in attributes.items():
                trial.set_user_attr(key, value)
            if status == "done" and not outside:
                return self.study.tell(trial, mean)
            state = TrialState.PRUNED if status == "pruned" else TrialState.FAIL
            return self.study.tell(trial, state=state)


def retried(trials: Sequence["FrozenTrial"]) -> set[int]:
    """Return the numbers of the trials that were, or will be, tried again."""
    return {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}


def counted(trials: Sequence["FrozenTrial"]) -> int:
    """Return how many trials have ended for good: those tried again count once."""
    again = retried(trials)
    return sum(trial.state.is_finished() and trial.number not in again for trial in trials)


def best_of(trials: Sequence["FrozenTrial"], higher: bool) -> "FrozenTrial | None":
    """Return the complete trial of best value, of equals the first, or None."""
    complete = [(value, t) for t in trials if (value := value_of(t)) is not None]
    sign = -1.0 if higher else 1.0
    best = min(complete, key=lambda pair: (sign * pair[0], pair[1].number), default=None)
    return None if best is None else best[1]


def values_of(trial: "FrozenTrial | optuna.Trial") -> dict[str, float]:
    """Return what a trial tries, by path."""
    return dict(trial.user_attrs.get(OUTSIDE, trial.params))


def value_of(trial: "FrozenTrial") -> float | None:
    """Return what a trial came to, or None where it is not complete."""
    if state_of(trial) != "complete":
        return None
    value: float | None = trial.user_attrs["value"] if OUTSIDE in trial.user_attrs else trial.value
    return value


def state_of(trial: "FrozenTrial") -> str:
    """Return how a trial ended: ``complete``, ``pruned``, ``failed`` or ``diverged``."""
    if trial.state.name != "FAIL":
        return trial.state.name.lower()
    status = trial.user_attrs.get("status")
    if status is None and OUTSIDE in trial.user_attrs and "value" in trial.user_attrs:
        return "complete"
    return DIVERGED if status == DIVERGED else FAILED


def make_sampler(name: Sampler, seed: int) -> "optuna.samplers.BaseSampler":
    """Return a sampler by its name."""
    from optuna import samplers

    if name == "tpe":
        return samplers.TPESampler(seed=seed, multivariate=True, group=True)
    classes: dict[Sampler, type[Any]] = {
        "random": samplers.RandomSampler,
        "gp": samplers.GPSampler,
        "qmc": samplers.QMCSampler,
        "cmaes": samplers.CmaEsSampler,
        "nsgaii": samplers.NSGAIISampler,
    }
    sampler: optuna.samplers.BaseSampler = classes[name](seed=seed)
    return sampler


def make_pruner(name: Pruner) -> "optuna.pruners.BasePruner":
    """Return a pruner by its name."""
    from optuna import pruners

    return pruners.MedianPruner() if name == "median" else pruners.NopPruner()


def _renewed(search: Search, studies: Sequence[Any]) -> str:
    """Say of a study to be made in what it differs from the last one of its kind."""
    of = [search.experiment, *search.group]
    earlier = [study for study in studies if study.user_attrs.get("of") == of]
    if not earlier:
        return ""
    last = earlier[-1]
    before, now = last.user_attrs.get("identity", {}), search.identity()
    parts = [part for part in now if canonical_json(before.get(part)) != canonical_json(now[part])]
    moved = _moved(before.get("space", {}), now["space"]) if "space" in parts else ""
    return (
        f"a new study of '{search.recipe}' on {search.group[0]}, {search.group[1]}: "
        f"{' and '.join(parts)} changed{moved} since '{last.study_name}', which is kept; runs that "
        "both ask for are looked up"
    )


def _moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    paths = [path for path in {**before, **now} if before.get(path) != now.get(path)]
    shown = [f"{path} {_range(before.get(path))} → {_range(now.get(path))}" for path in paths]
    return f" ({'; '.join(shown)})"


def _range(bounds: Sequence[Any] | None) -> str:
    return "not searched" if bounds is None else f"{bounds[0]:g}…{bounds[1]:g}"
