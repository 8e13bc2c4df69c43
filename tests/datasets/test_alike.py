import io

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from harness import cache
from harness.datasets import alike
from harness.datasets.base import forget
from harness.datasets.image_folder import ImageFolder
from harness.datasets.shapes import Shapes

RNG = np.random.default_rng(0)


def picture(height=60, width=80):
    """Return a picture with detail everywhere, as a photo has: noise at several scales."""
    parts = [
        cv2.resize(
            RNG.normal(0, size, (size, size, 3)), (width, height), interpolation=cv2.INTER_CUBIC
        )
        / size**1.5
        for size in (3, 6, 12, 24)
    ]
    total = sum(parts)
    return np.clip(128 + 60 * total / total.std(), 0, 255).astype(np.uint8)


def again(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def resized(image, factor):
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


COPIES = {
    "encoded again": again,
    "half": lambda image: resized(image, 0.5),
    "twice": lambda image: resized(image, 2),
    "cropped all round": lambda image: image[2:-2, 3:-3],
    "cropped above": lambda image: image[5:],
    "brighter": lambda image: np.clip(image * 1.1 + 6, 0, 255).astype(np.uint8),
    "16 bits": lambda image: image.astype(np.uint16) * 257,
}


def found(images):
    return alike.pairs([alike.thumbnail(image) for image in images])


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_found_and_nothing_else(how):
    images = [picture() for _ in range(60)]
    pairs = found([*images, *(COPIES[how](images[row]) for row in (3, 14, 15))])
    assert pairs == [(3, 60), (14, 61), (15, 62)]


def test_all_pairs_of_several_copies():
    images = [picture() for _ in range(30)]
    copies = [again(images[0]), resized(images[0], 0.5)]
    assert found([*images, *copies]) == [(0, 30), (0, 31), (30, 31)]


@pytest.mark.parametrize("side", [4, 8, 24])
def test_noise_has_no_copies(side):
    assert found(RNG.integers(0, 256, (300, side, side, 3), np.uint8)) == []


def test_digits_have_no_copies():
    digits = (load_digits().images * 15).astype(np.uint8)
    assert found(np.repeat(digits[..., None], 3, axis=-1)) == []


@pytest.mark.parametrize(("classes", "size"), [(3, 8), (5, 32), (10, 64), (40, 16)])
def test_drawings_have_no_copies(classes, size):
    drawn = Shapes(classes=classes, size=size, per_class=max(20, 200 // classes))
    assert found(drawn.read(drawn.index())) == []


def test_plain_pictures_and_gradients_have_no_copies():
    plain = [np.full((20, 20, 3), level, np.uint8) for level in range(0, 256, 8)]
    ramp = np.linspace(0, 1, 20)[:, None, None] * np.ones((20, 20, 3))
    assert found([*plain, *((ramp * top).astype(np.uint8) for top in range(50, 255, 5))]) == []


def test_a_thumbnail_of_any_size_and_type():
    for shape in ((1, 1, 3), (3, 500, 3), (900, 70, 3)):
        for dtype in ("uint8", "uint16", "float32"):
            assert len(alike.thumbnail(np.ones(shape, dtype))) == alike.SIDE**2


def test_copies_in_two_splits_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    forget()
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for k in range(12):
                Image.fromarray(picture()).save(tmp_path / "set" / part / name / f"{k}.png")
    with Image.open(tmp_path / "set" / "train" / "a" / "5.png") as image:
        image.save(tmp_path / "set" / "test" / "a" / "copy.jpg", quality=80)
    source = ImageFolder(path=tmp_path / "set", image_size=16)
    (remark,) = [text for text in source.info().warnings if "seem" in text]
    assert remark.startswith("1 image seems to be both in train and in test")
    assert "train/a/5.png" in remark
    assert "test/a/copy.jpg" in remark
    calls = []
    monkeypatch.setattr(alike, "pairs", lambda thumbnails: calls.append(1))
    forget()
    assert remark in source.info().warnings
    assert not calls


def test_a_set_too_large_to_compare_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(alike, "MOST", 5)
    forget()
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(picture(8, 8)).save(tmp_path / "set" / name / f"{k}.png")
    (remark,) = ImageFolder(path=tmp_path / "set", image_size=8).index().warnings
    assert "up to 5 files, and these are 6" in remark
