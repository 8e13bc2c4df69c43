"""`harness new`: look at data, write an experiment file for it, and say what was seen."""

import re
import shlex
from pathlib import Path

from harness.cli.budget import Budget, chosen
from harness.cli.dataset_defaults import labelled, settled, smaller
from harness.cli.dataset_summary import DatasetSummary, portrait_alone, show
from harness.cli.detect import Asked, DetectedData, look, with_settings
from harness.cli.draft import text_of, work_of
from harness.cli.inspect import named
from harness.cli.shared import out
from harness.errors import ConfigError, DataError, HarnessError
from harness.experiment.expand import Plan, expand
from harness.experiment.schema import resolve
from harness.experiment.tree import Tree

_OFFERED = re.compile(r"`(encoding|decimal|thousands|na_values|header|delimiter): ([^`]+)`")
"""A key by which a message says that a file can be read."""


def run(file: Path, data: Path, asked: Asked, force: bool) -> None:
    """Write an experiment file that is known to work, and print what was seen.

    Raises:
        ConfigError: The file is there already, or what to do with the data cannot be told.
        DataError: The data is missing, empty or cannot be split.
    """
    place = file.expanduser()
    if place.is_dir():
        raise ConfigError(f"{file} is a folder; name the experiment file to write in it")
    if place.exists() and not force:
        raise ConfigError(f"{file} exists already; --force overwrites it")
    try:
        found = labelled(look(data, asked), data)
        named(found.name, dict(found.fields), ())  # refuses what is no key of it
        found = with_settings(settled(found), asked)
        seen = portrait_alone(named(found.name, dict(found.fields), ()))
    except DataError as error:
        key = _OFFERED.search(str(error))
        if key is None:
            raise
        raise DataError(f'{error} (here: --set "{key[1]}={key[2]}")') from None
    budget = chosen(work_of(seen))
    if budget.image_size != found.fields.get("image_size", budget.image_size):
        found = smaller(found, budget)
        seen = portrait_alone(named(found.name, dict(found.fields), ()))
    text = text_of(file, data, found, seen, budget)
    plan = _verified(file, data, text)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    _say(file, found, seen, plan, budget)


def _verified(file: Path, data: Path, text: str) -> Plan:
    """Return what the text expands to.

    Raises:
        HarnessError: It would not run on this data.
    """
    try:
        return expand(resolve(Tree(str(file), text)))
    except HarnessError as error:
        raise error.within(f"no experiment can be made of {data} as it is") from None


def _say(file: Path, found: DetectedData, seen: DatasetSummary, plan: Plan, budget: Budget) -> None:
    show(seen, out)
    for remark in found.remarks:
        _line(f"note: {remark}", "yellow")
    fields = ", ".join(f"{key}: {value}" for key, value in found.fields.items())
    _line(f"read as {found.name} ({fields})", "dim")
    cost = budget.cost().replace("FILE", shlex.quote(str(file)))
    _line(f"\nwrote {file}: {len(plan.runs)} runs, {cost}")
    if budget.instead:
        _line(f"chosen to fit an evening: {budget.instead}")
    _line("Look it through, then:")
    for verb in ("plan", "run"):
        _line(f"  harness {verb} {shlex.quote(str(file))}")


def _line(text: str, style: str | None = None) -> None:
    out.print(text, style=style, highlight=False, soft_wrap=True)
