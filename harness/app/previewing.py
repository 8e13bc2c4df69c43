"""What `harness preview` does: a picture per recipe of what it really feeds the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.report.write import preview_page
from harness.analysis.svg import Picture
from harness.app import compose
from harness.app.options import select
from harness.datasets.base import Dataset
from harness.errors import StoreError, TrackingError
from harness.execution.store import Store
from harness.experiment.schema import Experiment, load
from harness.experiment.spec import RunSpec
from harness.files import write_atomically
from harness.tracking import summary
from harness.tracking.keys import safe_name

FOLDER = "preview"
"""Of an experiment's results, or of the results folder for a dataset alone."""

MOST = 64
"""Recipes of a dataset that are drawn unless patterns choose."""

ALONE = ("augment", "weighted_sampler", "smote", "mixup", "cutmix")
"""What is drawn of a dataset alone: each with its defaults."""


@dataclass(frozen=True)
class Previewed:
    """What was drawn.

    Attributes:
        page: ``index.html``.
        pictures: One file per dataset and recipe.
        left_out: How many recipes were not drawn.
    """

    page: Path
    pictures: tuple[Path, ...]
    left_out: int


def of_dataset(dataset: Dataset) -> Experiment:
    """Return an experiment that has each well-known strategy alone on a dataset.

    Raises:
        ConfigError: None of them suits it.
    """
    suited = [
        name for name in ALONE if dataset.kind == "image" or name not in ("augment", "cutmix")
    ]
    _, folds = dataset.indexed().first_fold()  # those that the set itself names
    return load(
        {
            "name": FOLDER,
            "datasets": [dataset.config()],
            "folds": folds,
            "recipes": {name: [name] for name in suited},
            "models": ["tiny_cnn" if dataset.kind == "image" else "mlp"],
            "seeds": 1,
            "training": {"batch_size": 32},
        }
    )


def preview(
    experiment: Experiment,
    folder: Path,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
    results: Path = Path("results"),
    png: bool = False,
) -> Previewed:
    """Draw what each recipe feeds the model, at the first seed, and write the pictures.

    Args:
        experiment: Whose recipes.
        folder: Where to.
        only: Patterns as of `harness.app.options.select`.
        say: Is told what is being drawn.
        results: The results folder, which knows the recipes that were tuned.
        png: Whether the pictures are PNG files in place of SVG.

    Raises:
        HarnessError: Dataset and recipe do not fit together, or the folder cannot be written.
    """
    from harness.analysis.plots.feed import feed
    from harness.training.preview import preview as of_run

    found = _one_each(experiment, only, Store(results, experiment.name))
    parts: dict[str, list[Picture]] = {}
    files: list[Path] = []
    drawn = [one for one in found if one.place < MOST or only]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in drawn:
            spec = one.spec
            say(f"{spec.dataset_label}: {spec.recipe}")
            picture = feed(of_run(spec), spec.recipe)
            parts.setdefault(spec.dataset_label, []).append(picture)
            name = safe_name(f"{one.number:02} {spec.dataset_label} {spec.recipe}")
            files.append(folder / f"{name}{'.png' if png else '.svg'}")
            picture.save(files[-1])
        page = folder / "index.html"
        write_atomically(page, preview_page(experiment.name, parts))
        written = [path for path in folder.iterdir() if path.suffix in (".svg", ".png")]
        for stale in set(written).difference(files) if not only else ():
            stale.unlink()
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}") from None
    return Previewed(page, tuple(files), len(found) - len(drawn))


@dataclass(frozen=True)
class _One:
    """A run of a dataset and recipe: its number among all, and its place within the dataset."""

    spec: RunSpec
    number: int
    place: int


def _one_each(experiment: Experiment, only: Sequence[str], store: Store) -> list[_One]:
    """Return a run of each dataset and recipe that patterns choose.

    Numbers are those among all recipes, so that a recipe's picture has one name however chosen.
    """
    runs = compose.planned(experiment, store).runs
    chosen = {(spec.dataset_label, spec.recipe) for spec in select(runs, only)}
    first: dict[tuple[str, str], RunSpec] = {}
    for spec in runs:
        if not spec.reference:
            first.setdefault((spec.dataset_label, spec.recipe), spec)
    places: dict[str, int] = {}
    found = []
    for number, (cell, spec) in enumerate(first.items()):
        if cell in chosen:
            places[cell[0]] = places.get(cell[0], -1) + 1
            found.append(_One(spec, number, places[cell[0]]))
    return found


def attach(
    experiment: Experiment, results: Path, made: Previewed, warn: Callable[[str], None]
) -> None:
    """Attach the pictures to the summary run of an experiment; a failure is only told."""
    try:
        target = summary.Target.of(experiment, results)
        summary.attach(target, {FOLDER: [made.page, *made.pictures]})
    except (TrackingError, StoreError) as error:
        warn(f"the pictures are written, and not attached to MLflow: {error}")
