"""What the hooks of a strategy must return, checked on small inputs."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.strategies.base import Batch, Flip, Mix, PadCrop, Strategy, Synthesis
from harness.streams import Stream, stream
from harness.testing import samples
from harness.testing.report import Call, Report, called

if TYPE_CHECKING:
    from torch import Tensor


def check_hooks(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    """Call each hook that a strategy overrides on samples of a shape, noting what it finds."""
    if type(strategy).decides("expanded_counts"):
        with report.attempt("expanded_counts: returns what it should"):
            _expanded(report, strategy)
    for hook, check in HOOKS.items():
        if type(strategy).decides(hook):
            with report.attempt(f"{hook}: returns what it should"):
                check(report, strategy, shape)


def _expanded(report: Report, strategy: Strategy) -> None:
    counts = np.array(samples.COUNTS)
    call = Call(
        "expanded_counts", lambda: strategy.expanded_counts(counts), {"class_counts": counts}
    )
    result = called(report, call)
    if result is None:
        return
    expanded = np.asarray(result)
    sane = expanded.shape == counts.shape and expanded.dtype.kind == "i"
    report.expect(
        "expanded_counts: returns what it should",
        sane and bool((expanded >= counts).all()),
        f"returned {expanded.dtype}{list(expanded.shape)} {expanded.tolist()} for "
        f"{counts.tolist()}; int64[{len(counts)}], none smaller, is needed",
    )
    if sane and not type(strategy).decides("synthesize"):
        report.expect(
            "expanded_counts: returns what it should",
            bool((expanded == counts).all()),
            "counts rows that no synthesize creates",
        )


def _synthesize(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    known = samples.labels()
    flat = samples.rows(shape).reshape(len(known), -1)

    def made(features: NDArray[Any]) -> Call:
        return Call(
            "synthesize",
            lambda: strategy.synthesize(features, known, stream(0, "check")),
            {"features": features, "labels": known},
        )

    result = called(report, made(flat))
    if result is None:
        return
    problem = _synthesis_problem(strategy, result, known)
    sane = report.expect("synthesize: returns what it should", not problem, problem)
    if sane and flat.dtype == np.uint8:
        other = called(report, made(flat.astype(np.float32)))
        report.expect(
            "synthesize: does not wrap around on uint8",
            other is not None and np.array_equal(other.neighbour, result.neighbour),
            "chooses other neighbours for uint8 than for the same values in float32: uint8 "
            "wraps around when it is subtracted; convert first",
        )


def _synthesis_problem(strategy: Strategy, made: Any, known: NDArray[np.int64]) -> str:
    if not isinstance(made, Synthesis):
        return f"returned {type(made).__name__}, not a Synthesis"
    base, neighbour, gap = (np.asarray(part) for part in (made.base, made.neighbour, made.gap))
    if not (base.shape == neighbour.shape == gap.shape == (len(base),)):
        return "base, neighbour and gap must be three arrays of one length"
    if base.dtype.kind != "i" or neighbour.dtype.kind != "i" or gap.dtype.kind != "f":
        return f"base and neighbour are int64, gap float32; not {base.dtype}, {gap.dtype}"
    rows = np.concatenate([base, neighbour])
    if rows.size and not 0 <= rows.min() <= rows.max() < len(known):
        return f"rows must lie in 0..{len(known) - 1}; they go from {rows.min()} to {rows.max()}"
    if (known[base] != known[neighbour]).any():
        return "a neighbour is of another class than its base row"
    if not _unit(gap):
        return f"gap must lie in [0, 1]{_span(gap)}"
    counts = np.bincount(known)
    promised = np.asarray(strategy.expanded_counts(counts))
    created = counts + np.bincount(known[base], minlength=len(counts))
    if not np.array_equal(promised, created):
        return (
            f"expanded_counts promises {promised.tolist()} rows per class and synthesize makes "
            f"{created.tolist()} of {counts.tolist()}; a plan counts on the promise"
        )
    return ""


def _order(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    known, steps = samples.labels(), -(-sum(samples.COUNTS) // samples.BATCH)
    result = called(
        report,
        Call(
            "order",
            lambda: strategy.order_pass(1, 0.5, known, steps, samples.BATCH, Stream(0, "check")),
            {"labels": known},
        ),
    )
    if result is None:
        return
    wanted = (steps, samples.BATCH)
    order = np.asarray(result)
    shaped = order.shape == wanted and order.dtype.kind == "i"
    problem = f"returned {order.dtype}{list(order.shape)}; int64{list(wanted)} is needed"
    if report.expect("order: returns what it should", shaped, problem):
        report.expect(
            "order: returns what it should",
            bool(order.min() >= 0 and order.max() < len(known)),
            f"returned rows from {order.min()} to {order.max()}; there are rows "
            f"0..{len(known) - 1}",
        )


def _blend(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    for step, batch in enumerate(samples.batches(shape)):
        inputs = {
            name: value for name, value in vars(batch).items() if isinstance(value, np.ndarray)
        }
        mix = called(report, _blend_call(strategy, batch, step, inputs))
        if mix is None:
            return
        problem = _mix_problem(mix, batch)
        report.expect("blend: returns what it should", not problem, problem)


def _blend_call(
    strategy: Strategy, batch: Batch, step: int, inputs: dict[str, NDArray[Any]]
) -> Call:
    return Call("blend", lambda: strategy.blend(batch, stream(0, "check", step)), inputs)


def _mix_problem(mix: Any, batch: Batch) -> str:
    if not isinstance(mix, Mix):
        return f"returned {type(mix).__name__}, not a Mix"
    size = len(batch.labels)
    for name in ("partner", "weight", "label_weight"):
        values = np.asarray(getattr(mix, name))
        kind = "i" if name == "partner" else "f"
        if values.shape != (size,) or values.dtype.kind != kind:
            wanted = "int64" if kind == "i" else "float32"
            return (
                f"{name} is {values.dtype}{list(values.shape)} for a batch of {size}; "
                f"{wanted}[{size}] is needed"
            )
        if kind == "f" and not _unit(values):
            return f"{name} must lie in [0, 1]{_span(values)}"
    if mix.source not in ("batch", "train"):
        return f"source is {mix.source!r}; 'batch' or 'train' is needed"
    limit = size if mix.source == "batch" else len(batch.train_labels)
    if mix.partner.min() < 0 or mix.partner.max() >= limit:
        return f"partner must lie in 0..{limit - 1} with source '{mix.source}'{_span(mix.partner)}"
    return "" if mix.box is None else _box_problem(np.asarray(mix.box), size, batch.shape)


def _box_problem(box: NDArray[Any], size: int, shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return "box must be None for a table row"
    if box.shape != (size, 4) or box.dtype.kind != "i":
        return f"box is {box.dtype}{list(box.shape)}; int64[{size}, 4] is needed"
    top, bottom, left, right = box.T
    height, width = shape[:2]
    inside = (top >= 0) & (top <= bottom) & (bottom <= height)
    inside &= (left >= 0) & (left <= right) & (right <= width)
    if not inside.all():
        first = box[int(np.argmin(inside))].tolist()
        return (
            f"box {first} is not (top, bottom, left, right) within an image of {height} × {width}; "
            "clip it"
        )
    return ""


def _transforms(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        return
    whole = samples.rows(shape)[: samples.BATCH]
    for images in (whole, (whole / 255).astype(np.float32)):
        work = functools.partial(_transformed, strategy, images)
        result = called(report, Call("transforms", work, {f"{images.dtype} images": images}))
        if result is not None:
            report.expect(
                "transforms: returns what it should",
                images.dtype == np.uint8 or _unit(result),
                f"float32 images in [0, 1] leave that range{_span(result)}",
            )


def _transformed(strategy: Strategy, images: NDArray[Any]) -> NDArray[Any]:
    """Return images after the per-image part; the pipeline's own code checks shape and dtype."""
    from harness.training.per_image import Tail
    from harness.training.plan import BatchPlan

    facts = samples.facts(images.shape[1:])
    listed = strategy.transforms(facts)
    if not isinstance(listed, list):
        raise TypeError(f"transforms returned {type(listed).__name__}, not a list")
    for item in listed:
        if not (isinstance(item, Flip | PadCrop) or callable(item)):
            raise TypeError(f"{item!r} is neither Flip, PadCrop nor an Albumentations transform")
    BatchPlan(
        (strategy,), facts, samples.labels(), None, 0
    )  # refuses a lowered one that comes late
    tail = [item for item in listed if not isinstance(item, Flip | PadCrop)]
    if not tail:
        return images.copy()
    return Tail(tail, 0, "check")(images, np.ones(len(images), bool), 0)


