import random
from typing import Annotated, ClassVar

import numpy as np
import pytest
from pydantic import Field, field_validator

from harness.registry import strategies
from harness.strategies.base import Flip, Mix, Strategy, Synthesis, Tunable, Windowed, strategy
from harness.streams import stream
from harness.testing import ContractError, check_strategy
from harness.testing.report import global_states, same

BUILT_IN = strategies.names()


@pytest.fixture(autouse=True)
def _own_registry():
    with strategies.temporary():
        yield


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_strategy_keeps_its_contract(name):
    findings = check_strategy(strategies.get(name))
    checks = {finding.check for finding in findings}
    assert {"trains", "trains the same twice", "survives the way through JSON"} <= checks
    hooks = [hook for hook in HOOKS if strategies.get(name).decides(hook)]
    assert hooks
    for hook in hooks:
        assert f"{hook}: is deterministic" in checks
        assert f"{hook}: returns what it should" in checks


HOOKS = ("synthesize", "order", "transforms", "blend", "loss")


def broken(cls) -> str:
    with strategies.temporary(), pytest.raises(ContractError) as caught:
        check_strategy(strategy("broken")(cls))
    return str(caught.value)


class Blending(Windowed):
    """Blend with a permutation; subclasses break one thing."""

    def blend(self, batch, rng):
        size = len(batch.labels)
        half = np.full(size, 0.5, np.float32)
        return Mix(rng.permutation(size), half, half)


class Ordering(Windowed):
    """Draw rows; subclasses break one thing."""

    def order(self, labels, steps, batch_size, rng):
        return rng.integers(0, len(labels), (steps, batch_size))


class Losing(Windowed):
    """Cross-entropy; subclasses break one thing."""

    def loss(self, class_counts):
        return lambda logits, targets: -(targets * logits.log_softmax(1)).sum(1)


class Making(Strategy):
    """Copy the first row once; subclasses break one thing."""

    def expanded_counts(self, class_counts):
        return class_counts + (np.arange(len(class_counts)) == 0)

    def synthesize(self, features, labels, rng):
        row = np.flatnonzero(labels == 0)[:1]
        return Synthesis(row, row, np.zeros(1, np.float32))


@pytest.mark.parametrize("cls", [Blending, Ordering, Losing, Making])
def test_what_the_broken_ones_derive_from_is_sound(cls):
    assert not [f for f in check_strategy(strategy("sound")(cls)) if f.problem]


def test_inputs_changed_in_place_are_named():
    class Changes(Blending):
        """Change the labels."""

        def blend(self, batch, rng):
            batch.labels[:] = 0
            return super().blend(batch, rng)

    assert "blend: leaves its inputs alone: changes labels in place" in broken(Changes)


def test_t14_features_changed_in_place_are_named_and_uint8_wrapping_around_too():
    class Subtracts(Making):
        """Take as neighbour the row of least difference, in the stored dtype."""

        def synthesize(self, features, labels, rng):
            rows = np.flatnonzero(labels == 0)
            apart = np.abs(features[rows] - features[rows[1]]).sum(1)
            apart[1] = apart.max()
            return Synthesis(rows[1:2], rows[[apart.argmin()]], np.zeros(1, np.float32))

    class Changes(Making):
        """Centre the features in place."""

        def synthesize(self, features, labels, rng):
            features[:] = 0
            return super().synthesize(features, labels, rng)

    assert "does not wrap around on uint8: chooses other neighbours" in broken(Subtracts)
    assert "synthesize: leaves its inputs alone: changes features" in broken(Changes)


@pytest.mark.parametrize(
    ("draw", "library"),
    [
        (lambda: np.random.rand(8), "NumPy (np.random)"),
        (lambda: [random.random() for _ in range(8)], "Python (random)"),
        (lambda: __import__("torch").rand(8).numpy(), "torch"),
    ],
)
def test_t18_global_generators_are_named_and_put_back(draw, library):
    class Global(Blending):
        """Draw from a global generator."""

        def blend(self, batch, rng):
            weight = np.asarray(draw(), np.float32)
            return Mix(rng.permutation(len(batch.labels)), weight, weight)

    before = global_states()
    message = broken(Global)
    assert f"draws from or seeds the global generator of {library}" in message
    assert same(global_states(), before)


def test_t04_seeding_a_global_generator_is_named():
    class Seeds(Ordering):
        """Seed a global generator and leave it alone."""

        def order(self, labels, steps, batch_size, rng):
            np.random.seed(0)
            return super().order(labels, steps, batch_size, rng)

    assert "seeds the global generator of NumPy" in broken(Seeds)


def test_a_generator_of_its_own_is_not_deterministic():
    class Own(Ordering):
        """Draw from a generator that nobody handed in."""

        def order(self, labels, steps, batch_size, rng):
            return super().order(labels, steps, batch_size, np.random.default_rng())

    message = broken(Own)
    assert "order: is deterministic: returns something else" in message
    assert "trains the same twice" in message


