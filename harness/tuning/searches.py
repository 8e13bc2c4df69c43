"""What is to be searched: one `Search` per dataset, model and recipe. No Optuna here."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.datasets.base import Dataset
from harness.errors import ConfigError
from harness.experiment.canonical import canonical_json
from harness.experiment.design import contradiction
from harness.experiment.expand import Plan
from harness.experiment.space import Space, moved
from harness.experiment.spec import Model, RunSpec, Training, recipe_of
from harness.experiment.tune import Tuning, tuned_name
from harness.metrics import metric_of
from harness.strategies.base import Strategy

NAME_LENGTH = 400
"""Longest readable part of a study's name; Optuna's column holds 512 characters."""


@dataclass(frozen=True)
class Search:
    """One study: a recipe on a dataset with a model, and what of it moves.

    Attributes:
        experiment: Name of the experiment.
        dataset: The source.
        content: Fingerprint of what it holds.
        model: The network.
        recipe: Name of the recipe.
        strategies: The recipe with the experiment's base, untuned.
        training: Budget and optimiser, untuned.
        metric: What is searched for, on val.
        space: What moves.
        tuning: Trials, seeds, sampler and pruner.
        plugins: What a fresh process must import to know every name.
    """

    experiment: str
    dataset: Dataset
    content: str
    model: Model
    recipe: str
    strategies: tuple[Strategy, ...]
    training: Training
    metric: str
    space: Space
    tuning: Tuning
    plugins: tuple[str, ...] = ()

    @property
    def group(self) -> tuple[str, str, str]:
        """Dataset, model and recipe as tables call them."""
        return self.dataset.display(), self.model.label(), self.recipe

    @property
    def higher(self) -> bool:
        """Whether more of the metric is better."""
        return metric_of(self.metric).higher_is_better

    @cached_property
    def name(self) -> str:
        """The study's name: readable, and another one for whatever makes values incomparable."""
        text = "/".join([self.experiment, *self.group])
        digest = hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:8]
        return f"{text[:NAME_LENGTH]}-{digest}"

    def identity(self) -> dict[str, Any]:
        """Return all that makes values of two trials comparable, and nothing else.

        Not in it: the number of trials, sampler and pruner, so that each may change while a study
        goes on.
        """
        return {
            "dataset": self.dataset.identity(),
            "data": self.content,
            "recipe": [strategy.identity() for strategy in self.strategies],
            "model": self.model.identity(),
            "training": self.training.identity(),
            "metric": self.metric,
            "seeds": sorted(self.tuning.seeds),
            "space": {
                one.path: [one.low, one.high, *("log" for _ in range(one.log))]
                for one in self.space.dimensions
            },
            "held": dict(self.space.fixed),
            **self._decided(),
        }

    def _decided(self) -> dict[str, Any]:
        """Return under which rule values are taken, where that is not argmax."""
        rule, deploy = self.tuning.rule, self.tuning.deploy
        if rule is None:
            return {}
        prior = dict(deploy) if isinstance(deploy, Mapping) else deploy
        return {
            "rule": {"name": rule.name, "version": rule.version, **rule.parameters()},
            "deploy": prior,
        }

    def specs(self, values: Mapping[str, float], number: int) -> tuple[RunSpec, ...]:
        """Return the runs of a trial, one per tuning seed.

        Args:
            values: What was sampled, by path.
            number: The trial's number.

        Raises:
            ConfigError: The values are not legal together.
        """
        return self._runs(values, self.tuning.seeds, f"{self.recipe} #{number}")

    def tuned(self, values: Mapping[str, float], seeds: tuple[int, ...]) -> tuple[RunSpec, ...]:
        """Return the ordinary runs of the recipe with the values that won, one per report seed.

        Raises:
            ConfigError: The values are not legal together.
        """
        return self._runs(values, seeds, tuned_name(self.recipe))

    def _runs(
        self, values: Mapping[str, float], seeds: tuple[int, ...], recipe: str
    ) -> tuple[RunSpec, ...]:
        put = dict(self.space.fixed) | dict(values)
        strategies, training = moved(self.strategies, self.training, put)
        if why := contradiction(strategies):
            raise ConfigError(why)
        return tuple(
            RunSpec(
                dataset=self.dataset,
                content=self.content,
                strategies=strategies,
                model=self.model,
                training=training,
                metric=self.metric,
                seed=seed,
                experiment=self.experiment,
                recipe=recipe,
                plugins=self.plugins,
            )
            for seed in seeds
        )


def searches_of(plan: Plan) -> tuple[Search, ...]:
    """Return the searches of an experiment, do-nothing first; none without the key ``tune:``."""
    experiment = plan.experiment
    if experiment.tuning is None:
        return ()
    left_out = {(remark.dataset, remark.recipe) for remark in plan.unsuitable}
    return tuple(
        Search(
            experiment=experiment.name,
            dataset=dataset,
            content=plan.infos[dataset.display()].content,
            model=model,
            recipe=recipe.name,
            strategies=recipe_of(experiment.base, recipe.strategies),
            training=experiment.training,
            metric=experiment.metric,
            space=experiment.tuning.spaces[recipe.name],
            tuning=experiment.tuning,
            plugins=experiment.plugins,
        )
        for dataset in experiment.datasets
        for model in experiment.models
        for recipe in experiment.recipes
        if recipe.name in experiment.tuning.spaces
        and (dataset.display(), recipe.name) not in left_out
    )


def check_possible(plan: Plan) -> None:
    """Check that a search can be made at all.

    Raises:
        ConfigError: There is no key ``tune:``, no val to choose on, or no image that no search
            has seen.
    """
    problems = list(obstacles(plan))
    if problems:
        raise ConfigError("\n".join(problems))


def obstacles(plan: Plan) -> Iterator[str]:
    """Yield why no search can be made."""
    source, experiment = plan.experiment.source, plan.experiment
    if experiment.tuning is None:
        example = "tune: {recipes: [mixup], trials: 40}"
        yield f"{source}: tune: a search needs this key, such as  {example}"
        return
    if experiment.folds:
        yield (
            f"{source}: folds: every image is in the test set of some fold, so a search would "
            "choose on what its winner is judged by; tune on a fixed test set, without folds"
        )
    for i, dataset in enumerate(experiment.datasets):
        if not plan.infos[dataset.display()].counts[1].sum():
            yield (
                f"{source}: datasets[{i}]: '{dataset.display()}' has no val (val_fraction: "
                f"{dataset.val_fraction:g}), and a search may choose on nothing else; hold some "
                f"out: --set datasets.{i}.val_fraction=0.2"
            )
