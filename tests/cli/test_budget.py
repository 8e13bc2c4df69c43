"""How long a draft trains: as thorough as fits an evening."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import budget
from harness.cli.budget import EVENING, Work, fitting

CORE = 0.003


def work(train, image_size=None, factors=5, repeats=3):
    return Work(train, train // 2, image_size, factors, repeats)


@given(st.integers(1, 10**7), st.sampled_from([None, 8, 28, 32, 64, 128]))
def test_a_budget_is_useful_and_a_batch_never_larger_than_the_training_set(train, size):
    plan = fitting(work(train, size), 2, CORE)
    assert 1 <= plan.batch_size <= min(train, 128)
    assert 2 <= plan.epochs <= 100
    assert plan.steps == -(-plan.epochs * train // plan.batch_size)
    assert plan.steps >= 100
    assert plan.runs == (96 if plan.factorial else 18)
    if train >= 64:
        assert train / plan.batch_size >= 8
    if train <= 30_000:
        assert plan.steps <= 3200
        assert plan.seconds <= EVENING


def test_small_work_is_done_in_full_and_large_work_gives_up_size_steps_and_crossing_in_turn():
    chosen = [fitting(work(8_800, size), 2, CORE * slow) for size, slow in SLOWER]
    given_up = [(p.image_size, p.factorial, round(p.steps, -2)) for p in chosen]
    assert given_up == [
        (128, True, 3000),
        (64, True, 3000),
        (64, True, 1500),
        (64, False, 3000),
        (64, False, 1500),
        (48, False, 1500),
        (32, False, 1500),
        (32, False, 800),
    ]
    assert not chosen[0].instead
    assert chosen[1].instead.startswith("128 pixels would take about ")
    assert "128 pixels with 3,025 steps with all 32 combinations would" in chosen[4].instead
    assert all(plan.seconds <= EVENING for plan in chosen[:-1])
    assert chosen[-1].seconds > EVENING, "the least there is, and it says so"


SLOWER = [(128, 0.2), (128, 1), (128, 2), (128, 5), (128, 10), (128, 18), (128, 25), (128, 500)]


def test_a_size_that_is_small_already_is_kept():
    assert fitting(work(8_800, 28), 2, CORE * 50).image_size == 28
    assert fitting(work(8_800), 2, CORE * 50).image_size is None


def test_more_slots_do_more_and_a_gpu_is_not_estimated():
    slow, fast = (fitting(work(8_800, 128), slots, CORE) for slots in (1, 16))
    assert slow.instead
    assert not fast.instead
    assert "16 at a time (estimated)" in fast.cost()
    gpu = fitting(work(8_800, 128), 2, None)
    assert (gpu.image_size, gpu.factorial, gpu.seconds) == (128, True, None)
    assert "--measure" in gpu.cost()


def test_a_core_is_timed_by_its_own_time(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(budget.time, "process_time", lambda: next(ticks))
    assert budget.core_seconds() == 1


@pytest.mark.parametrize("size", [16, 64])
def test_twice_the_images_cost_about_twice(size):
    one, two = (fitting(work(n, size, 3, 3), 1, CORE).seconds for n in (2_000_000, 4_000_000))
    assert 1.9 < two / one < 2.1
