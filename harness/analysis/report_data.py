"""Everything a report says of an experiment, as tidy tables, before any of it is written down."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from harness.analysis import across, classes, compare, details, effects, tuned
from harness.analysis.compare import Panel
from harness.analysis.deciding import Decided
from harness.analysis.doubts import Doubt, Doubts, doubts, uncertain
from harness.analysis.images import ImageScores, image_scores
from harness.analysis.intervals import MARGIN
from harness.analysis.resting import Resting, resting
from harness.analysis.tables import DONE, GROUP, PANEL, measured, runs_table, stored_specs
from harness.analysis.threshold import Threshold, not_decided, threshold, under_primary
from harness.errors import StoreError, counted
from harness.execution.search_results import SearchResult
from harness.execution.store import Store
from harness.experiment.canonical import canonical_json
from harness.experiment.decisions import ARGMAX
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.metrics import metric_of
from harness.training.run_status import RunStatus

CONFIRMED = "-confirm"
"""What the name of an experiment's runs on fresh seeds ends in."""

_NAMED = 20
"""Most damaged runs that a report names among its warnings; its table of runs has all."""


ALSO = ("ece", "nll")
"""Metrics of calibration, in which rules are compared as well."""


@dataclass
class ReportData:
    """What an experiment came to.

    Attributes:
        experiment: What was asked.
        margin: Largest difference that does not matter, in the metric's unit.
        specs: Every planned run, or every run there is where the data is gone.
        notes: What the reader should know beforehand.
        runs: From `harness.analysis.tables.runs_table`.
        board: From `harness.analysis.compare.leaderboard`.
        board_apart: The same without runs that are not done, where there are such.
        chosen: The recipe that val (or, without it, test) puts first, by panel.
        gains: `compare.differences` on the primary metric, with both intervals.
        other_gains: The same on the other metrics: exploratory.
        effects: `effects.main_effects` on the primary metric, with both intervals.
        other_effects: The same on the other metrics: exploratory.
        interactions: `effects.interactions` on the primary metric.
        classes: `classes.class_differences` of recall, of the recipes that were read in detail.
        gap: `compare.gap_closed`.
        balanced: `compare.on_balanced`.
        costs: Seconds of each recipe, relative to doing nothing, with its gain.
        datasets: `across.means`.
        ranks: `across.ranks`.
        tuned: `tuned.table` of the searches.
        confirmed: `compare.differences` on fresh seeds.
        confirmed_runs: The runs on fresh seeds.
        recipes: What each recipe consists of.
        environments: Versions and machines, with how many runs each has.
        not_detailed: Recipes that were not read in detail.
        threshold: What decision rules make of the gains of the recipes that were read in detail.
        doubts: Why a gain is not certain of samples that nobody has seen, by panel.
        no_anew: Why there is no interval on new images, by panel.
        resting: `resting.resting`: what is tested on few groups, or samples.
        results: The results folder, absolute.
    """

    experiment: Experiment
    margin: float
    specs: Sequence[RunSpec]
    notes: list[str]
    runs: pd.DataFrame
    board: pd.DataFrame
    board_apart: pd.DataFrame | None
    chosen: Mapping[Panel, str]
    gains: pd.DataFrame = field(default_factory=pd.DataFrame)
    other_gains: pd.DataFrame = field(default_factory=pd.DataFrame)
    effects: pd.DataFrame = field(default_factory=pd.DataFrame)
    other_effects: pd.DataFrame = field(default_factory=pd.DataFrame)
    interactions: pd.DataFrame = field(default_factory=pd.DataFrame)
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    gap: pd.DataFrame = field(default_factory=pd.DataFrame)
    balanced: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    datasets: pd.DataFrame = field(default_factory=pd.DataFrame)
    ranks: pd.DataFrame = field(default_factory=pd.DataFrame)
    tuned: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=tuned.COLUMNS))
    confirmed: pd.DataFrame = field(default_factory=pd.DataFrame)
    confirmed_runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    recipes: pd.DataFrame = field(default_factory=pd.DataFrame)
    environments: pd.DataFrame = field(default_factory=pd.DataFrame)
    not_detailed: int = 0
    threshold: Threshold = field(default_factory=lambda: Threshold("", ARGMAX, ""))
    doubts: Doubts = field(default_factory=dict)
    no_anew: Mapping[Panel, str] = field(default_factory=dict)
    resting: Mapping[Panel, Resting] = field(default_factory=dict)
    results: Path = field(default_factory=Path)

    def uncertain(self, panel: Panel) -> list[Doubt]:
        """Return why a gain is not called certain of samples that nobody has seen."""
        return uncertain(self.doubts, panel)

    def command(self, verb: str) -> str:
        """Return the command line that has a verb done for this; no folder of this machine."""
        return command(verb, self.experiment, self.results)

    @property
    def sample(self) -> str:
        """What a sample is called: an image, the row of a table, or a sample where both occur."""
        kinds = {dataset.kind for dataset in self.experiment.datasets}
        return {"image": "image", "table": "row"}[kinds.pop()] if len(kinds) == 1 else "sample"

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.experiment.metric

    @property
    def rule(self) -> str:
        """The decision rule that everything is compared by, but for what names another."""
        return self.experiment.decisions.primary

    @property
    def by(self) -> str:
        """Which split the order of recipes was read off."""
        return "val" if "val" in self.board and self.board["val"].notna().any() else "test"

    @property
    def panels(self) -> list[Panel]:
        """Every dataset and model with a run that is done, the balanced reference apart."""
        done = self.board[(self.board["n"] > 0) & (self.board["reference"] == "")]
        return list(done[PANEL].drop_duplicates().itertuples(index=False, name=None))

    def missing(self) -> pd.DataFrame:
        """Return planned runs that were never committed, counted by `GROUP` with their seeds."""
        known = set(self.runs["key"])
        rows = [
            [spec.dataset_label, spec.reference, spec.model.label(), spec.recipe, spec.seed]
            for spec in self.specs
            if spec.key not in known
        ]
        table = pd.DataFrame(rows, columns=[*GROUP, "seed"])
        found = table.groupby(GROUP, sort=False)["seed"].agg(runs="size", seeds=_listed)
        return found.reset_index()

    def tuned_names(self) -> set[str]:
        """Return the names of the tuned recipes that have runs."""
        return set(self.tuned["tuned"]) & set(self.runs["recipe"])

    def bad(self) -> pd.DataFrame:
        """Return the runs that are committed and not done."""
        return self.runs[self.runs["status"] != DONE]


