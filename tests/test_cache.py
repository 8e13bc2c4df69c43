import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import cache
from harness.errors import DataError

IMAGES = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def store(array, key="key"):
    return cache.write_array(key, array.shape, array.dtype, [array[:1], array[1:]])


def stored_file(place):
    (found,) = (place / "arrays").iterdir()
    return found


def test_the_variable_names_the_folder(place):
    assert cache.folder() == place


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Linux")
@pytest.mark.parametrize(
    ("given", "expected"),
    [("/xdg", "/xdg/imbalance-harness"), ("", "~/.cache/imbalance-harness")],
)
def test_without_the_variable_it_is_the_cache_folder_of_the_user(monkeypatch, given, expected):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache.folder() == Path(expected).expanduser()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_array_comes_back_as_a_read_only_map(dtype):
    array = IMAGES.astype(dtype)
    found = store(array)
    assert isinstance(found, np.memmap)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(cache.open_array("key", array.shape), array)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_what_was_not_stored_is_absent():
    assert cache.open_array("key", IMAGES.shape) is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 127 + IMAGES.nbytes))
def test_a_torn_file_is_recognised_and_made_again(place, length):
    store(IMAGES)
    file = stored_file(place)
    assert file.stat().st_size == 128 + IMAGES.nbytes
    os.truncate(file, length)
    assert cache.open_array("key", IMAGES.shape) is None
    np.testing.assert_array_equal(store(IMAGES), IMAGES)


@pytest.mark.parametrize("content", [b"garbage", b"\x93NUMPY\x02\x00", b"PK\x03\x04zip"])
def test_a_file_of_something_else_is_recognised(place, content):
    store(IMAGES)
    stored_file(place).write_bytes(content)
    assert cache.open_array("key", IMAGES.shape) is None


def test_pickled_objects_are_never_loaded(place):
    store(IMAGES)
    np.save(stored_file(place), np.array([{}], dtype=object), allow_pickle=True)
    assert cache.open_array("key", (1,)) is None


def test_an_array_of_another_shape_is_not_taken():
    store(IMAGES)
    assert cache.open_array("key", (1, 3, 4, 3)) is None


def test_a_failure_half_way_leaves_nothing(place):
    def parts():
        yield IMAGES[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write_array("key", IMAGES.shape, IMAGES.dtype, parts())
    assert list((place / "arrays").iterdir()) == []


def test_too_few_parts_are_not_taken_for_the_array(place):
    with pytest.raises(DataError, match="cannot be read back"):
        cache.write_array("key", IMAGES.shape, IMAGES.dtype, [IMAGES[:1]])


def test_of_two_writers_the_last_wins_and_both_read(place):
    def parts():
        first = store(IMAGES)
        np.testing.assert_array_equal(first, IMAGES)
        yield IMAGES

    second = cache.write_array("key", IMAGES.shape, IMAGES.dtype, parts())
    np.testing.assert_array_equal(second, IMAGES)
    assert stored_file(place).name == "key.npy"


def test_a_full_disk_is_explained(monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left.*MiB.*HARNESS_CACHE_DIR"):
        store(IMAGES)


def test_a_file_that_may_not_be_replaced_but_is_there_is_taken(monkeypatch):
    store(IMAGES)

    def held(source, target):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(os, "replace", held)
    np.testing.assert_array_equal(store(IMAGES), IMAGES)


def test_only_old_leftovers_are_swept(place):
    store(IMAGES)
    old, new = (place / "arrays" / f"{name}.tmp" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    store(IMAGES)
    assert not old.exists()
    assert new.exists()


def test_notes_come_back_under_their_version_only():
    notes = {"a.png": [[3, 4], "digest"]}
    cache.save_notes("key", "1", notes)
    assert cache.load_notes("key", "1") == notes
    assert cache.load_notes("key", "2") == {}
    assert cache.load_notes("other", "1") == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "1"}', b"\xff\xfe"])
def test_broken_notes_are_no_notes(place, content):
    cache.save_notes("key", "1", {})
    (place / "files" / "key.json").write_bytes(content)
    assert cache.load_notes("key", "1") == {}


def test_notes_that_cannot_be_written_are_only_logged(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    cache.save_notes("key", "1", {})
    assert "cannot write" in caplog.text


def test_i30_without_a_home_the_cache_lies_in_the_temporary_folder(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setattr(Path, "home", unknown)
    assert cache.folder() == Path(tempfile.gettempdir()) / "imbalance-harness"
