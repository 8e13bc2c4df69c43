"""How long the runs of a draft train, so that all of them fit an evening on this machine.

What a run costs is estimated, because `harness new` answers at once: seconds per image and pixel
of the small networks that a draft names, as measured on one core of the machine that
`_CORE_SECONDS` is of, times how fast a core is here. `harness plan --measure` trains and knows.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.errors import lasting
from harness.execution.executors.resources import layout

EVENING = 3 * 3600.0
"""Seconds in which the runs of a draft should be done."""

_STEPS = (3000, 1500, 750)
_FEWEST_EPOCHS = {3000: 10, 1500: 5, 750: 2}
_MOST_EPOCHS = 100
_BATCH = (8, 128)
_USUAL = (64, 48, 32)

_CORE_SECONDS = 0.003
"""What `core_seconds` returns on the machine that the figures below were measured on, one core."""
_STEP = 0.002
_IMAGE = 1.0e-4
_PIXEL = 8.0e-8
_ROW = 4e-6
_EVALUATED = 0.3
"""The share of a training image's seconds that it takes to score one."""
_RUN = 1.5
"""Seconds around a run: preparation, files, commit."""


@dataclass(frozen=True)
class Budget:
    """What the runs of a draft are.

    Attributes:
        batch_size: Rows per step.
        epochs: Passes over the training set.
        steps: Both together.
        image_size: Side of an image in pixels, or None for a table.
        factorial: Whether the remedies are crossed, rather than each tried alone.
        runs: How many runs there are.
        seconds: What they take together on this machine, or None where that is not known: on a GPU.
        at_a_time: How many run at a time.
        instead: What was given up for it and would have taken, in words, or the empty text.
    """

    batch_size: int
    epochs: int
    steps: int
    image_size: int | None
    factorial: bool
    runs: int
    seconds: float | None
    at_a_time: int
    instead: str = ""

    def cost(self) -> str:
        """Return what the runs cost on this machine, in words."""
        if self.seconds is None:
            return "`harness plan FILE --measure` tells how long on this GPU"
        many = f", {self.at_a_time} at a time" if self.at_a_time > 1 else ""
        return f"about {lasting(self.seconds)} on this machine{many} (estimated)"


@dataclass(frozen=True)
class Work:
    """What there is to train on.

    Attributes:
        train: Samples.
        scored: Samples of val and test that a run scores.
        image_size: Side of an image in pixels, or None for a table.
        factors: How many remedies are crossed.
        repeats: Runs of each recipe: seeds and folds.
    """

    train: int
    scored: int
    image_size: int | None
    factors: int
    repeats: int


def core_seconds() -> float:
    """Return the seconds of one core for a piece of arithmetic, the least of some tries."""
    values = np.linspace(-1, 1, 1 << 17, dtype=np.float32)
    out = np.empty_like(values)
    spent = []
    for _ in range(8):
        begun = time.process_time()
        for _ in range(40):
            np.multiply(values, 1.01, out=out)
            np.add(out, values, out=out)
            np.maximum(out, 0, out=out)
        spent.append(time.process_time() - begun)
    return min(spent)


def chosen(work: Work) -> Budget:
    """Return the most thorough budget that fits an evening on this machine, else the least.

    Given up first is the size of large images, then steps, then the crossing of the remedies,
    last what is left of size and steps; never a seed, without which there is no interval. With a
    GPU nothing is given up.
    """
    shared = layout("auto", None, 1, 2**work.factors * work.repeats)
    speed = None if shared.gpus[0] is not None or shared.device == "mps" else core_seconds()
    return fitting(work, shared.at_a_time, speed)


def fitting(work: Work, at_a_time: int, core: float | None) -> Budget:
    """Return the budget for a machine.

    Args:
        work: What there is to train on.
        at_a_time: How many runs it does at a time.
        core: What `core_seconds` returns on it, or None for a GPU.
    """
    first = found = None
    for size, factorial, steps in _choices(work.image_size):
        found = _budget(work, size, factorial, steps, at_a_time, core)
        first = first or found
        if found.seconds is None or found.seconds <= EVENING:
            break
    assert found is not None
    assert first is not None
    if found is first or first.seconds is None:
        return found
    full = [] if first.image_size == found.image_size else [f"{first.image_size} pixels"]
    full += [] if first.steps == found.steps else [f"{first.steps:,} steps"]
    full += [] if found.factorial else [f"all {2**work.factors} combinations"]
    instead = f"{' with '.join(full)} would take about {lasting(first.seconds)}"
    return Budget(**{**vars(found), "instead": instead})


def _choices(image_size: int | None) -> Iterator[tuple[int | None, bool, int]]:
    yield image_size, True, _STEPS[0]
    large = image_size is not None and image_size > _USUAL[0]
    size = _USUAL[0] if large else image_size
    yield from ((size, factorial, steps) for factorial in (True, False) for steps in _STEPS[:2])
    for smaller in (side for side in _USUAL if image_size is not None and side < (size or 0)):
        yield smaller, False, _STEPS[1]
        size = smaller
    yield size, False, _STEPS[2]


def _budget(
    work: Work, size: int | None, factorial: bool, steps: int, at_a_time: int, core: float | None
) -> Budget:
    low, high = _BATCH
    train = work.train
    batch = min(train, max(low, min(high, 2 ** int(np.log2(max(train, 8) / 8)))))
    epochs = int(np.clip(round(steps * batch / train), _FEWEST_EPOCHS[steps], _MOST_EPOCHS))
    taken = -(-epochs * train // batch)
    runs = (2**work.factors if factorial else work.factors + 1) * work.repeats
    seconds = None
    if core is not None:
        each = _ROW if size is None else _IMAGE + size**2 * _PIXEL
        once = taken * (_STEP + batch * each) + work.scored * each * _EVALUATED
        seconds = runs * (once * core / _CORE_SECONDS + _RUN) / at_a_time
    return Budget(batch, epochs, taken, size, factorial, runs, seconds, at_a_time)