def command(verb: str, experiment: Experiment, results: Path) -> str:
    """Return the command line that has a verb done for an experiment and its results folder.

    A folder that is not below this one stays nameless.
    """
    words = f"harness {verb} {experiment.called}"
    if not results.is_relative_to(Path.cwd()):
        return f"{words} --results …"
    place = results.relative_to(Path.cwd()).as_posix()
    return words if place == "results" else f"{words} --results {shlex.quote(place)}"


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(seeds))))


def collect(
    experiment: Experiment,
    specs: Sequence[RunSpec],
    store: Store,
    margin: float = MARGIN,
    notes: Sequence[str] = (),
    searched: Sequence[SearchResult] = (),
) -> ReportData:
    """Return what the committed runs of an experiment say.

    Args:
        experiment: What was asked.
        specs: Its runs.
        store: Where they are.
        margin: Largest difference that does not matter, in the metric's unit.
        notes: What the reader should know beforehand.
        searched: What the searches of its recipes came to.

    Raises:
        StoreError: No run was ever committed.
    """
    metrics = (experiment.metric, *experiment.metrics)
    runs = runs_table(store, specs, metrics)
    if runs.empty:
        raise StoreError(
            f"no run of '{experiment.name}' has ended in {store.results}; start with: "
            f"{command('run', experiment, store.results)}"
        )
    runs, decided = under_primary(runs, specs, experiment)
    metric, done = experiment.metric, runs["status"] == DONE
    board = compare.leaderboard(runs, metric)
    apart = None if done.all() else compare.leaderboard(runs[done], metric)
    chosen = compare.chosen(board)
    found = ReportData(experiment, margin, specs, list(notes), runs, board, apart, chosen)
    found.results = store.results
    bad = runs[runs["status"] == RunStatus.DAMAGED]
    named = zip(bad["path"][:_NAMED], bad["reason"], strict=False)
    found.notes += [f"{Path(path).name}/{reason}" for path, reason in named]
    found.recipes = details.recipes(specs, experiment.training)
    found.environments = details.environments(runs)
    if done.any():
        images = _compare(found, decided)
        found.tuned = tuned.table(searched, runs, metric, margin, images)
        _effects(found, images)
        _confirmed(found, store)
    return found


