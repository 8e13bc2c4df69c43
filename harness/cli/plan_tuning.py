"""What `harness plan` says of the searches that `harness tune` would make. No Optuna here."""

from statistics import median, stdev
from typing import Any

from harness.cli.shared import out
from harness.errors import counted, listing
from harness.execution.store import Store
from harness.experiment.expand import Plan
from harness.metrics import metric_of
from harness.training.run_result import DamagedRunError, recall_run
from harness.tuning.searches import Search, obstacles, searches_of
from harness.tuning.tuned import found_of

_SHOWN = 20
_READ = 200


def show(plan: Plan, store: Store) -> None:
    """Print studies, spaces and seeds; nothing without the key ``tune:``."""
    tuning, searches = plan.experiment.tuning, searches_of(plan)
    if tuning is None:
        return
    runs = tuning.trials * len(tuning.seeds) * len(searches)
    studies = counted(len(searches), "study", "studies")
    seeds = f"{'seed' if len(tuning.seeds) == 1 else 'seeds'} {listing(map(str, tuning.seeds))}"
    text = f"\nharness tune: {studies} of {tuning.trials} trials on {seeds}: up to "
    _say(text + counted(runs, "run"), "bold")
    over = {search.name for search, _ in found_of(plan, store)}
    for search in searches[:_SHOWN]:
        space = ", ".join(map(str, search.space.dimensions))
        done = " (done)" if search.name in over else ""
        _say(f"  {' · '.join(search.group)}{done}: {space}")
    if len(searches) > _SHOWN:
        _say(f"  … and {len(searches) - _SHOWN} more", "dim")
    for note in tuning.notes:
        _say(f"  note: {note}", "yellow")
    for obstacle in obstacles(plan):
        _say(f"  cannot be done: {obstacle}", "red")
    _say(f"  {_spread(plan, store)}", "dim")


def _spread(plan: Plan, store: Store) -> str:
    """Say how much the metric differs between seeds: what a search has to see through."""
    metric, stored = plan.experiment.metric, store.runs()
    values: dict[tuple[str, ...], list[float]] = {}
    done = [s for s in plan.runs if s.key in stored and not stored[s.key].failed]
    for spec in done[:_READ]:
        try:
            value = recall_run(stored[spec.key].folder).metric("val", metric)
        except DamagedRunError:
            continue
        if value is not None:
            cell = (spec.dataset_label, spec.reference, spec.model.label(), spec.recipe)
            values.setdefault(cell, []).append(value)
    spreads = [stdev(cell) for cell in values.values() if len(cell) > 1]
    if not spreads:
        return "one recipe's value on val often differs by 2 to 6 points between seeds"
    return f"between seeds, {metric} of one recipe on val has an sd of {median(spreads):.3f} so far"


def data(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the same for programs; empty without the key ``tune:``."""
    tuning = plan.experiment.tuning
    if tuning is None:
        return {}
    over = {search.name for search, _ in found_of(plan, store)}
    metric = metric_of(plan.experiment.metric)
    return {
        "tune": {
            "trials": tuning.trials,
            "seeds": list(tuning.seeds),
            "sampler": tuning.sampler,
            "pruner": tuning.pruner,
            "direction": "maximize" if metric.higher_is_better else "minimize",
            "studies": [_study(search, search.name in over) for search in searches_of(plan)],
            "notes": list(tuning.notes),
            "problems": list(obstacles(plan)),
        }
    }


def _study(search: Search, over: bool) -> dict[str, Any]:
    dataset, model, recipe = search.group
    return {
        "study": search.name,
        "dataset": dataset,
        "model": model,
        "recipe": recipe,
        "space": {one.path: [one.low, one.high] for one in search.space.dimensions},
        "held": dict(search.space.fixed),
        "done": over,
    }


def _say(text: str, style: str = "") -> None:
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
