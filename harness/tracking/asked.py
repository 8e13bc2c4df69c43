"""The recipes that an experiment asks for, and what MLflow was told of each, by our own file.

Needs neither MLflow nor pandas: a command that has nothing to do finds that out in no time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.experiment.decisions import ARGMAX, Decisions
from harness.experiment.design import NOTHING
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.metrics import key_of
from harness.tracking.ledger import FINISHED, Entry

VERSION = 1
"""Raised where what is told of a recipe is computed in another way."""

PREFIX = "recipe:"
"""Of the lines of the ledger that speak of a recipe; their result is that of `Asked.digest`."""

OUTDATED = "outdated"
"""Instead of a digest: the file no longer asks for the recipe, and MLflow was told."""

_LONGEST = 60


def rule_key(label: str) -> str:
    """Return a rule's label as part of a metric's name in MLflow: ``prior_temperature_true``."""
    key = key_of(label)
    if len(key) <= _LONGEST:
        return key
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{key_of(label.partition('(')[0])[:_LONGEST]}_{digest}"


@dataclass(frozen=True)
class Recipe:
    """The runs of one recipe on one dataset with one model.

    Attributes:
        panel: Dataset, reference, model: what is compared within.
        name: Of the recipe.
        specs: Its runs, all with the same settings.
    """

    panel: tuple[str, str, str]
    name: str
    specs: tuple[RunSpec, ...]

    @cached_property
    def key(self) -> str:
        """Twelve digits of what its summary is called and of its settings."""
        spec = self.specs[0]
        text = json.dumps([*self.panel, self.name, spec.settings, *spec.levels])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def about(self) -> str:
        """What it is, in words."""
        dataset, reference, model = self.panel
        on = f"{dataset} ({reference} reference)" if reference else dataset
        return f"{self.name} on {on}, {model}"


@dataclass(frozen=True)
class Asked:
    """What an experiment's file asks for.

    Attributes:
        specs: Every run.
        metric: Label of the primary metric.
        decisions: The rules.
    """

    specs: tuple[RunSpec, ...]
    metric: str
    decisions: Decisions

    @classmethod
    def of(cls, experiment: Experiment, specs: Iterable[RunSpec]) -> "Asked":
        """Return what an experiment asks for, given its runs."""
        return cls(tuple(specs), experiment.metric, experiment.decisions)

    @cached_property
    def settings(self) -> frozenset[str]:
        """Settings of every run."""
        return frozenset(spec.settings for spec in self.specs)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes by their key. Of one with several settings those of the last run count."""
        found: dict[tuple[tuple[str, str, str], str], list[RunSpec]] = {}
        for spec in self.specs:
            panel = (spec.dataset_label, spec.reference, spec.model.label())
            found.setdefault((panel, spec.recipe), []).append(spec)
        recipes = [
            Recipe(panel, name, tuple(s for s in specs if s.settings == specs[-1].settings))
            for (panel, name), specs in found.items()
        ]
        return {recipe.key: recipe for recipe in recipes}

    @property
    def rules(self) -> list[str]:
        """Labels of the rules beside argmax."""
        return [label for rule in self.decisions.rules if (label := rule.label()) != ARGMAX]

    @cached_property
    def _setting(self) -> str:
        rules = [(rule.name, rule.version, rule.parameters()) for rule in self.decisions.rules]
        told = [VERSION, self.metric, rules, self.decisions.deploy]
        return json.dumps(told, sort_keys=True, default=str)

    def digests(self, ended: Mapping[str, Entry]) -> dict[str, str]:
        """Return twelve digits per recipe of all that its summary is made of.

        Recipes none of whose runs has finished are left out.

        Args:
            ended: What MLflow has of each run that ended, by its key.
        """
        results = {
            key: [(s.key, ended[s.key].result) for s in recipe.specs if s.key in ended]
            for key, recipe in self.recipes.items()
        }
        doing_nothing = {
            recipe.panel: results[key]
            for key, recipe in self.recipes.items()
            if recipe.name == NOTHING
        }
        found = {}
        for key, recipe in self.recipes.items():
            if any(ended[run].status == FINISHED for run, _ in results[key]):
                others = sorted(doing_nothing.get(recipe.panel, ()))
                told = [self._setting, sorted(results[key]), others]
                found[key] = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        return found

    def stale(self, last: Mapping[str, Entry], ended: Mapping[str, Entry]) -> dict[str, str]:
        """Return the digest of each recipe of which MLflow has another summary, or none.

        Args:
            last: The last line of each key.
            ended: As for `digests`.
        """
        digests = self.digests(ended)
        told = {key: entry.result for key in digests if (entry := last.get(PREFIX + key))}
        return {key: digest for key, digest in digests.items() if told.get(key) != digest}

    def gone(self, last: Mapping[str, Entry]) -> list[Entry]:
        """Return the lines of recipes that are no longer asked for, where MLflow was not told."""
        return [
            entry
            for key, entry in last.items()
            if key.startswith(PREFIX) and entry.result != OUTDATED
            if key.removeprefix(PREFIX) not in self.recipes
        ]
