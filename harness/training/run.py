"""One run from its spec to the files of its attempt.

`start` is the run contract: a generator that yields what happens and receives commands. `drain`
is the same with every failure turned into an `error.json`, so that a failure stays in its run.
"""

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.base import Data
from harness.errors import ConfigError, DataError, HarnessError, listing
from harness.experiment.facts import facts_of
from harness.experiment.spec import RunSpec
from harness.strategies.base import Facts, Strategy, Synthesis, deciding
from harness.streams import stream, torch_seed
from harness.training import device as devices
from harness.training import models
from harness.training.loop import Command, Event, Loop, Outcome, Progress
from harness.training.metrics import Evaluation, evaluate
from harness.training.pipeline import Pipeline
from harness.training.plan import Plan
from harness.training.rundir import SCHEMA, WEIGHTS, RunDir


@dataclass(frozen=True)
class Feed:
    """What a run trains on, and in which order.

    Attributes:
        data: The loaded dataset.
        facts: What strategies know.
        synthesis: Rows to create, or None.
        plan: Every random decision.
        pipeline: Carries them out.
        notes: What the user should know.
    """

    data: Data
    facts: Facts
    synthesis: Synthesis | None
    plan: Plan
    pipeline: Pipeline
    notes: tuple[str, ...]


@dataclass
class Prepared:
    """Everything of a run but its training."""

    spec: RunSpec
    data: Data
    facts: Facts
    synthesis: Synthesis | None
    loop: Loop
    notes: list[str]


def start(
    spec: RunSpec, rundir: Path, device: str = "auto", keep_weights: bool = True
) -> Generator[Event, Command | None, dict[str, Any]]:
    """Train one run and write its files; yield what happens and return ``result.json``.

    Args:
        spec: What to train.
        rundir: An existing folder that belongs to this attempt alone.
        device: As in `harness.training.device.choose`.
        keep_weights: Whether to write the weights.

    Raises:
        HarnessError: The dataset, the recipe and the model do not fit together.
    """
    folder = RunDir(rundir)
    folder.write_json("spec.json", spec.to_json())
    place, precision = devices.choose(device)
    begun = time.perf_counter()
    with devices.same_bits(place, torch_seed(spec.seed, "model")):
        run = prepare(spec, place, precision)
        prepared = time.perf_counter() - begun
        yield Progress(0, run.facts.steps)
        outcome = yield from run.loop.run()
        result = _result(run, outcome)
        if outcome.status != "diverged":
            result["metrics"] = _evaluate(run, folder, outcome)
            result["status"] = outcome.status
        if keep_weights and outcome.status == "done":
            state = {
                name: value.cpu() for name, value in run.loop.model.network.state_dict().items()
            }
            torch.save(state, rundir / WEIGHTS)
    chosen = any(f"val/{spec.metric}" in row for row in outcome.history)
    if spec.training.select == "best" and outcome.status == "done" and not chosen:
        result["notes"].append(
            f"{spec.metric} is not defined on this val: the weights are those of the last step"
        )
    result["cost"] = _cost(outcome, run, prepared, time.perf_counter() - begun, place)
    result["device"] = {"name": devices.describe(place), "type": place.type, "precision": precision}
    folder.write_history(outcome.history)
    folder.write_env({"device": result["device"], "threads": 1 if place.type == "cpu" else None})
    for note in result["notes"]:
        folder.log(note)
    folder.write_json("result.json", result)
    return result


