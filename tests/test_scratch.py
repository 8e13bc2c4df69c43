import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness import scratch
from harness.execution.executors.handle import SlotHandle

HOLDS = """
import time
from harness import scratch

with scratch.folder() as folder:
    (folder / "checkpoint.latest").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_empty_and_goes(temporary: Path) -> None:
    with scratch.folder() as folder:
        assert list(folder.iterdir()) == []
        (folder / "log.txt").write_text("x")
    assert list(temporary.iterdir()) == []


def test_it_goes_where_the_run_fails(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch.folder():
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(temporary: Path) -> None:
    start = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        held = Path(process.stdout.readline().strip())
        with scratch.folder():
            assert (held / "checkpoint.latest").exists()
        assert (held / "checkpoint.latest").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (held / "checkpoint.latest").exists()
    with scratch.folder():
        assert not held.exists()
    assert list(temporary.iterdir()) == []


def test_a_folder_half_deleted_goes(temporary: Path) -> None:
    (temporary / "harness-run-x").mkdir()
    (temporary / "harness-run-x" / ".lock").touch()
    with scratch.folder():
        assert len(list(temporary.glob("harness-run-*"))) == 1


def test_what_is_not_ours_stays(temporary: Path) -> None:
    file = temporary / "harness-run-notes"
    folder = temporary / "harness-run-pictures"
    file.write_text("of somebody else")
    folder.mkdir()
    with scratch.folder():
        pass
    assert sorted(temporary.iterdir()) == [file, folder]


@pytest.fixture
def left(temporary: Path) -> Path:
    """A folder whose process was killed."""
    start = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        held = Path(process.stdout.readline().strip())
        process.kill()
    assert held.exists()
    return held


def test_every_command_removes_what_one_before_left(left: Path) -> None:
    from harness.cli import main

    with pytest.raises(SystemExit):
        main(["list", "strategies"])
    assert not left.exists()


def test_whoever_ends_a_slot_removes_what_it_left(left: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    SlotHandle(0, None, process, ours).end()
    assert not left.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_to_another_folder_is_not_followed(temporary: Path, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / ".lock").touch()
    (other / "run").mkdir()
    (temporary / "harness-run-x").symlink_to(other)
    scratch.sweep()
    assert (other / "run").exists()


def test_a_process_that_is_about_to_be_killed_drops_what_it_has(temporary: Path) -> None:
    scratch.make()
    scratch.make()
    scratch.drop_all()
    assert list(temporary.iterdir()) == []
