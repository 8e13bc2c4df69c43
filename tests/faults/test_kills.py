"""kill -9 at each named point and at random moments: the study ends as an undisturbed one."""

import random
from typing import Any

import pytest

from tests.faults.conftest import MakeStudy, Study

INLINE = ("--executor", "inline", "--checkpoint-every", "0")
KILLED = -9

POINTS: dict[str, tuple[str, str, int]] = {
    "an_attempt_is_begun": ("harness.execution.attempts:Attempts.begin", "after", 3),
    "a_checkpoint_is_handed_over": ("harness.execution.attempts:_hand_over", "after", 1),
    "the_first_step": ("harness.training.loop:Loop._train", "before", 1),
    "the_middle_of_training": ("harness.training.step:Step.__call__", "before", 57),
    "an_evaluation": ("harness.training.loop:Loop._told", "after", 4),
    "before_a_checkpoint": ("harness.training.checkpoint:Checkpoints.write", "before", 2),
    "a_checkpoint_is_written": ("harness.files:os.fsync", "before", 3),
    "between_the_generations": ("harness.training.checkpoint:rename", "after", 2),
    "after_a_checkpoint": ("harness.training.checkpoint:Checkpoints.write", "after", 5),
    "predictions": ("harness.training.rundir:RunDir.write_predictions", "after", 1),
    "the_history": ("harness.training.rundir:RunDir.write_history", "before", 1),
    "the_result": ("harness.training.rundir:RunDir.write_env", "after", 1),
    "a_result_with_checkpoints": ("harness.training.checkpoint:Checkpoints.remove", "before", 1),
    "before_the_commit": ("harness.execution.store:Store.commit", "before", 1),
    "within_the_commit": ("harness.execution.store:sync", "after", 4),
    "after_the_commit": ("harness.execution.store:Store.commit", "after", 1),
    "weights_are_admitted": ("harness.execution.weights:WeightKeeper.admit", "after", 2),
    "the_store_is_made": ("harness.execution.store:Store.create", "after", 1),
    "the_owner_is_written": ("harness.files:os.replace", "before", 1),
    "mlflow_is_connected": ("harness.tracking.mlflow:Connection.__init__", "after", 1),
    "mlflow_has_a_run": ("harness.tracking.mlflow:Connection.create", "after", 1),
    "mlflow_is_noted": ("harness.tracking.ledger:Ledger.add", "before", 1),
    "mlflow_has_metrics": ("harness.tracking.mlflow:Connection.log", "after", 1),
    "mlflow_has_artifacts": ("harness.tracking.mlflow:Connection.artifacts", "after", 1),
    "mlflow_run_has_ended": ("harness.tracking.mlflow:Connection.end", "after", 1),
    "mlflow_end_is_noted": ("harness.tracking.ledger:Ledger.add", "after", 2),
    "mlflow_is_caught_up": ("harness.tracking.recorder:Recorder.sync", "before", 1),
}
QUICK = ["between_the_generations", "mlflow_run_has_ended"]


def check(study: Study, undisturbed: dict[str, Any]) -> None:
    """After one more command, everything is as if nothing had happened."""
    assert study.run(*INLINE) == 0, study.printed()
    assert study.table() == undisturbed
    assert study.mlflow().keys() <= {"FINISHED", "KILLED"}
    assert study.finished() == sorted(undisturbed), "each key once"
    for key in undisturbed:
        steps = study.steps(key)
        assert [step for step, _ in steps] == list(range(4, 44, 4))
        assert all(times == 1 for _, times in steps), "no step stands there twice"
    assert list((study.store.path / ".running").iterdir()) == []


@pytest.mark.parametrize(
    "point", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in POINTS]
)
def test_i01_i03_i05_i06_a_kill_at_a_named_point_changes_nothing(
    point: str, make_study: MakeStudy, undisturbed: dict[str, Any]
) -> None:
    target, when, call = POINTS[point]
    study, kills = make_study(), 0
    if point == "a_checkpoint_is_handed_over":
        study.run(*INLINE, crash=["harness.training.checkpoint:Checkpoints.write", "after", 1])
    for nth in (call, call + 1):
        kills += study.run(*INLINE, crash=[target, when, nth]) == KILLED
    assert kills, "the point was reached"
    check(study, undisturbed)


@pytest.mark.slow
def test_i03_every_point_in_turn_within_one_study(
    make_study: MakeStudy, undisturbed: dict[str, Any]
) -> None:
    study, kills = make_study(), 0
    for target, when, _ in POINTS.values():
        kills += study.run(*INLINE, "--limit", "1", crash=[target, when, 1]) == KILLED
    assert kills >= 20
    check(study, undisturbed)


@pytest.mark.parametrize(
    ("rounds", "kills"), [(1, 5), pytest.param(20, 110, marks=pytest.mark.slow)]
)
def test_i01_kills_at_random_moments_change_nothing(
    rounds: int, kills: int, make_study: MakeStudy, undisturbed: dict[str, Any]
) -> None:
    rng = random.Random(rounds)
    done = cut_off = 0
    while done < kills:
        study = make_study()
        before = done
        for _ in range(6):
            done += study.run(*INLINE, kill_after=rng.uniform(0.05, 1.0)) == KILLED
        assert done > before, "the commands of a study last long enough to be killed"
        check(study, undisturbed)
        cut_off += study.attempts() - len(undisturbed)
    assert cut_off >= rounds, "and in the middle of a run, which is begun again"
