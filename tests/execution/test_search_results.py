from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.execution.search_results import FILE, SearchResult, Value, read, write
from harness.execution.store import Store
from harness.experiment.space import Dimension, Space

RESULT = SearchResult(
    study="it/d/m/mixup-1",
    dataset="d",
    model="m",
    recipe="mixup",
    best=Value(3, 0.75, 0.01),
    default=Value(0, 0.5, None),
    values={"mixup.alpha": 0.25},
    held={"mixup.p": 0.5},
    states={"complete": 4, "pruned": 1, "failed": 0, "diverged": 0},
    runs=4,
    seconds=8.0,
    own={"mixup.alpha": 1.0, "mixup.p": 1.0},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = Store(tmp_path / "results", "tiny")
    folder.create()
    return folder


def test_what_was_found_is_read_back(store: Store) -> None:
    assert read(store) == ()
    write(store, [RESULT])
    assert read(store) == (RESULT,)
    other = replace(RESULT, recipe="smote", best=None)
    write(store, [other])
    assert read(store) == (RESULT, other)
    better = replace(RESULT, best=Value(9, 0.8, None))
    write(store, [better])
    assert read(store) == (better, other)


@pytest.mark.parametrize(
    ("number", "text"), [("8.0", '"long"'), ("0.25", '"strong"'), ("0.75", "[]"), ("4", "null")]
)
def test_a_text_where_a_number_belongs_is_named(store: Store, number: str, text: str) -> None:
    write(store, [RESULT])
    file = store.path / FILE
    file.write_text(file.read_text().replace(f": {number}", f": {text}", 1))
    with pytest.raises(StoreError, match=r"tuned\.json is damaged .*is no number.*delete it"):
        read(store)


def test_nothing_new_is_not_written(store: Store) -> None:
    write(store, [])
    assert not (store.path / FILE).exists()
    write(store, [RESULT])
    before = (store.path / FILE).stat().st_mtime_ns
    write(store, [RESULT])
    assert (store.path / FILE).stat().st_mtime_ns == before


def test_what_won_has_what_was_held_unless_the_own_values_won() -> None:
    assert RESULT.won == {"mixup.alpha": 0.25, "mixup.p": 0.5}
    assert not RESULT.own_won
    own = replace(RESULT, values=RESULT.own)
    assert own.won == RESULT.own
    assert own.own_won
    lost = replace(RESULT, best=None)
    assert lost.won == {}
    assert not lost.own_won
    assert RESULT.trials == 5


def test_own_values_are_filled_in_and_an_untrue_default_left_out() -> None:
    before = replace(RESULT, own={})
    dimension = Dimension("mixup.alpha", 0.1, 2.0, True, False, 1.0)
    own = tuple(RESULT.own.items())
    wide = Space((dimension,), (("mixup.p", 1.0),), own)
    assert before.of_space(wide) == RESULT
    for space in (
        replace(wide, fixed=(("mixup.p", 0.5),)),
        replace(wide, dimensions=(replace(dimension, high=0.5),)),
    ):
        assert before.of_space(space) == replace(RESULT, default=None)
        assert RESULT.of_space(space) == RESULT
