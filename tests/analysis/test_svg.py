import base64
import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.analysis.svg import Canvas, Scale, around, cut, plain, png

EVIL = "<script>alert(1)</script> & \"quotes\" 'n' \x00\x1b"


def shapes(picture):
    """Return the parsed SVG; it must be well-formed XML."""
    return ET.fromstring(picture.svg)


def test_names_are_escaped_and_unprintable_characters_replaced():
    canvas = Canvas(40)
    canvas.text(0, 10, EVIL)
    canvas.text(0, 30, EVIL, room=40)
    canvas.dot(1, 1, hint=EVIL)
    canvas.rect(0, 0, 1, 1, "#000", EVIL)
    picture = canvas.picture(EVIL, EVIL)
    assert "<script" not in picture.svg
    root = shapes(picture)
    assert plain(EVIL) in root[0].text
    assert [t for t in root.itertext() if t == plain(EVIL)]


def test_a_picture_has_a_text_alternative_and_an_ornament_none():
    told = shapes(Canvas(10).picture("Main effects", "a helps"))
    assert told.get("role") == "img"
    assert told[0].text == "Main effects. a helps"
    ornament = shapes(Canvas(10).picture("", ""))
    assert ornament.get("aria-hidden") == "true"
    assert len(ornament) == 0


def test_it_shows_itself_in_a_notebook_and_saves_itself(tmp_path):
    picture = Canvas(10).picture("a", "b")
    assert picture.svg in picture._repr_html_()
    picture.save(tmp_path / "x.svg")
    ET.parse(tmp_path / "x.svg")


@given(st.text(max_size=400), st.integers(5, 300))
def test_a_cut_text_fits(text, width):
    shown = cut(text, width)
    assert len(shown) <= len(plain(text))
    assert len(shown) <= max(width / (0.56 * 12.5), 4)


def test_a_short_text_is_not_cut_and_wide_characters_need_more_room():
    assert cut("abc", 100) == "abc"
    assert len(cut("漢" * 30, 100)) < len(cut("a" * 30, 100))
    assert cut("a" * 99, 100).count("…") == 1


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_round_few_and_inside(low, width, most):
    scale = Scale(low, low + width, 0, 100)
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    room = 1e-6 * max(abs(low), width)
    assert all(low - room <= tick <= low + width + room for tick in ticks)


def test_a_logarithmic_scale_and_what_is_outside():
    scale = Scale(1, 1000, 0, 300, log=True)
    assert scale(10) == pytest.approx(100)
    assert scale(1e9) == 300
    assert scale(1e-9) == 0
    assert {1, 1000} & set(scale.ticks(3))
    assert Scale(5, 5, 0, 10)(5) == 5


def test_a_range_leaves_room_and_survives_nothing():
    low, high = around([1.0, math.nan, 3.0], (0.0,))
    assert low < 0 < 3 < high
    assert around([math.nan, math.inf]) == (-0.05, 1.05)
    low, high = around([2.0])
    assert low < 2 < high


@pytest.mark.parametrize(("shape", "mode"), [((4, 6), "L"), ((4, 6, 1), "L"), ((4, 6, 3), "RGB"),
                                             ((4, 6, 5), "RGB")])  # fmt: skip
def test_an_image_becomes_a_png(shape, mode):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(png(pixels)))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (6, 4))
    with Image.open(io.BytesIO(base64.b64decode(png(pixels, longest=3)))) as image:
        assert image.size == (3, 2)
