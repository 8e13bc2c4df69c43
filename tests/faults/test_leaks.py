"""Nothing is left in memory, among temporary files or among processes, however a command ends."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import MakeStudy, Study
from tests.faults.test_slots import children, gone, slots, slow_study, waits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no memory to write files to"),
]

STAGED: dict[str, Any] = {
    "base": [{"name": "slow", "seconds": 0.005}, {"name": "augment", "policy": "standard"}],
    "seeds": 1,
    "training": {"epochs": 2000, "max_steps": 1300, "batch_size": 40, "eval_every": 0.25},
}
"""One run of ten seconds or more, and of as many images as are worth workers."""


def staged(make_study: MakeStudy, **changes: Any) -> tuple[Study, Path]:
    """Return a study whose images are prepared ahead, and its folder for temporary files."""
    study = slow_study(make_study, **{**STAGED, **changes})
    temporary = study.home / "temporary"
    temporary.mkdir()
    study.environment["TMPDIR"] = str(temporary)
    return study, temporary


def start(study: Study, *options: str) -> tuple[int, int, Path]:
    """Start a command; return its driver, its slot and the folder of its ring, once it is used."""
    forget = "import tempfile; tempfile.tempdir = None"
    driver = study.start("--jobs", "1", *options, patch=forget)
    ring = waits(lambda: next(iter(rings(driver)), None))
    waits(lambda: "RUNNING" in study.mlflow())
    (slot,) = slots(driver)
    return driver, slot, ring


def rings(driver: int) -> set[Path]:
    """Return the folders in memory that hold a ring and whose locks the slots of a driver hold."""
    found = set()
    for slot in slots(driver):
        for link in Path(f"/proc/{slot}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = Path(os.readlink(link))
                if target.is_relative_to("/dev/shm") and list(target.parent.glob("run/ring-*")):
                    found.add(target.parent)
    return found


def left(temporary: Path) -> list[str]:
    """Return what is among the temporary files, but for what MLflow itself keeps there."""
    return sorted(path.name for path in temporary.iterdir())


def test_a_command_that_ends_by_itself_leaves_nothing(make_study: MakeStudy) -> None:
    study, temporary = staged(make_study)
    driver, _, ring = start(study)
    below = children(driver)
    assert study.zygote.wait() == 0, study.printed()
    assert waits(lambda: gone(below), 15)
    assert not ring.exists()
    assert left(temporary) == []


@pytest.mark.parametrize(
    ("signals", "code"), [([2], 130), ([2, 2], 130), ([15], 143)], ids=["ctrl-c", "twice", "term"]
)
def test_a_command_that_is_asked_to_stop_leaves_nothing(
    signals: list[int], code: int, make_study: MakeStudy
) -> None:
    study, temporary = staged(make_study)
    driver, _, ring = start(study)
    below = children(driver)
    for number, sent in enumerate(signals):
        if number:
            waits(lambda: "stopping" in study.printed())
        os.kill(driver, sent)
    assert study.zygote.wait() == code
    assert waits(lambda: gone(below), 15)
    assert not ring.exists()
    assert left(temporary) == []


def test_a_run_that_takes_too_long_leaves_nothing(make_study: MakeStudy) -> None:
    study, temporary = staged(
        make_study, training={**STAGED["training"], "epochs": 90_000, "max_steps": 90_000}
    )
    driver, _, ring = start(study, "--run-timeout", "12")
    below = children(driver)
    assert study.zygote.wait() == 1
    assert "not done after 12 s" in study.printed()
    assert waits(lambda: gone(below), 15)
    assert not ring.exists()
    assert left(temporary) == []


def a_slot(driver: int, slot: int) -> int:
    return slot


def a_worker(driver: int, slot: int) -> int:
    return children(slot)[0]


@pytest.mark.parametrize("victim", [a_slot, a_worker])
def test_a_process_that_is_killed_leaves_nothing(
    victim: Callable[[int, int], int], make_study: MakeStudy
) -> None:
    study, temporary = staged(make_study)
    driver, slot, ring = start(study)
    below = children(driver)
    os.kill(victim(driver, slot), signal.SIGKILL)
    assert study.zygote.wait() == 1, "the run fails"
    assert waits(lambda: gone(below), 15)
    assert not ring.exists()
    assert left(temporary) == []


def test_a_driver_that_is_killed_leaves_nothing(make_study: MakeStudy) -> None:
    study, _ = staged(make_study)
    driver, _, ring = start(study)
    below = children(driver)
    os.kill(driver, signal.SIGKILL)
    assert study.zygote.wait() == -9
    assert waits(lambda: gone(below), 15)
    assert not ring.exists(), "its slot removes it, before the next command"


def test_what_nobody_was_left_to_remove_goes_with_the_next_command(make_study: MakeStudy) -> None:
    study, temporary = staged(make_study)
    driver, _, ring = start(study)
    below = children(driver)
    for pid in [driver, *below]:
        os.kill(pid, signal.SIGSTOP)  # none of them sees another die
    for pid in [driver, *below]:
        os.kill(pid, signal.SIGKILL)
    assert study.zygote.wait() == -9
    assert waits(lambda: gone(below), 15)
    assert ring.exists()
    forget = "import tempfile; tempfile.tempdir = None"
    assert study.run(verb="report", patch=forget) in (0, 2)
    assert not ring.exists()
    assert left(temporary) == []
