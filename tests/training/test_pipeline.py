from typing import Any

import numpy as np
import pytest
import torch

from harness.datasets.base import Data, Index, Rows
from harness.errors import ConfigError
from harness.registry import strategies as registry
from harness.strategies.base import Facts, Flip, Mix, PadCrop, Strategy, Synthesis
from harness.streams import name_key
from harness.training import operations
from harness.training.operations import mixed
from harness.training.per_image import Tail
from harness.training.pipeline import Pipeline
from harness.training.plan import BatchPlan

CPU = torch.device("cpu")
COUNTS = np.array([20, 10])


def make_data(values: np.ndarray, **changes: Any) -> Data:
    labels = np.array([0, 1] * 30)[: len(values)].astype(np.int64)
    rows = Rows(np.arange(5, 35), np.arange(35, 45), np.arange(45, 60))
    index = Index(labels, ("a", "b"), "c", values.shape[1:])
    kind = "table" if values.ndim == 2 else "image"
    defaults: dict[str, Any] = {}
    if kind == "image":
        channels = values.shape[-1]
        defaults = {
            "intensity": (0.0, 255.0),
            "mean": np.full(channels, 0.25, np.float32),
            "std": np.full(channels, 0.5, np.float32),
        }
    return Data(kind, values, labels, rows, index, **{**defaults, **changes})


def make(
    data: Data, *recipe: Strategy, synthesis: Synthesis | None = None, seed: int = 0, **options: Any
) -> tuple[Pipeline, BatchPlan]:
    labels = data.labels[data.rows.train]
    facts = Facts(
        data.kind,
        data.shape,
        ("a", "b"),
        COUNTS,
        COUNTS,
        8,
        20,
        horizontal_flip=True,
        vertical_flip=True,
    )
    plan = BatchPlan(recipe, facts, labels, synthesis, seed)
    return Pipeline(data, synthesis, plan, CPU, **options), plan


def images(dtype: Any = np.uint8, channels: int = 3, top: int = 256) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, top, (60, 10, 12, channels)).astype(dtype)


def normal(values: np.ndarray, low: float = 0.0, high: float = 255.0) -> np.ndarray:
    return (((values.astype(np.float64) - low) / (high - low) - 0.25) / 0.5).transpose(0, 3, 1, 2)


def augment(**parameters: Any) -> Strategy:
    built: Strategy = registry.get("augment")(**parameters)
    return built


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_plain_batch_is_the_stored_rows_normalised(dtype: Any) -> None:
    values = images(dtype, top=256 if dtype == np.uint8 else 4096)
    data = make_data(values, intensity=(10.0, 4000.0))
    pipeline, plan = make(data)
    chunks = plan.decide(3)
    inputs, targets = pipeline.batch(chunks)
    raw = values[data.rows.train[chunks.rows]]
    if dtype != np.uint8:  # what lies outside the declared range stands for its ends
        raw = raw.clip(10.0, 4000.0)
    np.testing.assert_allclose(inputs.numpy(), normal(raw, 10.0, 4000.0), atol=2e-5)
    np.testing.assert_array_equal(targets.argmax(1).numpy(), chunks.labels)
    np.testing.assert_array_equal(targets.sum(1).numpy(), 1.0)


