"""The test images of rare classes that the chosen recipe misses most surely, as thumbnails.

The only part of a report that needs the data; where it is gone, it is left out and said to be.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.analysis.chart import png
from harness.analysis.compare import Panel
from harness.analysis.findings import Findings
from harness.analysis.images import Predictions, read_predictions
from harness.analysis.report.answer import of_panel, where
from harness.analysis.report.document import Thumbnails
from harness.analysis.tables import DONE
from harness.datasets.base import Data
from harness.errors import HarnessError, StoreError
from harness.metrics import groups

MOST_PANELS = 3
CLASSES = 5
EACH = 8
_PIXELS = 84
"""Longest side of a thumbnail; what is smaller is enlarged by the browser."""


def worst_misses(found: Findings) -> Thumbnails:
    """Return thumbnails of the rarest classes with a miss, most surely missed first.

    An image counts as missed where most runs of the chosen recipe miss it; the order is that of
    the mean probability given to its true class. What cannot be drawn becomes a note of `found`.
    """
    rows: list[tuple[str, list[tuple[str, str]]]] = []
    for panel in found.panels[:MOST_PANELS]:
        try:
            rows += _of_panel(found, panel)
        except HarnessError as error:
            found.notes.append(f"No pictures of misses on {panel[0]}: {error}")
    return Thumbnails(rows)


def _of_panel(found: Findings, panel: Panel) -> list[tuple[str, list[tuple[str, str]]]]:
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
    return [(f"{title}: class {data.class_names[k]}", images) for k, images in _missed(data, read)]


def _missed(data: Data, read: list[Predictions]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    labels, rows = read[0].labels, read[0].rows
    same = [p.probabilities for p in read if np.array_equal(p.rows, rows)]
    mean = np.asarray(np.mean(same, axis=0, dtype=np.float64))
    wrong = np.mean([p.argmax(axis=1) != labels for p in same], axis=0) > 0.5
    of_truth = mean[np.arange(len(labels)), labels]
    counts = data.train_counts
    order = np.argsort(counts, kind="stable")
    rare = [int(k) for k in order if groups(counts)["few"][k]] or [int(k) for k in order]
    shown = 0
    for k in rare:
        missed = np.flatnonzero(wrong & (labels == k))
        if not len(missed) or shown == CLASSES:
            continue
        shown += 1
        worst = missed[np.argsort(of_truth[missed], kind="stable")][:EACH]
        yield k, [_thumbnail(data, int(rows[i]), mean[i]) for i in worst]


def _thumbnail(data: Data, row: int, probabilities: NDArray[np.float64]) -> tuple[str, str]:
    taken = int(probabilities.argmax())
    said = f"taken for {data.class_names[taken]}, {100 * probabilities[taken]:.0f} % sure"
    name = data.index.id_of(row)
    low, high = data.intensity
    scaled = (np.asarray(data.features[row], np.float32) - low) / (high - low)
    pixels = (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    return png(pixels, _PIXELS), f"{said} ({name[-40:]})"
