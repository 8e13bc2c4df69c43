import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import cache
from harness.datasets.complete import MOST, complete


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, MOST + 20))
def test_nothing_is_left_out(many):
    entries = [f"image {k}" for k in range(many)]
    message = complete(entries, "\n")
    lines = message.splitlines()
    if many > MOST:
        *lines, rest = lines
        assert entries[: len(lines)] == lines
        assert rest.startswith(f"… and {many - len(lines)} more; all are listed in ")
        lines = Path(rest.rpartition(" in ")[2]).read_text().splitlines()
    assert lines == entries


def test_the_same_list_has_one_file_and_another_has_another():
    files = [complete([f"{name}{k}" for k in range(MOST + 1)])[-60:] for name in "aab"]
    assert files[0] == files[1] != files[2]


def test_a_name_that_is_no_text_comes_back_as_the_same_bytes():
    name = os.fsdecode(b"caf\xe9.png")
    complete([name] * (MOST + 1))
    (file,) = (cache.folder() / "lists").iterdir()
    assert file.read_bytes().splitlines() == [b"caf\xe9.png"] * (MOST + 1)


def test_where_no_file_can_be_written_the_message_holds_all(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    entries = [f"{k}.png" for k in range(MOST + 1)]
    assert complete(entries) == ", ".join(entries)
    assert "cannot write" in caplog.text