def test_state_kept_between_calls_is_not_deterministic():
    calls = []

    class Counts(Ordering):
        """Begin where the last call stopped."""

        def order(self, labels, steps, batch_size, rng):
            calls.append(1)
            return np.full((steps, batch_size), len(calls) % len(labels))

    assert "order: is deterministic" in broken(Counts)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (lambda n, s, b: np.zeros((s, b + 1), np.int64), "int64[7, 8] is needed"),
        (lambda n, s, b: np.zeros((s, b)), "returned float64[7, 8]"),
        (lambda n, s, b: np.full((s, b), n), "returned rows from 56 to 56; there are rows 0..55"),
        (lambda n, s, b: np.full((s, b), -1), "returned rows from -1"),
    ],
)
def test_order_of_another_shape_or_out_of_range_is_named(order, message):
    class Wrong(Ordering):
        """Return a wrong order."""

        def order(self, labels, steps, batch_size, rng):
            return order(len(labels), steps, batch_size)

    assert f"order: returns what it should: {message}" in broken(Wrong).replace(
        "returned int64[7, 9]; ", ""
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_weight": np.full(8, 1.5, np.float32)}, "label_weight must lie in [0, 1]; it goes"),
        ({"weight": np.full(8, np.nan, np.float32)}, "weight must lie in [0, 1]"),
        ({"weight": np.full(7, 0.5, np.float32)}, "weight is float32[7] for a batch of 8"),
        ({"weight": np.ones(8, np.int64)}, "float32[8] is needed"),
        ({"partner": np.arange(8) + 1}, "partner must lie in 0..7 with source 'batch'"),
        ({"partner": np.full(8, 56), "source": "train"}, "partner must lie in 0..55"),
        ({"source": "test"}, "source is 'test'"),
        ({"box": np.tile([0, 17, 0, 4], (8, 1))}, "box [0, 17, 0, 4] is not"),
        ({"box": np.tile([5, 4, 0, 4], (8, 1))}, "box [5, 4, 0, 4] is not"),
        ({"box": np.zeros((8, 3), np.int64)}, "int64[8, 4] is needed"),
        ({"box": np.zeros((8, 4), np.int64)}, "box must be None for a table row"),
    ],
)
def test_a_mix_out_of_range_is_named(change, message):
    class Wrong(Blending):
        """Return a wrong mix."""

        def blend(self, batch, rng):
            return Mix(**{**vars(super().blend(batch, rng)), **change})

    assert message in broken(Wrong)


def test_a_hook_that_raises_is_named_with_its_line():
    class Raises(Blending):
        """Raise."""

        def blend(self, batch, rng):
            raise ZeroDivisionError("by nothing")

    message = broken(Raises)
    assert "blend: runs: raised ZeroDivisionError: by nothing (line " in message
    assert "test_check_strategy.py" in message
    assert "trains: the run is failed: ZeroDivisionError: by nothing" in message


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, y: -(y * x.log_softmax(1)).sum(1).mean(), "not their mean (reduction='none')"),
        (lambda x, y: -(y * x.softmax(1).log()).sum(1), "is not finite for one-hot targets"),
        (lambda x, y: (y * x.detach()).sum(1), "does not require grad"),
        (lambda x, y: 1.0, "returned float, not a tensor"),
        (lambda x, y: -x.log_softmax(1)[y == 1], "returned a tensor of shape"),
    ],
)
def test_t05_a_loss_that_is_not_one_finite_number_for_each_sample_is_named(loss, message):
    class Wrong(Losing):
        """Return a wrong loss."""

        def loss(self, class_counts):
            return loss

    assert message in broken(Wrong)


def test_t13_smote_that_needs_more_neighbours_than_there_are_is_named():
    from imblearn.over_sampling import SMOTE

    class Plain(Making):
        """SMOTE as the library has it."""

        def synthesize(self, features, labels, rng):
            SMOTE(random_state=0).fit_resample(features, labels)
            raise AssertionError

    assert "synthesize: runs: raised ValueError: Expected n_neighbors" in broken(Plain)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda row, other: Synthesis(row, other, np.zeros(1, np.float32)), "of another class"),
        (lambda row, other: Synthesis(row, row, np.full(1, 2, np.float32)), "gap must lie in"),
        (lambda row, other: Synthesis(row + 99, row, np.zeros(1, np.float32)), "must lie in 0..55"),
        (lambda row, other: Synthesis(row, row, np.zeros(2, np.float32)), "arrays of one length"),
        (lambda row, other: Synthesis(other, other, np.zeros(1, np.float32)), "promises [41, 12,"),
        (lambda row, other: (row, row, row), "returned tuple, not a Synthesis"),
    ],
)
def test_rows_that_cannot_be_created_are_named(make, message):
    class Wrong(Making):
        """Return wrong rows."""

        def synthesize(self, features, labels, rng):
            return make(np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels == 1)[:1])

    assert message in broken(Wrong)


