"""`harness plan`: what would run, and what cannot or need not."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from rich.table import Table

from harness.app import compose
from harness.app.options import Options, select
from harness.cli import plan_tuning
from harness.cli.dataset_summary import per_split
from harness.cli.shared import err, find, out, print_json
from harness.errors import ConfigError, counted, lasting, listing
from harness.execution.estimate import Estimate
from harness.execution.store import Store, Stored
from harness.experiment.expand import Plan, Remark
from harness.experiment.schema import load
from harness.experiment.spec import RunSpec
from harness.training.run_result import AGAIN, DamagedRunError, read_run
from harness.training.run_status import FAILURES, RunStatus

_SHOWN = 60
_CLASSES = 24
_STATES = ("to do", RunStatus.DONE, RunStatus.FAILED)
_RARE_STATES = (RunStatus.DIVERGED, RunStatus.STOPPED, RunStatus.DAMAGED)


def run(
    file: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    how: dict[str, Any],
    measure: bool,
    price: float | None,
    as_json: bool,
) -> None:
    """Validate, expand and print; train nothing, or with `measure` some steps.

    Args:
        file: An experiment file, or the name of a shipped one.
        sets: Assignments to make in it.
        plugins: Modules and files to import.
        how: Options of `harness.app.options.Options` by name.
        measure: Whether to measure what the runs that are to do will cost.
        price: Of an hour, or None.
        as_json: Print JSON.

    Raises:
        HarnessError: Something is wrong with the file, or a price is asked for without measuring.
    """
    if price is not None and not measure:
        raise ConfigError("--price goes with --measure, which tells the hours")
    experiment = load(find(file), sets, plugins)
    options = Options(**how)
    store = Store(options.results, experiment.name)
    plan = compose.planned(experiment, store)
    runs = select(plan.runs, options.only)
    stored = store.runs(hollow=True)
    found = {spec.key: _standing(stored.get(spec.key)) for spec in runs}
    states = {key: state for key, (state, _) in found.items()}
    missing = [spec for spec in runs if states[spec.key] == "to do"]
    cost = compose.cost(plan, missing, options, err) if measure and missing else None
    if as_json:
        data = _data(plan, runs, states) | plan_tuning.data(plan, store)
        if cost is not None:
            data["cost"] = {**vars(cost), "price": _price(cost, price)}
        print_json(data)
        return
    _classes(plan)
    _matrix(runs, states)
    _all_remarks(plan)
    counts = Counter(states.values())
    parts = ", ".join(f"{counts[state]} {state}" for state in _shown(states))
    line = f"{len(runs)} runs: {parts}  (results in {options.results / experiment.name})"
    out.print(line, style="bold", markup=False, highlight=False, soft_wrap=True)
    damaged = sum(state == RunStatus.DAMAGED for state in states.values())
    if damaged:
        text = (
            f"{counted(damaged, 'run is', 'runs are')} damaged: harness run says which, and {AGAIN}"
        )
        out.print(text, style="red")
    if cost is not None:
        _show_cost(cost, price)
    else:
        _time(states, [took for state, took in found.values() if state == "done"][-50:])
    plan_tuning.show(plan, store)


def _all_remarks(plan: Plan) -> None:
    _remarks("cannot run and left out", plan.unsuitable, "red")
    _remarks(
        "expected to do the same as a simpler recipe; run all the same",
        (*plan.redundant, *plan.same),
        "yellow",
    )
    _remarks("worth a thought", plan.flags, "yellow")
    for note in plan.notes:
        out.print(f"note: {note}", style="yellow", markup=False, highlight=False)


def _show_cost(cost: Estimate, price: float | None) -> None:
    """Print time, memory, disk and money."""
    memory = "" if cost.memory_mb is None else f", {cost.memory_mb / 1e3:.1f} GB of memory"
    at_a_time = f"{cost.slots} at a time" if cost.slots > 1 else "one at a time"
    out.print(
        f"about {lasting(cost.seconds)} for {counted(cost.runs, 'run')}, {at_a_time}{memory}, "
        f"{_size(cost.bytes)} of disk; from some steps of {counted(cost.shapes, 'shape')} of run",
        highlight=False,
        soft_wrap=True,
    )
    money = _price(cost, price)
    if money is not None:
        out.print(f"about {money:.2f} at {price:g} an hour", highlight=False)


def _price(cost: Estimate, price: float | None) -> float | None:
    return None if price is None else cost.seconds / 3600 * price


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def _standing(stored: Stored | None) -> tuple[str, float]:
    """Return the state of a run, and the seconds it took where it is done."""
    if stored is None:
        return "to do", 0.0
    try:
        run = read_run(stored.folder)
    except DamagedRunError:
        return RunStatus.DAMAGED, 0.0
    if run.status in FAILURES:
        return RunStatus.FAILED, 0.0
    return run.status, run.values["cost"]["seconds"]


def _shown(states: dict[str, str]) -> list[str]:
    """Return the states to show: the usual ones, and others that some run is in."""
    return [*_STATES, *(state for state in _RARE_STATES if state in states.values())]


def _classes(plan: Plan) -> None:
    for dataset, info in plan.infos.items():
        # not as the table's title, which would be wrapped to the width of the columns
        of = "" if info.groups is None else ", in brackets of how many groups"
        out.print(f"{dataset}: samples per class{of} (seed {plan.experiment.seeds[0]})")
        table = Table(box=None, header_style="bold")
        for column in ("class", "train", "val", "test"):
            table.add_column(column, justify="left" if column == "class" else "right")
        order = info.counts[0].argsort(kind="stable")[::-1]
        shown = (
            order if len(order) <= _CLASSES else [*order[: _CLASSES // 2], *order[-_CLASSES // 2 :]]
        )
        for k in shown:
            table.add_row(info.class_names[k], *per_split(info, int(k)))
        out.print(table)
        steps = plan.experiment.training.steps(int(info.counts[0].sum()))
        more = f"; {len(order) - len(shown)} classes not shown" if len(shown) < len(order) else ""
        out.print(f"{steps} steps for every recipe{more}", style="dim")
        rare = [info.class_names[k] for k in order[::-1][:3] if info.counts[1, k] < 5]
        if info.counts[1].sum() and rare:
            out.print(
                f"val has fewer than 5 samples of {listing(rare)}: choosing on val is coarse there",
                style="yellow",
            )


def _matrix(runs: Sequence[RunSpec], states: dict[str, str]) -> None:
    cells: dict[tuple[str, ...], Counter[str]] = {}
    for spec in runs:
        key = (spec.dataset_label, spec.reference, spec.model.label(), spec.recipe)
        cells.setdefault(key, Counter())[states[spec.key]] += 1
    table = Table(box=None, header_style="bold")
    for column in ("dataset", "reference", "model", "recipe"):
        table.add_column(column, overflow="fold")
    shown = _shown(states)
    for column in shown:
        table.add_column(column, justify="right")
    for cell, counts in list(cells.items())[:_SHOWN]:
        table.add_row(*cell, *(str(counts[state] or "") for state in shown))
    out.print(table)
    if len(cells) > _SHOWN:
        out.print(f"… and {len(cells) - _SHOWN} more rows", style="dim")


def _remarks(title: str, remarks: Sequence[Remark], style: str) -> None:
    if not remarks:
        return
    out.print(f"{title}:", style=style)
    for remark in remarks[:_SHOWN]:
        text = f"  {remark.dataset} · {remark.recipe}: {remark.text}"
        out.print(text, markup=False, highlight=False, soft_wrap=True)
    if len(remarks) > _SHOWN:
        out.print(f"  … and {len(remarks) - _SHOWN} more", style="dim")


def _time(states: dict[str, str], took: Sequence[float]) -> None:
    """Print the time left, from the median of what runs that are done took."""
    missing = sum(state == "to do" for state in states.values())
    if not missing:
        return
    if not took:
        out.print(
            "the time it takes is shown here once a run is done; --measure tells it now",
            style="dim",
        )
        return
    each = median(took)
    out.print(
        f"about {lasting(each * missing)} left on one slot, from "
        f"{counted(len(took), 'run')} done ({each:.1f} s each)",
        style="dim",
    )


def _data(plan: Plan, runs: Sequence[RunSpec], states: dict[str, str]) -> dict[str, Any]:
    def remarks(items: Sequence[Remark]) -> list[dict[str, str]]:
        return [vars(item) for item in items]

    return {
        "experiment": plan.experiment.name,
        "counts": dict(Counter(states.values())),
        "runs": [
            {
                "key": spec.key,
                "dataset": spec.dataset_label,
                "reference": spec.reference,
                "model": spec.model.label(),
                "recipe": spec.recipe,
                "levels": dict(spec.levels),
                "seed": spec.seed,
                "fold": spec.fold,
                "state": states[spec.key],
            }
            for spec in runs
        ],
        "unsuitable": remarks(plan.unsuitable),
        "equivalent": remarks((*plan.redundant, *plan.same)),
        "flagged": remarks(plan.flags),
        "notes": list(plan.notes),
    }
