"""Drawing by hand: an SVG canvas, scales and axes, and nothing about experiments.

Text stays text, so that a chart can be read aloud, searched and copied, and whatever a user named
is escaped. Colours are those of Okabe and Ito (2008), told apart with every common colour
blindness; no chart speaks by colour alone.
"""

import base64
import html
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.text import visible

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#B0578D", "#5c5f66"
INK, FAINT, BAND = "#1b1d21", "#d3d6dc", "#eceff4"
SERIES = ((BLUE, ""), (ORANGE, "6 3"), (GREEN, "2 2"), (PINK, "8 3 2 3"), (GREY, "1 3"))
"""Colour and dash pattern of each line of a chart."""

WIDTH = 460
"""Of a chart, in its own units: on a phone it shrinks by a fifth and stays readable."""

SIZE = 12.5
"""Of text, in the units of the chart."""

_UNPRINTABLE = re.compile(r"[\ufffe\uffff]")


@dataclass(frozen=True)
class Picture:
    """A chart as SVG; shows itself in a notebook.

    Attributes:
        svg: The drawing, complete in itself.
        title: What it is, in a few words.
        alt: What it shows, for who cannot see it.
    """

    svg: str
    title: str
    alt: str

    def _repr_html_(self) -> str:
        return f'<div style="max-width: 560px">{self.svg}</div>'

    def save(self, path: str | Path) -> None:
        """Write it as a file: as PNG where the name ends so, else as SVG."""
        if Path(path).suffix.lower() == ".png":
            from harness.analysis.raster import png_of  # draws with matplotlib

            Path(path).write_bytes(png_of(self.svg))
        else:
            Path(path).write_text(self.svg, encoding="utf-8")


def plain(text: str) -> str:
    """Return text that a document may hold, control characters written out."""
    return _UNPRINTABLE.sub("�", visible(text))


def cut(text: str, width: float, size: float = SIZE) -> str:
    """Return text that fits into about `width` units, cut in its middle where it is longer."""
    text = plain(text)
    room = width / (0.6 * size)
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
    if wide <= room:
        return text
    kept = max(int(room * len(text) / wide) - 1, 2)
    if kept >= len(text) - 1:
        return text
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def png(pixels: NDArray[np.uint8], longest: int | None = None) -> str:
    """Return an image as PNG in base64.

    Args:
        pixels: ``[H, W]`` or ``[H, W, C]``: one channel is grey, of more the first three count.
        longest: Longest side; a larger image is made smaller.
    """
    from PIL import Image

    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if longest is not None:
        picture.thumbnail((longest, longest))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


