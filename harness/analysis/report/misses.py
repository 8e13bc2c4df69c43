"""The test images of rare classes that the chosen recipe misses most surely, as thumbnails.

The only part of a report that needs the data; where it is gone, it is left out and said to be.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis.compare import Panel
from harness.analysis.images import Predictions, read_predictions
from harness.analysis.report.answer import of_panel, where
from harness.analysis.report.document import Thumbnails
from harness.analysis.report_data import ReportData
from harness.analysis.svg import png
from harness.analysis.tables import DONE
from harness.datasets.base import Data
from harness.errors import ConfigError, HarnessError, StoreError, did_you_mean, listing
from harness.metrics import groups

MOST_PANELS = 3
CLASSES = 5
EACH = 8
_PIXELS = 84
"""Longest side of a thumbnail; what is smaller is enlarged by the browser."""


def worst_misses(
    found: ReportData, file_names: bool = True, classes: Sequence[str] = ()
) -> Thumbnails:
    """Return thumbnails of the rarest classes with a miss, most surely missed first.

    An image counts as missed where the probabilities of the chosen recipe, averaged over its runs,
    are highest for another class; the order is that of the mean probability given to its true
    class. What cannot be drawn becomes a note of `found`.

    Args:
        found: What the experiment came to.
        file_names: Whether the file name of each image stands below it.
        classes: Names of the classes to show, rather than the rarest.
    """
    rows: list[tuple[str, list[tuple[str, str]]]] = []
    for panel in found.panels[:MOST_PANELS]:
        try:
            rows += _of_panel(found, panel, file_names, classes)
        except HarnessError as error:
            found.notes.append(f"No pictures of misses on {panel[0]}: {error}")
    return Thumbnails(rows)


def _of_panel(
    found: ReportData, panel: Panel, file_names: bool, classes: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    recipe = found.chosen.get(panel)
    runs = of_panel(found.runs, panel)
    done = runs[(runs["recipe"] == recipe) & (runs["status"] == DONE) & (runs["fold"] < 0)]
    if done.empty:
        return []
    key = str(done["key"].iloc[0])
    spec = next(spec for spec in found.specs if spec.key == key)
    if spec.dataset.kind != "image":
        return []
    read = [read_predictions(path) for path in done["path"]]
    data = spec.dataset.load(spec.seed)
    if data.index.content != spec.content:
        raise StoreError("the data has changed since it was trained on")
    place = where(found, panel) if len(found.panels) > 1 else ""
    title = f"{place}, {recipe}" if place else str(recipe)
    shown = _missed(data, read, _wanted(data, classes), file_names)
    return [(f"{title}: class {data.class_names[k]}", images) for k, images in shown]


def _wanted(data: Data, names: Sequence[str]) -> list[int]:
    """Return the classes of these names, or all few-shot ones (else all), rarest first.

    Raises:
        ConfigError: The dataset has no class of such a name.
    """
    if unknown := [name for name in names if name not in data.class_names]:
        raise ConfigError(
            f"there is no class '{unknown[0]}'{did_you_mean(unknown[0], data.class_names)} "
            f"(classes: {listing(data.class_names, 12)})"
        )
    if names:
        return [data.class_names.index(name) for name in names]
    order = np.argsort(data.train_counts, kind="stable")
    few = groups(data.train_counts)["few"]
    return [int(k) for k in order if few[k]] or [int(k) for k in order]


def _missed(
    data: Data, read: list[Predictions], classes: Sequence[int], file_names: bool
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    labels, rows = read[0].labels, read[0].rows
    same = [p.probabilities for p in read if np.array_equal(p.rows, rows)]
    mean = np.asarray(np.mean(same, axis=0, dtype=np.float64))
    wrong = mean.argmax(axis=1) != labels
    of_truth = mean[np.arange(len(labels)), labels]
    shown = 0
    for k in classes:
        missed = np.flatnonzero(wrong & (labels == k))
        if not len(missed) or shown == CLASSES:
            continue
        shown += 1
        worst = missed[np.argsort(of_truth[missed], kind="stable")][:EACH]
        yield k, [_thumbnail(data, int(rows[i]), mean[i], file_names) for i in worst]


def _thumbnail(
    data: Data, row: int, probabilities: NDArray[np.float64], file_names: bool
) -> tuple[str, str]:
    taken = int(probabilities.argmax())
    said = f"taken for {data.class_names[taken]}, {100 * probabilities[taken]:.0f} % sure"
    low, high = data.intensity
    scaled = (np.asarray(data.features[row], np.float32) - low) / (high - low)
    pixels = (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    name = f" ({data.index.id_of(row)[-40:]})" if file_names else ""
    return png(pixels, _PIXELS), f"{said}{name}"
