"""What a process imports once is not part of what a run costs."""

import builtins
import json
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.experiment.spec import RunSpec
from harness.training import importing, run
from harness.training.importing import spent, watched
from harness.training.run_options import RunOptions

LIBRARY = """
import builtins
builtins.harness_test_clock[0] += 1000.0
"""

PLUGIN = '''
import numpy as np
from harness.strategies.base import Mix, Windowed, strategy

@strategy("imports")
class Imports(Windowed):
    """Need a library when it is first asked."""

    def blend(self, batch, rng):
        import harness_test_library

        one = np.ones(len(batch.labels), np.float32)
        return Mix(np.arange(len(one)), one, one)
'''


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[float]]:
    """A clock that only the import of a library moves, by 1000 s."""
    now = [0.0]
    monkeypatch.setattr(builtins, "harness_test_clock", now, raising=False)
    told = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(importing, "time", told)
    monkeypatch.setattr(run, "time", told)
    (tmp_path / "harness_test_library.py").write_text(LIBRARY)
    (tmp_path / "harness_test_outer.py").write_text("import harness_test_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield now
    for name in ("harness_test_library", "harness_test_outer"):
        sys.modules.pop(name, None)


def test_an_import_within_an_import_counts_once(clock: list[float]) -> None:
    before, real = spent(), builtins.__import__
    with watched():
        import harness_test_outer  # noqa: F401
    assert spent() - before == 1000.0
    assert builtins.__import__ is real


def test_runs_that_overlap_end_in_any_order(clock: list[float]) -> None:
    before, real = spent(), builtins.__import__
    first, second = watched(), watched()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    import harness_test_library  # noqa: F401

    second.__exit__(None, None, None)
    assert spent() - before == 1000.0
    assert builtins.__import__ is real


def test_what_another_thread_imports_is_its_own(clock: list[float]) -> None:
    before = spent()

    def imports() -> None:
        import harness_test_library  # noqa: F401

    with watched():
        thread = threading.Thread(target=imports)
        thread.start()
        thread.join()
    assert clock == [1000.0]
    assert spent() == before


def test_the_first_run_of_a_process_costs_no_more_than_the_next(
    make_spec: Callable[..., RunSpec], clock: list[float], tmp_path: Path
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    spec = make_spec(["imports"], plugins=[str(tmp_path / "plugin.py")])
    costs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for _ in run.drain(spec, tmp_path / name, RunOptions("cpu")):
            pass
        costs.append(json.loads((tmp_path / name / "result.json").read_text())["cost"])
    assert [cost["startup_seconds"] for cost in costs] == [1000.0, 0.0]
    assert [cost["seconds"] for cost in costs] == [0.0, 0.0]
