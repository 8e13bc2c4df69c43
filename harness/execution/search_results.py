"""What the searches of an experiment came to: one record of each, in `tuned.json` beside its runs.

Every verb reads it to know the tuned recipes; the studies in `optuna.db` remain the truth.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from harness.errors import StoreError
from harness.execution.store import Store, read_json
from harness.experiment.space import Space
from harness.files import write_atomically

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
        values: What the winner tried, by path.
        held: What was held at another value than the recipe's, by path.
        states: Trials by ``complete``, ``pruned``, ``failed``, ``diverged``.
        runs: Runs that the trials asked for, each counted once.
        seconds: What these runs took, added up.
        own: The recipe's own values, of what moved and of what was held, by path; empty in a file
            of before that `of_space` has not completed.
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
    own: Mapping[str, float] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, str]:
        """Dataset, model and recipe."""
        return self.dataset, self.model, self.recipe

    @property
    def won(self) -> dict[str, float]:
        """The winner's values, with those that were held, by path; none without a winner."""
        if self.best is None:
            return {}
        return {**self.values, **self.held, **self.values}  # in the order of the space

    @property
    def own_won(self) -> bool:
        """Whether the recipe's own values won."""
        return bool(self.won) and self.won == dict(self.own)

    @property
    def trials(self) -> int:
        """How many trials have ended, whether or not they came to a value."""
        return sum(self.states.values())

    def of_space(self, space: Space) -> "SearchResult":
        """Return the same with the recipe's own values, where it was written without.

        Then own values outside the space were not tried, but the nearest that it holds.
        """
        if self.own:
            return self
        return replace(self, own=dict(space.own), default=self.default if space.holds_own else None)


def read(store: Store) -> tuple[SearchResult, ...]:
    """Return what the searches of an experiment came to, as far as they are over.

    Raises:
        StoreError: The file is damaged.
    """
    path = store.path / FILE
    if not path.exists():
        return ()
    try:
        return tuple(_result(item) for item in read_json(path)["found"])
    except StoreError as error:
        raise StoreError(f"{error}; delete it: {_ANEW}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error!r}); delete it: {_ANEW}") from None


def _result(item: Mapping[str, object]) -> SearchResult:
    fields = dict(item)
    for name in ("best", "default"):
        value = fields[name]
        fields[name] = Value(**value) if isinstance(value, dict) else None
    result = SearchResult(**fields)  # type: ignore[arg-type]
    numbers: list[object] = [result.runs, result.seconds]
    for values in (result.values, result.held, result.states, result.own):
        numbers += values.values()
    for value in filter(None, (result.best, result.default)):
        numbers += [value.mean, 0 if value.sd is None else value.sd]
    if wrong := [number for number in numbers if not isinstance(number, int | float)]:
        raise TypeError(f"{wrong[0]!r} is no number")
    return result


def write(store: Store, results: Iterable[SearchResult]) -> None:
    """Write what searches came to, in the place of what was known of the same recipes."""
    new = {result.group: result for result in results}
    known = {result.group: result for result in read(store)}
    if {**known, **new} == known:
        return
    data = {"schema": 1, "found": [asdict(result) for result in {**known, **new}.values()]}
    write_atomically(store.path / FILE, json.dumps(data, indent=1, ensure_ascii=False))