def drain(
    spec: RunSpec, rundir: Path, device: str = "auto", keep_weights: bool = True
) -> Generator[Event, Command | None, str]:
    """Run `start`; return ``done``, ``diverged``, ``stopped`` or ``failed``.

    A failure is written to ``error.json`` and never raised; Ctrl-C is.
    """
    try:
        result = yield from start(spec, rundir, device, keep_weights)
        return str(result["status"])
    except HarnessError as error:
        RunDir(rundir).write_error("input", str(error), error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        RunDir(rundir).write_error("out_of_memory", str(error) or "out of memory", error)
    except Exception as error:
        RunDir(rundir).write_error("exception", f"{type(error).__name__}: {error}", error)
    return "failed"


def feed(spec: RunSpec, place: torch.device) -> Feed:
    """Load the data and decide the plan: all of a run but its model.

    Raises:
        HarnessError: They do not fit together, or the data changed since it was planned.
    """
    data = spec.dataset.load(spec.seed, spec.fold, spec.folds)
    if data.index.content != spec.content:
        raise DataError(
            f"dataset '{spec.dataset_label}' has changed since this run was planned; run the "
            "experiment again to plan it on what is there now"
        )
    labels = data.labels[data.rows.train]
    synthesis = _synthesis(spec, data, labels)
    facts = _facts(spec, data, synthesis)
    plan = Plan(spec.strategies, facts, labels, synthesis, spec.seed)
    demanded = models.normalisation(spec.model)
    moments = None if demanded is None else (_float32(demanded[0]), _float32(demanded[1]))
    pipeline = Pipeline(data, synthesis, plan, place, moments, spec.training.label_smoothing)
    named = [
        f"{data.class_names[k]}: {text}"
        for k, text in (synthesis.notes if synthesis else {}).items()
    ]
    return Feed(data, facts, synthesis, plan, pipeline, (*data.notes, *named))


def _float32(values: Sequence[float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def prepare(spec: RunSpec, place: torch.device, precision: str = "fp32") -> Prepared:
    """Load the data, decide the plan, build the model.

    Raises:
        HarnessError: They do not fit together, or the data changed since it was planned.
    """
    fed = feed(spec, place)
    data, facts = fed.data, fed.facts
    model = _model(spec, data)
    notes = model.notes
    model = model.to(place)
    if place.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    loop = Loop(
        model=model,
        pipeline=fed.pipeline,
        plan=fed.plan,
        strategies=spec.strategies,
        class_counts=torch.from_numpy(facts.expanded_counts.astype(np.float32)).to(place),
        training=spec.training,
        steps=facts.steps,
        metric=spec.metric,
        val=data.rows.val,
        val_labels=data.labels[data.rows.val],
        train_counts=data.train_counts,
        device=place,
        precision=precision,
        scale=_logit_scale(spec.strategies),
    )
    return Prepared(spec, data, facts, fed.synthesis, loop, [*fed.notes, *notes])


def _synthesis(spec: RunSpec, data: Data, labels: NDArray[np.int64]) -> Synthesis | None:
    for strategy in deciding(spec.strategies, "synthesize"):
        rows = data.features[data.rows.train]
        rng = stream(spec.seed, "synthesize")
        synthesis = strategy.synthesize(rows.reshape(len(rows), -1), labels, rng)
        _check_synthesis(strategy, synthesis, labels)
        return synthesis
    return None


def _check_synthesis(strategy: Strategy, made: Synthesis, labels: NDArray[np.int64]) -> None:
    if not len(made.base) == len(made.neighbour) == len(made.gap):
        raise ConfigError(f"'{strategy.name}'.synthesize: base, neighbour and gap differ in length")
    if len(made.base):
        if min(made.base.min(), made.neighbour.min()) < 0 or (
            max(made.base.max(), made.neighbour.max()) >= len(labels)
        ):
            raise ConfigError(
                f"'{strategy.name}'.synthesize: rows must lie in 0..{len(labels) - 1}"
            )
        if (labels[made.base] != labels[made.neighbour]).any():
            raise ConfigError(f"'{strategy.name}'.synthesize: a neighbour is of another class")
        if not (made.gap.min() >= 0 and made.gap.max() <= 1):
            raise ConfigError(f"'{strategy.name}'.synthesize: gap must lie in [0, 1]")


def _facts(spec: RunSpec, data: Data, synthesis: Synthesis | None) -> Facts:
    """Return what strategies may know of a loaded run, having asked them whether they suit it.

    Raises:
        ConfigError: The batch is larger than the training set, or a strategy is unsuitable.
    """
    counts = data.train_counts
    expanded = counts.copy()
    if synthesis is not None:
        made = data.labels[data.rows.train][synthesis.base]
        expanded = expanded + np.bincount(made, minlength=len(counts))
    size = int(counts.sum())
    if spec.training.batch_size > size:
        raise ConfigError(
            f"batch_size {spec.training.batch_size} is larger than the training set ({size})"
        )
    facts = facts_of(spec.dataset, spec.training, data.shape, data.class_names, counts, expanded)
    reasons = [reason for s in spec.strategies if (reason := s.unsuitable(facts))]
    if reasons:
        raise ConfigError(listing(reasons))
    return facts


def _model(spec: RunSpec, data: Data) -> models.Classifier:
    heads = {type(s).head for s in spec.strategies} - {"linear"}
    head = heads.pop() if heads else "linear"
    return models.build(spec.model, data.shape, len(data.class_names), head, spec.seed)


def _logit_scale(strategies: tuple[Strategy, ...]) -> float:
    """Return the scale of the loss that acts last."""
    losses = sorted(deciding(strategies, "loss"), key=lambda s: s.window()[1])
    return losses[-1].logit_scale() if losses else 1.0


def _result(run: Prepared, outcome: Outcome) -> dict[str, Any]:
    steps = run.facts.steps
    return {
        "schema": SCHEMA,
        "key": run.spec.key,
        "status": outcome.status,
        "metrics": {},
        "steps": steps,
        "selected_step": outcome.selected_step,
        "train_size": int(run.facts.class_counts.sum()),
        "synthetic": int(run.facts.expanded_counts.sum() - run.facts.class_counts.sum()),
        "class_names": list(run.data.class_names),
        "train_counts": run.facts.class_counts.tolist(),
        "delivered": outcome.delivered.tolist(),
        "mixed_share": {name: count / steps for name, count in sorted(outcome.mixed.items())},
        "parameters": models.count_parameters(run.loop.model),
        "normalisation": _normalisation(run),
        "notes": run.notes,
    }


def _normalisation(run: Prepared) -> dict[str, Any] | None:
    demanded = models.normalisation(run.spec.model)
    mean, std = demanded if demanded else (run.data.mean, run.data.std)
    if mean is None or std is None:
        return None
    return {
        "intensity": list(run.data.intensity),
        "mean": [float(v) for v in mean],
        "std": [float(v) for v in std],
        "from": "weights" if demanded else "dataset",
    }


def _evaluate(run: Prepared, folder: RunDir, outcome: Outcome) -> dict[str, Any]:
    """Score val and test once with the chosen weights; write tables and predictions."""
    clock = time.perf_counter()
    loop, data = run.loop, run.data
    found: dict[str, Evaluation] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in (("val", data.rows.val), ("test", data.rows.test)):
        if not len(rows):
            continue
        probabilities = loop.predict(rows)
        if not np.isfinite(probabilities).all():
            outcome.status = "diverged"
            return {}
        found[name] = evaluate(probabilities, data.labels[rows], data.train_counts)
        arrays[f"{name}_probabilities"] = probabilities
        arrays[f"{name}_labels"] = data.labels[rows]
        arrays[f"{name}_rows"] = rows
        if data.index.group is not None:
            arrays[f"{name}_groups"] = data.index.group[rows]
        if len(data.index.ids):
            arrays[f"{name}_ids"] = np.array([data.index.id_of(row) for row in rows], dtype=np.str_)
    order = [name for name in ("test", "val") if name in found]  # test is what a viewer opens on
    folder.write_per_class(data.class_names, {name: found[name].per_class for name in order})
    folder.write_confusion(data.class_names, found["test"].confusion)
    folder.write_predictions(**arrays)
    outcome.seconds["evaluate"] += time.perf_counter() - clock
    return {name: e.summary for name, e in found.items()}


def _cost(
    outcome: Outcome, run: Prepared, prepared: float, total: float, place: torch.device
) -> dict[str, float | None]:
    train = outcome.seconds["train"]
    images = run.facts.batch_size * (outcome.history[-1]["step"] if outcome.history else 0)
    return {
        "seconds": total,
        "prepare_seconds": prepared,
        "train_seconds": train,
        "evaluate_seconds": outcome.seconds["evaluate"],
        "images_per_second": images / train if train > 0 else None,
        "peak_memory_mb": devices.peak_memory_mb(place),
    }


def reproduce(rundir: Path, device: str = "auto") -> NDArray[np.float32]:
    """Return the test probabilities ``float32[n, C]`` that the stored weights of a run give.

    Raises:
        DataError: The run has no weights, or its dataset has changed.
    """
    spec = RunSpec.from_json(json.loads((rundir / "spec.json").read_text(encoding="utf-8")))
    if not (rundir / WEIGHTS).is_file():
        raise DataError(f"{rundir} has no weights ({WEIGHTS}); see keep_weights")
    place, precision = devices.choose(device)
    with devices.same_bits(place, torch_seed(spec.seed, "model")):
        run = prepare(spec, place, precision)
        state = torch.load(rundir / WEIGHTS, map_location=place, weights_only=True)
        run.loop.model.network.load_state_dict(state)
        return run.loop.predict(run.data.rows.test)
