from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.experiment.spec import RunSpec
from harness.registry import strategies
from harness.strategies.base import Batch, Mix, Windowed
from harness.training.captured import WARM_UP, Captured
from harness.training.events import Evaluated, Waiting
from harness.training.loop import Loop
from harness.training.prepare import prepare

MakeSpec = Callable[..., RunSpec]

TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 60, "imbalance_factor": 4}
BUDGET = {"epochs": 100, "max_steps": 150, "batch_size": 8, "lr": 0.05, "eval_every": 0.34}

READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "unique_dim", "masked_select")
"""Operations whose result the host has to wait for."""


class NoReads(TorchDispatchMode):
    """Fails where the host reads a value of a tensor, as it must not within a captured step."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket.__name__ in READS:
            raise RuntimeError(f"the host reads a value: {func}")
        return func(*args, **(kwargs or {}))


class Pretend:
    """Captures on the CPU: records the body and replays it, with what a graph would do and not.

    The body may read nothing on the host; in a replay gradients are written, not added up; a
    device is busy for a while after each mark.
    """

    def __init__(self, model: nn.Module, busy: int = 0) -> None:
        self.captured = 0
        self.replayed = 0
        self.forget_gradients: Callable[[], None] = lambda: None
        self._model = model
        self._busy = busy

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        assert all(p.grad is None for p in self._model.parameters()), "gradients of before"

        def replay() -> None:
            self.replayed += 1
            self.forget_gradients()
            with NoReads():
                body()

        return replay

    def staging(self, like: Tensor) -> Tensor:
        return torch.empty_like(like)

    def mark(self) -> Callable[[], bool]:
        left = [self._busy]

        def done() -> bool:
            left[0] -= 1
            return left[0] < 0

        return done


class Reads(nn.Module):
    """A layer that cannot be captured."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.detach().sum().item() < 1e9 else -x


def run(loop: Loop) -> tuple[Any, list[Any]]:
    events: list[Any] = []

    def all_of() -> Iterator[Any]:
        outcome = yield from loop.run()
        events.append(outcome)

    seen = list(all_of())
    return events[0], seen


def pretending(loop: Loop, monkeypatch: pytest.MonkeyPatch, busy: int = 0) -> Pretend:
    """Have a loop run on captured steps."""
    from harness.training.step import Step

    device = Pretend(loop.model, busy)

    def executor(step: Step) -> Captured:
        device.forget_gradients = step.forget_gradients
        return loop.captured(step, device)

    monkeypatch.setattr(loop, "_executor", executor)
    return device


