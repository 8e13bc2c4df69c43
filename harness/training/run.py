"""One run from its spec to the files of its attempt.

`start` is the run contract: a generator that yields what happens and receives commands. `drain`
is the same with every failure turned into an `error.json`, so that a failure stays in its run.
"""

import contextlib
import io
import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import DataError, HarnessError
from harness.experiment.spec import RunSpec
from harness.files import NO_SPACE
from harness.metrics import Evaluation, Split, evaluate, scores, standard
from harness.streams import torch_seed
from harness.text import error_text, named_error
from harness.training import device as devices
from harness.training import importing, models
from harness.training.checkpoint import Checkpoints, maker
from harness.training.events import Command, Event, Progress
from harness.training.prepare import Prepared, prepare
from harness.training.run_options import RunOptions
from harness.training.run_status import RunStatus
from harness.training.rundir import SCHEMA, WEIGHTS, RunDir
from harness.training.state import TrainingResult

_DEFAULTS = RunOptions()

_LESS_MEMORY = "a smaller training.batch_size, --jobs or --runs-per-gpu needs less"


def start(
    spec: RunSpec,
    rundir: Path,
    options: RunOptions = _DEFAULTS,
) -> Generator[Event, Command | None, dict[str, Any]]:
    """Train one run and write its files; yield what happens and return ``result.json``.

    A run that is told to halt leaves a checkpoint and nothing else, and returns a result of status
    ``interrupted``.

    Args:
        spec: What to train.
        rundir: An existing folder that belongs to this attempt alone; a checkpoint in it is gone
            on from.
        options: How.

    Raises:
        HarnessError: The dataset, the recipe and the model do not fit together.
    """
    folder = RunDir(rundir)
    if not (rundir / "spec.json").exists():
        folder.write_json("spec.json", spec.to_json())
    place, precision = devices.choose(options.device)
    kept = Checkpoints(rundir, maker(spec, place.type, precision), options.checkpoint_every)
    events = _trained(spec, folder, place, precision, options, kept)
    with importing.watched():
        result = yield from devices.isolated(place, torch_seed(spec.seed, "model"), events)
    if result["status"] == "interrupted":
        return result
    result["device"] = {"name": devices.describe(place), "type": place.type, "precision": precision}
    folder.write_env({"device": result["device"], "threads": 1 if place.type == "cpu" else None})
    for note in result["notes"]:
        folder.log(note)
    folder.write_result(result)
    kept.remove()
    return result


def _trained(
    spec: RunSpec,
    folder: RunDir,
    place: torch.device,
    precision: str,
    options: RunOptions,
    kept: Checkpoints,
) -> Generator[Event, Command | None, dict[str, Any]]:
    """Prepare, train and evaluate; write tables, predictions and weights."""
    begun, imported = time.perf_counter(), importing.spent()
    run = prepare(spec, place, precision, options.workers)
    prepared = time.perf_counter() - begun - (importing.spent() - imported)
    if (yield Progress(0, run.facts.steps)) is Command.HALT:
        return {"status": "interrupted"}
    run.loop.checkpoints = kept
    with contextlib.closing(run.loop):
        outcome = yield from run.loop.run()
    result = _result(run, outcome)
    result["notes"] += kept.notes
    if outcome.status == "interrupted":
        return result
    if outcome.status != "diverged":
        result["metrics"] = _evaluate(run, folder, outcome, result["notes"])
        result["status"] = outcome.status
    if options.keep_weights and outcome.status == "done":
        state = run.loop.model.network.state_dict()
        content = io.BytesIO()  # a full disk is an OSError of ours, and not one of torch's own
        torch.save({name: value.cpu() for name, value in state.items()}, content)
        (folder.path / WEIGHTS).write_bytes(content.getbuffer())
    chosen = any(f"val/{spec.metric}" in row for row in outcome.history)
    if spec.training.select == "best" and outcome.status == "done" and not chosen:
        result["notes"].append(
            f"{spec.metric} is not defined on this val: the weights are those of the last step"
        )
    folder.write_history(outcome.history)
    total = time.perf_counter() - begun + outcome.earlier
    startup = importing.spent() - imported
    result["cost"] = _cost(outcome, run, prepared, total - startup, startup, place)
    return result


def drain(
    spec: RunSpec,
    rundir: Path,
    options: RunOptions = _DEFAULTS,
) -> Generator[Event, Command | None, str]:
    """Run `start`; return how it ended.

    A failure is written to ``error.json`` and never raised; Ctrl-C is.

    Returns:
        ``done``, ``diverged``, ``stopped``, ``interrupted``, ``failed``, or ``no_space`` where the
        disk is full.
    """
    events = start(spec, rundir, options)
    try:
        return (yield from _caught(events, RunDir(rundir)))
    except OSError as error:
        if error.errno in NO_SPACE:
            return RunStatus.NO_SPACE
        if not rundir.is_dir():  # somebody has deleted it, and nothing can be written there
            return RunStatus.FAILED
        raise


