"""Image networks: a small strided CNN for CPUs, and ResNets in their CIFAR form.

Each is a body that gives the last layer's input and a linear ``head``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


class SmallCNN(nn.Module):
    """Three strided convolutions, pooled to 256 features: a few seconds for thousands of images on a CPU."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Linear(64 * 4, n_classes)

    def features(self, images: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            images = relu(norm(convolution(images)))
        return adaptive_avg_pool2d(images, 2).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with a shortcut (He et al., CVPR 2016)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm2(self.conv2(relu(self.norm1(self.conv1(images)))))
        return relu(hidden + self.shortcut(images))


class CifarResNet(nn.Module):
    """A ResNet for 32 × 32 images: 3 × 3 stem of stride 1, no max-pool, 64-128-256-512 channels, 512 features."""

    def __init__(self, blocks: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        stages, width_in = [], 64
        for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
            for index in range(count):
                stages.append(BasicBlock(width_in, width, 2 if stage > 0 and index == 0 else 1))
                width_in = width
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(512, n_classes)

    def features(self, images: Tensor) -> Tensor:
        return adaptive_avg_pool2d(self.blocks(relu(self.norm(self.conv(images)))), 1).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))  # type: ignore[no-any-return]


Network = SmallCNN | CifarResNet


def make_network(name: str, n_classes: int, seed: int) -> Network:
    """A network by name with PyTorch's default initial weights from a seed; global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the CUDA generators too
        return SmallCNN(n_classes) if name == "small_cnn" else CifarResNet(BLOCKS[name], n_classes)
