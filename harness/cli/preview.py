"""`harness preview`: a picture per recipe of what it really feeds the model."""

import os
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from harness.app import previewing
from harness.cli.inspect import named, standing_at
from harness.cli.shared import err, find, out, print_json, shipped
from harness.errors import ConfigError, counted, did_you_mean, listing
from harness.experiment.schema import Experiment, load
from harness.registry import datasets, load_plugins


def run(
    what: str,
    sets: Sequence[str],
    plugins: Sequence[str],
    results: Path,
    only: Sequence[str],
    opened: bool,
    as_json: bool,
    png: bool = False,
) -> None:
    """Draw the recipes of an experiment, or the well-known ones on a dataset."""
    load_plugins(plugins)
    path = Path(os.path.expanduser(what))
    is_experiment = what in shipped() or path.suffix.lower() in (".yaml", ".yml")
    if is_experiment:
        experiment = load(find(what), sets, plugins)
        folder = results / experiment.name / previewing.FOLDER
    else:
        experiment = _of_dataset(what, path, sets)
        folder = results / previewing.FOLDER / experiment.datasets[0].display()
    say = (lambda text: None) if as_json else _say
    made = previewing.preview(experiment, folder.absolute(), only, say, results, png)
    if as_json:
        print_json({"page": str(made.page), "pictures": [str(path) for path in made.pictures]})
    else:
        out.print(f"{counted(len(made.pictures), 'picture')}: {made.page}", soft_wrap=True)
        if made.left_out:
            _say(f"{counted(made.left_out, 'more recipe')} not drawn; choose some with --only")
    if opened:
        webbrowser.open(made.page.as_uri())
    if is_experiment:
        previewing.attach(experiment, results, made, lambda text: _say(f"warning: {text}"))


def _say(text: str) -> None:
    err.print(text, style="dim", highlight=False, soft_wrap=True)


def _of_dataset(what: str, path: Path, sets: Sequence[str]) -> Experiment:
    if what in datasets:
        return previewing.of_dataset(named(what, {}, sets))
    if not os.path.exists(path):
        known = [*datasets, *shipped()]
        raise ConfigError(
            f"preview {what}: neither an experiment, a dataset nor a path"
            f"{did_you_mean(what, known)} (datasets: {listing(datasets, 40)}; "
            f"experiments: {listing(shipped())})"
        )
    return previewing.of_dataset(standing_at(path, sets))
