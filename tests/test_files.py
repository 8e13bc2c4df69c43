import contextlib
import json
import os
from pathlib import Path

import filelock
import pytest

from harness import files
from harness.files import (
    append_line,
    make_once,
    read_bytes,
    read_lines,
    rename,
    replacing,
    write_atomically,
)


def test_a_pipe_a_folder_and_a_device_are_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a folder"),
                       (Path("/dev/zero"), "a device")):  # fmt: skip
        with pytest.raises(OSError, match=what):
            read_bytes(path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert len(read_bytes(tmp_path / "file")) == 100_000


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, "one")
    with contextlib.suppress(KeyError), replacing(file) as out:
        out.write(b"two")
        raise KeyError
    assert file.read_text() == "one\n"
    assert list(tmp_path.iterdir()) == [file]
    write_atomically(file, "caf\udce9")
    assert file.read_text() == "caf\\udce9\n"


def test_what_killed_processes_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.1.tmp", tmp_path / ".b.2.tmp"
    for left in (old, new):
        left.touch()
    os.utime(old, (0, 0))
    write_atomically(tmp_path / "file", "x")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_rename_waits_for_a_program_that_holds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = os.replace, []

    def held(source: Path, target: Path) -> None:
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(13, "the process cannot access the file")
        real(source, target)

    monkeypatch.setattr(os, "replace", held)
    (tmp_path / "a").write_text("x")
    rename(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
    tries.clear()
    with pytest.raises(PermissionError):
        rename(tmp_path / "b", tmp_path / "c", seconds=0.0)
    assert len(tries) == 1


def test_torn_lines_count_for_nothing_and_the_next_line_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    assert list(read_lines(file)) == []
    append_line(file, {"a": 1})
    with open(file, "ab") as out:
        out.write(b'{"a": 2')
    append_line(file, {"a": 3})
    with open(file, "ab") as out:
        out.write(b'[4]\n"5"\n\xff\n')
    assert list(read_lines(file)) == [{"a": 1}, {"a": 3}]
    assert json.loads(file.read_bytes().splitlines()[2]) == {"a": 3}


def test_a_file_that_processes_share_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.touch()

    file = tmp_path / "shared.db"
    make_once(file, make)
    make_once(file, make)
    assert made == [file]
    make_once(file, make, empty_is_missing=True)
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [file]
    file.unlink()
    monkeypatch.setattr(files, "MAKING_SECONDS", 0.01)
    with filelock.FileLock(tmp_path / ".shared.db.lock"), pytest.raises(OSError, match="lock"):
        make_once(file, make)
