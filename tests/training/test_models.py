"""Networks by name: size, initial weights, heads, weights from files, frozen parts."""

import copy
import random
import subprocess
import sys
import textwrap
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import ConfigError
from harness.experiment import model_names
from harness.experiment.model_names import check_model_name, smallest_map
from harness.experiment.spec import Model, file_digest
from harness.training.models import (
    Classifier,
    NormalizedLinear,
    build,
    check_batch,
    count_parameters,
    normalisation,
)

RGB = (32, 32, 3)
DIGIT = (8, 8, 1)
SMALL = "shufflenet_v2_x0_5"  # torchvision's smallest


def made(name, shape=RGB, classes=10, head="linear", seed=0, **more):
    return build(Model(name=name, **more), shape, classes, head, seed)


def same_state(a, b):
    return all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys()


@pytest.fixture
def saved(tmp_path):
    """Save a state, or what a function makes of it; return the path."""

    def save(content):
        path = tmp_path / "weights.pt"
        torch.save(content, path)
        return str(path)

    return save


# names


def test_names_are_those_of_torchvision():
    import torchvision
    from torchvision import models

    want = set(models.list_models(module=models))
    listed = model_names._listed()["torchvision"]
    if listed["version"] == torchvision.__version__.partition("+")[0]:  # make model-names
        weights = {name: list(models.get_model_weights(name).__members__) for name in want}
        assert listed["models"] == weights
    names = model_names.model_names()
    assert names[:4] == list(model_names.OWN)
    assert "torchvision/resnet18" in names
    assert len(names) == len(set(names)) == len(want) + 4


def test_a_model_that_is_newer_than_the_list_is_asked_of_the_library(monkeypatch):
    kept = {"mobilenet_v2": ["IMAGENET1K_V1"]}
    monkeypatch.setattr(model_names, "_listed", lambda: {"torchvision": {"models": kept}})
    check_model_name("torchvision/resnet50")
    assert model_names.is_published("resnet50", "IMAGENET1K_V2")
    assert not model_names.is_published("resnet50", "IMAGENET1K_V3")


