import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiment.spec import RunSpec
from harness.registry import strategies as registry
from harness.strategies.base import Loss, Windowed
from harness.training import checkpoint, image_workers, prepare
from harness.training.checkpoint import Checkpoints, maker
from harness.training.events import Command, Evaluated, Progress, Waiting
from harness.training.loop import Loop
from harness.training.run import start
from harness.training.run_options import RunOptions
from harness.training.rundir import CHECKPOINTS
from tests.same_bits import outcome
from tests.training.test_captured import needs_cuda, pretending

MakeSpec = Callable[..., RunSpec]
CPU = torch.device("cpu")
TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 40, "imbalance_factor": 4}
EVERYTHING = [
    {"name": "augment", "policy": "strong"},
    {"name": "weighted_sampler", "start": 0.5},
    "smote",
    {"name": "mixup", "p": 0.5},
    {"name": "cutmix", "p": 0.5},
    {"name": "class_weights", "start": 0.5},
]
BUDGET = {"max_steps": 30, "epochs": 100, "batch_size": 8, "lr": 0.05, "eval_every": 0.2}


class Noisy(Windowed):
    """A loss that draws from torch's own generator, as dropout does."""

    def loss(self, class_counts: Any) -> Loss:
        def noisy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            kept = (torch.rand(logits.shape, device=logits.device) > 0.3).float()
            return -(targets * torch.log_softmax(logits * kept, dim=1)).sum(dim=1)

        return noisy


@pytest.fixture(autouse=True)
def _noisy() -> Iterator[None]:
    with registry.temporary():
        registry.register("noisy")(Noisy)
        yield


def end(events: Any, halts: Callable[[Any], bool] = lambda event: False) -> dict[str, Any]:
    """Drive a run; halt it at the first event that `halts` names."""
    command = None
    try:
        while True:
            event = events.send(command)
            command = Command.HALT if halts(event) else None
    except StopIteration as finished:
        result: dict[str, Any] = finished.value
        return result


