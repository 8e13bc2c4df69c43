import numpy as np
import pytest
import torch

from harness.training import preview as module
from harness.training.feed import feed
from harness.training.prepare import prepare
from harness.training.preview import preview
from harness.training.run import start
from harness.training.run_options import RunOptions


def test_the_batch_is_the_one_that_is_trained_on(make_spec):
    spec = make_spec([{"name": "mixup", "alpha": 0.5}])
    found = preview(spec)
    (batch,) = found.batches
    run = prepare(spec, torch.device("cpu"))
    inputs, targets = run.loop.pipeline.batch(
        feed(spec, torch.device("cpu")).plan.decide(batch.step)
    )
    for i, sample in enumerate(batch.samples):
        shares = {name: share for name, share in sample.labels}
        expected = {
            name: share
            for name, share in zip(found.class_names, targets[i].tolist(), strict=True)
            if share > 0
        }
        if len(sample.labels) == 2 and sample.labels[0][0] != sample.labels[1][0]:
            assert shares == pytest.approx(expected)
    pictures = run.loop.pipeline.shown(inputs)
    assert (pictures[0] == batch.samples[0].image).all()


def test_without_a_strategy_the_pictures_are_the_stored_images(make_spec):
    spec = make_spec()
    found = preview(spec)
    fed = feed(spec, torch.device("cpu"))
    rows = fed.plan.decide(found.batches[0].step).rows[:8]
    stored = fed.data.features[fed.data.rows.train[rows]]
    shown = np.stack([sample.image for sample in found.batches[0].samples])
    assert np.abs(shown.astype(int) - stored).max() <= 1
    assert not any(sample.synthetic for sample in found.batches[0].samples)


def test_shares_are_what_training_delivers(make_spec, tmp_path):
    spec = make_spec(["weighted_sampler"], seeds=1)
    found = preview(spec)
    events = start(spec, tmp_path, RunOptions("cpu", keep_weights=False))
    try:
        while True:
            next(events)
    except StopIteration as end:
        delivered = np.array(end.value["delivered"])
    sizes = np.diff(np.linspace(0, found.steps, len(found.shares) + 1).round())
    mean = (found.shares * sizes[:, None]).sum(axis=0) / found.steps
    assert mean == pytest.approx(delivered / delivered.sum())
    assert found.mixed == pytest.approx(mean)
    assert found.mixed_batches == 0
    assert not found.sampled


def test_synthetic_rows_are_shown_and_told(make_spec):
    changes = {"datasets": [{"name": "shapes", "classes": 3, "size": 8, "per_class": 40,
                             "imbalance_factor": 8}]}  # fmt: skip
    found = preview(make_spec(["smote"], **changes))
    assert any(sample.synthetic for batch in found.batches for sample in batch.samples)
    assert not all(sample.synthetic for batch in found.batches for sample in batch.samples)


def test_each_way_of_mixing_has_a_batch(make_spec):
    recipe = [{"name": "mixup", "p": 0.3}, {"name": "cutmix", "p": 0.3}]
    found = preview(make_spec(recipe, training={"max_steps": 60, "batch_size": 8}))
    assert {batch.blend for batch in found.batches} == {None, "mixup", "cutmix"}
    assert 0.3 < found.mixed_batches < 0.9


def test_a_deferred_strategy_is_shown_where_it_acts(make_spec):
    recipe = [{"name": "mixup", "start": 0.8}]
    found = preview(make_spec(recipe, training={"max_steps": 50, "batch_size": 8}))
    assert found.batches[0].step >= 40
    assert found.batches[0].blend == "mixup"


def test_long_runs_are_sampled(make_spec, monkeypatch):
    monkeypatch.setattr(module, "MOST_STEPS", 10)
    found = preview(make_spec(training={"epochs": 5, "batch_size": 8}))
    assert found.sampled
    assert len(found.shares) == 5
    assert found.shares.sum(axis=1) == pytest.approx(np.ones(5))


def test_mixing_moves_mass_between_classes(make_spec):
    found = preview(make_spec([{"name": "cutmix", "alpha": 1.0}]))
    assert found.mixed.sum() == pytest.approx(1)
    assert found.mixed_batches == 1