def test_names_are_known_without_torch():
    code = """
        import sys
        from harness.experiment.model_names import check_model_name, model_names
        assert len(model_names()) > 50
        check_model_name("torchvision/resnet50")
        assert not {"torch", "torchvision", "timm"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet23", r"unknown model 'resnet23'; did you mean 'resnet\d+'\? \(available: tiny_cnn"),
        ("torchvision/resnet51", "did you mean 'torchvision/resnet5?0?1?"),
        ("torchvision/tiny_cnn", "unknown model 'torchvision/tiny_cnn'"),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(ConfigError, match=message):
        check_model_name(name)
    with pytest.raises(ConfigError, match=message):
        made(name)


def test_own_and_torchvision_resnet18_are_two_networks():
    own, theirs = made("resnet18"), made("torchvision/resnet18")
    assert own.network.conv1.kernel_size == (3, 3)
    assert theirs.network.conv1.kernel_size == (7, 7)


# sizes and shapes


@pytest.mark.parametrize(
    ("name", "head", "parameters"),
    [
        ("resnet32", "linear", 464_154),  # as akamaster and LDAM-DRW have it
        ("resnet32", "normalized", 464_144),
        ("resnet18", "linear", 11_173_962),  # kuangliu's CIFAR ResNet-18
        ("torchvision/resnet18", "linear", 11_181_642),
    ],
)
def test_number_of_parameters(name, head, parameters):
    assert count_parameters(made(name, head=head)) == parameters


@pytest.mark.parametrize("head", ["linear", "normalized"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tiny_cnn", DIGIT),
        ("tiny_cnn", (40, 24, 3)),
        ("mlp", DIGIT),
        ("mlp", (6,)),
        ("resnet32", RGB),
        ("resnet18", (28, 28, 1)),
        (SMALL, RGB),
        (SMALL, (32, 32, 4)),
        ("googlenet", RGB),
    ],
)
def test_takes_a_step(name, shape, head):
    model = made(name, shape, 5, head)
    images = shape[-1:] + shape[:-1]
    logits = model(torch.randn(4, *images))
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.training


def test_tiny_cnn_and_mlp_have_a_width():
    assert count_parameters(made("tiny_cnn", DIGIT)) == count_parameters(
        made("tiny_cnn", DIGIT, width=16)
    )
    assert count_parameters(made("tiny_cnn", DIGIT, width=8)) < 7_000
    assert made("mlp", (6,)).head.in_features == 64
    assert made("mlp", (6,), width=5).head.in_features == 5
    with pytest.raises(ConfigError, match=r"'resnet32' has a fixed width; .* tiny_cnn, mlp"):
        made("resnet32", width=8)


def test_torchvision_transformers_take_the_image_size():
    model = made("vit_b_32", (64, 64, 1), 3)
    assert model.head_name == "heads.head"
    assert model.network.image_size == 64


def test_inception_comes_without_its_second_head():
    model = made("inception_v3", (80, 80, 3), 3)
    assert model(torch.zeros(2, 3, 80, 80)).shape == (2, 3)
    assert not any("Aux" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("alexnet", RGB, "'alexnet' cannot take images of 32 × 32 × 3.*image_size"),
        ("maxvit_t", RGB, "'maxvit_t' cannot take images of 32 × 32 × 3"),
        ("resnet32", (9,), "'resnet32' takes images; for a table use 'mlp'"),
    ],
)
def test_shape_that_a_model_cannot_take(name, shape, message):
    with pytest.raises(ConfigError, match=message):
        made(name, shape)


# initial weights


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet32", SMALL])
def test_initial_weights_depend_on_the_seed_and_leak_nothing(name):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = made(name, seed=1).state_dict()
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(6)
    assert same_state(first, made(name, seed=1).state_dict())
    assert not same_state(first, made(name, seed=2).state_dict())


@pytest.mark.parametrize("name", ["tiny_cnn", "mlp", "resnet32", "resnet18", SMALL])
def test_backbone_does_not_depend_on_the_head_that_a_recipe_needs(name):
    linear, cosine = made(name), made(name, head="normalized")
    a, b = linear.state_dict(), cosine.state_dict()
    backbone = [key for key in a if not key.startswith(f"network.{linear.head_name}.")]
    assert len(backbone) > 3
    assert all(torch.equal(a[key], b[key]) for key in backbone)


def test_resnet32_has_he_initialisation_and_free_shortcuts():
    net = made("resnet32").network
    assert [block.padding for block in net.blocks if block.padding] == [8, 16]
    std = net.blocks[-1].conv2.weight.std().item()
    assert std == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


# heads


def test_normalized_head_returns_cosines():
    head = NormalizedLinear(6, 4)
    x = torch.randn(3, 6)
    want = nn.functional.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(x), want)
    torch.testing.assert_close(head(100 * x), want)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_normalized_head_on_a_torchvision_model():
    model = made(SMALL, head="normalized", classes=4)
    assert model.head_name == "fc"
    assert isinstance(model.head, NormalizedLinear)
    assert model.eval()(torch.randn(3, 3, 32, 32)).abs().max() <= 1.0


def test_squeezenet_ends_in_a_convolution():
    assert made("squeezenet1_1", (64, 64, 3), 3).head.out_channels == 3
    with pytest.raises(ConfigError, match=r"ends in a Conv2d; .* \(ldam\)"):
        made("squeezenet1_1", (64, 64, 3), 3, "normalized")


def test_unknown_head():
    with pytest.raises(ValueError, match="unknown head 'cosine'"):
        made("mlp", (3,), head="cosine")


# weights from a file


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "module", "classifier"])
def test_weights_file(saved, wrap):
    source = made("resnet32", seed=7)
    state = source.network.state_dict()
    content = {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "best": 0.5},
        "module": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "classifier": source.state_dict(),
    }[wrap]
    model = made("resnet32", seed=1, weights=saved(content))
    assert same_state(model.network.state_dict(), state)
    assert model.notes == ()


@pytest.mark.parametrize("kind", ["classes", "head", "absent"])
def test_head_of_another_kind_is_left_out_and_named(saved, kind):
    source = made("tiny_cnn", DIGIT, 4 if kind == "classes" else 10, seed=7)
    state = source.network.state_dict()
    if kind == "absent":
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    head = "normalized" if kind == "head" else "linear"
    fresh = made("tiny_cnn", DIGIT, 10, head, seed=1).network.state_dict()
    model = made("tiny_cnn", DIGIT, 10, head, seed=1, weights=saved(state))
    got = model.network.state_dict()
    for key, value in got.items():
        assert torch.equal(value, fresh[key] if key.startswith("head.") else state[key])
    (note,) = model.notes
    assert "head 'head' is not taken over" in note
    assert "(10, 64)" in note
    assert {"classes": "(4, 64)", "head": "head.bias", "absent": "none"}[kind] in note


def test_weights_file_of_another_network_names_keys(saved):
    path = saved(made("mlp", (6,)).network.state_dict())
    with pytest.raises(ConfigError, match=r"do not fit model 'tiny_cnn'; missing: bn0\.bias.*unk"):
        made("tiny_cnn", DIGIT, weights=path)
    path = saved(made("tiny_cnn", (8, 8, 3)).network.state_dict())
    wrong = r"of another shape: conv0\.weight \(16, 3, 3, 3\) for \(16, 1, 3, 3\)"
    with pytest.raises(ConfigError, match=wrong):
        made("tiny_cnn", DIGIT, weights=path)


class Payload:
    """Something that a file of weights must not bring in."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        (Payload(), "holds more than tensors"),
    ],
)
def test_weights_file_without_a_state(saved, content, message):
    with pytest.raises(ConfigError, match=message):
        made("tiny_cnn", DIGIT, weights=saved(content))


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04 broken"])
def test_broken_weights_file(tmp_path, content):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="broken"):
        made("tiny_cnn", DIGIT, weights=str(path))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("tiny_cnn", "DEFAULT", "is no file, and 'tiny_cnn' has no published weights"),
        (SMALL, "gone.pt", r"'gone.pt' is no file, and no published weights .*available: IMAG"),
        (SMALL, "IMAGENET1K_V9", "did you mean 'IMAGENET1K_V1'"),
    ],
)
def test_weights_that_do_not_exist(name, weights, message):
    with pytest.raises(ConfigError, match=message):
        made(name, weights=weights)
    with pytest.raises(ConfigError, match=message):
        normalisation(Model(name=name, weights=weights))


