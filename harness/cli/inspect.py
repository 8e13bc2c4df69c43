"""`harness inspect`: what a dataset holds, before anything is trained on it."""

import os
from collections.abc import Sequence
from pathlib import Path

from harness.cli.dataset_summary import DatasetSummary, portrait, portrait_alone, show
from harness.cli.shared import err, find, out, print_json, shipped
from harness.datasets.base import Dataset
from harness.errors import BadFilesError, ConfigError, did_you_mean, listing
from harness.experiment.schema import load
from harness.experiment.tree import Tree
from harness.experiment.validate import Problems
from harness.registry import datasets, load_plugins


def run(dataset: str, sets: Sequence[str], plugins: Sequence[str], as_json: bool) -> None:
    """Print the portrait of a dataset, or of every dataset of an experiment.

    Raises:
        HarnessError: A dataset is missing or not what it should be.
    """
    try:
        found = _portraits(dataset, sets, plugins)
    except BadFilesError as error:
        if as_json:
            print_json({"error": str(error), "bad_files": dict(error.reasons)})
        raise
    if as_json:
        print_json({"datasets": [item.data() for item in found]})
        return
    for place, item in enumerate(found):
        if place:
            out.print()
        show(item, out)


def _portraits(dataset: str, sets: Sequence[str], plugins: Sequence[str]) -> list[DatasetSummary]:
    load_plugins(plugins)
    if dataset in datasets:
        return [portrait_alone(named(dataset, {}, sets))]
    path = Path(os.path.expanduser(dataset))
    if dataset in shipped() or path.suffix.lower() in (".yaml", ".yml"):
        experiment = load(find(dataset), sets, plugins)
        return [
            portrait(source, experiment.seeds[0], experiment.folds)
            for source in experiment.datasets
        ]
    if not os.path.exists(path):
        known = [*datasets, *shipped()]
        raise ConfigError(
            f"inspect {dataset}: neither a dataset, an experiment nor a path"
            f"{did_you_mean(dataset, known)} (datasets: {listing(datasets, 40)}; "
            f"experiments: {listing(shipped())})"
        )
    return [portrait_alone(standing_at(path, sets))]


def named(name: str, fields: dict[str, object], sets: Sequence[str]) -> Dataset:
    """Return a registered dataset with fields and ``--set`` edits of them.

    Raises:
        ConfigError: A field is unknown or its value not allowed.
    """
    tree = Tree(name, "{}")
    tree.values.update(fields)
    for edit in sets:
        tree.set(edit)
    problems = Problems(tree)
    built: Dataset | None = problems.build(datasets.get(name), tree.values, (), name)
    problems.raise_if_any()
    assert built is not None
    return built


def standing_at(path: Path, sets: Sequence[str]) -> Dataset:
    """Return the dataset that lies at a path, read as `harness new` would read it."""
    from harness.cli.dataset_defaults import labelled, settled
    from harness.cli.detect import Asked, look

    found = labelled(look(path, Asked.of(sets)), path)
    named(found.name, dict(found.fields), ())  # refuses what is no key of it
    found = settled(found)
    for remark in found.remarks:
        err.print(f"note: {remark}", style="yellow", highlight=False, soft_wrap=True)
    return named(found.name, dict(found.fields), sets)
