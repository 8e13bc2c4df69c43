from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.experiment.spec import RunSpec
from harness.training.bf16_weights import BF16Weights
from harness.training.device import same_bits
from harness.training.models import NormalizedLinear
from harness.training.prepare import prepare
from harness.training.step import Step, autocast, make_optimizer

MakeSpec = Callable[..., RunSpec]
CPU = torch.device("cpu")
TAIL = {"name": "shapes", "classes": 3, "size": 8, "per_class": 60, "imbalance_factor": 4}
BUDGET = {"max_steps": 8, "epochs": 100, "batch_size": 8, "lr": 0.05}


def trained(spec: RunSpec, half: bool, steps: int = 4) -> dict[str, torch.Tensor]:
    """Return the state of a network after some steps, with bf16 copies of its weights or not."""
    loop = prepare(spec, CPU, "bf16").loop
    optimizer = make_optimizer(loop.model, loop.training)
    step = Step(loop.model, loop.pipeline, optimizer, "bf16", CPU)
    assert step._half is not None
    if not half:
        step._half = None
    with same_bits(0):  # dropout draws too
        for _ in loop._executor(step).advance(0, steps):
            pass
    return loop.model.state_dict()


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("tiny_cnn", ["mixup"]),
        ("resnet32", []),
        ("resnet18", ["cutmix"]),
        ("tiny_cnn", ["ldam"]),  # whose head is not a plain layer
        ("torchvision/vit_b_16", []),
    ],
)
def test_the_numbers_are_those_of_autocast(
    model: Any, recipe: list[Any], make_spec: MakeSpec
) -> None:
    size = 16 if "vit" in str(model) else 8
    spec = make_spec(recipe, datasets=[{**TAIL, "size": size}], models=[model], training=BUDGET)
    ours, autocasts = trained(spec, half=True), trained(spec, half=False)
    for name, value in autocasts.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


class Counted(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_casts_do_not_grow_with_the_layers(make_spec: MakeSpec) -> None:
    spec = make_spec([], datasets=[TAIL], models=["resnet32"], training=BUDGET)
    loop = prepare(spec, CPU, "bf16").loop
    step = Step(loop.model, loop.pipeline, make_optimizer(loop.model, loop.training), "bf16", CPU)
    executor = loop._executor(step)
    with Counted() as counted:
        for _ in executor.advance(0, 1):
            pass
    assert counted.calls["_foreach_copy_"] == 2
    assert counted.calls["_to_copy"] < 10
    assert counted.calls["add_"] < 10, "batch norms count no batches"
    assert counted.calls["convolution"] == 31


def test_a_layer_that_is_used_twice_gets_both_gradients() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    inputs = torch.randn(5, 4)
    half = BF16Weights(network)
    with autocast(CPU, "bf16"):
        half(inputs).float().sum().backward()
    half.hand_over()
    got = layer.weight.grad
    layer.weight.grad = None
    with autocast(CPU, "bf16"):
        network(inputs).float().sum().backward()
    torch.testing.assert_close(got, layer.weight.grad, rtol=0.02, atol=0.02)


def test_what_is_frozen_and_what_is_no_plain_layer_stays_as_it_is() -> None:
    frozen, head = nn.Linear(4, 4).requires_grad_(False), NormalizedLinear(4, 3)
    normed = nn.utils.spectral_norm(nn.Linear(4, 4))
    network = nn.Sequential(frozen, normed, head)
    half = BF16Weights(network)
    assert half._halves == []
    with autocast(CPU, "bf16"):
        cosines = half(torch.randn(5, 4))
    assert cosines.dtype == torch.float32, "a loss multiplies them by 30"
    cosines.sum().backward()
    half.hand_over()
    assert frozen.weight.grad is None
    assert frozen.weight.dtype == torch.float32
    assert head.weight.grad is not None
    assert normed.weight_orig.grad is not None