def _loss(report: Report, strategy: Strategy, shape: tuple[int, ...]) -> None:
    import torch

    counts = torch.tensor(samples.COUNTS, dtype=torch.float32)
    known = torch.from_numpy(samples.labels()[: samples.BATCH].copy())
    hard = torch.nn.functional.one_hot(known, len(counts)).float()
    soft = 0.7 * hard + 0.3 * hard.roll(1, 0)
    drawn = stream(0, "check/logits").standard_normal(hard.shape, np.float32)
    for name, targets, scale in (("one-hot", hard, 1), ("soft", soft, 1), ("one-hot", hard, 60)):
        logits = torch.from_numpy(drawn * scale)
        inputs = {"class_counts": counts, "logits": logits, "targets": targets}
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        result = called(
            report, Call("loss", _loss_and_slope(strategy, counts, logits, targets), arrays)
        )
        if result is None:
            return
        case = f"{name} targets and logits up to {logits.abs().max():.0f}"
        problem = _loss_problem(result[0], result[1], case)
        report.expect("loss: returns what it should", not problem, problem)


def _loss_and_slope(
    strategy: Strategy, counts: "Tensor", logits: "Tensor", targets: "Tensor"
) -> Callable[[], tuple[Any, "Tensor | None"]]:
    def run() -> "tuple[Any, Tensor | None]":
        import torch

        moving = logits.clone().requires_grad_(True)
        loss = strategy.loss(counts)(moving, targets)
        if not isinstance(loss, torch.Tensor) or loss.shape != (len(targets),):
            return loss, None
        loss.mean().backward()  # type: ignore[no-untyped-call]
        return loss, moving.grad

    return run


