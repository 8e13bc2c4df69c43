"""Finished runs without training: folders as a run leaves them, with effects that are known.

For tests and for the benchmark of the report. What a recipe is worth is a shift of the logits of
the true class; seeds, test images and both together add noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.execution.store import Store
from harness.experiment.spec import RunSpec
from harness.metrics import evaluate
from harness.training.rundir import RunDir

Worth = Callable[[RunSpec], float]


def by_level(effects: dict[str, float], together: dict[tuple[str, str], float] | None = None):
    """Return what a run is worth: the sum of its levels' effects and those of pairs of them."""

    def worth(spec: RunSpec) -> float:
        on = {level for _, level in spec.levels}
        pairs = sum(v for pair, v in (together or {}).items() if set(pair) <= on)
        return sum(effects.get(level, 0.0) for level in on) + pairs

    return worth


class Generator:
    """Writes runs of one experiment into a store.

    Args:
        store: Where to.
        names: Class names.
        counts: Training samples per class; by default a long tail.
        per_class: Test images of each class.
        worth: What a run is worth, in logits.
        noise: Spread over seeds, over images and over both, in logits.
        val: Whether runs have a val split.
        groups: Test images of one group, or 1.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str] = tuple("abcd"),
        counts: Sequence[int] | None = None,
        per_class: int | Sequence[int] = 25,
        worth: Worth = lambda spec: 0.0,
        noise: tuple[float, float, float] = (0.1, 1.0, 0.5),
        val: bool = True,
        groups: int = 1,
    ) -> None:
        store.create()
        self._store = store
        self._names = tuple(names)
        size = len(self._names)
        self._counts = np.array(counts or [max(200 // (3**k), 3) for k in range(size)])
        support = [per_class] * size if isinstance(per_class, int) else list(per_class)
        self._labels = np.repeat(np.arange(size), support)
        self._worth = worth
        self._noise = noise
        self._val = val
        self._groups = groups
        self._images = np.random.default_rng(0).normal(size=len(self._labels))

    def write(self, spec: RunSpec, status: str = "done", **changes: Any) -> Path:
        """Commit one run; `changes` go into its result."""
        path = self._store.begin(spec)
        folder = RunDir(path)
        folder.write_json("spec.json", spec.to_json())
        folder.log("generated")
        if status == "failed":
            folder.write_error("exception", "RuntimeError: the disk is full")
            return self._store.commit(spec, path)
        metrics = self._evaluate(folder, spec) if status == "done" else {}
        folder.write_history(
            [
                {"step": step, "train/loss": 2.0 / step, "lr": 0.1,
                 **({f"val/{spec.metric}": 0.5 + step / 100} if self._val else {})}
                for step in (10, 20, 30)
            ]
        )  # fmt: skip
        versions = {"torch": "2.14.1", "numpy": "2.4.6"}
        env = {"harness": "0.1.0", "python": "3.11.7", "versions": versions, "commit": "abc1234"}
        folder.write_json("env.json", env)
        folder.write_result(self._result(spec, status, metrics) | changes)
        return self._store.commit(spec, path)

    def _result(self, spec: RunSpec, status: str, metrics: dict[str, Any]) -> dict[str, Any]:
        of_test = [len(set(self._groups_of()[self._labels == k])) for k in range(len(self._names))]
        of_train = np.maximum(self._counts // self._groups, 1).tolist()
        groups = {"train": of_train, "val": of_test, "test": of_test}
        return {
            **({"groups": groups} if self._groups > 1 else {}),
            "schema": 1,
            "key": spec.key,
            "status": status,
            "metrics": metrics,
            "steps": 30,
            "selected_step": 30,
            "class_names": list(self._names),
            "train_counts": self._counts.tolist(),
            "synthetic": 0,
            "delivered": self._delivered(spec),
            "notes": [],
            "cost": {"seconds": 1.0 + len(spec.strategies), "images_per_second": 1e3,
                     "peak_memory_mb": None},
            "device": {"name": "cpu", "type": "cpu", "precision": "fp32"},
        }  # fmt: skip

    def _groups_of(self) -> np.ndarray:
        return np.arange(len(self._labels)) // self._groups

    def _delivered(self, spec: RunSpec) -> list[int]:
        """Return how often a row of each class was trained on: alike often under a sampler."""
        sampled = any(strategy.name == "weighted_sampler" for strategy in spec.strategies)
        return [100] * len(self._names) if sampled else (3 * self._counts).tolist()

    def _evaluate(self, folder: RunDir, spec: RunSpec) -> dict[str, Any]:
        of_seed, of_image, rest = self._noise
        rng = np.random.default_rng([spec.seed, int(spec.key[:8], 16)])
        size = len(self._names)
        logits = rng.normal(size=(len(self._labels), size)).astype(np.float32)
        shift = 1.0 + self._worth(spec) + of_seed * rng.normal() + of_image * self._images
        shift = shift + rest * rng.normal(size=len(self._labels))
        logits[np.arange(len(self._labels)), self._labels] += shift
        scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = scaled / scaled.sum(axis=1, keepdims=True)
        test = evaluate(probabilities, self._labels, self._counts)
        splits = {"test": test}
        arrays: dict[str, Any] = {
            "test_probabilities": probabilities,
            "test_labels": self._labels,
            "test_rows": np.arange(len(self._labels)),
        }
        if self._groups > 1:
            arrays["test_groups"] = self._groups_of()
        if self._val:
            half = evaluate(probabilities[::2], self._labels[::2], self._counts)
            splits = {"val": half, "test": test}
            arrays["val_probabilities"], arrays["val_labels"] = (
                probabilities[::2],
                self._labels[::2],
            )
            arrays["val_rows"] = len(self._labels) + np.arange(len(arrays["val_labels"]))
        folder.write_per_class(self._names, {name: e.per_class for name, e in splits.items()})
        folder.write_confusion(self._names, test.confusion)
        folder.write_predictions(**arrays)
        return {name: e.summary for name, e in splits.items()}


def fresh(specs: Sequence[RunSpec], experiment: str, seeds: Sequence[int]) -> list[RunSpec]:
    """Return the specs of the first seed again, on other seeds and of another experiment."""
    first = [spec for spec in specs if spec.seed == specs[0].seed]
    return [replace(spec, seed=seed, experiment=experiment) for seed in seeds for spec in first]
