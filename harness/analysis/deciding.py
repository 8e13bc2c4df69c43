"""Decision rules applied to stored predictions: nothing is trained, and runs of any age will do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.decompose import AS_IT_IS, Panel
from harness.analysis.images import ImageScores
from harness.analysis.intervals import ImageSample, Ints
from harness.analysis.outputs import Outputs, read_outputs
from harness.analysis.tables import BLOCK, DONE, GROUP, PANEL, records
from harness.decisions.base import Case, Fitted, Floats, Rule, Val, log_probabilities, rule_from
from harness.decisions.objective import Objective, accuracy
from harness.decisions.pooling import pooled
from harness.decisions.priors import Deployment, TrainedPrior, deployment
from harness.errors import DecisionError, StoreError
from harness.execution.store import read_json
from harness.experiment.schema import Experiment
from harness.experiment.spec import RunSpec
from harness.metrics import Metric, Split, metric_of, scores
from harness.text import named_error

BY_SAMPLE = ("accuracy", "nll", "ece", "mcc", "expected_cost")
"""Metrics in which a sample counts as any other; in all others a class does."""


@dataclass(frozen=True)
class Setting:
    """How and for what to decide.

    Attributes:
        metric: The primary metric, which rules are fitted for.
        rules: Rules beside `argmax`, which gains are taken with and which is always there.
        deploy: The prior that decisions are made for; None: ``balanced`` where a class counts in
            the primary metric as any other, and ``train`` where a sample does.
        metrics: Further metrics to compute.
        in_full: Whether to compute them on val as well, and precision, recall and F1 per class.
    """

    metric: Metric
    rules: tuple[Rule, ...] = (rule_from("prior"),)
    deploy: Deployment | None = None
    metrics: tuple[Metric, ...] = ()
    in_full: bool = False

    @classmethod
    def of(
        cls, experiment: Experiment, metrics: Iterable[str | Metric], in_full: bool = False
    ) -> "Setting":
        """Return how an experiment is decided, with further metrics."""
        wanted = experiment.decisions
        further = tuple(metric_of(item) if isinstance(item, str) else item for item in metrics)
        return cls(metric_of(experiment.metric), wanted.rules, wanted.deploy, further, in_full)

    def every_rule(self) -> tuple[Rule, ...]:
        """Return the rules with argmax first, each once."""
        rules = {rule.label(): rule for rule in (rule_from(AS_IT_IS), *self.rules)}
        return tuple(rules.values())

    def every_metric(self) -> dict[str, Metric]:
        """Return the metrics by label, the primary one first."""
        return {metric.label(): metric for metric in (self.metric, *self.metrics)}

    def prior(self, train_counts: Ints, class_names: tuple[str, ...]) -> Floats:
        """Return the deployment prior of a dataset, ``float64[C]``."""
        return deployment(self.deployed(), train_counts, class_names)

    def deployed(self) -> Deployment:
        """Return the deployment prior as it is named."""
        if self.deploy is not None:
            return self.deploy
        return "train" if self.metric.name in BY_SAMPLE else "balanced"


@dataclass
class Decided:
    """What rules make of runs.

    Attributes:
        table: One row per run, rule and metric, as `harness.analysis.decompose.decomposition` wants
            it; ``value`` (and ``val``, where that was asked for) is NaN where the rule could not be
            fitted or the metric is not defined.
        images: Scores of single test images by the primary metric, by (panel, rule).
        fitted: Each fitted rule, by (key of the run, rule).
        classes: Precision, recall and F1 of each class on test, ``float64[3, C]``, by (key of the
            run, rule); where that was asked for.
        trained: The prior that the outputs of each run carry, by its key.
        notes: What the user should know, by (dataset, recipe, rule): each thing once.
        unread: Why predictions of single runs could not be used.
    """

    table: pd.DataFrame
    images: dict[tuple[Panel, str], ImageScores] = field(default_factory=dict)
    fitted: dict[tuple[str, str], Fitted] = field(default_factory=dict)
    classes: dict[tuple[str, str], Floats] = field(default_factory=dict)
    trained: dict[str, TrainedPrior] = field(default_factory=dict)
    notes: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def of_images(self, rule: str) -> dict[Panel, ImageScores]:
        """Return the scores of single test images under a rule, by panel."""
        return {panel: scores for (panel, label), scores in self.images.items() if label == rule}


def decide_runs(runs: pd.DataFrame, specs: Iterable[RunSpec], setting: Setting) -> Decided:
    """Fit and apply every rule to every run that is done.

    A rule is fitted on the val outputs of the run alone; with folds, on those of all folds of its
    seed, less the rows in its own test set. Nothing of test is looked at.

    Args:
        runs: From `runs_table`.
        specs: Those of the runs.
        setting: How to decide.

    Raises:
        ConfigError: Costs, classes or priors do not fit the classes.
    """
    by_key = {spec.key: spec for spec in specs}
    done = runs[runs["status"] == DONE] if len(runs) else runs
    found = Decided(pd.DataFrame(columns=_COLUMNS))
    rows: list[dict[str, Any]] = []
    scores: dict[tuple[Panel, str], dict[str, NDArray[np.float32]]] = {}
    first: dict[Panel, Outputs] = {}
    for read in _ahead(lambda rows: _read(rows, by_key, found.unread), _together(done)):
        for place, outputs in enumerate(read):
            panel: Panel = tuple(outputs.row[name] for name in PANEL)
            same = np.array_equal(first.setdefault(panel, outputs).test_rows, outputs.test_rows)
            case = _case(place, read, setting)
            found.trained[outputs.row["key"]] = outputs.trained
            for label, split, on_val in _decide(outputs, case, setting, found):
                rows += _rows(outputs, label, (split, on_val), setting, found)
                if split is not None and setting.in_full:
                    per_class = np.stack([split.precision, split.recall, split.f1])
                    found.classes[outputs.row["key"], label] = per_class
                if split is not None and same and setting.metric.splits_into_images():
                    of_image = np.asarray(setting.metric.image_scores(split), np.float32)
                    scores.setdefault((panel, label), {})[outputs.row["key"]] = of_image
    if rows:
        found.table = pd.DataFrame(rows)
    samples = {panel: _sample(outputs, setting.metric) for panel, outputs in first.items()}
    for (panel, label), of_runs in scores.items():
        sample = samples[panel]
        if sample is not None:
            found.images[panel, label] = ImageScores(sample, of_runs)
    return found


def on_val(folder: Path, setting: Setting) -> tuple[float | None, str]:
    """Return the primary metric of a run on val under the one rule of a setting.

    None, with the reason, where the rule cannot be fitted; None where the metric is not defined.

    Raises:
        StoreError: A file of the run is missing or damaged.
    """
    spec = RunSpec.from_json(read_json(folder / "spec.json"))
    outputs = read_outputs({"path": str(folder), "key": spec.key}, spec)
    case, val, (rule,) = _case(0, [outputs], setting), outputs.val, setting.rules
    if val is None:
        return None, "there is no val"
    try:
        fitted = rule.fit(case)
    except DecisionError as error:
        return None, f"rule {rule.label()}: {error}"
    own = fitted.probabilities(val.log_p), val.labels, outputs.train_counts
    split = Split(*own, fitted.decisions(val.log_p), outputs.class_names)
    return scores(split, [setting.metric])[setting.metric.label()], ""


_COLUMNS = [*GROUP, *BLOCK, "folds", "key", "rule", "metric", "value"]


def _together(done: pd.DataFrame) -> Iterable[list[dict[str, Any]]]:
    """Return the runs of each recipe and seed: one, or one per fold."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in records(done):
        found.setdefault(tuple(row[name] for name in [*GROUP, "seed"]), []).append(row)
    return found.values()


