from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import pytest
from matplotlib import pyplot

from harness.tuning.plots import draw
from harness.tuning.searches import Search
from tests.tuning.conftest import Bench, Fake

Searches = Callable[..., tuple[Search, ...]]


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    before = matplotlib.get_backend(auto_select=False)
    yield
    matplotlib.use(before or "agg")


def test_history_slice_parallel_coordinates_and_fanova(
    searches: Searches, bench: Bench, tmp_path: Any
) -> None:
    (studied,) = bench.tune(searches(trials=8), Fake())
    assert draw(studied.study, tmp_path / "plots") == []
    files = {path.name: path for path in (tmp_path / "plots").iterdir()}
    assert files.keys() == {
        "history.png",
        "slice.png",
        "parallel_coordinate.png",
        "importance_fanova.png",
        "trials.csv",
    }
    for name, path in files.items():
        start = b"number,value" if name == "trials.csv" else b"\x89PNG"
        assert path.read_bytes().startswith(start)
    assert len(files["trials.csv"].read_text().splitlines()) == 9


def test_what_cannot_be_drawn_is_named(searches: Searches, bench: Bench, tmp_path: Any) -> None:
    (studied,) = bench.tune(searches(trials=3), Fake(lambda spec: 0.5))
    (missing,) = draw(studied.study, tmp_path / "plots")
    assert missing.startswith("importance_fanova: ")
    assert not (tmp_path / "plots" / "importance_fanova.png").exists()


def test_one_parameter_and_trials_without_a_value_can_be_drawn(
    searches: Searches, bench: Bench, tmp_path: Any
) -> None:
    def value(spec: Any) -> Any:
        return "failed" if spec.recipe[-1] in "14" else float(spec.strategies[0].alpha)

    (studied,) = bench.tune(searches(trials=6, space={"planted.p": 0.5}), Fake(value))
    draw(studied.study, tmp_path / "plots")
    assert (tmp_path / "plots" / "history.png").exists()
    assert (tmp_path / "plots" / "slice.png").exists()


def test_a_notebooks_own_drawing_is_left_alone(
    searches: Searches, bench: Bench, tmp_path: Any
) -> None:
    matplotlib.use("svg")
    (studied,) = bench.tune(searches(trials=2), Fake())
    figure = pyplot.figure()
    size = matplotlib.rcParams["axes.facecolor"]
    draw(studied.study, tmp_path / "plots")
    assert matplotlib.get_backend() == "svg"
    assert pyplot.get_fignums() == [figure.number]
    assert matplotlib.rcParams["axes.facecolor"] == size
    pyplot.close(figure)
