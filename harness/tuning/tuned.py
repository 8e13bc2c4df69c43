"""`tuned.json`: what the searches of an experiment came to, beside its runs. No Optuna here.

Every verb reads it to know the tuned recipes; the studies in `optuna.db` remain the truth.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from harness.errors import ConfigError, StoreError
from harness.execution.store import Store, read_json
from harness.experiment.expand import Plan, Remark
from harness.experiment.spec import RunSpec
from harness.experiment.tune import tuned_name
from harness.files import write_atomically
from harness.tuning.searches import Search, searches_of

FILE = "tuned.json"
_ANEW = "`harness tune` writes it again"


@dataclass(frozen=True)
class Value:
    """The metric of a trial on val: mean over the tuning seeds, with its spread.

    Attributes:
        trial: The trial's number.
        mean: Over the tuning seeds.
        sd: Standard deviation over them; None for a single one.
    """

    trial: int
    mean: float
    sd: float | None


@dataclass(frozen=True)
class SearchResult:
    """What one search came to.

    Attributes:
        study: Name of the study.
        dataset: As tables call it.
        model: As tables call it.
        recipe: Name of the recipe, untuned.
        best: The winner, or None where no trial came to a value.
        default: The recipe's own values, where they came to a value.
        values: What the winner sampled, by path.
        held: What was held at another value than the recipe's, by path.
        states: Trials by ``complete``, ``pruned``, ``failed``, ``diverged``.
        runs: Runs that the trials asked for, each counted once.
        seconds: What these runs took, added up.
    """

    study: str
    dataset: str
    model: str
    recipe: str
    best: Value | None
    default: Value | None
    values: Mapping[str, float]
    held: Mapping[str, float]
    states: Mapping[str, int]
    runs: int
    seconds: float

    @property
    def group(self) -> tuple[str, str, str]:
        """Dataset, model and recipe."""
        return self.dataset, self.model, self.recipe


def read(store: Store) -> tuple[SearchResult, ...]:
    """Return what the searches of an experiment came to, as far as they are over.

    Raises:
        StoreError: The file is damaged.
    """
    path = store.path / FILE
    if not path.exists():
        return ()
    try:
        return tuple(_finding(item) for item in read_json(path)["found"])
    except StoreError as error:
        raise StoreError(f"{error}; delete it: {_ANEW}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error!r}); delete it: {_ANEW}") from None


def _finding(item: Mapping[str, object]) -> SearchResult:
    fields = dict(item)
    for name in ("best", "default"):
        value = fields[name]
        fields[name] = Value(**value) if isinstance(value, dict) else None
    return SearchResult(**fields)  # type: ignore[arg-type]


def write(store: Store, found: Iterable[SearchResult]) -> None:
    """Write what searches came to, in the place of what was known of the same recipes."""
    new = {finding.group: finding for finding in found}
    known = {finding.group: finding for finding in read(store)}
    if {**known, **new} == known:
        return
    data = {"schema": 1, "found": [asdict(finding) for finding in {**known, **new}.values()]}
    write_atomically(store.path / FILE, json.dumps(data, indent=1, ensure_ascii=False))


def found_of(plan: Plan, store: Store) -> list[tuple[Search, SearchResult]]:
    """Return what is known of the searches that the experiment asks for now."""
    known = {finding.study: finding for finding in read(store)}
    searches = () if plan.experiment.folds else searches_of(plan)
    return [(search, known[search.name]) for search in searches if search.name in known]


def with_tuned(plan: Plan, store: Store) -> Plan:
    """Return a plan with the runs of the recipes that have been tuned.

    A recipe whose own values won is the same runs as the untuned one, and said to be.
    """
    found = found_of(plan, store)
    keys = {spec.key: spec for spec in plan.runs}
    runs: list[RunSpec] = []
    same: list[Remark] = []
    for search, finding in found:
        if finding.best is None:
            continue
        try:
            tuned = search.tuned(finding.values, plan.experiment.seeds)
        except ConfigError as error:
            raise StoreError(f"{store.path / FILE}: '{finding.recipe}': {error}") from None
        if tuned[0].key in keys:
            known = keys[tuned[0].key].recipe
            name = tuned_name(search.recipe)
            same.append(Remark(finding.dataset, name, f"the same runs as '{known}'"))
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
        f"'{finding.recipe}' on {finding.dataset}, {finding.model} was tuned in another space or "
        "for another training; harness tune searches again"
        for finding in read(store)
        if finding.group in current
    ]