def test_a_memory_map_gives_the_same_batch(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", images())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    pipeline, plan = make(make_data(mapped))
    other, _ = make(make_data(images()))
    torch.testing.assert_close(
        pipeline.batch(plan.decide(0)), other.batch(plan.decide(0)), rtol=0, atol=0
    )


def test_evaluation_rows_are_normalised_and_never_augmented() -> None:
    data = make_data(images())
    pipeline, _ = make(data, augment(policy="strong"))
    got = torch.cat(list(pipeline.rows(data.rows.test))).numpy()
    np.testing.assert_allclose(got, normal(data.features[data.rows.test]), atol=2e-5)


def test_t14_synthetic_pixels_are_interpolated_in_float_and_do_not_wrap_around() -> None:
    values = np.zeros((60, 10, 12, 3), np.uint8)
    values[5], values[7] = 10, 20
    made = Synthesis(np.array([0, 2]), np.array([2, 0]), np.array([0.5, 0.26], np.float32))
    data = make_data(values)
    pipeline, _ = make(data, synthesis=made)
    got = pipeline._source.training(torch.tensor([30, 31, 0]))
    np.testing.assert_array_equal(got[:, 0, 0, 0].numpy(), [15.0, 17.0, 10.0])


def test_one_hot_blocks_of_a_synthetic_row_are_taken_whole_from_the_base_row() -> None:
    values = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    values[:, 3:] = np.eye(2, dtype=np.float32)[np.arange(60) // 3 % 2]
    continuous = np.array([True, True, True, False, False])
    made = Synthesis(np.array([0]), np.array([2]), np.array([0.25], np.float32))
    assert (values[5, 3:] != values[7, 3:]).all(), "a base row and a neighbour that differ"
    pipeline, _ = make(make_data(values, continuous=continuous), synthesis=made)
    got = pipeline._source.training(torch.tensor([30]))[0].numpy()
    np.testing.assert_allclose(got[:3], values[5, :3] + 0.25 * (values[7, :3] - values[5, :3]))
    np.testing.assert_array_equal(got[3:], values[5, 3:])


def test_lowered_flips_and_crops_equal_their_numpy_definition() -> None:
    data = make_data(images())
    pipeline, plan = make(data, augment(policy="flip_crop"))
    for step in range(5):
        chunks = plan.decide(step)
        augmentation = chunks.augmentations[0]
        assert augmentation is not None
        across, down, offsets = augmentation.head
        assert offsets.std() > 0
        expected = []
        for k, row in enumerate(data.rows.train[chunks.rows]):
            image = data.features[row]
            image = image[:, ::-1] if across[k] else image
            image = image[::-1] if down[k] else image
            padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
            y, x = offsets[k]
            expected.append(padded[y : y + 10, x : x + 12])
        got, _ = pipeline.batch(chunks)
        np.testing.assert_allclose(got.numpy(), normal(np.stack(expected)), atol=2e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_per_image_tail_runs_on_every_depth_and_keeps_the_rest(
    dtype: Any, channels: int
) -> None:
    values = images(dtype, channels, 256 if dtype == np.uint8 else 4096)
    high = 255.0 if dtype == np.uint8 else 4095.0
    data = make_data(values, intensity=(0.0, high))
    pipeline, plan = make(data, augment(transforms=[{"name": "InvertImg", "p": 1.0}], p=0.5))
    chunks = plan.decide(0)
    augmentation = chunks.augmentations[0]
    assert augmentation is not None
    assert 0 < augmentation.applies.sum() < 8
    raw = values[data.rows.train[chunks.rows]].astype(np.float64)
    raw[augmentation.applies] = high - raw[augmentation.applies]
    got, _ = pipeline.batch(chunks)
    np.testing.assert_allclose(got.numpy(), normal(raw, 0.0, high), atol=2e-4)


def test_t18_per_image_augmentation_depends_on_seed_step_and_position_alone() -> None:
    data = make_data(np.repeat(images()[:1], 60, axis=0))
    strong = augment(transforms=[{"name": "GaussNoise", "p": 1.0}])  # nothing of it is lowered
    pipeline, plan = make(data, strong)
    again, _ = make(data, strong)
    forward = [pipeline.batch(plan.decide(step))[0] for step in range(4)]
    backward = [again.batch(plan.decide(step))[0] for step in (3, 2, 1, 0)][::-1]
    torch.testing.assert_close(forward, backward, rtol=0, atol=0)
    flat = torch.cat(forward).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 32, "positions or steps repeat"
    other, other_plan = make(data, strong, seed=1)
    assert (other.batch(other_plan.decide(0))[0] != forward[0]).any()


@pytest.mark.parametrize("policy", ["flip_crop", "standard"])
def test_a_declared_range_means_the_same_in_training_and_evaluation(policy: str) -> None:
    values = np.full((60, 10, 12, 1), 100, np.uint16)
    values[:, 5:] = 3000
    moments = {"mean": np.zeros(1, np.float32), "std": np.ones(1, np.float32)}
    data = make_data(values, intensity=(100.0, 1500.0), **moments)
    pipeline, plan = make(data, augment(policy=policy))
    seen = torch.cat([pipeline.batch(plan.decide(step))[0] for step in range(8)])
    tested = torch.cat(list(pipeline.rows(data.rows.test)))
    for part in (seen, tested):  # black around a crop is the low end, not a stored 0
        assert [float(part.min()), float(part.max())] == pytest.approx([0.0, 1.0], abs=1e-6)


class Shrinks(Strategy):
    def transforms(self, facts: Facts) -> list[Any]:
        import albumentations

        return [albumentations.CenterCrop(4, 4)]


def test_a_transform_that_changes_the_shape_is_named() -> None:
    pipeline, plan = make(make_data(images()), Shrinks())
    with pytest.raises(ConfigError, match=r"CenterCrop turns uint8 images of shape \(10, 12, 3\)"):
        pipeline.batch(plan.decide(0))


def oracle(x: np.ndarray, y: np.ndarray, mix: Mix) -> tuple[np.ndarray, np.ndarray]:
    out, labels = x.astype(np.float64).copy(), y.astype(np.float64).copy()
    for i in range(len(mix.weight)):
        j, m, share = mix.partner[i], mix.weight[i], mix.label_weight[i]
        blended = m * x[i].astype(np.float64) + (1 - m) * x[j]
        if mix.box is None:
            out[i] = blended
        else:
            top, bottom, left, right = mix.box[i]
            out[i, :, top:bottom, left:right] = blended[:, top:bottom, left:right]
        labels[i] = share * y[i] + (1 - share) * y[j]
    return out, labels


@pytest.mark.parametrize("boxed", [False, True])
def test_mixing_is_the_one_formula(boxed: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((6, 3, 7, 9)).astype(np.float32)
    y = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 6)]
    box = np.array(
        [[0, 7, 0, 9], [2, 2, 3, 5], [1, 4, 0, 3], [6, 7, 8, 9], [0, 3, 2, 9], [3, 7, 0, 1]]
    )
    weight = np.array([0, 1, 0.3, 0, 0.7, 0], np.float32)
    mix = Mix(rng.permutation(6), weight, rng.random(6).astype(np.float32), box if boxed else None)
    parts = (mix.partner, mix.weight, mix.label_weight, *([box] if boxed else []))
    got = mixed(*(torch.from_numpy(part) for part in (x, y, *parts)))
    expected = oracle(x, y, mix)
    np.testing.assert_allclose(got[0].numpy(), expected[0], atol=1e-6)
    np.testing.assert_allclose(got[1].numpy(), expected[1], atol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_mixed_batches_equal_the_oracle_on_the_unmixed_ones(name: str, per_sample: bool) -> None:
    data = make_data(images())
    pipeline, plan = make(data, registry.get(name)(per_sample=per_sample))
    plain, _ = make(data)
    for step in range(3):
        chunks = plan.decide(step)
        assert chunks.mix is not None
        x, y = plain.batch(chunks.__class__(**{**vars(chunks), "mix": None}))
        expected = oracle(x.numpy(), y.numpy(), chunks.mix)
        got = pipeline.batch(chunks)
        np.testing.assert_allclose(got[0].numpy(), expected[0], atol=1e-5)
        np.testing.assert_allclose(got[1].numpy(), expected[1], atol=1e-6)


def test_t06_what_a_cutmix_label_says_is_the_share_of_pixels_that_are_there() -> None:
    values = np.zeros((60, 10, 12, 1), np.uint8)
    values[1::2] = 255
    data = make_data(values, mean=np.zeros(1, np.float32), std=np.ones(1, np.float32))
    pipeline, plan = make(data, registry.get("cutmix")(per_sample=True))
    for step in range(20):
        x, y = pipeline.batch(plan.decide(step))
        np.testing.assert_allclose(x.mean((1, 2, 3)).numpy(), y[:, 1].numpy(), atol=1e-6)


def test_label_smoothing_spreads_its_share() -> None:
    pipeline, plan = make(make_data(images()), label_smoothing=0.2)
    _, targets = pipeline.batch(plan.decide(0))
    np.testing.assert_allclose(np.sort(targets.numpy(), 1), [[0.1, 0.9]] * 8, atol=1e-6)


def test_weights_that_demand_a_normalisation_get_it() -> None:
    moments = (np.full(3, 0.5, np.float32), np.full(3, 0.1, np.float32))
    data = make_data(images())
    pipeline, plan = make(data, moments=moments)
    chunks = plan.decide(0)
    raw = data.features[data.rows.train[chunks.rows]] / 255.0
    expected = ((raw - 0.5) / 0.1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(pipeline.batch(chunks)[0].numpy(), expected, atol=2e-5)


def test_t18_large_seeds_that_differ_augment_differently() -> None:
    tails = [Tail(noise(), seed, "albumentations/0") for seed in (2**60, 2**60 + 1)]
    assert name_key("albumentations/0") >= 2**63  # where a list of key words becomes floats
    first, second = (tail(images(), np.ones(60, bool), 0) for tail in tails)
    assert not np.array_equal(first, second)


def noise() -> list[Any]:
    import albumentations

    return [albumentations.RandomBrightnessContrast(p=1.0)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [8, 15, 16, 33])
def test_images_one_by_one_and_whole_batches_give_the_same_bits(
    width: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.Generator().manual_seed(width)
    images = torch.randint(0, 256, (6, 9, width, channels), dtype=torch.uint8, generator=drawn)
    offsets = torch.randint(0, 5, (6, 2), generator=drawn)
    flips = [torch.rand(6, generator=drawn) < 0.5 for _ in range(2)]
    times, plus = torch.rand(2, channels, generator=drawn)
    moves = [Flip("horizontal"), PadCrop(2), Flip("vertical")]
    found = []
    for wide, large in ((1, 1), (1, 10_000), (10_000, 1)):
        monkeypatch.setattr(operations, "_WIDE", wide)
        monkeypatch.setattr(operations, "_LARGE", large)
        moved = operations.lowered(images, moves, [flips[0], offsets, flips[1]], 7.0)
        assert not torch.equal(moved, images)
        found.append((moved, operations.scaled(images, times, plus)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
