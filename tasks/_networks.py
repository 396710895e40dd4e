"""Image networks: a small strided CNN for CPUs, a wider one for short trainings, and ResNets.

Each takes uint8 images (n, 3, h, w), normalises them, and is a ``body`` that gives the last layer's input and a linear
``head``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import RequestError

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


@dataclass(frozen=True)
class Pixels:
    """Mean and standard deviation of a data set's pixels in [0, 1], a number a channel."""

    mean: Sequence[float]
    std: Sequence[float]


CIFAR10 = Pixels((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR100 = Pixels((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Network(nn.Module):
    """Normalisation, a body, and a linear head.

    Args:
        body: normalised images to (n, ``width``).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, width: int, n_classes: int, pixels: Pixels) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, n_classes)
        for name, values in (("mean", pixels.mean), ("std", pixels.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """The last layer's input, (n, d)."""
        features: Tensor = self.body(self.normalised(images))
        return features

    def normalised(self, images: Tensor) -> Tensor:
        """Images of mean 0 and deviation 1, by channel."""
        return (images.float() - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits

    def adapt(self, images: Tensor) -> None:
        """Set what is computed from training images and not learnt, before training."""
        for layer in self.body.modules():
            if isinstance(layer, Whitening):
                layer.adapt(self.normalised(images))


def _convolution(width_in: int, width: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, size, stride, size // 2, bias=False)


def small_cnn() -> nn.Sequential:
    """Three strided convolutions, pooled to 256 features: a few seconds for thousands of images on a CPU."""
    layers: list[nn.Module] = []
    for before, after in pairwise((3, 16, 32, 64)):
        layers += [_convolution(before, after, stride=2), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())


class Scaled(nn.Module):
    """Times a constant: small logits at the start let a short training begin with a large learning rate."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Whitening(nn.Conv2d):
    """A fixed 2 × 2 convolution to uncorrelated outputs of unit variance, and their negatives: 3 to 24 channels.

    Its weights are the eigenvectors of the second moments of 2 × 2 patches of the normalised training images, divided
    by the roots of the eigenvalues (Page, How to train your ResNet, 2018); `adapt` sets them. The bias is trained.
    """

    def __init__(self) -> None:
        super().__init__(3, 24, 2)
        self.weight.requires_grad_(False)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def adapt(self, images: Tensor) -> None:
        """Set the weights from normalised images (n, 3, h, w)."""
        products, count = torch.zeros(12, 12, dtype=torch.float64, device=images.device), 0
        for some in images.split(256):  # type: ignore[no-untyped-call]
            patches = some.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
            products += patches.T @ patches
            count += len(patches)
        values, vectors = torch.linalg.eigh(products / count)
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # alike on every device
        filters = (vectors / (values.clamp(min=0) + 5e-4).sqrt()).T.reshape(12, 3, 2, 2).to(self.weight.dtype)
        self.weight.copy_(torch.cat([filters, -filters]))


ADAPTED_TO = 5000
"""Training images, at most, that a `Whitening` layer is computed from."""


def fast_cnn() -> nn.Sequential:
    """A whitening layer and six 3 × 3 convolutions to 256 features, each starting as the identity where it can.

    In the manner of the short trainings of Page (How to train your ResNet, 2018) and Jordan (94 % on CIFAR-10 in 3.29
    seconds on a single GPU, 2024): few layers, pooling early, a scaled output.
    """
    layers: list[nn.Module] = [Whitening(), nn.GELU()]
    for before, after in ((24, 64), (64, 256), (256, 256)):
        layers += [_convolution(before, after), nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.GELU()]
        layers += [_convolution(after, after), nn.BatchNorm2d(after), nn.GELU()]
    for layer in layers[2:]:
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight[: layer.in_channels].data)
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), Scaled(1 / 8))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with a shortcut (He et al., CVPR 2016)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(width_in, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(_convolution(width_in, width, stride, size=1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        hidden += shortcut
        result: Tensor = self.relu(hidden)
        return result


def resnet(blocks: Sequence[int], large: bool = False) -> nn.Sequential:
    """A ResNet's body, 64-128-256-512 channels and 512 features; parameters are named as in torchvision.

    Args:
        blocks: how many a stage.
        large: the form for ImageNet, a 7 × 7 stem of stride 2 and max-pooling; the CIFAR form has a 3 × 3 stem of
            stride 1.
    """
    stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False) if large else _convolution(3, 64)
    layers: list[tuple[str, nn.Module]] = [("conv1", stem), ("bn1", nn.BatchNorm2d(64)), ("relu", nn.ReLU())]
    if large:
        layers.append(("maxpool", nn.MaxPool2d(3, 2, 1)))
    width_in = 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), 1):
        members = []
        for index in range(count):
            members.append(BasicBlock(width_in, width, 2 if stage > 1 and index == 0 else 1))
            width_in = width
        layers.append((f"layer{stage}", nn.Sequential(*members)))
    return nn.Sequential(OrderedDict([*layers, ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]))


def make_network(name: str, n_classes: int, seed: int, pixels: Pixels = CIFAR10, large: bool = False) -> Network:
    """A network by name with initial weights from a seed; global random state is left as it was.

    Args:
        name: small_cnn, fast_cnn, resnet18 or resnet34.
        large: for images of ImageNet's size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the CUDA generators too
        if name in BLOCKS:
            body, width = resnet(BLOCKS[name], large), 512
        else:
            body, width = (small_cnn(), 256) if name == "small_cnn" else (fast_cnn(), 256)
        network = Network(body, width, n_classes, pixels)
        return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def load_weights(network: Network, path: Path) -> None:
    """Load a torchvision ResNet's weights, the head included.

    Raises:
        RequestError: the file is missing, is no file of tensors, or belongs to another network.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it holds no state dictionary")
        named = {
            name.replace("fc.", "head.") if name.startswith("fc.") else f"body.{name}": value
            for name, value in state.items()
        }
        network.load_state_dict(named)
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(line.strip() for line in (str(error) or type(error).__name__).splitlines()[:2])
        raise RequestError(f"weights={path} cannot be loaded as a torchvision ResNet's: {reason}") from error