def _ahead(
    read: Callable[[list[dict[str, Any]]], list[Outputs]], each: Iterable[list[dict[str, Any]]]
) -> Iterable[list[Outputs]]:
    """Read the next while the last is worked on: much of reading is to decompress."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[list[Outputs]] | None = None
        for rows in each:
            following = pool.submit(read, rows)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()


def _read(
    together: Iterable[Mapping[str, Any]], specs: Mapping[str, RunSpec], unread: list[str]
) -> list[Outputs]:
    """Read runs; those that cannot be read are left out and said."""
    found = []
    for row in together:
        try:
            found.append(read_outputs(row, specs[row["key"]]))
        except StoreError as error:
            unread.append(str(error))
    return found


def _case(place: int, read: Sequence[Outputs], setting: Setting) -> Case:
    """Return what a rule may know of one run: no label or output of its test set."""
    outputs = read[place]
    deployed = setting.prior(outputs.train_counts, outputs.class_names)
    val = None
    if outputs.val is not None:
        log_p, labels = outputs.val.log_p, outputs.val.labels
        if len(read) > 1:
            parts = [other.val for other in read if other.val is not None]
            own = next(i for i, part in enumerate(parts) if part is outputs.val)
            log_p, labels = pooled(own, parts, outputs.test_rows)
        if len(labels):
            val = Val(log_p, labels, _objective(setting.metric, labels, outputs, deployed))
    return Case(outputs.class_names, outputs.trained, deployed, val)


def _objective(metric: Metric, labels: Ints, outputs: Outputs, deployed: Floats) -> Objective:
    """Return what rules are fitted for on val.

    Accuracy is that under the deployment prior; it also stands in for a metric of probabilities,
    which decisions do not change.
    """
    if metric.name == "accuracy" or metric.source == "probabilities":
        return accuracy(labels, deployed)
    counts, names = outputs.train_counts, outputs.class_names
    blank = np.broadcast_to(np.float32(1 / len(names)), (len(labels), len(names)))

    def split_of(decided: Ints) -> Split:
        return Split(blank, labels, counts, decided, names)

    def value(decided: Ints) -> float:
        found = metric.value(split_of(decided))
        if found is None:
            return 0.0
        return found if metric.higher_is_better else -found

    weights = metric.image_weights(labels, counts, names)
    if weights is not None and weights.any():
        probe = split_of(np.roll(labels, 1))
        if np.array_equal(metric.image_scores(probe), probe.right):
            return Objective.linear(weights, labels)
    return Objective(value)


def _decide(
    outputs: Outputs, case: Case, setting: Setting, found: Decided
) -> Iterable[tuple[str, Split | None, Split | None]]:
    """Yield each rule's label with test and val as it decides them; None where it cannot."""
    log_test = log_probabilities(outputs.test)
    probable = any(m.source == "probabilities" for m in setting.every_metric().values())
    names, counts, val = outputs.class_names, outputs.train_counts, outputs.val
    for rule in setting.every_rule():
        label = rule.label()
        place = (outputs.row["dataset"], outputs.row["recipe"], label)
        try:
            fitted = rule.fit(case)
        except DecisionError as error:
            _note(found, place, [str(error)])
            yield label, None, None
            continue
        found.fitted[outputs.row["key"], label] = fitted
        _note(found, place, fitted.notes)
        moved = probable and label != AS_IT_IS
        probabilities = fitted.probabilities(log_test) if moved else outputs.test
        decided = fitted.decisions(log_test)
        on_val = None
        if setting.in_full and val is not None:
            own = fitted.probabilities(val.log_p), val.labels, counts, fitted.decisions(val.log_p)
            on_val = Split(*own, names)
        yield label, Split(probabilities, outputs.test_labels, counts, decided, names), on_val


