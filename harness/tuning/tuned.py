"""The recipes that were tuned, as runs beside those they came from. No Optuna here."""

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import ConfigError, StoreError
from harness.execution.search_results import FILE, SearchResult, read
from harness.execution.store import Store
from harness.experiment.expand import Plan, Remark
from harness.experiment.spec import RunSpec
from harness.experiment.tune import tuned_name
from harness.tuning.searches import Search, searches_of


def found_of(plan: Plan, store: Store) -> list[tuple[Search, SearchResult]]:
    """Return what is known of the searches that the experiment asks for now."""
    known = {result.study: result for result in read(store)}
    searches = () if plan.experiment.folds else searches_of(plan)
    return [
        (search, known[search.name].of_space(search.space))
        for search in searches
        if search.name in known
    ]


def with_tuned(plan: Plan, store: Store) -> Plan:
    """Return a plan with the runs of the recipes that have been tuned.

    A recipe whose own values won is the same runs as the untuned one, and said to be.
    """
    found = found_of(plan, store)
    keys = {spec.key: spec for spec in plan.runs}
    runs: list[RunSpec] = []
    same: list[Remark] = []
    for search, result in found:
        if result.best is None:
            continue
        try:
            tuned = search.tuned(result.values, plan.experiment.seeds)
        except ConfigError as error:
            raise StoreError(f"{store.path / FILE}: '{result.recipe}': {error}") from None
        if tuned[0].key in keys:
            known = keys[tuned[0].key].recipe
            name = tuned_name(search.recipe)
            same.append(Remark(result.dataset, name, f"the same runs as '{known}'"))
            continue
        runs += tuned
        keys |= {spec.key: spec for spec in tuned}
    order = {seed: i for i, seed in enumerate(plan.experiment.seeds)}
    every = sorted([*plan.runs, *runs], key=lambda spec: order[spec.seed])
    notes = (*plan.notes, *outdated(plan, store, found))
    return replace(plan, runs=tuple(every), same=(*plan.same, *same), notes=notes)


def outdated(plan: Plan, store: Store, found: Sequence[tuple[Search, SearchResult]]) -> list[str]:
    """Return in words which recipes were tuned for something else than the file says now."""
    current = {search.group for search in searches_of(plan)} - {s.group for s, _ in found}
    return [
        f"'{result.recipe}' on {result.dataset}, {result.model} was tuned in another space or "
        "for another training; harness tune searches again"
        for result in read(store)
        if result.group in current
    ]
