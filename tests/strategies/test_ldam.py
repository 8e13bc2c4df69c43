import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import cross_entropy, one_hot

from harness.registry import strategies
from harness.strategies.ldam import Ldam

COUNTS = torch.tensor([500.0, 60.0, 5.0])


def published(logits: torch.Tensor, target: torch.Tensor, max_m: float, s: float) -> torch.Tensor:
    """The loss of the paper's own code, on class indices."""
    m = 1.0 / np.sqrt(np.sqrt(COUNTS.numpy()))
    m_list = torch.tensor(m * (max_m / np.max(m)), dtype=torch.float32)
    index = torch.zeros_like(logits, dtype=torch.uint8)
    index.scatter_(1, target.view(-1, 1), 1)
    batch_m = torch.matmul(m_list[None, :], index.float().transpose(0, 1)).view((-1, 1))
    output = torch.where(index.bool(), logits - batch_m, logits)
    return cross_entropy(s * output, target, reduction="none")


@pytest.mark.parametrize(("max_m", "s"), [(0.5, 30.0), (0.3, 10.0)])
def test_equals_the_published_loss_on_one_hot_targets(max_m: float, s: float) -> None:
    torch.manual_seed(0)
    cosines, labels = torch.rand(32, 3) * 2 - 1, torch.randint(3, (32,))
    ours = Ldam(max_m=max_m, s=s).loss(COUNTS)(cosines, one_hot(labels, 3))
    torch.testing.assert_close(ours, published(cosines, labels, max_m, s))


def test_soft_targets_take_their_share_of_the_margin() -> None:
    cosines = torch.tensor([[0.2, 0.1, -0.3]])
    soft = torch.tensor([[0.5, 0.0, 0.5]])
    margins = np.array([0.5 * (5 / 500) ** 0.25, 0.0, 0.5])
    shifted = 30 * (cosines.numpy()[0] - soft.numpy()[0] * margins)
    log_p = shifted - np.log(np.exp(shifted).sum())
    expected = -(soft.numpy()[0] * log_p).sum()
    assert Ldam().loss(COUNTS)(cosines, soft).item() == pytest.approx(expected, rel=1e-5)


def test_the_rarest_class_has_the_largest_margin() -> None:
    cosines = torch.zeros(3, 3)
    loss = Ldam().loss(COUNTS)(cosines, torch.eye(3))
    assert loss[0] < loss[1] < loss[2]


@pytest.mark.parametrize("name", ["class_weights", "focal", "balanced_softmax", "ldam"])
def test_t05_every_loss_is_per_sample_and_traces_without_a_graph_break(name: str) -> None:
    torch.manual_seed(0)
    chosen = strategies.get(name)()
    logits, soft = torch.randn(6, 3), torch.rand(6, 3).softmax(1)
    values = chosen.loss(COUNTS)(logits, soft)
    assert values.shape == (6,)
    assert values.dtype == torch.float32
    assert len(torch.unique(values)) == 6

    def whole(counts: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return chosen.loss(counts)(x, y)

    # Fake tensors hold no values: a host sync or a branch on data cannot be traced over them.
    traced = make_fx(whole, tracing_mode="fake")(COUNTS, logits, soft)
    torch.testing.assert_close(traced(COUNTS, logits, soft), values)


def test_deferred_reweighting_is_the_weighted_margin_loss() -> None:
    counts = torch.tensor([100.0, 10.0, 2.0])
    logits = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.arange(12) % 3
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    beta = 0.9
    weights = (1 - beta) / (1 - beta**counts)
    weights = weights / weights.sum() * 3
    margins = counts**-0.25 * (0.5 / (counts**-0.25).max())
    published = torch.nn.functional.cross_entropy(
        30.0 * (logits - one_hot * margins), labels, weight=weights
    )
    ours = Ldam(effective_number=beta).loss(counts)(logits, one_hot).mean()
    torch.testing.assert_close(ours, published)