def test_expanded_counts_without_rows_is_named():
    class Promises(Ordering):
        """Promise rows."""

        def expanded_counts(self, class_counts):
            return class_counts * 2

    assert "counts rows that no synthesize creates" in broken(Promises)


def test_t22_a_transform_that_changes_the_shape_is_named():
    import albumentations

    class Crops(Strategy):
        """Crop and do not pad."""

        def transforms(self, facts):
            return [albumentations.RandomCrop(8, 8, p=1.0)]

    message = broken(Crops)
    assert "RandomCrop turns uint8 images of shape (16, 16, 3) into uint8 (8, 8, 3)" in message


def test_transforms_in_the_wrong_order_or_of_no_use_are_named():
    import albumentations

    class Late(Strategy):
        """Flip last."""

        def transforms(self, facts):
            return [albumentations.Blur(), Flip("horizontal")]

    class Text(Strategy):
        """Return a name."""

        def transforms(self, facts):
            return ["flip"]

    assert "Flip and PadCrop must come before any other transform" in broken(Late)
    assert "'flip' is neither Flip, PadCrop nor an Albumentations transform" in broken(Text)


def test_parameters_out_of_their_own_range_are_named():
    class Beyond(Ordering):
        """Search beyond what is legal."""

        beta: Annotated[float, Field(ge=0.0, le=1.0), Tunable(0.0, 2.0)] = 1.0

    class Logarithm(Ordering):
        """Search from zero on a logarithmic scale."""

        gamma: Annotated[float, Field(ge=0.0), Tunable(0.0, 1.0, log=True)] = 1.0

    class Refuses(Ordering):
        """Refuse what the range allows."""

        delta: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

        @field_validator("delta")
        @classmethod
        def _inside(cls, value):
            if value in (0.0, 1.0):
                raise ValueError("no end")
            return value

    assert "beta = 2.0 is not legal" in broken(Beyond)
    assert "low > 0 where log" in broken(Logarithm)
    assert "delta = 0.0 is refused: Value error, no end" in broken(Refuses)

    class Loose(Ordering):
        """Have a number without a range."""

        beta: float = 1.0

    found = check_strategy(strategy("loose")(Loose))
    assert any("'beta' has none" in finding.problem for finding in found)


def test_a_definition_that_is_not_a_strategys_is_named():
    class Thawed(Ordering):
        model_config: ClassVar = {"frozen": False}
        version: ClassVar[int] = 0

        def window(self):
            return 0.5, 0.5

    message = broken(Thawed)
    assert "is frozen and strict" in message
    assert "has a docstring" in message
    assert "version is 0" in message
    assert "window() is (0.5, 0.5)" in message

    class Needs(Ordering):
        """Need a parameter."""

        k: int

    assert "give every parameter a valid default: k" in broken(Needs)

    class Idle(Windowed):
        """Do nothing."""

    assert "override at least one of synthesize, order" in broken(Idle)
    with pytest.raises(ContractError, match="derive it from"):
        check_strategy(dict)


def test_a_strategy_that_is_not_registered_is_named():
    class Unknown(Ordering):
        """Draw rows."""

    with pytest.raises(ContractError, match="put @strategy"):
        check_strategy(Unknown)


def test_a_strategy_for_tables_is_trained_on_a_table_and_one_for_neither_is_noted():
    seen = []

    @strategy("tables")
    class Tables(Ordering):
        """Draw rows of a table."""

        def unsuitable(self, facts):
            return None if facts.kind == "table" else "a table is needed"

        def order(self, labels, steps, batch_size, rng):
            seen.append(len(labels))
            return super().order(labels, steps, batch_size, rng)

    check_strategy(Tables)
    assert set(seen) > {56}, "only the sample of the hook was ordered, not a real run"

    @strategy("nowhere")
    class Nowhere(Ordering):
        """Suit nothing."""

        def unsuitable(self, facts):
            return "never"

    found = {finding.check: finding for finding in check_strategy(Nowhere)}
    assert "it suits neither" in found["trains"].problem


def test_a_strategy_is_checked_with_the_parameters_that_it_was_given():
    @strategy("limited")
    class Limited(Ordering):
        """Draw rows, wrongly beyond a limit."""

        beyond: bool = False

        def order(self, labels, steps, batch_size, rng):
            return super().order(labels, steps, batch_size, rng) + (1000 if self.beyond else 0)

    check_strategy(Limited)
    with pytest.raises(ContractError, match="returned rows from 10"):
        check_strategy(Limited(beyond=True))


def test_same_tells_bits_apart():
    assert same({"a": [np.arange(3)]}, {"a": [np.arange(3)]})
    assert same(np.array([np.nan]), np.array([np.nan]))
    assert not same(np.zeros(2, np.float32), np.zeros(2))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same([1], [1, 2])
    assert stream(0, "a").random() != stream(0, "b").random()