def _note(found: Decided, place: tuple[str, str, str], said: Iterable[str]) -> None:
    known = found.notes.setdefault(place, [])
    known += [text for text in said if text not in known]
    if not known:
        del found.notes[place]


def _rows(
    outputs: Outputs,
    rule: str,
    splits: tuple[Split | None, Split | None],
    setting: Setting,
    found: Decided,
) -> Iterable[dict[str, Any]]:
    run = {name: outputs.row[name] for name in [*GROUP, *BLOCK, "folds", "key"]}
    place = (outputs.row["dataset"], outputs.row["recipe"], rule)
    columns = ("value", "val") if setting.in_full else ("value",)
    for label, metric in setting.every_metric().items():
        values = dict.fromkeys(columns, np.nan)
        for column, split in zip(columns, splits, strict=False):
            try:
                value = None if split is None else scores(split, [metric])[label]
            except Exception as error:  # of a plugin
                _note(found, place, [f"{label} could not be computed: {named_error(error)}"])
                value = None
            values[column] = np.nan if value is None else value
        yield {**run, "rule": rule, "metric": label, **values}


def _sample(outputs: Outputs, metric: Metric) -> ImageSample | None:
    if outputs.row["fold"] >= 0:
        return None
    shares = metric.image_weights(outputs.test_labels, outputs.train_counts, outputs.class_names)
    if shares is None or not shares.any():
        return None
    return ImageSample(shares, outputs.test_labels, outputs.test_groups)
