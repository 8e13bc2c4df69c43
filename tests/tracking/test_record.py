import csv
import json
import math

import pytest

from harness.errors import StoreError
from harness.tracking import record
from harness.tracking.record import chosen_classes, live, points, read


def rows(counts, recalls):
    return [
        {"train_count": str(c), "recall": "" if r is None else str(r)}
        for c, r in zip(counts, recalls, strict=True)
    ]


def test_all_classes_where_they_fit():
    assert chosen_classes(rows([5, 50, 500], [1, 0, None]), 3) == [0, 1, 2]
    assert chosen_classes(rows([5, 50, 500], [1, 0, None]), 0) == []


def test_beyond_the_limit_few_shot_and_worst():
    counts = [500] * 80 + [30] * 10 + [10, 9, 8, 7, 6]
    recalls = [0.9] * 95
    recalls[3], recalls[85], recalls[40] = 0.1, 0.2, None
    chosen = chosen_classes(rows(counts, recalls), 8)
    assert len(chosen) == 8
    assert set(range(90, 95)) <= set(chosen)
    assert {3, 85} <= set(chosen)
    assert 40 not in chosen


def test_worst_classes_have_room_beside_many_few_shot_ones():
    counts, recalls = [5] * 50 + [400] * 50, [0.5] * 50 + [0.9] * 49 + [0.0]
    chosen = chosen_classes(rows(counts, recalls), 20)
    assert len(chosen) == 20
    assert 99 in chosen


def test_live_values_are_chosen_and_finite():
    values = {"train/loss": math.inf, "lr": 0.1, "val/nll": math.nan, "val/x": None, "other": 1.0}
    assert [point.key for point in live(values, 3, 5)] == ["lr"]


def test_per_class_points_are_the_table(committer, specs):
    found = read(committer.commit(specs[0]))
    made = {point.key: point.value for point in points(found, 20, 0)}
    path = next(committer.store.path.glob("*/per_class.csv"))
    lines = path.read_text(encoding="utf-8").splitlines()
    table = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    assert len(table) == 10
    for row in table:
        for column in ("precision", "recall", "f1"):
            assert made[f"test_{column}/{row['name']}"] == float(row[column])


def test_the_limit_holds_and_zero_means_none(committer, specs):
    found = read(committer.commit(specs[0]))
    for limit in (0, 4):
        keys = [
            p.key for p in points(found, limit, 0) if p.key.startswith("test_") and "/" in p.key
        ]
        assert len(keys) == 3 * limit


def test_history_goes_on_after_what_was_sent(committer, specs):
    found = read(committer.commit(specs[0]))
    loss = [point.step for point in points(found, 20, 0, after=28) if point.key == "train/loss"]
    assert loss == [32, 36, 40]


def test_the_final_val_takes_the_place_of_the_last_live_one(committer, specs):
    found = read(committer.commit(specs[0]))
    at_end = [p.value for p in points(found, 20, 0) if p.key == "val/accuracy" and p.step == 40]
    assert at_end == [found.result["metrics"]["val"]["accuracy"]]


def test_times_rise_from_begin_to_end(committer, specs):
    found = read(committer.commit(specs[0]))
    assert found.ended - found.began == 2500
    times = [p.time for p in points(found, 20, found.began) if p.key == "lr"]
    assert times == sorted(times)
    assert found.began < times[0] < times[-1] == found.ended


def test_another_attempt_has_another_digest(committer, specs):
    first = committer.commit(specs[0])
    before = record.digest(first)
    assert read(first).digest == before
    assert record.digest(committer.commit(specs[0], seed=1)) != before
    assert record.digest(committer.commit(specs[0], status="failed")) != before


def test_a_torn_result_is_a_store_error(committer, specs):
    path = committer.commit(specs[0])
    (path / "result.json").write_text('{"status": "do')
    with pytest.raises(StoreError, match=r"result\.json"):
        read(path)
    (path / "result.json").unlink()
    with pytest.raises(StoreError, match="neither"):
        read(path)


def test_what_is_not_finite_is_seen_as_diverged(committer, specs):
    path = committer.commit(specs[0])
    assert not record.diverged(read(path))
    history = (path / "history.csv").read_text().replace("2.0", "nan", 1)
    (path / "history.csv").write_text(history)
    found = read(path)
    assert record.diverged(found)
    assert all(math.isfinite(point.value) for point in points(found, 20, 0))
    status = json.loads((path / "result.json").read_text())["status"]
    assert status == "done"
