"""What a report tells beside the comparison: costs, recipes, environments, and what it reads."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.tables import DONE, GROUP, PANEL
from harness.errors import counted, listing
from harness.experiment.design import NOTHING
from harness.experiment.spec import RunSpec, Training
from harness.files import read_bytes
from harness.training.rundir import ENV, PER_CLASS, PREDICTIONS

MOST_RUNS = 1000
MOST_BYTES = 400_000_000
"""Of the files of so many runs a report reads more than ``result.json``: the best recipes first."""


def in_detail(
    runs: pd.DataFrame, board: pd.DataFrame, most: int | None = None
) -> tuple[pd.DataFrame, int]:
    """Return the runs whose larger files are worth reading, and how many recipes that leaves out.

    Whole recipes, the best of every dataset and model before the second-best of any, and doing
    nothing first of all; within so many runs and `MOST_BYTES`.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
        board: From `harness.analysis.compare.leaderboard`.
        most: How many runs at most, by default `MOST_RUNS`.
    """
    most = MOST_RUNS if most is None else most
    done = runs[runs["status"] == DONE]
    members = {group: list(index) for group, index in done.groupby(GROUP).groups.items()}
    place = board.groupby(PANEL, sort=False).cumcount().where(board["recipe"] != NOTHING, -1)
    order = board.assign(place=place).sort_values("place", kind="stable")
    kept: list[Any] = []
    size, left = 0, 0
    for group in order[GROUP].itertuples(index=False, name=None):
        index = members.get(group, [])
        if len(kept) + len(index) > most:
            left += 1
            continue
        weight = sum(_weight(Path(path)) for path in done.loc[index, "path"])
        if size + weight > MOST_BYTES:
            left += 1
            continue
        size += weight
        kept += index
    return done.loc[kept], left


def _weight(path: Path) -> int:
    total = 0
    for name in (PREDICTIONS, PER_CLASS):
        try:
            total += (path / name).stat().st_size
        except OSError:
            continue  # who reads it says that it is not there
    return total


def costs(board: pd.DataFrame, higher: bool) -> pd.DataFrame:
    """Return what a run of each recipe costs, beside what it gains.

    Columns: those of `GROUP`, ``seconds`` (median), ``relative`` (to doing nothing's), ``gain``,
    and ``frontier``: no other recipe gains as much for less time.

    Args:
        board: From `harness.analysis.compare.leaderboard`.
        higher: Whether a higher metric is better.
    """
    if "seconds" not in board:
        return pd.DataFrame(columns=[*GROUP, "seconds", "relative", "gain", "frontier"])
    table = board[[*GROUP, "seconds", "gain"]].copy()
    table["gain"] = table["gain"].where(table["recipe"] != NOTHING, 0.0)
    base = table[table["recipe"] == NOTHING].set_index(PANEL)["seconds"].rename("base")
    table = table.join(base, on=PANEL)
    table["relative"] = table["seconds"] / table.pop("base")
    table["frontier"] = False
    for _, part in table.dropna(subset=["gain", "relative"]).groupby(PANEL):
        worth = part["gain"] if higher else -part["gain"]
        order = np.lexsort((-worth.to_numpy(), part["relative"].to_numpy()))
        best = np.maximum.accumulate(worth.to_numpy()[order])
        ahead = np.append(True, worth.to_numpy()[order][1:] > best[:-1])
        table.loc[part.index[order[ahead]], "frontier"] = True
    return table


def recipes(specs: Sequence[RunSpec], training: Training) -> pd.DataFrame:
    """Return what each recipe consists of: ``recipe, where, strategies``.

    Every parameter that was set is named, tuned ones with them; ``where`` says on which dataset
    and model where a recipe is not the same on all.

    Args:
        specs: Every planned run.
        training: The experiment's budget; what a recipe has of its own is named too.
    """
    usual = training.model_dump(mode="json")
    found: dict[str, dict[str, list[str]]] = {}
    for spec in specs:
        own = spec.training.model_dump(mode="json")
        parts = [strategy.label() for strategy in spec.strategies]
        parts += [f"training.{name}={own[name]}" for name in own if own[name] != usual[name]]
        place = f"{spec.dataset_label}, {spec.model.label()}"
        found.setdefault(spec.recipe, {}).setdefault(" + ".join(parts), []).append(place)
    rows = [
        [recipe, listing(dict.fromkeys(places), 3) if len(kinds) > 1 else "", text or "no strategy"]
        for recipe, kinds in found.items()
        for text, places in kinds.items()
    ]
    return pd.DataFrame(rows, columns=["recipe", "where", "strategies"])


def environments(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what made the runs: ``dataset, model, what, version, runs``.

    ``what`` is a library, ``harness``, ``python``, ``commit`` or ``device``. Runs whose
    ``env.json`` cannot be read count as ``unknown``.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
    """
    done = runs[runs["status"] == DONE]
    of = [done[name].tolist() for name in ("dataset", "model", "device")]
    files = map(_env, done["path"])
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for (content, *where, device), count in Counter(zip(files, *of, strict=True)).items():
        for what, version in (_versions(content) | {"device": device}).items():
            if version:
                counts[(*where, what, str(version))] += count
    rows = [(*parts, count) for parts, count in counts.items()]
    return pd.DataFrame(rows, columns=["dataset", "model", "what", "version", "runs"])


def _env(folder: str) -> bytes:
    try:
        return read_bytes(f"{folder}/{ENV}")
    except OSError:
        return b""


def _versions(content: bytes) -> dict[str, str]:
    try:
        env = json.loads(content)
        own = {"harness": env["harness"], "python": env["python"], "commit": env.get("commit")}
        return {**env["versions"], **own}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"harness": "unknown"}


def remarks(runs: pd.DataFrame, said: Iterable[str] = ()) -> list[str]:
    """Return what runs had to say, each thing once: ``digits: k lowered from 5 to 4 (3 runs)``.

    Args:
        runs: From `harness.analysis.tables.runs_table`.
        said: What was said already.
    """
    known = " ".join(said)
    of = zip(runs["dataset"], runs["notes"], strict=True)
    counts = Counter((name, note) for name, notes in of for note in notes if note not in known)
    return [f"{name}: {note} ({counted(n, 'run')})" for (name, note), n in counts.items()]


def mixed(environments: pd.DataFrame) -> list[str]:
    """Return what differs within one table, in words: ``torch 2.10 (32 runs) and 2.11 (64 runs)``.

    Args:
        environments: From `environments`.
    """
    said = []
    for (dataset, model, what), part in environments.groupby(["dataset", "model", "what"]):
        if len(part) > 1:
            versions = zip(part["version"], part["runs"], strict=True)
            each = " and ".join(f"{version[:40]} ({n} runs)" for version, n in versions)
            said.append(f"{dataset}, {model}: {what} {each}")
    return said