RECIPES: dict[str, tuple[list[Any], int]] = {
    "nothing": ([], 1),
    "all_on_the_device": (
        [
            {"name": "augment", "policy": "flip_crop", "stop": 0.7},
            "smote",
            {"name": "mixup", "p": 0.5},
            {"name": "cutmix", "p": 0.3, "per_sample": True},
            {"name": "weighted_sampler", "start": 0.5},
        ],
        1,
    ),
    "losses_in_turn": (
        [{"name": "focal", "start": 0.2, "stop": 0.6}, {"name": "class_weights", "start": 0.6}],
        3,
    ),
    "images_from_the_host": ([{"name": "augment", "policy": "strong"}, "mixup"], 1),
    "a_blend_that_begins_late": ([{"name": "cutmix", "start": 0.5}], 2),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("busy", [0, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_steps_take_the_decisions_of_eager_ones_and_end_where_they_do(
    name: str, busy: int, precision: str, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, phases = RECIPES[name]
    spec = make_spec(recipe, datasets=[TAIL], training=BUDGET)
    cpu = torch.device("cpu")
    eager = prepare(spec, cpu, precision).loop
    expected, _ = run(eager)
    captured = prepare(spec, cpu, precision).loop
    device = pretending(captured, monkeypatch, busy)
    got, events = run(captured)

    assert device.captured == phases
    assert device.replayed == spec.training.max_steps - WARM_UP  # type: ignore[operator]
    assert any(isinstance(event, Waiting) for event in events) == (busy > 0)
    assert got.notes == []
    np.testing.assert_array_equal(got.delivered, expected.delivered)
    assert got.mixed == expected.mixed
    for ours, theirs in zip(got.history, expected.history, strict=True):
        for name in ("step", "lr", "train/loss"):
            assert ours[name] == theirs[name]
    for a, b in zip(captured.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


class FromTrain(Windowed):
    """Mix with random rows of the training set, now and then."""

    p: float = 0.5

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        size = len(batch.labels)
        half = np.full(size, 0.5, np.float32)
        partner = rng.integers(0, len(batch.train_labels), size)
        return Mix(partner, half, half, source="train")


@pytest.mark.parametrize("tail", [False, True])
def test_partners_of_their_own_stand_behind_the_batch_in_every_step(
    tail: bool, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies.register("from_train")(FromTrain)
    recipe = ["from_train", {"name": "augment", "policy": "standard" if tail else "flip_crop"}]
    spec = make_spec(recipe, datasets=[TAIL], training={**BUDGET, "max_steps": 70})
    cpu = torch.device("cpu")
    eager, captured = prepare(spec, cpu).loop, prepare(spec, cpu).loop
    pretending(captured, monkeypatch)
    (expected, _), (got, _) = run(eager), run(captured)
    assert 20 < got.mixed["from_train"] < 50
    losses = [[row["train/loss"] for row in outcome.history] for outcome in (got, expected)]
    assert losses[0] == losses[1]


def test_what_cannot_be_captured_goes_on_step_by_step_and_says_so(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec([], datasets=[TAIL], training={**BUDGET, "max_steps": 20})
    cpu = torch.device("cpu")
    eager, captured = prepare(spec, cpu).loop, prepare(spec, cpu).loop
    device = pretending(captured, monkeypatch)

    def refuse(body: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(device, "capture", refuse)
    (expected, _), (got, events) = run(eager), run(captured)
    assert got.notes == [
        "steps are not captured in a CUDA graph and run slower: operation not permitted when "
        "stream is capturing"
    ]
    assert isinstance(events[-1], Evaluated)
    assert got.history[-1]["train/loss"] == expected.history[-1]["train/loss"]


def test_after_a_capture_that_failed_no_graph_of_before_is_replayed(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec([{"name": "focal", "start": 0.3, "stop": 0.5}], datasets=[TAIL],
                     training={**BUDGET, "max_steps": 60})  # fmt: skip
    loop = prepare(spec, torch.device("cpu")).loop
    device = pretending(loop, monkeypatch)
    capture, refused = device.capture, 0

    def once(body: Callable[[], None]) -> Callable[[], None]:
        nonlocal refused
        if device.captured:
            refused += 1
            try:
                raise ValueError("the host reads a value")
            finally:
                raise RuntimeError("the capture has ended")
        return capture(body)

    monkeypatch.setattr(device, "capture", once)
    got, _ = run(loop)
    assert (device.captured, refused) == (1, 1)
    assert device.replayed == 18 - WARM_UP, "none when the first loss is back"
    assert got.notes[0].endswith("the host reads a value")


def test_a_blend_that_is_rare_costs_no_captures(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = [{"name": "mixup", "p": 0.02}, {"name": "cutmix", "p": 0.01}]
    spec = make_spec(recipe, datasets=[TAIL], training={**BUDGET, "max_steps": 1500})
    eager, loop = (prepare(spec, torch.device("cpu")).loop for _ in range(2))
    device = pretending(loop, monkeypatch)
    (expected, _), (got, _) = run(eager), run(loop)
    assert got.mixed["cutmix"] > 3
    assert device.captured <= 3, "without, with a partner, with a box"
    assert got.history[-1]["train/loss"] == expected.history[-1]["train/loss"]


def test_the_host_is_at_most_one_stretch_ahead(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.training.step import Step, make_optimizer

    spec = make_spec([], datasets=[TAIL], training=BUDGET)
    loop = prepare(spec, torch.device("cpu")).loop
    device = pretending(loop, monkeypatch)
    marks: list[list[bool]] = []

    def mark() -> Callable[[], bool]:
        marks.append([False])
        return lambda mine=marks[-1]: mine[0]

    monkeypatch.setattr(device, "mark", mark)
    optimizer = make_optimizer(loop.model, loop.training)
    executor = loop._executor(Step(loop.model, loop.pipeline, optimizer, "fp32", loop.device))
    assert list(executor.advance(0, 10)) == []
    of_the_first = marks[-1]
    assert list(executor.advance(10, 20)) == [], "the device has work while this is launched"
    third = executor.advance(20, 30)
    assert next(third) is None
    assert next(third) is None
    assert device.replayed == 20 - WARM_UP
    of_the_first[0] = True
    assert list(third) == []
    assert device.replayed == 30 - WARM_UP


def test_the_pretended_device_notices_a_read(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec([], datasets=[TAIL], training={**BUDGET, "max_steps": 20})
    loop = prepare(spec, torch.device("cpu")).loop
    loop.model.network = nn.Sequential(loop.model.network, Reads())
    pretending(loop, monkeypatch)
    with pytest.raises(RuntimeError, match="the host reads a value"):
        run(loop)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
def test_on_a_gpu_what_cannot_be_captured_goes_on_step_by_step(make_spec: MakeSpec) -> None:
    spec = make_spec([], datasets=[TAIL], training=BUDGET)
    with torch.cuda.stream(torch.cuda.Stream()):
        expected, _ = run(prepare(spec, torch.device("cuda")).loop)
        loop = prepare(spec, torch.device("cuda")).loop
        loop.model.network = nn.Sequential(loop.model.network, Reads())
        got, _ = run(loop)
        again, _ = run(prepare(spec, torch.device("cuda")).loop)  # the stream can still capture
    assert [note.partition(":")[0] for note in got.notes] == [
        "steps are not captured in a CUDA graph and run slower"
    ]
    assert again.notes == []
    losses = [[row["train/loss"] for row in each.history] for each in (expected, got, again)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    np.testing.assert_allclose(losses[2], losses[0], rtol=0.05)


@needs_cuda
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_captured_and_eager_steps_agree(
    name: str, precision: str, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(RECIPES[name][0], datasets=[TAIL], training=BUDGET)
    place = torch.device("cuda")
    losses = []
    for way in ("captured", "eager"):
        with torch.cuda.stream(torch.cuda.Stream()):
            loop = prepare(spec, place, precision).loop
            if way == "eager":
                monkeypatch.setattr(loop, "_executor", loop.eager)
            outcome, _ = run(loop)
        assert outcome.notes == []
        losses.append([row["train/loss"] for row in outcome.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_the_host_never_waits_within_a_chunk(make_spec: MakeSpec) -> None:
    spec = make_spec(RECIPES["all_on_the_device"][0], datasets=[TAIL], training=BUDGET)
    with torch.cuda.stream(torch.cuda.Stream()):
        loop = prepare(spec, torch.device("cuda"), "fp32").loop
        from harness.training.step import Step, make_optimizer

        step = Step(
            loop.model,
            loop.pipeline,
            make_optimizer(loop.model, loop.training),
            "fp32",
            loop.device,
        )
        executor = loop._executor(step)
        for _ in executor.advance(0, 10):  # warms up and captures
            pass
        assert executor.problem == ""
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in executor.advance(10, 60):
                pass
        finally:
            torch.cuda.set_sync_debug_mode("default")
