"""Image networks, their training and reading out."""

from __future__ import annotations

import functools
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import RequestError
from tasks import _images
from tasks._images import Recipe, Windows
from tasks._networks import CIFAR10, Network, Whitening, load_weights, make_network


def recipe(**params: object) -> Recipe:
    values = {"epochs": 1, "batch_size": 5, "lr": 0.01, "weight_decay": 0.0, "schedule": "step", "turn": 0.6,
              "windows": Windows(32, 4), "augment": False, "shuffle": True}  # fmt: skip
    return Recipe(**{**values, **params})  # type: ignore[arg-type]


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that tell their index, and labels."""
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 32, 32), torch.arange(n) % 10


class Spy(nn.Module):
    """A body that writes down what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            mean, std = 255 * CIFAR10.mean[0], 255 * CIFAR10.std[0]
            self.seen += (images[:, 0, 0, 0] * std + mean).round().int().tolist()
        return self.norm(images).mean((2, 3))


def order(n: int, seed: int, **params: object) -> list[int]:
    """In which order a training takes samples."""
    images, labels = numbered(n)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(Spy(), 3, 10, CIFAR10)
    _images.fit(network, images, labels, recipe(**params), seed)
    return network.body.seen  # type: ignore[return-value]


def test_shuffle_decides_whether_the_seed_orders_batches() -> None:
    assert order(20, 0, shuffle=False) == order(20, 1, shuffle=False) == list(range(20))
    assert order(20, 0) != order(20, 1)
    assert sorted(order(20, 0)) == list(range(20))
    two = order(20, 0, epochs=2)
    assert two[:20] != two[20:]


def test_a_last_batch_of_one_sample_is_left_out() -> None:
    assert order(21, 0, shuffle=False) == list(range(20))
    assert order(22, 0, shuffle=False) == list(range(22))


def test_training_on_kept_samples_is_training_on_them_alone() -> None:
    images, labels = numbered(60)
    kept = torch.arange(0, 60, 2)
    one, two = (make_network("small_cnn", 10, 0) for _ in range(2))
    plan = recipe(epochs=2, batch_size=8, augment=True)
    _images.fit(one, images, labels, plan, 3, kept=kept)
    _images.fit(two, images[kept], labels[kept], plan, 3)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_learning_rates_follow_the_schedule() -> None:
    step = recipe(epochs=10, lr=0.1, turn=0.6)
    assert [step.rate(0, 0, epoch) for epoch in range(10)] == [0.1] * 6 + [0.01] * 4
    cycle = recipe(schedule="one_cycle", lr=1.0, turn=0.25)
    rates = [cycle.rate(i, 100, 0) for i in range(100)]
    assert rates.index(max(rates)) in (24, 25)
    assert max(rates) == 1.0
    assert rates[0] == pytest.approx(1 / 25)
    assert 0 < rates[-1] < 0.02
    np.testing.assert_allclose(np.diff(rates)[30:], -1 / 75, atol=1e-12)


