import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.streams import Stream, name_key, stream, torch_seed

SEEDS = st.integers(0, 2**63 - 1)


def _state(generator):
    return generator.bit_generator.state["state"]


@given(SEEDS, st.text(min_size=1, max_size=20), st.integers(0, 2**64 - 1))
@example(5, "synthesize", 0)
@example(2**53 + 1, "init", 2**64 - 1)
def test_the_generator_is_keyed_by_every_bit_of_seed_name_and_position(seed, name, position):
    state = _state(stream(seed, name, position))
    assert [int(word) for word in state["key"]] == [seed, name_key(name)]
    assert [int(word) for word in state["counter"]] == [0, 0, 0, position]


def test_large_seeds_that_a_float_cannot_tell_apart_give_different_numbers():
    # name_key("model") has its top bit set, where a list of both words would become floats
    assert name_key("model") >= 2**63
    assert stream(2**53, "model").integers(2**62) != stream(2**53 + 1, "model").integers(2**62)


@given(SEEDS, st.integers(0, 10_000))
def test_a_position_is_decided_the_same_way_whatever_was_drawn_before(seed, position):
    alone = stream(seed, "order", position).random(5)
    for earlier in range(max(0, position - 3), position):
        stream(seed, "order", earlier).random(1000)
    np.testing.assert_array_equal(stream(seed, "order", position).random(5), alone)


@given(SEEDS, st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 5)), min_size=1))
def test_a_generator_that_is_placed_anew_draws_what_a_new_one_would(seed, visits):
    placed = Stream(seed, "order")
    for position, draws in visits:
        rngs = placed.at(position), stream(seed, "order", position)
        for _ in range(draws):  # an odd number of 32-bit draws leaves half a word behind
            one, other = (rng.integers(100, size=3, dtype=np.int32).tolist() for rng in rngs)
            assert one == other
        assert rngs[0].random() == rngs[1].random()


def test_neighbouring_positions_do_not_overlap_even_after_many_draws():
    first = stream(0, "order", 0).integers(2**63, size=20_000)
    second = stream(0, "order", 1).integers(2**63, size=20_000)
    assert not set(first.tolist()) & set(second.tolist())


def test_seed_name_and_position_each_change_the_numbers():
    seen = {
        stream(seed, name, position).random(2).tobytes()
        for seed in (0, 1, 2)
        for name in ("order", "val", "blend", "blend/mixup", "blend/cutmix")
        for position in (0, 1, 700)
    }
    assert len(seen) == 45


def test_streams_stay_as_they_are():
    """Finished runs were drawn from these; a change makes every stored result another's."""
    assert stream(0, "val").bit_generator.random_raw(2).tolist() == [
        0x6A866AC49B1824D8,
        0xE5C58835B2CDE580,
    ]
    assert stream(3, "synthesize", 7).bit_generator.random_raw(2).tolist() == [
        0x4D2BA53DB6CFD0C,
        0xED114CF35A88103F,
    ]


def test_t04_global_generators_are_neither_seeded_nor_read():
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].copy(), random.getstate()
    first = stream(0, "order").random(10)
    torch_seed(0, "init")
    assert (np.random.get_state()[1] == before[0]).all()
    assert random.getstate() == before[1]
    np.random.seed(2)
    random.seed(2)
    np.testing.assert_array_equal(stream(0, "order").random(10), first)


@given(SEEDS, st.sampled_from(["init", "model"]))
def test_a_torch_seed_fits_into_63_bits_and_tells_seeds_and_names_apart(seed, name):
    value = torch_seed(seed, name)
    assert 0 <= value < 2**63
    assert type(value) is int
    assert value == torch_seed(seed, name)
    assert value != torch_seed(seed ^ 1, name)
    assert value != torch_seed(seed, name + "x")


def test_a_negative_seed_is_refused():
    with pytest.raises((OverflowError, ValueError)):
        stream(-1, "order")
