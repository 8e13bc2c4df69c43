"""Processes that are killed, asked to stop, or hang, with runs in slots of their own."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import KEYS, MakeStudy, Study

SLOW: dict[str, Any] = {
    "factors": {},
    "base": [{"name": "slow", "seconds": 0.05}],
    "seeds": 2,
    "training": {"epochs": 1000, "max_steps": 60, "batch_size": 8, "eval_every": 0.25},
}
"""Two runs of three seconds or more."""


def waits(wanted: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what `wanted` returns as soon as that is something."""
    until = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[int]:
    """Return the processes below a process, slots and what they started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def gone(pids: list[int]) -> bool:
    """Whether each of some processes has ended."""
    return not any(running(pid) for pid in pids)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def slots(pid: int) -> list[int]:
    """Return the slots of a driver: the processes below it that lead a group."""
    found = []
    for child in children(pid):
        try:
            if os.getpgid(child) == child:
                found.append(child)
        except ProcessLookupError:
            continue
    return found


def under_way(study: Study) -> bool:
    """Whether some run has been evaluated, is in training and has something to go on from."""
    begun = list((study.results / study.keys["name"] / ".running").glob("*/checkpoint.latest"))
    return len(begun) > 0


def slow_study(make_study: MakeStudy, home: Path | None = None, **changes: Any) -> Study:
    study = make_study(home, **{**SLOW, **changes})
    study.keys["plugins"] = [str(study.home / "slow.py")]
    study.file.write_text(json.dumps(study.keys))
    return study


@pytest.fixture(scope="module")
def calm(zygote: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the slow study comes to when nothing happens to it."""
    home = tmp_path_factory.mktemp("calm")
    from tests.faults.conftest import SLOW as PLUGIN

    (home / "slow.py").write_text(PLUGIN)
    study = Study(zygote, home, {**KEYS, **SLOW, "plugins": [str(home / "slow.py")]})
    assert study.run("--jobs", "2") == 0, study.printed()
    return {key: whole[1:] for key, whole in study.table().items()}


def ends_as(study: Study, calm: dict[str, Any], *options: str) -> None:
    assert study.run("--jobs", "2", *options) == 0, study.printed()
    assert {key: whole[1:] for key, whole in study.table().items()} == calm
    assert study.finished() == sorted(calm)
    assert study.mlflow().keys() <= {"FINISHED", "KILLED", "FAILED"}
    assert "RUNNING" not in study.mlflow()


@pytest.mark.slow  # tests/execution/test_runner.py has the same without a process of its own
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_i04_asked_once_runs_write_a_checkpoint_and_go_on_later(
    number: int, code: int, make_study: MakeStudy, calm: dict[str, Any]
) -> None:
    study = slow_study(make_study)
    driver = study.start("--jobs", "2", "--checkpoint-every", "0.5")
    waits(lambda: under_way(study))
    below = children(driver)
    asked = time.monotonic()
    os.kill(driver, number)
    assert study.zygote.wait() == code
    assert time.monotonic() - asked < 10
    assert waits(lambda: gone(below), 15)
    said = study.printed()
    assert "stopping: runs write a checkpoint" in said
    assert f"harness run {study.file}" in said.replace("\n", ""), "the command to go on with"
    assert "RUNNING" not in study.mlflow()
    ends_as(study, calm)
    assert set(study.mlflow()) == {"FINISHED"}, "a run that went on is one run there, too"
    notes = [
        note
        for run in study.store.runs().values()
        for note in json.loads((run.path / "result.json").read_text())["notes"]
    ]
    assert any(note.startswith("resumed from step") for note in notes)


@pytest.mark.slow
def test_i04_asked_twice_it_ends_at_once(make_study: MakeStudy, calm: dict[str, Any]) -> None:
    study = slow_study(make_study, base=[{"name": "slow", "seconds": 8.0}], seeds=1)
    driver = study.start("--jobs", "1")
    waits(lambda: "RUNNING" in study.mlflow())
    below = children(driver)
    os.kill(driver, signal.SIGINT)
    waits(lambda: "stopping" in study.printed())
    asked = time.monotonic()
    os.kill(driver, signal.SIGINT)
    assert study.zygote.wait() == 130
    assert time.monotonic() - asked < 3
    assert waits(lambda: gone(below), 15)