def test_training_is_sgd_as_torch_does_it() -> None:
    """Against a plain loop with torch.optim.SGD in file order, step schedule, in float64."""
    images, labels = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(3)), numbered(40)[1]
    images = images.to(torch.uint8)
    ours, theirs = (make_network("small_cnn", 10, 0).double() for _ in range(2))
    plan = recipe(epochs=5, batch_size=16, lr=0.05, weight_decay=1e-3, shuffle=False)

    def features(images: torch.Tensor) -> torch.Tensor:
        return ours.body(((images.double() - ours.mean) / ours.std).contiguous(memory_format=torch.channels_last))

    ours.features = features  # type: ignore[method-assign]
    _images.fit(ours, images, labels, plan, 0)
    optimiser = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    for epoch in range(5):
        optimiser.param_groups[0]["lr"] = 0.05 if epoch < 3 else 0.005
        for x, y in zip(images.split(16), labels.split(16), strict=True):
            optimiser.zero_grad()
            logits = theirs.head(theirs.body((x.double() - theirs.mean) / theirs.std))
            torch.nn.functional.cross_entropy(logits.float(), y).backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_augmentation_crops_and_flips() -> None:
    """Every augmented image is a window of its black-padded original, mirrored or not; both happen, offsets vary."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    windows = Windows(32, 4)
    drawn = windows.draw(40, images.shape[2:], generator)
    made = windows.cut(images, drawn)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    for i, (top, left, mirrored) in enumerate(drawn.tolist()):
        window = padded[i, :, top : top + 32, left : left + 32]
        assert torch.equal(made[i], window.flip(2) if mirrored else window)
    many = windows.draw(10_000, images.shape[2:], generator)
    assert [many[:, k].unique().tolist() for k in range(3)] == [list(range(9)), list(range(9)), [0, 1]]


def test_crops_of_larger_images() -> None:
    images = torch.arange(2 * 3 * 10 * 8, dtype=torch.uint8).view(2, 3, 10, 8)
    windows = Windows(6, 0)
    drawn = windows.draw(1000, images.shape[2:], torch.Generator().manual_seed(0))
    assert (int(drawn[:, 0].max()), int(drawn[:, 1].max())) == (4, 2)
    cut = windows.cut(images, torch.tensor([[4, 2, 0], [0, 1, 1]]))
    assert torch.equal(cut[0], images[0, :, 4:, 2:])
    assert torch.equal(cut[1], images[1, :, :6, 1:7].flip(2))
    assert torch.equal(windows.centre(images), images[:, :, 2:8, 1:7])


def test_networks_have_the_published_sizes() -> None:
    for name, large, millions in (
        ("resnet18", False, 11.17),
        ("resnet34", False, 21.28),
        ("resnet18", True, 11.18),
        ("resnet34", True, 21.29),
    ):
        network = make_network(name, 10, 0, large=large)
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
        side = 64 if large else 32
        assert network.eval().features(torch.zeros(2, 3, side, side, dtype=torch.uint8)).shape == (2, 512)
    cifar = make_network("resnet18", 10, 0)
    assert cifar.body[:4](torch.zeros(2, 3, 32, 32)).shape == (2, 64, 32, 32)  # type: ignore[index]


@pytest.mark.parametrize("name", ["small_cnn", "fast_cnn", "resnet18"])
def test_weights_come_from_the_seed(name: str) -> None:
    one, same, other = (make_network(name, 10, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_the_whitening_layer_whitens() -> None:
    """Patches of the images it is adapted to come out uncorrelated, of unit variance; it is not trained."""
    noise = torch.randn(60, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    smooth = noise + torch.roll(noise, 1, 3) + 0.5 * noise.flip(1)  # neighbours and channels depend on each other
    with torch.random.fork_rng():
        layer, expected = Whitening(), Whitening()
    layer.adapt(smooth)
    out = layer(smooth)[:, :, ::2, ::2].permute(0, 2, 3, 1).reshape(-1, 24)
    torch.testing.assert_close(out[:, :12].T @ out[:, :12] / len(out), torch.eye(12), atol=0.02, rtol=0)
    torch.testing.assert_close(out[:, :12], -out[:, 12:])
    images, labels = numbered(40)
    network = make_network("fast_cnn", 10, 0)
    _images.fit(network, images, labels, recipe(epochs=1), 0)
    whitening = network.body[0]  # type: ignore[index]
    expected.adapt(network.normalised(images))
    torch.testing.assert_close(whitening.weight, expected.weight)
    assert whitening.bias.abs().sum() > 0  # its shift is


@pytest.mark.parametrize("name", ["small_cnn", "fast_cnn"])
def test_features_and_head_make_the_probabilities(name: str) -> None:
    network = make_network(name, 10, 0).eval()
    images = torch.randint(0, 256, (30, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, probs = _images.read_out(network, images, recipe())
    torch.testing.assert_close(network(images).softmax(1), probs)
    torch.testing.assert_close(network.head(features).softmax(1), probs)
    halves = [_images.read_out(network, part, recipe())[1] for part in images.split(17)]
    torch.testing.assert_close(torch.cat(halves), probs, rtol=1e-4, atol=1e-6)


def test_half_precision_trains_and_reads_out() -> None:
    """bfloat16 autocast: weights stay float32, and probabilities are near float32's."""
    images, labels = numbered(40)
    plan = recipe(precision="bfloat16", epochs=2)
    network = make_network("small_cnn", 10, 0)
    _images.fit(network, images, labels, plan, 0)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    half, whole = (_images.read_out(network, images, each)[1] for each in (plan, recipe(precision="float32")))
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, atol=0.05, rtol=0.05)


def tiny(n_classes: int, seed: int) -> Network:
    """A network that is compiled in seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Conv2d(3, 4, 3, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Network(body, 4, n_classes, CIFAR10)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, torch.arange(20) % 2


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler here")
def test_compiled_training_is_the_same_training() -> None:
    """To rounding, a smaller last batch included; a second network of the kind is not compiled again."""
    from torch._dynamo.utils import counters

    def trained(seed: int, compiled: bool) -> Network:
        network = tiny(2, seed)
        _images.fit(network, *pictures(), recipe(epochs=2, batch_size=8, augment=True, compiled=compiled), seed)
        return network

    counters.clear()
    graphs = []
    for seed in (0, 1):
        eager, compiled = trained(seed, False).state_dict(), trained(seed, True).state_dict()
        assert eager.keys() == compiled.keys()
        for name, values in eager.items():
            torch.testing.assert_close(compiled[name], values, rtol=1e-3, atol=1e-4)
        moved = eager["head.weight"] - tiny(2, seed).state_dict()["head.weight"]
        assert moved.abs().max() > 1e-3, "so that closeness says something"
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[0] == graphs[1]


def test_every_kind_of_network_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are in a process; PyTorch gives up after eight forms of a function unless told otherwise."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    counters.clear()
    found = [0]
    for n_classes in range(2, 14):
        _images.fit(tiny(n_classes, 0), *pictures(), recipe(batch_size=20, compiled=True), 0)
        found.append(counters["stats"]["unique_graphs"])
    assert all(after > before for before, after in pairwise(found))


def test_torchvision_weights_load(tmp_path: Path) -> None:
    source, target = make_network("resnet18", 7, 1, large=True), make_network("resnet18", 7, 2, large=True)
    named = {k.replace("head.", "fc.").removeprefix("body."): v for k, v in source.state_dict().items()}
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer2.0.downsample.0.weight",
        "layer4.1.conv2.weight",
        "fc.bias",
    } <= set(named)
    torch.save(named, tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    for key, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[key])
    with pytest.raises(RequestError, match=r"weights=.* cannot be loaded .*: .*size mismatch"):
        load_weights(make_network("resnet18", 8, 0, large=True), tmp_path / "weights.pth")
    with pytest.raises(RequestError, match=r"weights=.*nothing"):
        load_weights(target, tmp_path / "nothing.pth")
    torch.save([1, 2], tmp_path / "weights.pth")
    with pytest.raises(RequestError, match="no state dictionary"):
        load_weights(target, tmp_path / "weights.pth")
