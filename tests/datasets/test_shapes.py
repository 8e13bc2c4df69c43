import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from harness.datasets.base import TEST, forget
from harness.datasets.shapes import Shapes


@pytest.fixture(autouse=True)
def _fresh():
    forget()


def features(images: np.ndarray) -> np.ndarray:
    """Return pixels on the 0–1 scale and a constant, ``[N, P + 1]``."""
    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


def accuracy(shapes: Shapes, flip: bool = False) -> float:
    """Test accuracy of kernel ridge regression on pixels."""
    data = shapes.load(0)
    x = features(data.features)
    train, test = data.rows.train, data.rows.test
    seen, asked = x[train], x[test]
    if flip:
        asked = features(data.features[test][:, :, ::-1])
    squares = ((seen[:, None] - seen) ** 2).sum(-1)
    width = np.median(squares) / 4
    targets = np.eye(len(data.class_names))[data.labels[train]]
    weights = np.linalg.solve(np.exp(-squares / width) + 0.01 * np.eye(len(seen)), targets)
    kernel = np.exp(-((asked[:, None] - seen) ** 2).sum(-1) / width)
    return float(((kernel @ weights).argmax(1) == data.labels[test]).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_learnable_and_a_mirror_image_keeps_its_class(channels):
    shapes = Shapes(size=12, per_class=60, channels=channels, val_fraction=0)
    upright, mirrored = accuracy(shapes), accuracy(shapes, flip=True)
    assert upright > 0.7
    assert mirrored > upright - 0.15


def test_colour_count_and_ground_tell_classes_apart():
    """Classes of one kind: every tenth, so that shape alone is no help."""
    shapes = Shapes(classes=1000, size=24, per_class=2)
    index = shapes.index()
    assert len(set(index.class_names)) == 1000
    images = shapes.read(index).astype(float)
    first, second = images[:1000:10], images[1000::10]

    # colour content and texture survive a change of position
    def summary(x):
        steps = [np.abs(np.diff(x, axis=a)).mean((1, 2)) for a in (1, 2)]
        return np.concatenate([x.mean((1, 2)), x.std((1, 2)), *steps], axis=1)

    a, b = summary(first), summary(second)
    scale = np.concatenate([a, b]).std(0)
    nearest = (((a[:, None] - b) / scale) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(100)).mean() > 0.25  # chance is 0.01


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 33)])
def test_shape_dtype_and_balanced_official_test(channels, size):
    shapes = Shapes(classes=7, size=size, per_class=10, channels=channels, test_fraction=0.3)
    index = shapes.index()
    images = shapes.read(index)
    assert images.dtype == np.uint8
    assert images.shape == (70, size, size, channels)
    assert index.shape == images.shape[1:]
    assert np.bincount(index.labels).tolist() == [10] * 7
    assert np.bincount(index.labels[index.split == TEST]).tolist() == [3] * 7


def test_images_depend_on_seed_and_row_only():
    small, large = Shapes(per_class=3), Shapes(per_class=6)
    images = small.read(small.index())
    np.testing.assert_array_equal(images, small.read(small.index()))
    np.testing.assert_array_equal(images, large.read(large.index())[: len(images)])
    other = Shapes(per_class=3, seed=1)
    assert (other.read(other.index()) != images).any(axis=(1, 2, 3)).all()
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize(
    "change", [{"classes": 9}, {"size": 31}, {"per_class": 7}, {"channels": 1}, {"seed": 2}]
)
def test_content_follows_the_parameters(change):
    same, other = Shapes(), Shapes(**change)
    assert Shapes().index().content == same.index().content
    assert other.index().content != same.index().content


def test_index_draws_nothing():
    code = (
        "import sys; from harness.datasets.shapes import Shapes; "
        "info = Shapes(classes=1000, size=1024, per_class=500).info(); "
        "assert info.counts.sum() == 500_000; assert 'cv2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_longtail_of_shapes():
    counts = Shapes(per_class=100, imbalance_factor=16, val_fraction=0).info().counts
    assert counts[0].max() == 80
    assert counts[0].min() == 5
    assert (counts[2] == 20).all()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"per_class": 2, "test_fraction": 0.9}, "raise per_class"),
        ({"classes": 1}, "classes"),
        ({"classes": 1001}, "classes"),
        ({"channels": 2}, "channels"),
        ({"sise": 8}, "sise"),
    ],
)
def test_impossible_parameters_are_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        Shapes(**fields)
