"""What strategies may know of a run, the same while planning and in training."""

import numpy as np
from numpy.typing import NDArray

from harness.datasets.base import Dataset
from harness.experiment.spec import Training
from harness.strategies.base import Facts


def facts_of(
    dataset: Dataset,
    training: Training,
    shape: tuple[int, ...],
    class_names: tuple[str, ...],
    counts: NDArray[np.int64],
    expanded: NDArray[np.int64],
) -> Facts:
    """Return what strategies may know of a run: while planning from an index, then from data.

    Args:
        dataset: The source.
        training: The budget.
        shape: Of one sample.
        class_names: C display names.
        counts: ``int64[C]``, original training samples per class.
        expanded: ``int64[C]``, the same with those that the recipe synthesizes.
    """
    return Facts(
        kind=dataset.kind,
        shape=shape,
        class_names=class_names,
        class_counts=counts,
        expanded_counts=expanded,
        batch_size=training.batch_size,
        steps=training.steps(int(counts.sum())),
        horizontal_flip=bool(getattr(dataset, "horizontal_flip", False)),
        vertical_flip=bool(getattr(dataset, "vertical_flip", False)),
    )
