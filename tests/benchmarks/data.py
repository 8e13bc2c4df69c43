"""Rows on data: Albumentations, SMOTE, and how plan, order, neighbours and metrics grow."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from harness.registry import strategies
from harness.strategies.base import Facts
from harness.training.buffers import make_chunk
from harness.training.plan import BatchPlan
from tests.benchmarks import tutorial
from tests.benchmarks.timing import cpu_seconds, interleaved, ratio, seconds, slope

LONGTAIL = (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
"""Training images per class of CIFAR-10-LT at imbalance factor 100."""


def albumentations_rate(size: int, rounds: int) -> dict[str, Any]:
    """Compare images per second of one core: ours to a batch on the device, theirs by a loader."""
    import albumentations
    from albumentations.pytorch import ToTensorV2

    from harness.datasets.shapes import Shapes
    from harness.training.pipeline import Pipeline

    batch = 64
    data = Shapes(size=size, classes=4, per_class=40).load(0)
    labels = data.labels[data.rows.train]
    facts = Facts(
        "image",
        data.shape,
        data.class_names,
        data.train_counts,
        data.train_counts,
        batch,
        100,
        horizontal_flip=True,
    )
    augment = strategies.get("augment")(policy="standard")
    plan = BatchPlan((augment,), facts, labels, None, 0)
    pipeline = Pipeline(data, None, plan, torch.device("cpu"))
    transform = albumentations.Compose(
        [
            *tutorial.transform_of({"augment"}, data).transforms,
            albumentations.Normalize(tuple(data.mean), tuple(data.std)),
            ToTensorV2(),
        ],
        seed=0,
    )

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> Any:
            image = data.features[data.rows.train[i]]
            return transform(image=image)["image"], int(labels[i])

    steps = len(labels) // batch
    loader = DataLoader(Images(), batch_size=batch, shuffle=True, drop_last=True)
    turn = iter(range(10**9))

    def ours() -> None:
        first = next(turn) * steps % 90
        for step in range(first, first + steps):
            pipeline.batch(plan.decide(step))

    actions = {"ours": ours, "theirs": lambda: [None for _ in loader]}
    for action in actions.values():
        action()
    taken = interleaved(actions, rounds, cpu_seconds)
    images = steps * batch
    found = ratio(taken["theirs"], taken["ours"])  # of rates, so the other way round
    return {
        f"Albumentations at {size} px, images/s of ours / DataLoader": {
            **{key: found[key] for key in ("ratio", "low", "high", "n")},
            "ours_per_second": images / float(np.median(taken["ours"])),
            "theirs_per_second": images / float(np.median(taken["theirs"])),
        }
    }


_SMOTE = """
import json, resource, sys, time
import numpy as np
counts, way = json.loads(sys.argv[1]), sys.argv[2]
labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
images = np.random.default_rng(1).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
from threadpoolctl import threadpool_limits
if way == "ours":
    from harness.strategies.smote import Smote
    import sklearn.neighbors
    make = lambda: Smote().synthesize(images, labels, np.random.default_rng(0))
else:
    from imblearn.over_sampling import SMOTE
    make = lambda: SMOTE(random_state=0).fit_resample(images.astype(np.float32), labels)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with threadpool_limits(1):
    start = time.perf_counter(); made = make(); first = time.perf_counter() - start
    start = time.perf_counter(); made = make(); again = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
state = 12 * (len(labels) + len(made.base)) if way == "ours" else made[0].nbytes
print(json.dumps({"first": first, "again": again, "peak_mb": peak / 1e3, "state_mb": state / 1e6}))
"""


def smote(rounds: int) -> dict[str, Any]:
    """Compare SMOTE on as many images as CIFAR-10-LT has with imbalanced-learn."""
    taken: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for way in taken:
            with tempfile.TemporaryDirectory() as cache:
                done = subprocess.run(
                    [sys.executable, "-c", _SMOTE, json.dumps(LONGTAIL), way],
                    env={**_environment(), "HARNESS_CACHE_DIR": cache},
                    check=True,
                    capture_output=True,
                )
            taken[way].append(json.loads(done.stdout))
    first = {way: [one["first"] for one in found] for way, found in taken.items()}
    ours, theirs = (taken[way][-1] for way in ("ours", "theirs"))
    return {
        "SMOTE of CIFAR-10-LT, time / imbalanced-learn": ratio(first["ours"], first["theirs"]),
        "SMOTE of CIFAR-10-LT, a second time, seconds": ours["again"],
        "SMOTE of CIFAR-10-LT, more memory, MB": [ours["peak_mb"], theirs["peak_mb"]],
        "SMOTE of CIFAR-10-LT, state that stays, MB": [ours["state_mb"], theirs["state_mb"]],
    }


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def growth() -> dict[str, Any]:
    """Time plan, order, neighbours and metrics at growing sizes; tell the exponent of growth."""
    found: dict[str, Any] = {}
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    for name in ("nothing", "weighted_sampler", "stratified_batches"):
        taken = [_pass_seconds(size, name) for size in sizes]
        found[f"one pass of {name}, seconds for images"] = _curve(sizes, taken)
    sizes = [500, 1_000, 2_000, 4_000]
    taken = [_neighbour_seconds(size) for size in sizes]
    found["neighbours of one class (3,072 columns), seconds for images"] = _curve(sizes, taken)
    sizes = [10, 100, 1_000]
    taken = [_metrics_seconds(size) for size in sizes]
    found["metrics of 10,000 test images, seconds for classes"] = _curve(sizes, taken)
    return found


def _curve(sizes: list[int], taken: list[float]) -> dict[str, Any]:
    seconds_of = dict(zip(map(str, sizes), taken, strict=True))
    return {"seconds": seconds_of, "exponent": slope(sizes[1:], taken[1:])}


def _pass_seconds(size: int, name: str) -> float:
    labels = np.arange(size) % 10
    counts = np.bincount(labels)
    steps = -(-size // 128)
    facts = Facts("image", (32, 32, 3), tuple("abcdefghij"), counts, counts, 128, steps)
    recipe = () if name == "nothing" else (strategies.get(name)(),)

    def whole() -> None:
        plan = BatchPlan(recipe, facts, labels, None, 0)
        for first in range(0, steps, 64):
            make_chunk(plan, first, min(first + 64, steps))

    return min(seconds(whole) for _ in range(3))


def _neighbour_seconds(size: int) -> float:
    from harness import neighbours

    points = np.random.default_rng(0).integers(0, 256, (size, 3072), dtype=np.uint8)
    labels = np.zeros(size, np.int64)
    return min(seconds(lambda: neighbours._found(points, labels, 5)) for _ in range(2))


def _metrics_seconds(classes: int) -> float:
    from harness.metrics import evaluate

    rng = np.random.default_rng(0)
    labels = np.arange(10_000) % classes
    logits = rng.normal(size=(10_000, classes)) + 3 * np.eye(classes)[labels]
    scores = np.exp(logits)
    probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    counts = np.full(classes, 50)
    return min(seconds(lambda: evaluate(probabilities, labels, counts)) for _ in range(3))