def test_digest_of_a_weights_file(tmp_path):
    (tmp_path / "w").write_bytes(b"abc")
    assert file_digest(tmp_path / "w").startswith("ba7816bf8f01cfea")


# published weights


@pytest.fixture
def published(monkeypatch):
    """Give torchvision weights without a download: a state per model, or an error."""

    def give(answer):
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", answer)

    return give


@pytest.mark.parametrize("weights", ["DEFAULT", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"])
def test_published_weights_get_a_new_head(published, weights):
    state = made(SMALL, classes=1000, seed=9).network.state_dict()
    published(lambda *args, **kwargs: copy.deepcopy(state))
    model = made(SMALL, classes=3, seed=0, weights=weights)
    got = model.network.state_dict()
    assert got["fc.weight"].shape[0] == 3
    assert all(torch.equal(got[k], state[k]) for k in got if not k.startswith("fc."))
    again = made(SMALL, classes=3, seed=0, weights=weights)
    assert same_state(model.state_dict(), again.state_dict())
    assert not torch.equal(model.head.weight, made(SMALL, classes=3, seed=1).head.weight)


def test_published_weights_of_a_model_with_a_second_head(published):
    from torchvision import models

    whole = models.inception_v3(weights=None, init_weights=False).state_dict()
    published(lambda *args, **kwargs: whole)
    model = made("inception_v3", (80, 80, 3), 3, weights="DEFAULT")
    assert model(torch.zeros(2, 3, 80, 80)).shape == (2, 3)
    assert not any("Aux" in name for name, _ in model.named_parameters())


def test_published_weights_need_three_channels():
    with pytest.raises(ConfigError, match="are for images of 3 channels, and these have 1"):
        made(SMALL, (32, 32, 1), weights="DEFAULT")


def test_unreachable_weights(published):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    published(fail)
    with pytest.raises(ConfigError, match=r"could not be fetched .*no route.*give the file"):
        made(SMALL, weights="DEFAULT")


def test_normalisation_is_what_the_weights_demand(saved):
    mean, std = normalisation(Model(name="torchvision/resnet18", weights="IMAGENET1K_V1"))
    assert mean == (0.485, 0.456, 0.406)
    assert std == (0.229, 0.224, 0.225)
    path = saved(made("tiny_cnn", DIGIT).state_dict())
    assert normalisation(Model(name="tiny_cnn", weights=path)) is None
    assert normalisation(Model(name="resnet50")) is None


# frozen backbones


def test_frozen_backbone_stays_the_same_to_the_bit(saved):
    path = saved(made("resnet32", seed=3).network.state_dict())
    model = made("resnet32", classes=4, weights=path, freeze="backbone")
    assert count_parameters(model, trainable=True) == 64 * 4 + 4
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.eval()
    model.train()
    assert model.training
    for _ in range(2):
        optimiser.zero_grad()
        model(torch.randn(8, 3, 32, 32) + 3.0).square().sum().backward()
        optimiser.step()
    changed = [key for key, value in model.state_dict().items() if not value.equal(before[key])]
    assert changed == ["network.head.weight", "network.head.bias"]


def test_without_freezing_batch_norm_learns():
    model = made("resnet32")
    before = copy.deepcopy(model.state_dict())
    model(torch.randn(8, 3, 32, 32) + 3.0)
    assert not torch.equal(before["network.bn.running_mean"], model.network.bn.running_mean)
    assert all(p.requires_grad for p in model.parameters())


def test_a_copy_of_a_frozen_model_is_frozen(saved):
    path = saved(made("resnet32", seed=3).network.state_dict())
    model = copy.deepcopy(made("resnet32", weights=path, freeze="backbone"))
    assert isinstance(model, Classifier)
    assert not model.train().network.bn.training


# timm

FAKE_TIMM = """
from types import SimpleNamespace
from timm.models.tiny import tinynet

calls = []

def create_model(name, pretrained=False, **options):
    calls.append((name, pretrained, options))
    if pretrained and "offline" in name:
        raise ConnectionResetError("hub is away")
    return tinynet(pretrained, **options)

def list_models():
    return ["tinynet"]

def get_pretrained_cfg(name):
    return SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
"""
FAKE_TINY = """
from torch import nn

def register_model(function):
    return function

class Tiny(nn.Sequential):
    def get_classifier(self):
        return self[-1]

@register_model
def tinynet(pretrained=False, num_classes=1000, in_chans=3, **kwargs):
    return Tiny(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_chans, num_classes))
"""


@pytest.fixture
def timm(tmp_path, monkeypatch):
    """Stand-in with the three functions of timm that are used here, and their signatures."""
    (tmp_path / "timm" / "models").mkdir(parents=True)
    (tmp_path / "timm" / "models" / "__init__.py").touch()
    (tmp_path / "timm" / "models" / "tiny.py").write_text(FAKE_TINY)
    (tmp_path / "timm" / "__init__.py").write_text(FAKE_TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    model_names._installed_timm.cache_clear()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]
    model_names._installed_timm.cache_clear()


@pytest.mark.usefixtures("timm")
def test_timm_model():
    model = made("timm/tinynet", (16, 16, 1), 4)
    assert model.head_name == "2"
    assert model.head.weight.shape == (4, 4)
    assert isinstance(made("timm/tinynet", head="normalized").head, NormalizedLinear)
    made("timm/tinynet.a1_in1k", weights="DEFAULT")
    assert sys.modules["timm"].calls[0] == ("tinynet", False, {"num_classes": 4, "in_chans": 1})
    assert sys.modules["timm"].calls[-1][:2] == ("tinynet.a1_in1k", True)
    assert normalisation(Model(name="timm/tinynet", weights="true")) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.usefixtures("timm")
def test_timm_mistakes():
    with pytest.raises(ConfigError, match="unknown model 'timm/tinynot'; did you mean 'timm/tinyn"):
        check_model_name("timm/tinynot")
    with pytest.raises(ConfigError, match=r"timm's own weights are called DEFAULT"):
        made("timm/tinynet", weights="IMAGENET1K_V1")
    with pytest.raises(ConfigError, match=r"could not be fetched \(ConnectionResetError: hub"):
        made("timm/tinynet.offline", weights="DEFAULT")


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'imbalance-harness\[timm\]'"):
        check_model_name("timm/resnet50")


def test_real_timm():
    pytest.importorskip("timm", reason="timm is an extra and is not installed")
    model = made("timm/resnet18", (32, 32, 1), 4, "normalized")
    assert model.head_name == "fc"
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
    assert normalisation(Model(name="timm/resnet18.a1_in1k", weights="DEFAULT")) is not None


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet32", "resnet18", "mlp"])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 9, 24])
def test_what_batch_norm_refuses_is_known_without_building_the_network(name, side):
    shape = (side, max(1, side - 1), 3)
    model = Model(name=name)
    network = build(model, shape, 3, "linear", 0)
    if smallest_map(name, shape) == 1:
        with pytest.raises(ConfigError, match="batch_size of 2 or more"):
            check_batch(model, network, shape, 1)
    else:
        check_batch(model, network, shape, 1)
    check_batch(model, network, shape, 2)


def test_a_network_of_a_library_is_tried_on_a_batch_of_one():
    model, shape = Model(name=SMALL), (32, 32, 3)
    network = build(model, shape, 3, "linear", 0)
    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match=f"model '{SMALL}'.*batch norm"):
        check_batch(model, network, shape, 1)
    assert torch.equal(before, torch.get_rng_state())