def attempt(
    spec: RunSpec,
    folder: Path,
    halts: Callable[[Any], bool] = lambda event: False,
    device: str = "cpu",
    **how: Any,
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return end(start(spec, folder, RunOptions(device, **how)), halts)


def curve(folder: Path) -> list[float]:
    """Return the training losses of a run."""
    with open(folder / "history.csv", encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def at(step: int) -> Callable[[Any], bool]:
    """Halt at the first look at or after a step."""
    return lambda event: type(event) is Progress and event.step >= step


CASES: dict[str, tuple[list[Any] | None, dict[str, Any]]] = {
    "sgd": (EVERYTHING, {"momentum": 0.9}),
    "adamw": (["mixup"], {"optimizer": "adamw", "lr": 0.01}),
    "best_weights": (["noisy"], {"select": "best", "schedule": {"name": "cosine", "warmup": 0.3}}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stops", [[1], [6], [7, 8, 20], [13, 24, 29], [30]])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    case: str, stops: list[int], make_spec: MakeSpec, tmp_path: Path
) -> None:
    recipe, training = CASES[case]
    spec = make_spec(recipe, datasets=[TAIL], training={**BUDGET, **training})
    attempt(spec, tmp_path / "whole")
    for stop in stops:
        result = attempt(spec, tmp_path / "parts", at(stop))
        assert result["status"] == "interrupted"
        assert not (tmp_path / "parts" / "result.json").exists()
    result = attempt(spec, tmp_path / "parts")
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    resumed = [note for note in result["notes"] if note.startswith("resumed from step")]
    assert len(resumed) == len(stops)
    assert all(f" of {spec.training.max_steps}" in note for note in resumed)
    assert not any((tmp_path / "parts" / name).exists() for name in CHECKPOINTS)


def test_a_run_halted_at_an_evaluation_tells_of_it_again(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(training=BUDGET)
    heard: list[int] = []

    def second(event: Any) -> bool:
        return isinstance(event, Evaluated) and event.step == 12

    attempt(spec, tmp_path / "a", second)
    events = start(spec, tmp_path / "a", RunOptions("cpu"))
    heard = [event.step for event in events if isinstance(event, Evaluated)]
    assert heard == [6, 12, 18, 24, 30]


def test_a_run_halted_before_its_first_step_begins_anew(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(training=BUDGET)
    assert attempt(spec, tmp_path / "a", lambda event: True)["status"] == "interrupted"
    assert attempt(spec, tmp_path / "a")["notes"] == []


def test_captured_steps_resume_where_they_stopped(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ["smote", {"name": "mixup", "p": 0.5}, {"name": "weighted_sampler", "start": 0.5}]
    spec = make_spec(recipe, datasets=[TAIL], training={**BUDGET, "max_steps": 100})

    def run(folder: Path, halts: Callable[[Any], bool]) -> Any:
        loop = prepare.prepare(spec, CPU).loop
        device = pretending(loop, monkeypatch, busy=1)
        folder.mkdir(exist_ok=True)
        loop.checkpoints = Checkpoints(folder, maker(spec, "cpu", "fp32"))
        return end(loop.run(), halts), loop.model.state_dict(), device

    whole, expected, _ = run(tmp_path / "whole", lambda event: False)
    stopped, _, _ = run(tmp_path / "parts", at(70))
    assert stopped.status == "interrupted"
    done, weights, device = run(tmp_path / "parts", lambda event: False)
    assert device.captured == 1
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert done.delivered.tolist() == whole.delivered.tolist()
    assert [row["train/loss"] for row in done.history] == [
        row["train/loss"] for row in whole.history
    ]


def test_images_prepared_by_workers_go_on_at_the_step_of_the_checkpoint(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_WORTH_WORKERS", 1)
    spec = make_spec([{"name": "augment", "policy": "strong"}], training=BUDGET)
    try:
        attempt(spec, tmp_path / "whole")
        attempt(spec, tmp_path / "parts", at(13), workers=1)
        attempt(spec, tmp_path / "parts", workers=1)
    finally:
        image_workers.image_workers(1).close()
        monkeypatch.setattr(image_workers, "_workers", None)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_only_a_run_that_is_long_enough_writes_checkpoints(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, written = make_spec(training=BUDGET), []
    write = Checkpoints.write

    def counted(self: Checkpoints, step: int, state: dict[str, Any]) -> None:
        written.append(step)
        write(self, step, state)

    monkeypatch.setattr(Checkpoints, "write", counted)
    attempt(spec, tmp_path / "short")
    assert written == []
    attempt(spec, tmp_path / "long", checkpoint_every=0.0)
    assert len(written) > 5
    assert outcome(tmp_path / "long") == outcome(tmp_path / "short")


@pytest.fixture
def two(tmp_path: Path, make_spec: MakeSpec) -> tuple[RunSpec, Path]:
    """An attempt that was halted and has both generations: of steps 12 and 20 or later."""
    spec = make_spec(training=BUDGET)
    attempt(spec, tmp_path / "a", at(12))
    attempt(spec, tmp_path / "a", at(20))
    assert all((tmp_path / "a" / name).exists() for name in CHECKPOINTS)
    return spec, tmp_path / "a"


def step_of(path: Path) -> int:
    return int(json.loads(path.read_bytes().split(b"\n", 2)[1])["step"])


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    else:
        path.write_bytes(b"something else\n{}\n")


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "foreign"])
def test_i10_a_torn_checkpoint_gives_way_to_the_one_before(
    how: str, two: tuple[RunSpec, Path], tmp_path: Path
) -> None:
    spec, folder = two
    latest, previous = (folder / name for name in CHECKPOINTS)
    damage(latest, how)
    before = step_of(previous)
    notes = attempt(spec, folder)["notes"]
    assert f"resumed from step {before} of 30" in notes
    assert any(note.startswith("checkpoint.latest is torn and was not used") for note in notes)
    attempt(spec, tmp_path / "whole")
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_i10_with_both_torn_the_run_begins_anew(two: tuple[RunSpec, Path], tmp_path: Path) -> None:
    spec, folder = two
    for name in CHECKPOINTS:
        damage(folder / name, "cut")
    notes = attempt(spec, folder)["notes"]
    assert not any(note.startswith("resumed") for note in notes)
    assert len([note for note in notes if "is torn" in note]) == 2
    attempt(spec, tmp_path / "whole")
    assert outcome(folder) == outcome(tmp_path / "whole")


@given(cut=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from("ctf"))
@settings(max_examples=40, deadline=None)
def test_i29_no_damage_to_a_checkpoint_is_ever_loaded(
    cut: int, value: int, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    made = {"format": 1}
    Checkpoints(folder, made).write(3, {"step": 3, "x": torch.arange(5)})
    path = folder / CHECKPOINTS[0]
    content = path.read_bytes()
    place = cut % len(content)
    changed = {
        "c": content[:place],
        "t": content + bytes([value]),
        "f": content[:place] + bytes([value]) + content[place + 1 :],
    }[kind]
    path.write_bytes(changed)
    state = Checkpoints(folder, made).read()
    if state is not None:  # what was changed is the step or white space of the header, if at all
        assert torch.equal(state["x"], torch.arange(5))
        assert state["step"] == 3


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


def test_i29_a_checkpoint_is_never_unpickled_as_code(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {}).write(1, {"evil": Evil()})
    found = Checkpoints(tmp_path, {})
    assert found.read() is None
    assert "checkpoint.latest was not used (Weights only load failed" in found.notes[0]
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", "2.0.0"), ("torchvision", "0.1"), ("harness", "0.0.1"), ("albumentations", "1")],
)
def test_i07_a_checkpoint_of_another_version_is_named_and_not_used(
    name: str,
    value: str,
    make_spec: MakeSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = make_spec(training=BUDGET)
    real = checkpoint.maker
    monkeypatch.setattr("harness.training.run.maker", lambda *a: {**real(*a), name: value})
    attempt(spec, tmp_path / "a", at(13))
    monkeypatch.setattr("harness.training.run.maker", real)
    notes = attempt(spec, tmp_path / "a")["notes"]
    ours = real(spec, "cpu", "fp32")[name]
    (note,) = notes
    assert f"was not used: it was made with {name} {value} (here: {ours})" in note
    assert note in (tmp_path / "a" / "log.txt").read_text()
    attempt(spec, tmp_path / "whole")
    assert outcome(tmp_path / "a") == outcome(tmp_path / "whole")


def test_i07_a_checkpoint_says_which_plugin_made_it(make_spec: MakeSpec, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("")
    spec = make_spec(plugins=[str(plugin)])
    before = maker(spec, "cpu", "fp32")
    plugin.write_text("# changed\n")
    after = maker(spec, "cpu", "fp32")
    assert before.keys() == after.keys()
    assert [name for name in after if before[name] != after[name]] == ["plugin mine.py"]
    assert maker(spec, "cuda", "bf16")["device"] == "cuda"


def test_a_checkpoint_that_cannot_be_written_costs_the_run_nothing(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.files.os.fsync", full)
    spec = make_spec(training=BUDGET)
    result = attempt(spec, tmp_path / "a", checkpoint_every=0.0)
    assert result["status"] == "done"
    assert result["notes"] == ["a checkpoint could not be written: No space left on device"]
    assert not list((tmp_path / "a").glob("checkpoint*"))


def test_a_run_looks_up_at_least_every_few_steps_however_slow_they_are(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.training.loop._STRETCH_SECONDS", 0.0)  # every step is slow
    spec = make_spec(training={**BUDGET, "eval_every": 1.0})
    (tmp_path / "a").mkdir()
    events = [
        event for event in start(spec, tmp_path / "a", RunOptions("cpu")) if type(event) is Progress
    ]
    assert [event.step for event in events] == list(range(31))


def test_waiting_is_no_place_to_end(make_spec: MakeSpec) -> None:
    loop: Loop = prepare.prepare(make_spec(training=BUDGET), CPU).loop
    assert end(loop.run(), lambda event: isinstance(event, Waiting)).status == "done"


@needs_cuda
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu_a_resumed_run_ends_near_an_undisturbed_one(
    case: str, make_spec: MakeSpec, tmp_path: Path
) -> None:
    recipe, training = CASES[case]
    spec = make_spec(recipe, datasets=[TAIL], training={**BUDGET, **training})
    whole = attempt(spec, tmp_path / "whole", device="cuda")
    folder = tmp_path / "parts"
    assert attempt(spec, folder, at(13), "cuda")["status"] == "interrupted"
    parts = attempt(spec, folder, device="cuda")
    assert [n for n in parts["notes"] if n.startswith("resumed")]
    assert parts["delivered"] == whole["delivered"]
    # libraries may add in another order on a GPU; decisions are the same
    assert curve(tmp_path / "whole") == pytest.approx(curve(folder), rel=0.02)
