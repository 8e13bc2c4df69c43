"""What MLflow has of runs that came together from several results folders."""

import shutil
from dataclasses import replace

import pytest

from harness.execution.merge import merge
from harness.execution.store import Store
from harness.tracking.address import database, resolve
from harness.tracking.mirror import sync
from harness.tracking.mlflow import Connection
from harness.tracking.recorder import Synced
from tests.tracking.conftest import Committer


@pytest.fixture
def parts(tmp_path, experiment, specs):
    """Two results folders, with half of the runs each."""
    folders = [tmp_path / "1", tmp_path / "2"]
    for number, folder in enumerate(folders):
        store = Store(folder, experiment.name)
        store.create()
        for spec in specs[number::2]:
            Committer(store).commit(spec)
    return folders


def test_merged_runs_appear_once_with_the_next_sync(
    parts, tmp_path, experiment, specs, read, blank
):
    target = tmp_path / "all"
    merge(target, parts)
    shutil.copy(blank, target / "mlflow.db")
    assert sync(target, experiment) == Synced(mirrored=len(specs))
    merge(target, parts)
    assert sync(target, experiment) == Synced()
    keys = [run.data.tags["harness.key"] for run in read(target).runs()]
    assert sorted(keys) == sorted(spec.key for spec in specs)


def test_runs_that_every_shard_sent_to_one_server_are_not_sent_again(
    parts, tmp_path, experiment, specs, read, blank
):
    server = tmp_path / "server"
    server.mkdir()
    shutil.copy(blank, server / "mlflow.db")
    tracking = experiment.tracking.model_copy(update={"uri": database(server)})
    shared = replace(experiment, tracking=tracking)
    for folder in parts:
        assert sync(folder, shared).mirrored == len(specs) // 2
    merge(tmp_path / "all", parts)
    assert sync(tmp_path / "all", shared) == Synced(known=len(specs))
    assert len(read(server).runs()) == len(specs)


def test_an_experiment_that_another_shard_makes_at_the_same_moment_is_used(
    results, experiment, monkeypatch
):
    from mlflow import MlflowClient

    create = MlflowClient.create_experiment

    def late(self, *args, **kwargs):
        create(self, *args, **kwargs)  # by the other one
        return create(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_experiment", late)
    place = Connection(resolve(results, None), experiment.name).place
    monkeypatch.undo()
    assert Connection(resolve(results, None), experiment.name).place == place