def _compare(found: ReportData, decided: Decided | None) -> Mapping[Panel, ImageScores]:
    """Fill in what compares recipes; return the scores of single images that were read.

    Args:
        found: Where to.
        decided: What the primary rule makes of the runs, where that is not argmax.
    """
    runs, metric = found.runs, found.metric
    detailed, found.not_detailed = details.in_detail(runs, found.board)
    read = image_scores(detailed, metric)
    found.no_anew, found.resting = read.none, resting(detailed, metric)
    found.doubts = doubts(runs, metric, found.sample, found.resting)
    images: Mapping[Panel, ImageScores] = read.scores
    per_class = None
    if decided is not None:
        per_class = {
            key: values for (key, rule), values in decided.classes.items() if rule == found.rule
        }
        images = decided.of_images(found.rule)
        found.notes += not_decided(decided, found.rule, metric)
    table = classes.class_table(detailed, per_class)
    found.notes += [*read.unread, *table.unread]
    found.classes = classes.class_differences(table.table)
    found.gains = compare.differences(runs, metric, found.margin, images=images)
    others = [name for name in measured(runs) if name != metric]
    found.other_gains = compare.differences(runs, others, found.margin)
    found.gap = compare.gap_closed(runs, metric)
    found.balanced = compare.on_balanced(runs, metric)
    found.costs = details.costs(found.board, metric_of(metric).higher_is_better)
    found.datasets = across.means(runs, metric)
    found.ranks = across.ranks(found.datasets)
    found.threshold = threshold(detailed, found.specs, found.experiment, found.margin, ALSO)
    unread = found.threshold.decided.unread
    found.notes += [text for text in unread if text not in found.notes]
    return images


def _effects(found: ReportData, images: Mapping[Panel, ImageScores]) -> None:
    experiment, runs, metric = found.experiment, found.runs, found.metric
    levels = {name: [x.label for x in choices] for name, choices in experiment.factors.items()}
    if not levels:
        return
    design, margin = experiment.design, found.margin
    found.effects = effects.main_effects(runs, metric, design, levels, margin, images)
    others = [name for name in measured(runs) if name != metric]
    found.other_effects = effects.main_effects(
        runs, others, design, levels, margin, exploratory=True
    )
    if design == "factorial":
        found.interactions = effects.interactions(runs, metric, levels, margin)


def _confirmed(found: ReportData, store: Store) -> None:
    """Fill in what the runs on fresh seeds say."""
    fresh = Store(store.results, store.path.name + CONFIRMED)
    stored, unreadable = stored_specs(fresh)
    found.notes += unreadable
    specs = _as_asked_now(stored, found.specs)
    if len(specs) < len(stored):
        other = counted(len(stored) - len(specs), "run")
        found.notes.append(f"{other} on fresh seeds had other settings than now: left out.")
    runs = runs_table(fresh, specs, [found.metric])
    if len(runs):
        found.confirmed_runs, decided = under_primary(runs, specs, found.experiment)
        images = (
            image_scores(runs, found.metric).scores
            if decided is None
            else decided.of_images(found.rule)
        )
        found.confirmed = compare.differences(
            found.confirmed_runs, found.metric, found.margin, images=images
        )


def _as_asked_now(fresh: Sequence[RunSpec], asked: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the runs on fresh seeds that are of a recipe as it is now, under its name of now.

    A recipe keeps its name when it is tuned again, and its old runs are not its own any more.
    """
    names = {spec.recipe for spec in fresh}
    now = {_but_for_seed(spec): spec.recipe for spec in asked if spec.recipe in names}
    known = [(spec, now.get(_but_for_seed(spec))) for spec in fresh]
    return [replace(spec, recipe=recipe) for spec, recipe in known if recipe is not None]


def _but_for_seed(spec: RunSpec) -> str:
    return canonical_json({**spec.identity(), "seed": None})
