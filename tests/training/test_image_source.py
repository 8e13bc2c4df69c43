import collections
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import scratch
from harness.errors import ConfigError
from harness.experiment.spec import RunSpec
from harness.training import image_workers, prepare
from harness.training.image_source import InlineImages, WorkerImages, reserved
from harness.training.image_workers import ImageWorkers

MakeSpec = Callable[..., RunSpec]

TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 40, "imbalance_factor": 4}
BUDGET = {"epochs": 100, "max_steps": 30, "batch_size": 8, "lr": 0.05}


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageWorkers]:
    monkeypatch.setattr(prepare, "_WORTH_WORKERS", 0)
    yield image_workers.image_workers(2)
    image_workers.image_workers(2).close()
    monkeypatch.setattr(image_workers, "_workers", None)


@pytest.mark.parametrize(
    "recipe",
    [
        [{"name": "augment", "policy": "strong"}, "smote", "mixup"],
        [{"name": "augment", "transforms": [{"name": "InvertImg", "p": 0.5}], "start": 0.5}],
    ],
)
def test_workers_prepare_the_images_that_this_process_would(
    recipe: list[Any], make_spec: MakeSpec, workers: ImageWorkers
) -> None:
    spec = make_spec(recipe, datasets=[TAIL], training=BUDGET)
    cpu = torch.device("cpu")
    here = prepare.prepare(spec, cpu).loop.image_source
    elsewhere = prepare.prepare(spec, cpu, workers=2).loop.image_source
    assert isinstance(here, InlineImages)
    assert isinstance(elsewhere, WorkerImages)
    for step in range(30):
        got, expected = elsewhere.get(step), here.get(step)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.numpy(), expected.numpy())
    elsewhere.close()
    assert list(workers.folder.iterdir()) == []


def test_two_runs_share_the_workers_and_a_run_can_begin_in_the_middle(
    make_spec: MakeSpec, workers: ImageWorkers
) -> None:
    recipe = [{"name": "augment", "policy": "standard"}]
    specs = [make_spec(recipe, datasets=[TAIL], training=BUDGET, seeds=[seed]) for seed in (0, 1)]
    cpu = torch.device("cpu")
    ours = [prepare.prepare(spec, cpu, workers=2).loop.image_source for spec in specs]
    theirs = [prepare.prepare(spec, cpu).loop.image_source for spec in specs]
    for step in range(20, 30):
        for one, other in zip(ours, theirs, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one.get(step).numpy(), other.get(step).numpy())


PLUGIN = '''
from harness.strategies.base import Strategy, strategy

@strategy("shrinks")
class Shrinks(Strategy):
    """Make images smaller than they may be."""

    def transforms(self, facts):
        import albumentations

        return [albumentations.CenterCrop(4, 4)]
'''


def test_what_goes_wrong_in_a_worker_is_told_to_its_run(
    make_spec: MakeSpec, workers: ImageWorkers, tmp_path: Path
) -> None:
    (tmp_path / "shrinks.py").write_text(PLUGIN)
    plugins = [str(tmp_path / "shrinks.py")]
    spec = make_spec(["shrinks"], datasets=[TAIL], training=BUDGET, plugins=plugins)
    image_source = prepare.prepare(spec, torch.device("cpu"), workers=2).loop.image_source
    assert image_source is not None
    with pytest.raises(ConfigError, match="CenterCrop turns uint8 images"):
        image_source.get(0)


def test_a_worker_that_died_fails_its_run_and_is_started_anew_for_the_next(
    make_spec: MakeSpec, workers: ImageWorkers
) -> None:
    recipe = [{"name": "augment", "policy": "standard"}]
    spec = make_spec(recipe, datasets=[TAIL], training=BUDGET)
    image_source = prepare.prepare(spec, torch.device("cpu"), workers=2).loop.image_source
    assert image_source is not None
    image_source.get(0)
    for process in workers._processes:
        process.kill()
        process.wait()
    with pytest.raises(RuntimeError, match="a process that prepares images has died"):
        collections.deque(map(image_source.get, range(1, 30)))
    again = prepare.prepare(spec, torch.device("cpu"), workers=2).loop.image_source
    assert again is not None
    assert again.get(0).shape == (8, 8, 8, 3)
    assert not workers.folder.exists()


def test_a_short_run_is_not_worth_starting_workers(make_spec: MakeSpec) -> None:
    spec = make_spec([{"name": "augment", "policy": "strong"}], datasets=[TAIL], training=BUDGET)
    assert isinstance(
        prepare.prepare(spec, torch.device("cpu"), workers=8).loop.image_source, InlineImages
    )


def test_i16_a_ring_that_does_not_fit_into_memory_lies_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write to a page that a full memory file system cannot give would kill the process."""
    real = os.posix_fallocate

    def full(descriptor: int, offset: int, size: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent == tmp_path / "shm":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, offset, size)

    (tmp_path / "shm").mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
    ring = reserved(1000, tmp_path / "shm")
    assert ring.is_relative_to(tmp_path / "disk")
    assert ring.stat().st_size == 1000
    assert ring.stat().st_blocks, "the bytes are there"
    assert list((tmp_path / "shm").iterdir()) == []
    scratch.drop(ring.parent)
    assert list((tmp_path / "disk").iterdir()) == []


def test_i16_without_shared_memory_images_go_through_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/dev/shm")
    assert scratch.in_memory() is None
