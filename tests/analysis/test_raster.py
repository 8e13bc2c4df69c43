import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.analysis import raster, svg
from harness.analysis.svg import BLUE, GREEN, INK, ORANGE, Canvas

MARGIN = 8


def drawn(canvas, scale=1.0):
    data = raster.png_of(canvas.picture("title", "what it shows").svg, scale)
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def colour(text):
    return [int(text[k : k + 2], 16) for k in (1, 3, 5)]


def at(pixels, x, y, scale=1):
    return pixels[int((y + MARGIN) * scale), int((x + MARGIN) * scale)].tolist()


def dark(pixels):
    """Return the box of what is drawn: left, right, top, bottom, in the chart's units."""
    rows, columns = np.nonzero(pixels.min(axis=2) < 128)
    return columns.min() - MARGIN, columns.max() - MARGIN, rows.min() - MARGIN, rows.max() - MARGIN


def test_each_shape_stands_where_the_svg_has_it():
    canvas = Canvas(100, 200)
    canvas.rect(10, 10, 40, 20, BLUE)
    canvas.dot(100, 20, ORANGE, radius=9)
    canvas.dot(140, 20, GREEN, radius=9, hollow=True)
    canvas.line((0, 50), (200, 50), INK, width=6)
    canvas.path([(10, 60), (50, 60), (50, 90), (10, 90)], fill=GREEN)
    canvas.path([(100, 60), (150, 60)], stroke=BLUE, width=6, opacity=0.5)
    canvas.image(160, 60, 30, 30, svg.png(np.array([[0, 255], [255, 0]], np.uint8)))
    pixels = drawn(canvas)
    assert pixels.shape == (100 + 2 * MARGIN, 200 + 2 * MARGIN, 3)
    assert at(pixels, 30, 20) == colour(BLUE)
    assert at(pixels, 60, 20) == [255, 255, 255]
    assert at(pixels, 100, 20) == colour(ORANGE)
    assert at(pixels, 140, 20) == [255, 255, 255]
    assert at(pixels, 140, 11) != [255, 255, 255]
    assert at(pixels, 199, 50) == colour(INK)
    assert at(pixels, 30, 75) == colour(GREEN)
    assert at(pixels, 125, 60) == pytest.approx([(c + 255) / 2 for c in colour(BLUE)], abs=2)
    squares = [at(pixels, x, y)[0] for y in (67, 82) for x in (167, 182)]
    assert squares == [0, 255, 255, 0], "pixels of an image are not smoothed"


@pytest.mark.parametrize(("anchor", "low", "high"), [("start", 100, 160), ("end", 40, 100)])
def test_a_text_begins_or_ends_where_it_should(anchor, low, high):
    canvas = Canvas(40, 200)
    canvas.text(100, 30, "HHHH", anchor)
    left, right, top, bottom = dark(drawn(canvas))
    assert low <= left < right <= high
    assert abs((left if anchor == "start" else right) - 100) <= 3
    assert bottom in (29, 30)
    assert 8 <= bottom - top <= 11, "capitals of a text of 12.5 units are about 9 high"


def test_a_turned_text_runs_down():
    canvas = Canvas(200, 200)
    canvas.text(100, 50, "HHHHHH", turn=90)
    left, right, top, bottom = dark(drawn(canvas))
    assert right - left < 15
    assert 48 <= top < 55
    assert bottom > 90


def test_a_dashed_line_has_gaps_of_its_units():
    canvas = Canvas(20, 100)
    canvas.line((0, 10), (100, 10), INK, width=4, dash="10 10")
    row = drawn(canvas)[10 + MARGIN, MARGIN : 100 + MARGIN, 0] < 128
    assert row[[2, 22, 42]].all()
    assert not row[[14, 34, 54]].any()


@pytest.mark.parametrize("name", ["$x_1$ & <b>", "猫と犬", "\x1b[31m", "e\u0301", ""])
def test_any_name_is_drawn_as_it_stands(name):
    canvas = Canvas(40, 200)
    canvas.text(10, 30, name, room=30)  # cut: the whole name is a hint, which is not drawn
    assert (drawn(canvas) < 200).any() == bool(name)


def test_every_shape_of_a_canvas_has_a_way_to_be_drawn():
    source = Path(svg.__file__).read_text()
    assert set(re.findall(r"_add\(\s*\"(\w+)\"", source)) | {"text"} == raster._SHAPES.keys()


def test_a_picture_saves_itself_as_its_name_says(tmp_path):
    canvas = Canvas(20, 20)
    canvas.rect(0, 0, 20, 20, BLUE)
    canvas.picture("", "").save(tmp_path / "a.PNG")
    canvas.picture("", "").save(tmp_path / "a.svg")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
