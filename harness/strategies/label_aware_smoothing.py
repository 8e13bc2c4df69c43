"""Label-aware smoothing: labels are smoothed the more, the more frequent their class."""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from harness.strategies.base import Facts, Loss, Tunable, Windowed, strategy

if TYPE_CHECKING:
    from torch import Tensor


@strategy("label_aware_smoothing")
class LabelAwareSmoothing(Windowed):
    """Spread a share of each label over all classes, the larger the more rows its class has.

    Zhong et al. 2021, "Improving Calibration for Long-Tailed Recognition" (MiSLAS), eq. 4 to 7: the
    share of a class of n rows goes from `tail` at the smallest class to `head` at the largest,
    along a concave, linear or convex curve. The paper uses it in a second stage; with
    ``start: 0.9`` it acts at the end alone.
    """

    stage: ClassVar[int] = 60
    smooths: ClassVar[bool] = True

    smooth_head: Annotated[float, Field(ge=0.0, lt=1.0), Tunable(0.1, 0.5)] = 0.3
    """Share of the label of the largest class that is spread."""
    smooth_tail: Annotated[float, Field(ge=0.0, lt=1.0), Tunable(0.0, 0.1)] = 0.0
    """The same of the smallest class."""
    curve: Literal["concave", "linear", "convex"] = "concave"
    """How it goes from the one to the other with the size of a class."""

    @model_validator(mode="after")
    def _head_is_smoothed_more(self) -> Self:
        if self.smooth_head < self.smooth_tail:
            raise ValueError(
                f"smooth_head ({self.smooth_head:g}) must not be below smooth_tail "
                f"({self.smooth_tail:g})"
            )
        return self

    def smoothing(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of each class's label that is spread, ``float64[C]``."""
        low, high = int(counts.min()), int(counts.max())
        place = (counts - low) / max(high - low, 1)
        along = {
            "concave": np.sin(place * math.pi / 2),
            "linear": place,
            "convex": 1.0 + np.sin(1.5 * math.pi + place * math.pi / 2),
        }[self.curve]
        return np.asarray(self.smooth_tail + (self.smooth_head - self.smooth_tail) * along)

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the cross-entropy on soft targets, each class's part of them smoothed."""
        import torch
        from torch.nn.functional import log_softmax

        counts = class_counts.cpu().numpy().astype(np.int64)
        share = torch.from_numpy(self.smoothing(counts).astype(np.float32)).to(class_counts.device)

        def smoothed(logits: "Tensor", targets: "Tensor") -> "Tensor":
            log_p = log_softmax(logits.float(), dim=1)
            spread = targets.float() * share
            kept = targets.float() - spread
            return -(kept * log_p).sum(1) - spread.sum(1) * log_p.mean(1)

        return smoothed

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return the shares of the smoothed labels, which makes the mean of the outputs right.

        Smoothed outputs are no posterior of any prior; they are less sure than one.
        """
        spread = shares * self.smoothing(class_counts)
        return np.asarray(shares - spread + spread.sum() / len(shares))

    def redundant(self, facts: Facts) -> str | None:
        """Return a reason where nothing would be spread."""
        return "nothing is smoothed" if self.smooth_head == 0.0 else None
