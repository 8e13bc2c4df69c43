"""The contract of a strategy: one data-handling technique with its parameters.

A strategy decides and carries nothing out. Its hooks are a few lines of NumPy that return
decisions as arrays; `harness.training.pipeline` applies them on any device. A strategy never sees
a validation or test image. A new one is one small file::

    from typing import Annotated
    from harness.strategies.base import Mix, Probability, Tunable, Windowed, strategy

    @strategy("halfmix")
    class HalfMix(Windowed):
        \"\"\"Blend each image with a random partner, always half and half.\"\"\"

        p: Annotated[Probability, Tunable(0.0, 1.0)] = 1.0

        def blend(self, batch, rng):
            partner = rng.permutation(len(batch.labels))
            half = np.full(len(partner), 0.5, np.float32)
            return Mix(partner=partner, weight=half, label_weight=half)
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.neighbours import nearest_of_class
from harness.registry import strategies
from harness.streams import Stream

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Batch",
    "Facts",
    "Flip",
    "Loss",
    "Mix",
    "PadCrop",
    "Probability",
    "Strategy",
    "Synthesis",
    "Tunable",
    "Windowed",
    "canonical",
    "deciding",
    "nearest_of_class",
    "strategy",
]

strategy = strategies.register

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""``(logits[B, C], targets[B, C]) -> loss[B]``: soft targets whose rows sum to 1."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class Tunable:
    """The range in which a search may move a parameter, declared beside its default.

    Attributes:
        low: Smallest value, inclusive.
        high: Largest value, inclusive.
        log: Search on a logarithmic scale.
        integer: Only whole numbers.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known of a run at plan time, before any pixel is read.

    Attributes:
        kind: ``"image"`` or ``"table"``.
        shape: ``(H, W, C)`` of an image or ``(D,)`` of a table row.
        class_names: Display names, in label order.
        class_counts: ``int64[C]``, original training images per class, after val was carved.
        expanded_counts: ``int64[C]``, the same with the rows that the recipe synthesizes.
        batch_size: Rows per step.
        steps: Length of the budget.
        horizontal_flip: Whether a left-right flip keeps the label.
        vertical_flip: Whether an up-down flip keeps the label.
    """

    kind: Literal["image", "table"]
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    class_counts: NDArray[np.int64]
    expanded_counts: NDArray[np.int64]
    batch_size: int
    steps: int
    horizontal_flip: bool = False
    vertical_flip: bool = False


@dataclass(frozen=True)
class Synthesis:
    """Rows to create: ``row = base + gap · (neighbour − base)``, labelled as the base row.

    Attributes:
        base: ``int64[S]``, training rows.
        neighbour: ``int64[S]``, training rows of the same class.
        gap: ``float32[S]`` in [0, 1].
        notes: What the user should know, by class index: a lowered k, a duplicated image.
    """

    base: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    gap: NDArray[np.float32]
    notes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """One batch as `Strategy.blend` sees it.

    Attributes:
        indices: ``int64[B]``, rows of the expanded training set.
        labels: ``int64[B]``.
        class_counts: ``int64[C]``, original training images per class.
        train_labels: ``int64[M]``, labels of the expanded training set.
        shape: ``(H, W, C)`` or ``(D,)``.
        progress: Fraction of the budget that is done, in [0, 1).
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_counts: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    shape: tuple[int, ...]
    progress: float


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed.

    Inside the box (everywhere where there is none) ``x' = weight · x + (1 − weight) · x[partner]``;
    outside it x stays. ``y' = label_weight · y + (1 − label_weight) · y[partner]``.

    Attributes:
        partner: ``int64[B]``: positions in the batch, or with `source` ``"train"`` rows of the
            expanded training set, which are gathered and augmented like any other row.
        weight: ``float32[B]`` in [0, 1], the row's own share.
        label_weight: ``float32[B]`` in [0, 1].
        box: ``int64[B, 4]`` of ``(top, bottom, left, right)``, half open and clipped to the image.
        source: Where the partners come from.
    """

    partner: NDArray[np.int64]
    weight: NDArray[np.float32]
    label_weight: NDArray[np.float32]
    box: NDArray[np.int64] | None = None
    source: Literal["batch", "train"] = "batch"


@dataclass(frozen=True)
class Flip:
    """A lowered flip: each image with probability `p`, as an array operation on any device."""

    axis: Literal["horizontal", "vertical"]
    p: float = 0.5


@dataclass(frozen=True)
class PadCrop:
    """A lowered crop: pad every side with zeros by `padding` pixels, cut out the original size."""

    padding: int


class Strategy(BaseModel):
    """One data-handling technique; its fields are its parameters.

    A field's annotation carries its legal range (pydantic's ``Field``), and its search range
    (`Tunable`) where a search may move it. Raise `version` whenever the same parameters come to
    mean something else, so that finished runs are not taken for what they are not.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    stage: ClassVar[int] = 50
    """Where the strategy stands in a recipe's canonical order; hooks do not depend on it."""
    gradual: ClassVar[bool] = False
    """Whether the class shares that `order_pass` delivers shift in the course of its window."""
    smooths: ClassVar[bool] = False
    """Whether its loss smooths labels, so that outputs are less sure than the posterior."""
    head: ClassVar[Literal["linear", "normalized"]] = "linear"
    """The last layer that the loss needs: `ldam` asks for one with unit weights and features."""

    def expanded_counts(self, class_counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the training rows per class, ``int64[C]``, once `synthesize` has run."""
        return class_counts

    def synthesize(
        self, features: NDArray[Any], labels: NDArray[np.int64], rng: np.random.Generator
    ) -> Synthesis:
        """Decide which training rows to create.

        Args:
            features: ``[N, D]`` training rows in their stored dtype (often uint8, which wraps
                around when subtracted: convert first), images flattened.
            labels: ``int64[N]``.
            rng: The run's ``synthesize`` stream.
        """
        raise NotImplementedError

    def order(
        self, labels: NDArray[np.int64], steps: int, batch_size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Decide which rows one pass delivers, ``int64[steps, batch_size]``.

        Args:
            labels: ``int64[M]`` of the expanded set, originals first.
            steps: Steps of one pass.
            batch_size: Rows per step.
            rng: The ``order`` stream at this pass.
        """
        raise NotImplementedError

    def order_pass(
        self,
        number: int,
        progress: float,
        labels: NDArray[np.int64],
        steps: int,
        batch_size: int,
        stream: Stream,
    ) -> NDArray[np.int64]:
        """Decide which rows a pass delivers, knowing which pass it is; by default as `order`.

        Args:
            number: Of the pass, from 0.
            progress: Where in the strategy's window the pass begins, in [0, 1].
            labels: As of `order`.
            steps: As of `order`.
            batch_size: As of `order`.
            stream: The ``order`` stream; its position is the pass, unless passes share a draw.
        """
        return self.order(labels, steps, batch_size, stream.at(number))

    def transforms(self, facts: Facts) -> list[Any]:
        """Return what happens to each image: `Flip` and `PadCrop` first, then Albumentations."""
        raise NotImplementedError

    def blend(self, batch: Batch, rng: np.random.Generator) -> Mix:
        """Decide how a batch is mixed; called with the strategy's own stream at this step."""
        raise NotImplementedError

    def loss(self, class_counts: "Tensor") -> Loss:
        """Return the loss on soft targets.

        Args:
            class_counts: ``float32[C]``, expanded training rows per class, on the run's device.
        """
        raise NotImplementedError

    def logit_scale(self) -> float:
        """Return what `loss` multiplies the logits with, and so what they count in a softmax."""
        return 1.0

    def unsuitable(self, facts: Facts) -> str | None:
        """Return why this strategy cannot run here, or None."""
        return None

    def redundant(self, facts: Facts) -> str | None:
        """Return why this strategy changes nothing worth a run here, or None."""
        return None

    def rebalances(self) -> bool:
        """Whether it makes up for unequal expanded counts; two that do correct the same twice."""
        return False

    def trained_prior(
        self, shares: NDArray[np.float64], class_counts: NDArray[np.int64]
    ) -> NDArray[np.float64] | str:
        """Return which class shares the softmax is relative to after training with `loss`.

        A network that minimises cross-entropy estimates p(class | x) under the class shares of the
        labels it was given. A loss that weights classes or shifts logits moves that prior; one
        whose softmax is no posterior under any prior says so, and its outputs are not adjusted.

        Args:
            shares: ``float64[C]``, shares of the label mass delivered while the loss acts.
            class_counts: ``int64[C]``, expanded training rows per class, as `loss` gets them.

        Returns:
            ``float64[C]``, of any sum, or in words why it is not known.
        """
        if type(self).decides("loss"):
            return f"the loss of '{self.name}' does not declare which prior its outputs carry"
        return shares

    @classmethod
    def decides(cls, hook: str) -> bool:
        """Whether this class overrides `hook`, such as ``"order"``."""
        return getattr(cls, hook) is not getattr(Strategy, hook)

    def window(self) -> tuple[float, float]:
        """Return where it acts, ``(start, stop)`` in fractions of the budget."""
        return 0.0, 1.0

    def firing(self) -> float:
        """Return the share of batches that `blend` asks for, in [0, 1]."""
        return float(getattr(self, "p", 1.0))

    def tunables(self) -> dict[str, Tunable]:
        """Return the search range of each parameter that has one, by path."""
        return {
            path: marker
            for path, info in type(self).model_fields.items()
            for marker in info.metadata
            if isinstance(marker, Tunable)
        }

    def value(self, path: str) -> Any:
        """Return what stands at a path of `tunables` now."""
        return getattr(self, path)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with `values` (by path, as in `tunables`) validated and put in.

        Raises:
            pydantic.ValidationError: A path is unknown or a value is outside its legal range.
        """
        return type(self).model_validate({**self.model_dump(exclude_unset=True), **values})

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def identity(self) -> dict[str, Any]:
        """Return what of this strategy changes a result: name, version, parameters."""
        return {"name": self.name, "version": self.version, **self.parameters()}

    def label(self) -> str:
        """Return the name with the parameters that were set: ``weighted_sampler(start=0.8)``."""
        inner = ",".join(f"{key}={_short(value)}" for key, value in self.parameters().items())
        return f"{self.name}({inner})" if inner else self.name

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]


class Windowed(Strategy):
    """A strategy that acts during training, from `start` to `stop` in fractions of the budget.

    ``weighted_sampler`` with ``start: 0.8`` is deferred re-sampling, ``class_weights`` with
    ``start: 0.8`` deferred re-weighting (Cao et al. 2019).
    """

    start: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """When it begins to act, as a fraction of the budget."""
    stop: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """When it ceases to act, as a fraction of the budget."""

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.start >= self.stop:
            raise ValueError(f"start ({self.start:g}) must lie before stop ({self.stop:g})")
        return self

    def window(self) -> tuple[float, float]:
        """Return where it acts, ``(start, stop)`` in fractions of the budget."""
        return self.start, self.stop


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    return str(value)


def canonical(recipe: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
    """Return a recipe in canonical order: by stage, then name, then parameters."""
    places = {(s.stage, s.name) for s in recipe}
    if len(places) == len(recipe):  # nearly always, and parameters take long to write out
        return tuple(sorted(recipe, key=lambda s: (s.stage, s.name)))
    return tuple(sorted(recipe, key=lambda s: (s.stage, s.name, s.model_dump_json())))


def prefixes(recipe: tuple[Strategy, ...]) -> list[str]:
    """Return what each strategy's parameters are found under: ``ldam``, a second one ``ldam.2``."""
    seen: dict[str, int] = {}
    names = []
    for member in recipe:
        count = seen[member.name] = seen.get(member.name, 0) + 1
        names.append(member.name if count == 1 else f"{member.name}.{count}")
    return names


def deciding(recipe: tuple[Strategy, ...], hook: str) -> Iterator[Strategy]:
    """Yield the strategies of a recipe that override `hook`."""
    return (s for s in recipe if type(s).decides(hook))


def head_of(recipe: tuple[Strategy, ...]) -> str:
    """Return the kind of last layer that a recipe asks for."""
    return next((type(s).head for s in recipe if type(s).head != "linear"), "linear")
