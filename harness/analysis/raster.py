"""A chart as PNG: the few shapes of a `harness.analysis.svg.Canvas`, drawn by matplotlib."""

import base64
import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 100
_POINTS = 72 / _DPI
"""Points of one unit of a chart."""

_MARGIN = 8.0
"""Around a chart, in its units: a picture by itself has no page around it."""

_SVG = "{http://www.w3.org/2000/svg}"
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}
_FONTS = (
    "DejaVu Sans",
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei"),
    *("WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari"),
)
"""Tried in turn for each letter, as far as they are there; the first comes with matplotlib."""

Look = Mapping[str, str]


def png_of(svg: str, scale: float = 2.0) -> bytes:
    """Return a chart as PNG on white.

    Args:
        svg: As `harness.analysis.svg.Canvas.picture` writes it.
        scale: Pixels of a unit of the chart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    root = ElementTree.fromstring(svg)
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    size = ((width + 2 * _MARGIN) / _DPI, (height + 2 * _MARGIN) / _DPI)
    figure = Figure(size, dpi=_DPI * scale, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.autoscale(False)
    fonts = _fonts()
    for order, shape in enumerate(root):
        if (draw := _SHAPES.get(shape.tag.removeprefix(_SVG))) is not None:
            draw(axes, shape.attrib, {"zorder": order}, (shape.text or "", fonts))
    axes.set(xlim=(-_MARGIN, width + _MARGIN), ylim=(height + _MARGIN, -_MARGIN))
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box is drawn
        canvas.print_png(stream)
    return stream.getvalue()


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return [name for name in _FONTS if name in there]


def _numbers(look: Look, *names: str) -> list[float]:
    return [float(look[name]) for name in names]


def _stroke(look: Look) -> dict[str, Any]:
    width = float(look.get("stroke-width", 1))
    style: Any = "solid"
    if dash := look.get("stroke-dasharray"):  # matplotlib counts in widths of the line
        style = (0, [float(part) / width for part in dash.split()])
    return {"linewidth": width * _POINTS, "linestyle": style}


def _line(axes: "Axes", look: Look, more: dict[str, Any], _: Any) -> None:
    x1, y1, x2, y2 = _numbers(look, "x1", "y1", "x2", "y2")
    axes.plot([x1, x2], [y1, y2], color=look["stroke"], **_stroke(look), **more)


def _rect(axes: "Axes", look: Look, more: dict[str, Any], _: Any) -> None:
    from matplotlib.patches import Rectangle

    x, y, width, height = _numbers(look, "x", "y", "width", "height")
    axes.add_patch(Rectangle((x, y), width, height, facecolor=look["fill"], linewidth=0, **more))


def _circle(axes: "Axes", look: Look, more: dict[str, Any], _: Any) -> None:
    from matplotlib.patches import Circle

    x, y, radius = _numbers(look, "cx", "cy", "r")
    colours = {"facecolor": look["fill"], "edgecolor": look["stroke"]}
    axes.add_patch(Circle((x, y), radius, **colours, **_stroke(look), **more))


def _path(axes: "Axes", look: Look, more: dict[str, Any], _: Any) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    found = re.findall(r"-?[\d.]+", look["d"])
    points = np.array(found, np.float64).reshape(-1, 2)
    filled = look["fill"] != "none"
    path = Path(points, closed=False)
    axes.add_patch(
        PathPatch(
            path,
            facecolor=look["fill"],
            edgecolor=look["stroke"],
            fill=filled,
            alpha=float(look.get("opacity", 1)),
            **_stroke(look),
            **more,
        )
    )


def _text(axes: "Axes", look: Look, more: dict[str, Any], said: tuple[str, list[str]]) -> None:
    text, fonts = said
    x, y = _numbers(look, "x", "y")
    turned = re.match(r"rotate\((-?[\d.]+)", look.get("transform", ""))
    axes.text(
        x,
        y,
        text,
        color=look["fill"],
        fontsize=float(look["font-size"]) * _POINTS,
        fontweight="bold" if "font-weight" in look else "normal",
        fontfamily=fonts,
        horizontalalignment=_ANCHORS[look.get("text-anchor", "start")],
        verticalalignment="baseline",
        rotation=-float(turned[1]) if turned else 0.0,
        rotation_mode="anchor",
        parse_math=False,  # a dollar in a name is one
        **more,
    )


def _image(axes: "Axes", look: Look, more: dict[str, Any], _: Any) -> None:
    from PIL import Image

    x, y, width, height = _numbers(look, "x", "y", "width", "height")
    data = base64.b64decode(look["href"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    extent = (x, x + width, y + height, y)
    axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", **more)


_SHAPES: Mapping[str, Callable[..., None]] = {
    "line": _line,
    "rect": _rect,
    "circle": _circle,
    "path": _path,
    "text": _text,
    "image": _image,
}
