"""A picture of what a recipe feeds the model: rows of real batches, and the share of each class."""

import numpy as np

from harness.analysis import svg
from harness.analysis.svg import BLUE, GREY, WIDTH, Canvas, Picture
from harness.metrics import groups
from harness.training.preview import Preview, PreviewBatch, Sample

_PER_ROW = 4
_GAP = 10
_MOST_CLASSES = 20
_LIGHT, _DARK = np.array([247, 250, 253]), np.array([0, 90, 150])


def feed(found: Preview, recipe: str) -> Picture:
    """Draw what a recipe feeds the model.

    Args:
        found: What was decided.
        recipe: What it is called.
    """
    names, rows = _by_class(found)
    heights = [_height(batch) for batch in found.batches]
    canvas = Canvas(34 + sum(heights) + 74 + 20 * len(names) + 16 * len(found.notes))
    canvas.text(0, 18, recipe, bold=True, size=15, room=WIDTH)
    y = 30.0
    for batch, height in zip(found.batches, heights, strict=True):
        _draw(canvas, batch, found.steps, y)
        y += height
    said = _shares(canvas, found, names, rows, y)
    y += 74 + 20 * len(names)
    for note in found.notes:
        canvas.text(0, y, note, fill=GREY, size=11, room=WIDTH)
        y += 16
    alt = "; ".join(_in_words(batch) for batch in found.batches)
    return canvas.picture(f"What {recipe} feeds the model", f"{alt}. Shares: {said}")


def _in_words(batch: PreviewBatch) -> str:
    labels = [_label(sample) for sample in batch.samples]
    return f"step {batch.step}, {_mixing(batch)}: {', '.join(labels)}"


def _mixing(batch: PreviewBatch) -> str:
    return f"mixed by {batch.blend}" if batch.blend else "not mixed"


def _label(sample: Sample) -> str:
    if len(sample.labels) == 1:
        return sample.labels[0][0]
    return " + ".join(f"{share:.2f} {name}" for name, share in sample.labels)


def _cell() -> float:
    return (WIDTH - _GAP * (_PER_ROW - 1)) / _PER_ROW


def _shape(batch: PreviewBatch) -> float:
    """Return the height of a picture; a row of a table is a strip."""
    tall, wide = batch.samples[0].image.shape[:2]
    return float(max(14.0, min(_cell() * tall / wide, _cell())))


def _height(batch: PreviewBatch) -> float:
    rows = -(-len(batch.samples) // _PER_ROW)
    return 24 + rows * (_shape(batch) + 34)


def _draw(canvas: Canvas, batch: PreviewBatch, steps: int, top: float) -> None:
    canvas.text(0, top + 12, f"step {batch.step} of {steps}, {_mixing(batch)}", fill=GREY, size=11)
    cell, tall = _cell(), _shape(batch)
    for place, sample in enumerate(batch.samples):
        x = (place % _PER_ROW) * (cell + _GAP)
        y = top + 20 + (place // _PER_ROW) * (tall + 34)
        canvas.image(x, y, cell, tall, svg.png(sample.image, 224))
        if sample.synthetic:
            canvas.rect(x, y, cell, 3, BLUE, "synthetic")
        said = [f"{share:.2f} {name}" for name, share in sample.labels]
        lines = [f"{sample.labels[0][0]}{' (synthetic)' * sample.synthetic}"]
        lines = lines if len(said) == 1 else said
        for line, text in enumerate(lines):
            canvas.text(x, y + tall + 13 + 14 * line, text, size=11.5, room=cell)


def _by_class(found: Preview) -> tuple[list[str], np.ndarray]:
    """Return names and, as rows, original share, delivered by epoch, after mixing.

    Of many classes only the groups many, medium and few.
    """
    original = found.counts / found.counts.sum()
    values = np.vstack([original, found.mixed, found.shares])
    if len(found.class_names) <= _MOST_CLASSES:
        return list(found.class_names), values.T
    members = groups(found.counts)
    kept = {name: of for name, of in members.items() if of.any()}
    return [f"{name} ({of.sum()} classes)" for name, of in kept.items()], np.array(
        [values[:, of].sum(axis=1) for of in kept.values()]
    )


def _shares(canvas: Canvas, found: Preview, names: list[str], rows: np.ndarray, top: float) -> str:
    epochs, first = len(found.shares), " (sampled)" * found.sampled
    canvas.text(0, top + 18, "share of each class, %", bold=True, size=13)
    for x, head in ((166, "images"), (230, "delivered"), (312, "after mixing")):
        canvas.text(x, top + 36, head, "end", GREY, 11)
    canvas.text(
        330,
        top + 36,
        f"by epoch, 1–{epochs}{first}",
        fill=GREY,
        size=11,
        room=WIDTH - 330,
    )
    strip = rows[:, 2:] / max(rows[:, 2:].max(), 1e-9)
    colours = _LIGHT + strip[..., None] * (_DARK - _LIGHT)
    canvas.image(330, top + 44, WIDTH - 330, 20 * len(names), svg.png(colours.astype(np.uint8)))
    said = []
    for place, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = top + 58 + 20 * place
        canvas.text(0, y, name, size=12, room=116)
        delivered = row[2:].mean()
        for x, value in ((166, row[0]), (230, delivered), (312, row[1])):
            canvas.text(x, y, f"{100 * value:.1f}", "end", size=12)
        said.append(f"{name} {100 * row[0]:.1f} % of the images, {100 * delivered:.1f} % delivered")
    return "; ".join(said)