def _loss_problem(loss: Any, slope: "Tensor | None", case: str) -> str:
    import torch

    if not isinstance(loss, torch.Tensor):
        return f"returned {type(loss).__name__}, not a tensor"
    if loss.shape != (samples.BATCH,):
        return (
            f"returned a tensor of shape {list(loss.shape)} for a batch of {samples.BATCH}; one "
            "loss for each sample is needed, not their mean (reduction='none')"
        )
    if not torch.isfinite(loss).all():
        return f"is not finite for {case}: {loss.tolist()}"
    if slope is None:
        return "has no gradient: keep to operations that torch can differentiate"
    if not torch.isfinite(slope).all():
        return f"has a gradient that is not finite for {case}"
    return ""


def _unit(values: NDArray[Any]) -> bool:
    finite = bool(np.isfinite(values).all())
    return finite and (not values.size or bool(values.min() >= 0 and values.max() <= 1))


def _span(values: NDArray[Any]) -> str:
    return f"; it goes from {values.min():g} to {values.max():g}"


HOOKS: dict[str, Callable[[Report, Strategy, tuple[int, ...]], None]] = {
    "synthesize": _synthesize,
    "order": _order,
    "transforms": _transforms,
    "blend": _blend,
    "loss": _loss,
}
"""The hooks that decide something, and the check of each."""