@pytest.mark.slow
def test_i04_a_run_that_does_not_heed_is_ended_in_time(make_study: MakeStudy) -> None:
    study = slow_study(make_study, base=[{"name": "slow", "seconds": 60.0}], seeds=1)
    driver = study.start("--jobs", "1")
    waits(lambda: "RUNNING" in study.mlflow())
    asked = time.monotonic()
    os.kill(driver, signal.SIGTERM)
    assert study.zygote.wait() == 143
    assert time.monotonic() - asked < 10
    assert study.mlflow() == {"KILLED": 1}


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 5])
def test_i02_when_the_driver_is_killed_its_processes_end_and_the_next_one_goes_on(
    times: int, make_study: MakeStudy, calm: dict[str, Any]
) -> None:
    study = slow_study(make_study)
    for _ in range(times):
        driver = study.start("--jobs", "2", "--checkpoint-every", "0.2")
        waits(lambda: under_way(study))
        waits(lambda driver=driver: len(slots(driver)) == 2)
        below = children(driver)
        os.kill(driver, signal.SIGKILL)
        assert study.zygote.wait() == -9
        assert waits(lambda below=below: gone(below), 15)
    ends_as(study, calm)
    attempts = (study.store.path / "attempts.jsonl").read_text().splitlines()
    assert len(attempts) > 2, "each attempt is counted"


def fresh(study: Study, since: int) -> bool:
    """Whether each run that is under way has written a checkpoint after a moment, in ns."""
    attempts = [path for path in study.store.attempts.running.glob("*") if path.is_dir()]
    try:
        times = [(path / "checkpoint.latest").stat().st_mtime_ns for path in attempts]
    except FileNotFoundError:
        return False
    return bool(times) and min(times) > since


@pytest.mark.slow
def test_i01_a_slot_that_is_killed_costs_what_came_after_the_checkpoint(
    make_study: MakeStudy, calm: dict[str, Any]
) -> None:
    rng = random.Random(40)
    kills = 0
    while kills < 40:
        study = slow_study(make_study)
        driver = study.start("--jobs", "2", "--checkpoint-every", "0")
        ended = threading.Event()
        codes: list[int] = []

        def listen(study: Study = study, ended: Any = ended, codes: Any = codes) -> None:
            codes.append(study.zygote.wait())
            ended.set()

        thread = threading.Thread(target=listen)
        thread.start()
        killed = 0
        while not ended.wait(rng.uniform(0.0, 0.4)):
            waits(lambda: ended.is_set() or fresh(study, killed))  # noqa: B023
            if (victims := slots(driver)) and not ended.is_set():
                killed = time.time_ns()
                os.kill(rng.choice(victims), signal.SIGKILL)
                kills += 1
        thread.join()
        assert codes[0] in (0, 1), study.printed()
        ends_as(study, calm, "--retry-failed")


@pytest.mark.slow
def test_i19_a_run_that_hangs_is_ended_with_all_that_it_started(make_study: MakeStudy) -> None:
    """i19: DESIGN has ``--run-timeout``; status ``timeout``."""
    study = slow_study(
        make_study,
        recipes={"hangs": [{"name": "slow", "seconds": 3600.0}]},
        base=[],
        seeds=1,
    )
    driver = study.start("--jobs", "1", "--run-timeout", "12")
    waits(lambda: "RUNNING" in study.mlflow())
    below = children(driver)
    assert study.zygote.wait() == 1
    assert waits(lambda: gone(below), 15)
    said = study.printed()
    assert "timeout: shapes" in said
    assert "not done after 12 s (--run-timeout); its process was ended" in said
    assert "log.txt" in said
    assert study.mlflow() == {"FAILED": 1, "FINISHED": 1}
    statuses = [json.loads(p.read_text())["kind"] for p in study.store.path.glob("*/error.json")]
    assert statuses == ["timeout"]


def test_i11_a_second_driver_is_refused_and_told_who_holds_the_folder(
    make_study: MakeStudy,
) -> None:
    from harness.errors import StoreError

    study = slow_study(make_study)
    driver = study.start("--jobs", "1")
    waits(lambda: (study.store.path / ".owner.json").exists())
    with pytest.raises(StoreError, match=rf"in use by process {driver} on .+ since \d{{4}}-"):  # noqa: SIM117
        with study.store.locked():
            pass
    os.kill(driver, signal.SIGKILL)
    study.zygote.wait()
    with study.store.locked():  # a claim that nobody alive makes is none, and its file no obstacle
        pass
