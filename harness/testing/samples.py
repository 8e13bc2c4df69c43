"""The small runs and batches that contract suites try a strategy on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness import scratch
from harness.datasets.base import Dataset, Index, TableDataset, content_of
from harness.datasets.shapes import Shapes
from harness.experiment.spec import Model, RunSpec, Training
from harness.strategies.base import Batch, Facts, Strategy, canonical
from harness.streams import stream
from harness.training.run_options import RunOptions

IMAGE = (16, 16, 3)
TABLE = (6,)
COUNTS = (40, 12, 3, 1)
"""Rows per class: a class of three has fewer neighbours than SMOTE's five, one of one has none."""

BATCH = 8
STEPS = 8


def facts(shape: tuple[int, ...], expanded: NDArray[np.int64] | None = None) -> Facts:
    """Return the facts of a run on `labels` and samples of `shape`."""
    counts = np.array(COUNTS)
    return Facts(
        kind="image" if len(shape) == 3 else "table",
        shape=shape,
        class_names=tuple("abcd"),
        class_counts=counts,
        expanded_counts=counts if expanded is None else expanded,
        batch_size=BATCH,
        steps=STEPS,
        horizontal_flip=True,
        vertical_flip=True,
    )


def labels() -> NDArray[np.int64]:
    """Return the labels of `COUNTS`, mixed, ``int64[56]``."""
    return stream(0, "check/labels").permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))


def rows(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return training rows: ``uint8[56, H, W, C]`` or ``float32[56, D]``."""
    rng = stream(0, "check/rows")
    size = (sum(COUNTS), *shape)
    if len(shape) == 3:
        return rng.integers(0, 256, size, dtype=np.uint8)
    return rng.standard_normal(size, dtype=np.float32)


def batches(shape: tuple[int, ...]) -> Iterator[Batch]:
    """Yield a few batches of a run, from its first to its last step."""
    known = labels()
    for step in range(0, STEPS, 2):
        drawn = stream(0, "check/batch", step).integers(0, len(known), BATCH)
        yield Batch(drawn, known[drawn], np.array(COUNTS), known.copy(), shape, step / STEPS)


class Blobs(TableDataset):
    """Rows around one point for each class, for strategies that suit tables only."""

    name: ClassVar[str] = "check_blobs"

    def index(self) -> Index:
        """Return labels and fingerprint."""
        known = np.tile(labels(), 3)
        return Index(known, tuple("abcd"), content_of("blobs", known), TABLE)

    def read(self, index: Index) -> NDArray[np.float32]:
        """Return the rows, ``float32[168, 6]``."""
        noise = stream(0, "check/blobs").standard_normal((len(index.labels), *TABLE), np.float32)
        return noise + 2 * np.eye(4, *TABLE, dtype=np.float32)[index.labels]


def spec_of(dataset: Dataset, recipe: tuple[Strategy, ...], steps: int = STEPS) -> RunSpec:
    """Return a run of a few steps."""
    fold, folds = dataset.indexed().first_fold()
    info = dataset.info(0, fold, folds)
    size = int(info.counts[0].sum())
    training = Training(
        epochs=steps, max_steps=steps, batch_size=min(BATCH, size), lr=0.02, eval_every=0.5
    )
    return RunSpec(
        dataset=dataset,
        content=info.content,
        strategies=canonical(recipe),
        model=Model(name="tiny_cnn", width=4) if info.kind == "image" else Model(name="mlp"),
        training=training,
        metric="balanced_accuracy",
        seed=0,
        fold=fold,
        folds=folds,
        experiment="check",
        recipe="check",
    )


def sample_dataset(kind: str) -> Dataset:
    """Return a small long-tailed dataset of a kind."""
    if kind == "table":
        return Blobs()
    return Shapes(classes=4, size=IMAGE[0], per_class=25, imbalance_factor=5)


def train(spec: RunSpec) -> tuple[str, NDArray[np.float32] | None]:
    """Train a run on the CPU in a folder that is gone afterwards.

    Returns:
        Why it is not done (empty where it is), and its test probabilities ``float32[n, C]``.
    """
    from harness.training.run import drain

    with scratch.folder() as folder:
        run = drain(spec, folder, RunOptions("cpu", keep_weights=False))
        try:
            while True:
                next(run)
        except StopIteration as end:
            status = str(end.value)
        if status != "done":
            return f"the run is {status}{_reason(folder)}", None
        with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
            return "", np.asarray(arrays["test_probabilities"], np.float32)


def _reason(folder: Path) -> str:
    path = folder / "error.json"
    if not path.is_file():
        return ": the loss or the probabilities are no finite numbers"
    message = json.loads(path.read_text(encoding="utf-8"))["message"]
    log = folder / "log.txt"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    places = [line.strip() for line in lines if line.strip().startswith("File ")]
    return f": {message}" + (f" ({places[-1]})" if places else "")
