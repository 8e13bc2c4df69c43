"""Writes one run per recipe to MLflow: its summary over seeds, with the runs of seeds below it.

A summary is found again by a tag and kept up to date. It has no key, so that whatever mirrors runs
leaves it alone. Values that hold no longer, under rules that the file named before, become NaN,
which no search finds: MLflow cannot take a metric back.
"""

import math
import time
from collections.abc import Callable, Mapping, Set

from harness.execution.store import Store
from harness.tracking import describe
from harness.tracking.asked import OUTDATED, PREFIX, Asked, Recipe
from harness.tracking.ledger import FINISHED, Entry, Ledger
from harness.tracking.mlflow import Connection, Tracked
from harness.tracking.recipe_values import Values, stored_rules, values_of
from harness.tracking.record import Point
from harness.tracking.studies import PARENT

KIND, STATUS = "recipe", "current"
"""Tags of a summary: ``harness.kind``, and ``harness.status`` while the file asks for it."""

_RULES = "rules:"
"""Of the lines of the ledger that say what of rules was told of a run."""

_OF_ONE_RUN = ("harness.key", "harness.seed", "harness.fold")


class RecipeRecorder:
    """Writes the summaries of one experiment.

    Args:
        connection: MLflow.
        store: The results of the experiment.
        ledger: What MLflow has of it, by our own file.
        asked: What the experiment's file asks for.
        owner: What tells this results folder from others.
        is_mine: Whether a run in MLflow came from this results folder.
        fresh: Ids of runs that were made since the ledger was opened: they have nothing of rules.
    """

    def __init__(
        self,
        connection: Connection,
        store: Store,
        ledger: Ledger,
        asked: Asked,
        owner: str,
        is_mine: Callable[[Tracked], bool],
        fresh: Set[str],
    ) -> None:
        self._mlflow = connection
        self._store = store
        self._ledger = ledger
        self._asked = asked
        self._owner = owner
        self._is_mine = is_mine
        self._fresh = fresh

    def update(self, check: bool = False, stopped: Callable[[], bool] = lambda: False) -> None:
        """Bring the summaries up to the runs that MLflow has.

        Args:
            check: Also make those anew that somebody deleted.
            stopped: Asked after each recipe whether to leave the rest to the next command.

        Raises:
            HarnessError: MLflow cannot be written, or costs or priors do not fit the classes.
        """
        place, asked = self._mlflow.place, self._asked
        last, ended = self._ledger.last(place), self._ledger.ended(place)
        stale, gone = asked.stale(last, ended), asked.gone(last)
        if not (stale or gone or check):
            return
        there = self._there()
        if check:
            digests = asked.digests(ended)
            lost = {key for key in digests if key not in there and last.get(PREFIX + key)}
            stale |= {key: digests[key] for key in lost if last[PREFIX + key].run_id}
        wanted = [asked.recipes[key] for key in stale]
        values = values_of(self._store, asked, wanted) if wanted else {}
        for recipe in wanted:
            run_id = self._write(recipe, values.get(recipe.key, Values()), there.get(recipe.key))
            self._note(PREFIX + recipe.key, run_id, stale[recipe.key])
            if stopped():
                return
        for key, run in there.items():
            if key not in asked.recipes and run.outcome != OUTDATED:
                self._mlflow.log(run.run_id, tags={"harness.status": OUTDATED})
        for entry in gone:
            self._note(entry.key, entry.run_id, OUTDATED)

    def _there(self) -> dict[str, Tracked]:
        """Return the summaries that MLflow has, by key of the recipe; of two one is removed."""
        found: dict[str, Tracked] = {}
        for run in self._mlflow.runs(f"tags.`harness.kind` = '{KIND}'"):
            if not self._is_mine(run):
                continue
            if run.summary in found:
                self._mlflow.remove(run.run_id)
            else:
                found[run.summary] = run
        return found

    def _write(self, recipe: Recipe, found: Values, there: Tracked | None) -> str:
        """Write the summary of a recipe, then what of rules is known of its runs."""
        if there is None and not found.metrics:
            return ""  # none of its runs can be read
        now = round(1000 * time.time())
        tags = self._tags(recipe, found)
        params = describe.params(recipe.specs[0], None)
        params = {name: value for name, value in params.items() if name not in ("seed", "fold")}
        if there is None:
            run_id = self._mlflow.create(describe.recipe_name(recipe.specs[0]), tags, now)
            there = Tracked(run_id)
        points = _changed(found.metrics, there.metrics, set(there.metrics), now)
        new = {name: value for name, value in params.items() if name not in there.params}
        self._mlflow.log(there.run_id, points, new, tags)
        if there.status != FINISHED:
            self._mlflow.end(there.run_id, FINISHED, now)
        last, ended = (ask(self._mlflow.place) for ask in (self._ledger.last, self._ledger.ended))
        for spec in recipe.specs:
            if spec.key in ended:
                told = last.get(_RULES + spec.key)
                self._write_run(ended[spec.key], found, there.run_id, told, now)
        return there.run_id

    def _tags(self, recipe: Recipe, found: Values) -> dict[str, str]:
        spec, rules = recipe.specs[0], self._asked.rules
        shared = describe.tags(spec, "")
        return {
            **{name: value for name, value in shared.items() if name not in _OF_ONE_RUN},
            "harness.kind": KIND,
            "harness.model": recipe.panel[2],
            "harness.status": STATUS,
            "harness.store": self._owner,
            "harness.summary": recipe.key,
            "harness.rules": "; ".join(rules)[: describe.VALUE_LENGTH],
            "harness.primary_rule": self._asked.decisions.primary,
            "mlflow.note.content": found.note,
        }

    def _write_run(
        self, run: Entry, found: Values, parent: str, told: Entry | None, now: int
    ) -> None:
        """Put a run below its summary, with what rules make of it."""
        values, digest = found.runs.get(run.key, {}), f"{found.digest(run.key)}/{parent}"
        if told is not None and (told.run_id, told.result) == (run.run_id, digest):
            return
        known: dict[str, float] | None = {}
        if run.run_id not in self._fresh:
            known = self._mlflow.metrics(run.run_id)
        if known is None:  # somebody deleted it
            return
        points = _changed(values, known, stored_rules(list(known)), now)
        self._mlflow.log(run.run_id, points, tags={PARENT: parent})
        self._note(_RULES + run.key, run.run_id, digest)

    def _note(self, key: str, run_id: str, result: str) -> None:
        self._ledger.add(Entry(key, run_id, FINISHED, self._mlflow.place, result))


def _changed(
    values: Mapping[str, float], known: Mapping[str, float], ours: Set[str], now: int
) -> list[Point]:
    """Return points of what is not known yet, and NaN for what of ours holds no longer.

    All stand at step 0, as what is known once; of two at one step MLflow shows the later one.
    """
    new = [Point(name, value, 0, now) for name, value in values.items() if known.get(name) != value]
    over = sorted(name for name in ours if name not in values and not math.isnan(known[name]))
    return new + [Point(name, math.nan, 0, now) for name in over]
