"""What is printed of runs where there is no terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.execution import progress
from harness.execution.progress import Display
from harness.execution.runner import Progressed


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that moves when it is told to, as ``clock["now"]``."""
    found = {"now": 1000.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: found["now"])
    return found


def printed(shown):
    return shown.file.getvalue().splitlines()


def test_a_line_for_each_run_tells_how_many_are_done_and_the_time_left(clock, make_spec):
    specs = [make_spec(seeds=[seed]) for seed in range(6)]
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with Display(console, 6, "balanced_accuracy") as display:
        for k, spec in enumerate(specs[:2]):  # two slots, one half done when the other ends
            display.started(spec)
            display.progressed(spec, Progressed(50 * (k + 1), 100, {}))
        clock["now"] += 300.0
        display.finished(specs[1], "done", Path("r"))
        clock["now"] += 300.0
        display.finished(specs[0], "done", Path("r"))
        for spec in specs[2:]:
            display.started(spec)
            clock["now"] += 5.0
            display.finished(spec, "done", Path("r"))
    lines = printed(console)
    # 1.5 runs in 300 s: 4.5 are left
    assert lines[0].startswith("[1/6] shapes")
    assert lines[0].endswith(" 300.0 s; about 15 min left")
    assert lines[1].endswith(" 600.0 s; about 20 min left"), "2 runs in 600 s: 4 are left"
    assert lines[-1].startswith("[6/6] ")
    assert lines[-1].endswith(" 5.0 s"), "nothing is left"


def test_no_time_is_told_where_it_is_less_than_a_second(clock, make_spec):
    specs = [make_spec(seeds=[seed]) for seed in range(2)]
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with Display(console, 2, "balanced_accuracy") as display:
        display.started(specs[0])
        clock["now"] += 0.4
        display.finished(specs[0], "done", Path("r"))
    assert printed(console)[0].endswith("seed 0  0.4 s")
