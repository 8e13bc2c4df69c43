"""Networks of torchvision and timm, their published weights and what those demand.

Both libraries are imported when first asked for a network: a run of one of our own networks pays
for neither.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness.errors import ConfigError
from harness.experiment.model_names import TIMM, TORCHVISION, is_published, plain_weights
from harness.experiment.spec import Model
from harness.training.resnet import BatchNorm2d


def network(model: Model, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, str]:
    """Return a network with a head for `classes`, and where its head is.

    Args:
        model: A torchvision or timm model.
        shape: ``(H, W, C)`` of the images.
        classes: Number of classes.

    Raises:
        ConfigError: The library cannot build it for such images, or not fetch its weights.
    """
    if _is_published(model) and shape[-1] != 3:
        raise ConfigError(
            f"model '{model.name}': weights '{model.weights}' are for images of 3 channels, and "
            f"these have {shape[-1]}; leave weights out or make the images RGB"
        )
    make = _from_timm if model.name.startswith(TIMM) else _from_torchvision
    net, head = make(model, shape, classes)
    _require_shape(model, net, shape, classes)
    return net, head


def cifar_resnet18(channels: int, classes: int) -> nn.Module:
    """Return torchvision's ResNet-18 with the stem for small images: 3×3, no stride, no pooling.

    11.17 M parameters for ten classes, as in kuangliu/pytorch-cifar.
    """
    from torchvision.models import resnet18

    net: nn.Module = resnet18(num_classes=classes, norm_layer=BatchNorm2d)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    net.set_submodule("conv1", stem)
    net.set_submodule("maxpool", nn.Identity())
    return net


def normalisation(model: Model) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel of published weights, on the 0–1 scale."""
    if model.name.startswith(TIMM):
        import timm

        source = timm.get_pretrained_cfg(model.name.removeprefix(TIMM))
        if source is None:
            raise ConfigError(f"model '{model.name}': timm publishes no weights for it")
    else:
        source = _published(model)[plain_weights(model.weights or "")].transforms()
    return tuple(map(float, source.mean)), tuple(map(float, source.std))


def _is_published(model: Model) -> bool:
    return model.weights is not None and is_published(model.name, model.weights)


def _published(model: Model) -> Any:
    from torchvision import models

    return models.get_model_weights(model.name.removeprefix(TORCHVISION))


def _from_torchvision(model: Model, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, str]:
    from torchvision import models

    name = model.name.removeprefix(TORCHVISION)
    if _is_published(model):
        weights = _published(model)[plain_weights(model.weights or "")]
        make = functools.partial(models.get_model, name, weights=weights, progress=False)
        net: Any = _fetched(model, make)
        if name == "inception_v3":  # whose builder insists on the second head of its weights
            net.aux_logits, net.AuxLogits = False, None
        head = _last_layer(net)
        net.set_submodule(head, _resized(net.get_submodule(head), classes))
        return net, head
    options: dict[str, Any] = {"num_classes": classes}
    if name in ("inception_v3", "googlenet"):
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = shape[0]
    if name.startswith("maxvit"):
        options["input_size"] = shape[:2]
    make = functools.partial(models.get_model, name, weights=None, **options)
    net = _built(model, shape, make)
    if shape[-1] != 3:
        _adapt_stem(net, shape[-1])
    return net, _last_layer(net)


def _from_timm(model: Model, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, str]:
    import timm

    name = model.name.removeprefix(TIMM)
    options = {"num_classes": classes, "in_chans": shape[-1], "pretrained": _is_published(model)}
    make = functools.partial(timm.create_model, name, **options)
    net: Any = _fetched(model, make) if _is_published(model) else _built(model, shape, make)
    last = net.get_classifier()
    head = next((place for place, module in net.named_modules() if module is last), None)
    if head is None or not isinstance(last, nn.Linear | nn.Conv2d):
        raise ConfigError(
            f"model '{model.name}' ends in {type(last).__name__}, not in one last layer, and "
            "cannot be used here"
        )
    return net, head


def _fetched(model: Model, make: Callable[[], nn.Module]) -> nn.Module:
    """Build with published weights, which are downloaded where the library has no copy."""
    try:
        return make()
    # timm's downloads fail with errors of several HTTP libraries, which share no base class
    except Exception as error:
        raise ConfigError(
            f"model '{model.name}': weights '{model.weights}' could not be fetched "
            f"({type(error).__name__}: {error}); fetch them where there is a network and give "
            "the file as weights"
        ) from error


def _built(model: Model, shape: tuple[int, ...], make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _unfit(model, shape, error) from error


def _require_shape(model: Model, net: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Try the network on two images: many accept only some sizes, and say so only when run."""
    net.eval()
    try:
        with torch.no_grad():
            logits = net(torch.zeros(2, shape[-1], *shape[:2]))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise _unfit(model, shape, error) from error
    net.train()
    if tuple(logits.shape) != (2, classes):
        raise ConfigError(
            f"model '{model.name}' returns {tuple(logits.shape)} for two images, where "
            f"(2, {classes}) was expected"
        )


def _unfit(model: Model, shape: tuple[int, ...], error: Exception) -> ConfigError:
    return ConfigError(
        f"model '{model.name}' cannot take images of {shape[0]} × {shape[1]} × {shape[2]}: "
        f"{str(error).splitlines()[0] if str(error) else type(error).__name__}; "
        "set image_size on the dataset, or choose a model for small images (resnet32, resnet18)"
    )


def _adapt_stem(net: nn.Module, channels: int) -> None:
    """Put a convolution for other than 3 channels in the place of the first one."""
    for place, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            net.set_submodule(place, _with_channels(module, channels))
            return
    raise AssertionError("a torchvision network without a convolution")


def _with_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    options = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    settings: dict[str, Any] = {option: getattr(conv, option) for option in options}
    return nn.Conv2d(channels, conv.out_channels, bias=conv.bias is not None, **settings)


def _last_layer(net: nn.Module) -> str:
    """Return where the last linear layer is (of squeezenet the last convolution)."""
    for kind in (nn.Linear, nn.Conv2d):
        found = [place for place, module in net.named_modules() if isinstance(module, kind)]
        if found:
            return str(found[-1])
    raise AssertionError("a torchvision network without a last layer")


def _resized(layer: nn.Module, classes: int) -> nn.Module:
    """Return a new layer of the same kind for `classes` outputs."""
    if isinstance(layer, nn.Conv2d):
        assert layer.kernel_size == (1, 1)
        return nn.Conv2d(layer.in_channels, classes, 1)
    assert isinstance(layer, nn.Linear)
    return nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
