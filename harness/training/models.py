"""Networks by name, with their head, weights and frozen parts.

`build` is the only way to make one. Initial weights depend on the model and the seed alone, never
on the recipe: a recipe that asks for another head gets the same backbone. Nothing here touches a
global random generator, and nothing reaches for the network unless the experiment file names
published weights.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import ConfigError
from harness.experiment.model_names import (
    BATCH_OF_ONE,
    LARGE,
    OWN,
    check_model_name,
    is_published,
    published_hint,
)
from harness.experiment.spec import Model
from harness.streams import torch_seed
from harness.training import library
from harness.training.resnet import ResNet32
from harness.training.weights import load_file

HEADS = ("linear", "normalized")

_SIZED = {"tiny_cnn": 16, "mlp": 64}
"""Networks that have a width, and its default."""


class Classifier(nn.Module):
    """A network whose head is known.

    Attributes:
        network: The network itself; its ``state_dict`` has the library's own names.
        head_name: Where in the network the last layer sits.
        frozen: Whether all but the head stays as it is, batch-norm statistics included.
        notes: What the user should know, such as a head that was not taken from the weights.
    """

    def __init__(
        self, network: nn.Module, head_name: str, frozen: bool = False, notes: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.network = network
        self.head_name = head_name
        self.frozen = frozen
        self.notes = notes
        if frozen:
            network.requires_grad_(False)
            self.head.requires_grad_(True)
        self.train()

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.network.get_submodule(self.head_name)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, classes]`` of ``[B, channels, H, W]`` or ``[B, columns]``."""
        logits: Tensor = self.network(x)
        return logits

    def train(self, mode: bool = True) -> "Classifier":
        """Switch between training and evaluation; a frozen batch norm stays in evaluation."""
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


class NormalizedLinear(nn.Module):
    """A linear layer of cosines, as LDAM needs it (Cao et al. 2019; `NormedLinear` in LDAM-DRW).

    Args:
        features: Length of a feature vector.
        classes: Number of classes.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        weight = F.normalize(torch.empty(classes, features).uniform_(-1.0, 1.0))
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return cosines ``float32[B, classes]`` of features ``[B, features]``."""
        with torch.autocast(x.device.type, enabled=False):  # a loss multiplies them by 30
            return F.linear(F.normalize(x.float()), F.normalize(self.weight))


def build(model: Model, shape: tuple[int, ...], classes: int, head: str, seed: int) -> Classifier:
    """Build a network on the CPU, in training mode.

    Args:
        model: Its description.
        shape: ``(H, W, C)`` of an image or ``(columns,)`` of a table row. The network takes
            ``float32[B, C, H, W]`` or ``float32[B, columns]``.
        classes: Number of classes.
        head: ``"linear"``, or ``"normalized"`` for cosines in place of the last linear layer.
        seed: The run's seed.

    Raises:
        ConfigError: The model is unknown, cannot take this shape or this head, or its weights
            cannot be read, do not fit or cannot be fetched.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head '{head}' (allowed: {', '.join(HEADS)})")
    check_model_name(model.name)
    _check_description(model, shape)
    # torch.manual_seed would seed every accelerator too, and those are not forked here
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(seed, "init"))
        if model.name in OWN:
            network, head_name = _own(model, shape, classes)
        else:
            network, head_name = library.network(model, shape, classes)
        if head == "normalized":
            _normalize_head(model, network, head_name, classes)
    path = weights_file(model)
    notes = () if path is None else load_file(network, head_name, path, model.name)
    return Classifier(network, head_name, model.freeze == "backbone", notes)


def check_batch(model: Model, network: Classifier, shape: tuple[int, ...], batch_size: int) -> None:
    """Try a step's forward pass on a batch of one, which batch norm over 1 × 1 maps refuses.

    Raises:
        ConfigError: It does.
    """
    if batch_size > 1:
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout draws
            network(torch.zeros(1, shape[-1], *shape[:2]))
    except ValueError as error:
        raise ConfigError(f"model '{model.name}': {BATCH_OF_ONE} ({error})") from None


def weights_file(model: Model) -> Path | None:
    """Return the file that holds the model's weights, or None without weights or by a name.

    Raises:
        ConfigError: `weights` is neither a name of published weights nor a file.
    """
    if model.weights is None or is_published(model.name, model.weights):
        return None
    path = Path(model.weights).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"model '{model.name}': weights '{model.weights}' is no file, and "
            f"{published_hint(model.name, model.weights)}"
        )
    return path


def normalisation(model: Model) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std per channel that published weights demand, on the 0–1 scale.

    None for a model without weights or with weights from a file, where the dataset's own count.

    Raises:
        ConfigError: The weights or the library that publishes them do not exist here.
    """
    check_model_name(model.name)
    if model.weights is None or weights_file(model) is not None:
        return None
    return library.normalisation(model)


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """Return the number of parameters, or of those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def _check_description(model: Model, shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 3):
        raise ValueError(f"shape must be (H, W, C) or (columns,), not {shape}")
    if len(shape) == 1 and model.name != "mlp":
        raise ConfigError(f"model '{model.name}' takes images; for a table use 'mlp'")
    if model.width is not None and model.name not in _SIZED:
        raise ConfigError(
            f"model '{model.name}' has a fixed width; width is a parameter of {', '.join(_SIZED)}"
        )


def _own(model: Model, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, str]:
    """Return one of our networks with a linear head, and where the head is."""
    if model.name == "mlp":
        return _mlp(shape, model.width or _SIZED["mlp"], classes), "head"
    if model.name == "tiny_cnn":
        return _tiny_cnn(shape, model.width or _SIZED["tiny_cnn"], classes), "head"
    if model.name == "resnet32":
        return ResNet32(shape[-1], classes), "head"
    return library.cifar_resnet18(shape[-1], classes), "fc"


def _mlp(shape: tuple[int, ...], width: int, classes: int) -> nn.Module:
    columns = int(torch.Size(shape).numel())
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    )
    network.add_module("head", nn.Linear(width, classes))
    return network


def _tiny_cnn(shape: tuple[int, ...], width: int, classes: int) -> nn.Module:
    """Return three 3×3 conv-BN-ReLU blocks, wide ×1, ×2, ×4, and a mean over the image.

    The first block halves the image too where there is enough of it, so that 8 × 8 digits keep
    2 × 2 positions and a 32 × 32 photograph costs no more than it must.
    """
    network = nn.Sequential()
    channels = shape[-1]
    for k, stride in enumerate((2 if min(shape[:2]) >= LARGE else 1, 2, 2)):
        wider = width * 2**k
        network.add_module(f"conv{k}", nn.Conv2d(channels, wider, 3, stride, 1, bias=False))
        network.add_module(f"bn{k}", nn.BatchNorm2d(wider))
        network.add_module(f"relu{k}", nn.ReLU(inplace=True))
        channels = wider
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("head", nn.Linear(channels, classes))
    return network


def _normalize_head(model: Model, network: nn.Module, head_name: str, classes: int) -> None:
    last = network.get_submodule(head_name)
    if not isinstance(last, nn.Linear):
        raise ConfigError(
            f"model '{model.name}' ends in a {type(last).__name__}; a recipe that needs a "
            "normalized head (ldam) works with a linear last layer only"
        )
    network.set_submodule(head_name, NormalizedLinear(last.in_features, classes))
