"""The key ``decisions:``, resolved: which rules decide, and what for. No part of any run's key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.decisions.base import Rule, rule_from
from harness.decisions.priors import Deployment
from harness.errors import did_you_mean, listing
from harness.experiment.keys import Decide
from harness.experiment.validate import Problems
from harness.registry import rules

ARGMAX = "argmax"
COSTS = "costs"


@dataclass(frozen=True)
class Decisions:
    """How runs are decided.

    Attributes:
        rules: Each once, argmax among them.
        primary: Label of the rule that claims are made with.
        deploy: The prior that decisions are made for; None: it follows the primary metric.
    """

    rules: tuple[Rule, ...]
    primary: str = ARGMAX
    deploy: Deployment | None = None

    @classmethod
    def default(cls) -> "Decisions":
        """Return what holds where a file says nothing: argmax and prior."""
        return cls((rule_from(ARGMAX), rule_from("prior")))


def read_decisions(problems: Problems, given: Any) -> Decisions:
    """Return the decisions that a file asks for, after noting what is wrong with them."""
    place = ("decisions",)
    keys = problems.build(Decide, given, place, "decisions")
    if keys is None:
        return Decisions.default()
    found: dict[str, Rule] = {ARGMAX: rule_from(ARGMAX)}
    items = list(keys.rules)
    costs = None if keys.costs is None else {"name": COSTS, "costs": by_name(keys.costs)}
    if costs is not None and not any(_named(item) == COSTS for item in items):
        items.append(COSTS)
    for i, item in enumerate(items):
        given = costs if item == COSTS and costs is not None else item
        if item == COSTS and costs is None:
            problems.add((*place, "rules", i), "say what mistakes cost, under decisions: costs:")
            continue
        if isinstance(given, Mapping) and isinstance(given.get("costs"), Mapping):
            given = {**given, "costs": by_name(given["costs"])}
        built = problems.named(rules, given, (*place, "rules", i))
        if built is None:
            continue
        if built.label() in found and built.label() != ARGMAX:
            problems.add((*place, "rules", i), f"'{built.label()}' stands there twice")
        found[built.label()] = built
    labels = {rule.name: label for label, rule in found.items()} | {label: label for label in found}
    if keys.primary not in labels:
        near = did_you_mean(keys.primary, labels)
        problems.add(
            (*place, "primary"), f"no such rule '{keys.primary}'{near} (rules: {listing(found)})"
        )
    deploy = keys.deploy
    if isinstance(deploy, Mapping):
        deploy = by_name(deploy)
    elif deploy not in (None, "balanced", "train"):
        near = did_you_mean(deploy, ("balanced", "train"))
        problems.add(
            (*place, "deploy"),
            f"unknown prior '{deploy}'{near} (allowed: balanced, train, or a share per class)",
        )
    return Decisions(tuple(found.values()), labels.get(keys.primary, ARGMAX), deploy)  # type: ignore[arg-type]


def by_name(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping with class names as text: a class may be called 0."""
    return {
        str(name): by_name(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def _named(item: Any) -> Any:
    return item.get("name") if isinstance(item, Mapping) else item
