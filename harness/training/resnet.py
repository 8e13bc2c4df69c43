"""The ResNet-32 of the CIFAR literature, 16-32-64 channels wide.

He et al. 2016, section 4.2, as in akamaster/pytorch_resnet_cifar10 and LDAM-DRW, which the
long-tail papers build on: three stages of five basic blocks, shortcuts of option A (subsampling
and zero-padded channels, no parameters), He initialisation. 464,154 parameters for ten classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
BLOCKS = 5


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that does not count its batches.

    The count is for a cumulative average only, and each layer's is a launch of its own on a GPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised, ``[B, C, H, W]``."""
        assert self.momentum is not None, "a cumulative average needs the count"
        moments = (self.running_mean, self.running_var, self.weight, self.bias)
        return F.batch_norm(x, *moments, self.training, self.momentum, self.eps)


class ResNet32(nn.Module):
    """ResNet-32 for small images.

    Args:
        channels: Channels of the image.
        classes: Number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = BatchNorm2d(WIDTHS[0])
        blocks, width = [], WIDTHS[0]
        for stage, wider in enumerate(WIDTHS):
            for block in range(BLOCKS):
                blocks.append(_Block(width, wider, 2 if stage and not block else 1))
                width = wider
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[B, classes]`` of images ``[B, channels, H, W]``."""
        x = self.blocks(F.relu(self.bn(self.conv(x)), inplace=True))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, wider, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(wider)
        self.stride = stride
        self.padding = (wider - width) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.padding:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x, inplace=True)
