import json

import pytest

from harness.cli import tracking
from harness.tracking.recorder import Synced


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        json.dumps(
            {
                "name": "study",
                "datasets": [{"name": "digits", "imbalance_factor": 20}],
                "factors": {"smote": ["none", "smote"], "mixup": ["none", {"alpha": 0.2}]},
                "seeds": 1,
            }
        )
    )
    return str(path)


def test_sync_says_what_it_did_and_then_that_all_is_there(file, results, committer, specs, capsys):
    def said():
        tracking.sync(file, [], [], results)
        return " ".join(capsys.readouterr().out.split())

    assert said() == "no run has ended yet: nothing to mirror"
    for spec in specs:
        committer.commit(spec)
    count = len(specs)
    assert said() == f"{count} runs mirrored; MLflow has all {count} runs"
    assert said() == f"MLflow has all {count} runs"
    (committer.store.path / "mirrored.jsonl").unlink()
    assert said() == f"{count} runs were there already; MLflow has all {count} runs"


@pytest.mark.parametrize(
    ("done", "text"),
    [
        (Synced(mirrored=1), "1 run mirrored; MLflow has the one run"),
        (Synced(closed=1), "1 run that a killed driver left running is closed; MLflow has the one"),
        (
            Synced(mirrored=1, unheard=1),
            "1 run mirrored; 1 run whose end MLflow did not hear is closed there, and mirrored "
            "whole; MLflow has the one run",
        ),
        (Synced(unreadable=("x",)), "nothing mirrored"),
    ],
)
def test_one_run_is_not_some_runs(done, text):
    assert tracking._summary(done, 1).startswith(text)


def test_what_a_killed_driver_left_is_told_before_any_run_has_ended():
    assert tracking._summary(Synced(closed=2), 0) == (
        "2 runs that a killed driver left running are closed"
    )


def test_a_run_that_cannot_be_read_ends_with_1(file, results, committer, specs, capsys):
    torn = committer.commit(specs[0])
    (torn / "spec.json").write_text("{")
    with pytest.raises(SystemExit) as ended:
        tracking.sync(file, [], [], results)
    assert ended.value.code == 1
    assert f"not mirrored: {torn} is damaged: spec.json" in capsys.readouterr().err


def test_a_run_that_was_deleted_by_half_is_named(file, results, committer, specs, capsys):
    half = committer.commit(specs[0])
    (half / "result.json").unlink()
    committer.commit(specs[1])
    for said in ("1 run mirrored", "nothing mirrored"):
        with pytest.raises(SystemExit) as ended:
            tracking.sync(file, [], [], results)
        assert ended.value.code == 1
        shown = capsys.readouterr()
        assert "is damaged: it has neither result.json nor error.json" in shown.err
        assert half.name in shown.err
        assert shown.out.strip() == said


def test_sync_summarises_recipes_of_runs_that_were_done_before(
    file, results, committer, specs, read
):
    for spec in specs:
        committer.commit(spec)
    same = ["training.epochs=4", "training.batch_size=32", "training.momentum=0.8"]
    tracking.sync(file, same, [], results)
    kinds = [run.data.tags.get("harness.kind") for run in read(results).runs()]
    assert kinds.count("recipe") == len({spec.recipe for spec in specs})
