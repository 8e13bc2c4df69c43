import numpy as np
import pytest
from numpy.typing import NDArray

from harness import cache, neighbours
from harness.neighbours import nearest_of_class


def sample(dtype: type = np.uint8) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2, 3], [20, 6, 3, 1]))
    return rng.integers(0, 256, (30, 7)).astype(dtype), labels


def oracle(features: NDArray[np.generic], labels: NDArray[np.int64], k: int) -> NDArray[np.int32]:
    found = np.full((len(labels), k), -1, np.int32)
    for row, label in enumerate(labels):
        members = np.flatnonzero(labels == label)
        away = ((features[members].astype(float) - features[row].astype(float)) ** 2).sum(axis=1)
        order = [place for place in np.argsort(away, kind="stable") if members[place] != row]
        found[row, : len(order)] = order[:k]
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 5])
def test_they_are_the_nearest_of_the_class_and_missing_where_there_are_none(
    dtype: type, k: int
) -> None:
    features, labels = sample(dtype)
    np.testing.assert_array_equal(
        nearest_of_class(features, labels, k), oracle(features, labels, k)
    )
    assert nearest_of_class(features[:0], labels[:0], k).shape == (0, k)


def test_they_are_found_once_for_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_WORTH_KEEPING", 0.0)
    features, labels = sample()
    first = nearest_of_class(features, labels, 5)
    changed = features.copy()
    changed[3, 3] ^= 1
    others = [nearest_of_class(*args) for args in ((changed, labels, 5), (features, labels, 4))]
    assert len(list((cache.folder() / "arrays").iterdir())) == 3
    monkeypatch.setattr(neighbours, "_nearest", None)  # calling it would now fail
    np.testing.assert_array_equal(nearest_of_class(features, labels, 5), first)
    np.testing.assert_array_equal(nearest_of_class(changed, labels, 5), others[0])
    np.testing.assert_array_equal(first[:, :4], others[1])


def test_a_cache_that_cannot_be_written_costs_time_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(neighbours, "_WORTH_KEEPING", 0.0)
    (tmp_path / "file").write_text("")  # type: ignore[operator]
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "cache"))  # type: ignore[operator]
    features, labels = sample()
    np.testing.assert_array_equal(
        nearest_of_class(features, labels, 5), oracle(features, labels, 5)
    )