def _caught(
    events: Generator[Event, Command | None, dict[str, Any]], folder: RunDir
) -> Generator[Event, Command | None, str]:
    try:
        result = yield from events
        return str(result["status"])
    except HarnessError as error:
        folder.write_error("input", error_text(error), error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        said = error_text(error).split("\n")[0] or "out of memory"
        folder.write_error("out_of_memory", f"{said}; {_LESS_MEMORY}", error)
    except SystemExit as error:  # it would end the runs that come after, too
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        said = f"the code of this run called sys.exit: exit code {code}"
        folder.write_error("exception", said, error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        folder.write_error("exception", named_error(error), error)
    return RunStatus.FAILED


def _result(run: Prepared, outcome: TrainingResult) -> dict[str, Any]:
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
        "sample": {"shape": list(run.data.shape), "dtype": str(run.data.features.dtype)},
        "class_names": list(run.data.class_names),
        "train_counts": run.facts.class_counts.tolist(),
        "row_digests": run.data.rows.digests(),
        **_groups(run),
        **_copies(run),
        "delivered": outcome.delivered.tolist(),
        "label_mass": outcome.phases(steps),
        "mixed_share": {name: count / steps for name, count in sorted(outcome.mixed.items())},
        "parameters": models.count_parameters(run.loop.model),
        "normalisation": _normalisation(run),
        "notes": [*run.notes, *outcome.notes],
    }


def _copies(run: Prepared) -> dict[str, Any]:
    """Return how many test samples were trained or chosen on, where some were."""
    copies = run.data.copies()
    return {"copies": {"test": copies, "of": len(run.data.rows.test)}} if copies else {}


def _groups(run: Prepared) -> dict[str, Any]:
    """Return of how many groups each class is in each part, where the set has groups."""
    found = {name: counts.tolist() for name, counts in run.data.groups().items()}
    return {"groups": found} if found else {}


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


def _evaluate(
    run: Prepared, folder: RunDir, outcome: TrainingResult, notes: list[str]
) -> dict[str, Any]:
    """Score val and test once with the chosen weights; write tables and predictions.

    A run that was stopped early is compared by nobody: its test set stays unseen.
    """
    clock = time.perf_counter()
    loop, data = run.loop, run.data
    found: dict[str, Evaluation] = {}
    arrays: dict[str, NDArray[Any]] = {}
    parts = {"val": data.rows.val}
    if outcome.status == "done":
        parts["test"] = data.rows.test
    for name, rows in parts.items():
        if not len(rows):
            continue
        probabilities = loop.predict(rows)
        if not np.isfinite(probabilities).all():
            outcome.status = "diverged"
            return {}
        found[name] = evaluate(probabilities, data.labels[rows], data.train_counts)
        found[name].summary.update(_asked(run, probabilities, rows, notes))
        arrays[f"{name}_probabilities"] = probabilities
        arrays[f"{name}_labels"] = data.labels[rows]
        arrays[f"{name}_rows"] = rows
        if data.index.group is not None:
            arrays[f"{name}_groups"] = data.index.group[rows]
        if len(data.index.ids):
            arrays[f"{name}_ids"] = np.array([data.index.id_of(row) for row in rows], dtype=np.str_)
    order = [name for name in ("test", "val") if name in found]  # test is what a viewer opens on
    folder.write_per_class(data.class_names, {name: found[name].per_class for name in order})
    if "test" in found:
        folder.write_confusion(data.class_names, found["test"].confusion)
    folder.write_predictions(**arrays)
    outcome.seconds["evaluate"] += time.perf_counter() - clock
    return {name: e.summary for name, e in found.items()}


def _asked(
    run: Prepared, probabilities: NDArray[np.float32], rows: NDArray[np.int64], notes: list[str]
) -> dict[str, float | None]:
    """Return the metrics that the file asks for besides the standard ones.

    One that fails costs nobody a trained run: it is noted, and can be computed from the stored
    predictions once it is mended.
    """
    data = run.data
    named = (run.spec.metric, *run.spec.metrics)
    extra = [label for label in named if label not in standard(len(data.class_names))]
    truth, counts = data.labels[rows], data.train_counts
    split = Split(probabilities, truth, counts, class_names=data.class_names)
    found: dict[str, float | None] = {}
    for label in dict.fromkeys(extra):
        try:
            found |= scores(split, [label])
        except Exception as error:
            note = f"{label} could not be computed: {named_error(error)}"
            notes += [note] if note not in notes else []
    return found


def _cost(
    outcome: TrainingResult,
    run: Prepared,
    prepared: float,
    total: float,
    startup: float,
    place: torch.device,
) -> dict[str, float | None]:
    train = outcome.seconds["train"]
    images = run.facts.batch_size * (outcome.history[-1]["step"] if outcome.history else 0)
    return {
        "seconds": total,
        "startup_seconds": startup,
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
    with devices.same_bits(torch_seed(spec.seed, "model")):
        run = prepare(spec, place, precision)
        state = torch.load(rundir / WEIGHTS, map_location=place, weights_only=True)
        run.loop.model.network.load_state_dict(state)
        return run.loop.predict(run.data.rows.test)
