"""A full disk, a folder that cannot be written, odd surroundings."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import MakeStudy

INLINE = ("--executor", "inline", "--checkpoint-every", "0")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of some megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", [INLINE, ("--jobs", "2")])
def test_i15_when_a_full_disk_has_room_again_the_same_command_goes_on(
    how: tuple[str, ...], small: Path, make_study: MakeStudy, undisturbed: dict[str, Any]
) -> None:
    study = make_study(small, factors={}, seeds=40)
    code = study.run(*how)
    said = study.printed()
    full = "No space left on device; free some, and give the same command again"
    assert code == 2, said[-2000:]
    assert full in said
    assert "Traceback" not in said
    done = len(study.table())
    assert done < 40
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    assert study.run(*how) == 0, study.printed()[-2000:]
    assert len(study.table()) == 40
    assert study.finished() == sorted(study.table())
    assert study.mlflow().keys() <= {"FINISHED", "KILLED"}


@pytest.mark.slow
def test_i16_a_folder_that_cannot_be_written_is_named_before_training(
    small: Path, make_study: MakeStudy
) -> None:
    study = make_study(small)
    study.environment["HARNESS_CACHE_DIR"] = str(small.parent / "cache")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    log = small.parent / "printed.txt"
    argv = ["run", str(study.file), "--results", str(study.results), *INLINE]
    study.zygote.start(argv=argv, log=str(log), environment=study.environment)
    assert study.zygote.wait() == 2
    assert f"error: cannot write to {study.results}: Read-only file system" in log.read_text()


BACK = """
import time
real = time.time
start = real()
time.time = lambda: start - 3600 * (real() - start)
"""


def test_i30_odd_surroundings_change_nothing(
    make_study: MakeStudy, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """No terminal, no colour, no home, another script in the path, and a clock set back."""
    home = tmp_path / "Größe 和 blanks"
    home.mkdir()
    study = make_study(home)
    odd = {"NO_COLOR": "1", "TERM": "dumb", "LANG": "C", "HOME": ""}
    assert study.run(*INLINE, environment=odd, patch=BACK) == 0, study.printed()
    assert study.table() == undisturbed
    assert study.finished() == sorted(undisturbed)
    assert "\x1b[" not in study.printed()
