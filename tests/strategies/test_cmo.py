from collections.abc import Callable

import numpy as np
import pytest

from harness.strategies.base import Batch, Facts
from harness.strategies.cmo import Cmo

COUNTS = np.array([400, 40, 4])
TRAIN = np.repeat(np.arange(3), COUNTS)


def batch_of(size: int, shape: tuple[int, ...] = (13, 9, 1)) -> Batch:
    return Batch(np.arange(size), TRAIN[:size], COUNTS, TRAIN, shape, 0.5)


class Scripted:
    """Gives the draws of the published code where it asks numpy for them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.asked: list[float] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            value = getattr(self.rng, name)(*args, **kwargs)
            if name in ("beta", "integers") and np.size(value) == 1:
                self.asked.append(float(np.ravel(value)[0]))
            return value

        return call


@pytest.mark.parametrize("seed", range(10))
def test_boxes_and_labels_are_those_of_the_published_code(seed: int) -> None:
    rng = Scripted(seed)
    mix = Cmo().blend(batch_of(6), rng)  # type: ignore[arg-type]
    lam, along, down = rng.asked
    height, width = 13, 9
    side = np.sqrt(1 - lam)
    # rand_bbox and the adjusted λ of the published training loop, on (rows, columns)
    tall, wide = int(0.5 * side * height), int(0.5 * side * width)
    top, bottom = np.clip([down - tall, down + tall], 0, height)
    left, right = np.clip([along - wide, along + wide], 0, width)
    assert mix.box is not None
    assert (mix.box == [top, bottom, left, right]).all()
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    np.testing.assert_allclose(mix.label_weight, kept, atol=1e-7)
    assert mix.source == "train"
    assert (mix.weight == 0).all()  # the box shows the foreground alone


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_foregrounds_are_weighed_by_the_size_of_their_class(power: float) -> None:
    cmo, rng = Cmo(weighted_alpha=power), np.random.default_rng(0)
    drawn = np.concatenate([cmo.blend(batch_of(100), rng).partner for _ in range(400)])
    wanted = COUNTS * COUNTS**-power
    share = np.bincount(TRAIN[drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.01)
    rare = np.bincount(drawn, minlength=len(TRAIN))[TRAIN == 2]
    assert rare.max() < 1.2 * rare.mean() + 10  # rows of a class are as often as each other


def test_it_says_where_it_cannot_or_need_not_act(make_facts: Callable[..., Facts]) -> None:
    assert "area" in (Cmo().unsuitable(make_facts(kind="table", shape=(4,))) or "")
    assert "p is 0" in (Cmo(p=0.0).redundant(make_facts()) or "")
    assert Cmo().rebalances()
    assert not Cmo(weighted_alpha=0.0).rebalances()