class Canvas:
    """Collects shapes. Coordinates grow to the right and downwards.

    Args:
        height: In the units of `WIDTH`.
        width: In the same units.
    """

    def __init__(self, height: float, width: float = WIDTH) -> None:
        self.height = height
        self.width = width
        self._shapes: list[str] = []

    def _add(self, tag: str, attributes: dict[str, object], hint: str = "") -> None:
        said = "".join(f' {name}="{_value(value)}"' for name, value in attributes.items())
        inner = f"<title>{html.escape(plain(hint))}</title>" if hint else ""
        self._shapes.append(f"<{tag}{said}>{inner}</{tag}>" if inner else f"<{tag}{said}/>")

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        stroke: str = INK,
        width: float = 1.0,
        dash: str = "",
    ) -> None:
        """Draw a straight line."""
        (x1, y1), (x2, y2) = start, end
        extra = {"stroke-dasharray": dash} if dash else {}
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        self._add("line", {**ends, "stroke": stroke, "stroke-width": width, **extra})

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, hint: str = ""
    ) -> None:
        """Draw a filled rectangle."""
        self._add("rect", {"x": x, "y": y, "width": width, "height": height, "fill": fill}, hint)

    def dot(
        self,
        x: float,
        y: float,
        fill: str = INK,
        radius: float = 4.5,
        hollow: bool = False,
        hint: str = "",
    ) -> None:
        """Draw a filled or a hollow circle."""
        look = {"fill": "#fff" if hollow else fill, "stroke": fill, "stroke-width": 1.8}
        self._add("circle", {"cx": x, "cy": y, "r": radius, **look}, hint)

    def path(
        self,
        points: Sequence[tuple[float, float]],
        stroke: str = "none",
        fill: str = "none",
        width: float = 2.0,
        dash: str = "",
        opacity: float = 1.0,
    ) -> None:
        """Draw a line through points, or the area that they enclose."""
        if not points:
            return
        way = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        look: dict[str, object] = {"stroke": stroke, "fill": fill, "stroke-width": width}
        look |= {"stroke-dasharray": dash} if dash else {}
        look |= {"opacity": opacity} if opacity < 1 else {}
        self._add("path", {"d": way + ("Z" if fill != "none" else ""), **look})

    def text(
        self,
        x: float,
        y: float,
        text: str,
        anchor: str = "start",
        fill: str = INK,
        size: float = SIZE,
        bold: bool = False,
        room: float | None = None,
        turn: float = 0.0,
    ) -> None:
        """Write text with its base line at y; where it has too little room it is cut.

        `turn` is how far it is turned around (x, y), in degrees clockwise.
        """
        shown = cut(text, room, size) if room is not None else plain(text)
        look: dict[str, object] = {"x": x, "y": y, "font-size": size, "fill": fill}
        look |= {"text-anchor": anchor} if anchor != "start" else {}
        look |= {"font-weight": 600} if bold else {}
        look |= {"transform": f"rotate({turn:g} {x:.1f} {y:.1f})"} if turn else {}
        hint = f"<title>{html.escape(plain(text))}</title>" if shown != plain(text) else ""
        said = "".join(f' {name}="{_value(value)}"' for name, value in look.items())
        self._shapes.append(f"<text{said}>{html.escape(shown)}{hint}</text>")

    def image(self, x: float, y: float, width: float, height: float, png: str) -> None:
        """Draw a PNG, given as base64, without smoothing its pixels."""
        self._add(
            "image",
            {
                "x": x,
                "y": y,
                "width": width,
                "height": height,
                "href": f"data:image/png;base64,{png}",
                "preserveAspectRatio": "none",
                "style": "image-rendering: pixelated",
            },
        )

    def picture(self, title: str, alt: str) -> Picture:
        """Return the drawing; without a title it is an ornament, and nothing is read aloud."""
        size = f"{_number(self.width)} {_number(self.height)}"
        role = 'role="img"' if title else 'aria-hidden="true"'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {role} '
            f'width="{_number(self.width)}" height="{_number(self.height)}" '
            'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, '
            'sans-serif">'
        )
        said = f"<title>{html.escape(plain(f'{title}. {alt}'))}</title>" if title else ""
        return Picture(f"{head}{said}{''.join(self._shapes)}</svg>", plain(title), plain(alt))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _value(value: object) -> str:
    return _number(value) if isinstance(value, float) else html.escape(str(value))


@dataclass(frozen=True)
class Scale:
    """Values on [low, high] along [start, end] of the canvas."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a value stands; outside the range, at its edge."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most about `most` round values within the range."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            values = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
            inside = [v for v in values if self.low <= v <= self.high]
            return inside[:: max(1, math.ceil(len(inside) / most))]
        step = _round_step((self.high - self.low) / most)
        if step <= 0:
            return [self.low]
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    if least <= 0 or not math.isfinite(least):
        return 0.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def around(values: Sequence[float], always: Sequence[float] = ()) -> tuple[float, float]:
    """Return a range that holds the finite ones of `values`, with a little room on both sides."""
    known = [v for v in (*values, *always) if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return low - room, high + room


def below(canvas: Canvas, scale: Scale, top: float, bottom: float, label: str, form: str) -> None:
    """Draw a horizontal axis with grid lines from `top` to `bottom`, its label beneath."""
    for tick in scale.ticks():
        x = scale(tick)
        canvas.line((x, top), (x, bottom), FAINT)
        canvas.text(x, bottom + 15, format(tick, form), "middle", GREY, 11.5)
    canvas.text((scale.start + scale.end) / 2, bottom + 32, label, "middle", GREY, 11.5)


def beside(canvas: Canvas, scale: Scale, left: float, right: float, form: str) -> None:
    """Draw a vertical axis with grid lines from `left` to `right`."""
    for tick in scale.ticks():
        y = scale(tick)
        canvas.line((left, y), (right, y), FAINT)
        canvas.text(left - 6, y + 4, format(tick, form), "end", GREY, 11.5)


def legend(canvas: Canvas, x: float, y: float, names: Sequence[str], room: float) -> None:
    """Write a line of the chart's `SERIES` for each name, one below the other."""
    for (colour, dash), name in zip(SERIES, names, strict=False):
        canvas.line((x, y - 4), (x + 26, y - 4), colour, 2.5, dash)
        canvas.text(x + 32, y, name, size=11.5, room=room - 32)
        y += 16
