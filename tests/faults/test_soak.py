"""i20: five hundred tiny runs in two slots: nothing grows, nothing is lost."""

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import MakeStudy

pytestmark = pytest.mark.slow

RUNS = 500


def state_of(pid: int) -> tuple[float, int]:
    """Return resident megabytes and open files of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_i20_five_hundred_runs_leave_the_driver_as_it_was(make_study: MakeStudy) -> None:
    training = {"epochs": 100, "max_steps": 10, "batch_size": 8, "eval_every": 0.2}
    study = make_study(seeds=RUNS // 2, factors={"mixup": ["none", "mixup"]}, training=training)
    driver = study.start("--jobs", "2", "--yes")
    states: list[tuple[int, float, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            done = study.printed().count("[")
            try:
                states.append((done, *state_of(driver)))
            except OSError:
                return

    thread = threading.Thread(target=watch)
    thread.start()
    code = study.zygote.wait()
    ended.set()
    thread.join()
    assert code == 0, study.printed()[-2000:]
    table = study.store.runs()
    assert len(table) == RUNS
    assert len(study.finished()) == RUNS
    begun = [state for state in states if 20 <= state[0] <= 100]
    late = [state for state in states if state[0] >= RUNS - 60]
    growth = max(m for _, m, _ in late) - min(m for _, m, _ in begun)
    files = max(f for _, _, f in late) - min(f for _, _, f in begun)
    print(f"driver memory {growth:+.1f} MB, files {files:+d}")
    assert growth < 50
    assert files <= 4
    with closing(sqlite3.connect(study.database)) as database:
        query = (
            "SELECT COUNT(*) FROM metrics JOIN runs ON metrics.run_uuid = runs.run_uuid "
            "JOIN experiments ON runs.experiment_id = experiments.experiment_id "
            "WHERE experiments.name = 'study' AND key = 'train/loss'"
        )
        (points,) = database.execute(query).fetchone()
    assert points == 5 * RUNS, "each evaluation of each run, once"
    result = json.loads((next(iter(table.values())).path / "result.json").read_text())
    assert result["status"] == "done"
