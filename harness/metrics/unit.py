"""How values of a metric are written: in per cent and points, or as they are."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How values of a metric are written.

    Attributes:
        scale: What they are multiplied with.
        digits: Decimal places.
        name: ``points`` for differences of a percentage, else empty.
        full: Difference that tables shade in full.
    """

    scale: float
    digits: int
    name: str
    full: float

    @property
    def percent(self) -> str:
        """What a heading adds to the metric's name: `` %``, or nothing."""
        return " %" if self.name else ""

    def value(self, value: float | None, otherwise: str = "n/a") -> str:
        """Return a value: ``95.5``."""
        if value is None or not math.isfinite(value):
            return otherwise
        return f"{value * self.scale:.{self.digits}f}".replace("-", "−")

    def signed(self, value: float | None, otherwise: str = "n/a") -> str:
        """Return a difference with its sign: ``+4.1``."""
        if value is None or not math.isfinite(value):
            return otherwise
        text = f"{value * self.scale:+.{self.digits}f}"
        return text.replace("-", "−") if float(text) else text.lstrip("+-")

    def interval(self, low: float | None, high: float | None, otherwise: str = "") -> str:
        """Return an interval of differences: ``[−1.0, +11.2]``."""
        if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
            return otherwise
        return f"[{self.signed(low)}, {self.signed(high)}]"


POINTS = Unit(100.0, 1, "points", 0.2)
"""A share, written in per cent; differences of it are points."""

PLAIN = Unit(1.0, 3, "", 0.1)
"""A number that nobody reads as a percentage."""
