"""Facts about a run, and the batches and counts that several strategies are tested on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.strategies.base import Batch, Facts


@pytest.fixture(scope="session")
def make_facts() -> Callable[..., Facts]:
    def make(counts: tuple[int, ...] = (100, 10, 5), **changes: Any) -> Facts:
        values: dict[str, Any] = {
            "kind": "image",
            "shape": (32, 32, 3),
            "class_names": tuple(f"class {i}" for i in range(len(counts))),
            "class_counts": np.array(counts),
            "expanded_counts": np.array(counts),
            "batch_size": 32,
            "steps": 100,
        }
        return Facts(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    def make(size: int = 8, shape: tuple[int, ...] = (32, 32, 3)) -> Batch:
        labels = np.arange(size) % 3
        return Batch(
            indices=np.arange(size),
            labels=labels,
            class_counts=np.bincount(labels, minlength=3),
            train_labels=labels,
            shape=shape,
            progress=0.0,
        )

    return make
