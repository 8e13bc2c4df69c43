"""`harness confirm`: the recipe that val chose and doing nothing, on fresh seeds."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.analysis.compare import Panel
from harness.analysis.doubts import uncertain
from harness.analysis.formatting import in_words, unit_of
from harness.analysis.intervals import BETTER, EXPLORATORY
from harness.analysis.tables import records
from harness.app import reporting
from harness.app.options import Options
from harness.cli.run import not_done, resumable
from harness.cli.shared import err, find, out, print_json
from harness.errors import counted
from harness.experiment.schema import load


def run(
    file: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    options: dict[str, Any],
    seeds: int | None,
    margin: float,
    as_json: bool,
) -> None:
    """Run what is missing, say whether the gain holds, and exit with how it went."""
    experiment = load(find(file), sets, plugins)
    chosen = Options(**options)
    choice = reporting.choose(experiment, chosen.results, seeds)
    for text in choice.skipped:
        err.print(f"note: {text}", style="yellow", soft_wrap=True)
    if not choice.recipes:
        out.print("nothing to confirm: no remedy stands above doing nothing on val")
        return
    with resumable():
        done = reporting.confirm(choice, chosen, err, margin)
    bad = not_done(done.outcome, done.runs)
    if as_json:
        gains = json.loads(done.gains.to_json(orient="records"))
        for row in gains:
            row["doubts"] = [asdict(doubt) for doubt in done.doubts.get(_panel(row), ())]
        print_json({"confirmed": gains, "failed": bad, "runs": len(done.runs)})
    else:
        _show(done, experiment.metric)
        for item in bad:
            out.print(f"{item['run']}: {item['status']}: {item['reason']}", style="red")
    sys.exit(1 if bad else 0)


def _panel(row: Mapping[str, Any]) -> Panel:
    return row["dataset"], row["reference"], row["model"]


def _show(done: reporting.Confirmed, metric: str) -> None:
    unit = unit_of(metric)
    for row in records(done.gains):
        interval = unit.interval(row["low"], row["high"], "no interval, exploratory")
        limits = [doubt.short() for doubt in uncertain(done.doubts, _panel(row))]
        held = f"repeated, but {'; '.join(limits)}" if limits else "confirmed"
        verdict = {
            BETTER: held,
            EXPLORATORY: "exploratory: three seeds or more make a claim",
        }.get(row["verdict"], f"not confirmed ({row['verdict']})")
        out.print(
            f"{row['dataset']}, {row['model']}: {row['recipe']} {unit.signed(row['gain'])} "
            f"{unit.name} of {in_words(metric)} {interval} over doing nothing, on "
            f"{counted(int(row['pairs']), 'fresh seed')}: {verdict}",
            soft_wrap=True,
        )
    out.print("harness report shows it beside the rest", style="dim")
