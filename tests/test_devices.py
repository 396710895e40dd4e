"""Everything on another device than the CPU: on a pretended one, in a process of its own, and on a GPU where one is."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.data.files import in_folder
from harness.errors import Unsupported
from harness.running.events import Finished
from harness.running.group import run_group
from harness.selection.plan import group, make_plan
from harness.selection.registry import METHODS
from tests import pretend_device
from tests.conftest import last_layer
from tests.pretend_device import DEVICE, NAME, pretended

Elsewhere = Callable[..., Any]

NLP = pytest.mark.skipif(
    not (importlib.util.find_spec("transformers") and importlib.util.find_spec("peft")),
    reason="the extra nlp is not installed",
)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
ALL = "all,-leave_one_out"
IMAGES = (
    "imagenet_subset[per_class=5,n_test=none,n_validation=3,epochs=2,batch_size=8,budget=0.2,augment=yes,"
    "precision=float32"
)
PROMPTS = "prompts_math[per_class=5,test_per_class=2,epochs=1,pretraining=1,pretraining_per_class=8,precision=float32]"


@pytest.fixture(scope="module")
def pretending() -> Iterator[Elsewhere]:
    """Calls a function where there is such a device."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            pool.submit(pretend_device.register).result()
        except ImportError as error:
            pytest.skip(f"this PyTorch knows no devices written in Python: {error}")
        yield lambda function, *args: pool.submit(function, *args).result()


@pytest.fixture(params=[DEVICE, pytest.param("cuda:0", marks=CUDA)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, device: str) -> Elsewhere:
    """Calls a function where there is the device."""
    if device != DEVICE:
        return lambda function, *args: function(*args)
    found: Elsewhere = request.getfixturevalue("pretending")
    return found


def _strictness() -> list[str]:
    """What each of some mistakes leads to."""
    found = []

    def told(mistake: Callable[[], object]) -> None:
        try:
            mistake()
            found.append("nothing")
        except (RuntimeError, TypeError) as error:
            found.append(str(error))

    with pretended():
        here, there = torch.arange(6.0), torch.arange(6.0, device=DEVICE)
        told(lambda: here + there)
        told(lambda: torch.cat([here, there]))
        told(lambda: here[there.long()])
        told(lambda: there[torch.tensor([1])])
        told(lambda: there + torch.tensor(1.0))
        told(lambda: there.numpy())
        told(lambda: torch.randn(3, device=DEVICE, generator=torch.Generator()))
    return found


def test_the_device_is_as_strict_as_a_gpu(pretending: Elsewhere) -> None:
    mixed, joined, indexed, *fine, array, drawn = pretending(_strictness)
    assert "expected all tensors to be on one device" in mixed
    assert "expected all tensors to be on one device" in joined
    assert "indices should be on the CPU" in indexed
    assert fine == ["nothing", "nothing"]
    assert "numpy" in array
    assert f"expected a generator of {DEVICE}" in drawn


def _counts() -> list[dict[str, int]]:
    found = []
    for use in (
        lambda there: float(there.sum()),
        lambda there: there[there > 1],
        lambda there: there.cpu(),
        lambda there: torch.bincount(there.long()),
        lambda there: there.copy_(torch.zeros(3)),
        lambda there: there[torch.tensor([0, 2])],
        lambda there: there[[0, 2]],
        lambda there: torch.tensor([1, 2], device=DEVICE),
        lambda there: (there * 2).sum(),
    ):
        with pretended() as counted:
            there = torch.ones(3, device=DEVICE)
            before = counted.copy()
            use(there)
        found.append({name: counted[name] - before[name] for name in ("waits", "copies")})
    return found


def test_waits_and_copies_are_counted(pretending: Elsewhere) -> None:
    waits, copies = ([each[name] for each in pretending(_counts)] for name in ("waits", "copies"))
    assert waits == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert copies == [0, 0, 0, 0, 1, 1, 1, 1, 0]


COUNTING = ("knn_labels", "knn_shapley", "forgetting", "data_oob")
"""Methods whose scores are counts: rounding that changes a nearest neighbour or a prediction changes them by steps."""


def _both(methods: str, task: str, protocol: str, data: str, device: str) -> list[tuple[str, Any, Any]]:
    """(method, record, arrays) of one seed's cells, on the CPU and on the other device."""
    if task.startswith(("glue", "prompts")):
        from tasks import _text_training

        for most in (_text_training.READ_TOKENS, _text_training.GRADIENT_TOKENS):
            most.setdefault(NAME, most["cpu"])

    def cells(where: str) -> dict[str, tuple[Any, Any]]:
        groups = group(make_plan(methods, task, [0], protocol, "smoke"))
        events = [event for members in groups for event in run_group(members, where)]
        return {e.cell.method_spec: (e.record, e.arrays) for e in events if isinstance(e, Finished)}

    with in_folder(data or None):
        here = cells("cpu")
        with pretended() if device == DEVICE else nullcontext():
            there = cells(device)
    assert here.keys() == there.keys()
    return [(name, here[name], there[name]) for name in here]


@pytest.fixture
def data(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of images, or of GLUE's files."""
    if request.param == "glue":
        from tests.glue_files import write_glue

        write_glue(tmp_path, tasks=["SST-2"])
        return str(tmp_path)
    return str(request.getfixturevalue(request.param)) if request.param else ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "task", "protocol", "data"),
    [
        (ALL, "moons[steps=30]", "fair", ""),
        (ALL, "moons[steps=30]", "paper", ""),
        ("leave_one_out", "moons[steps=5]", "fair", ""),
        (ALL, "blobs", "fair", ""),
        (ALL, "digits[steps=20]", "fair", ""),
        (ALL, f"{IMAGES}]", "fair", "imagenet"),
        (ALL, f"{IMAGES}]", "paper", "imagenet"),
        ("none,outlier_iforest[projection=7],outlier[projection=7]", f"{IMAGES},model=fast_cnn]", "fair", "imagenet"),
        ("none,outlier_l1", f"{IMAGES},model=resnet18]", "paper", "imagenet"),
        pytest.param(
            ALL, "glue_sst2[n_train=60,n_dev=40,n_validation=20,epochs=1,precision=float32]", "fair", "glue", marks=NLP
        ),
        pytest.param(ALL, PROMPTS, "fair", "", marks=NLP),
    ],
    indirect=["data"],
)
def test_another_device_gives_the_same(
    elsewhere: Elsewhere, methods: str, task: str, protocol: str, data: str, device: str
) -> None:
    """Data, training, gradients, scores and retraining: nothing lies on the wrong device, and results are the CPU's.

    To rounding: attention is computed by other operations off the CPU, and a forest's thresholds turn that into steps.
    A GPU rounds everything otherwise, and what models are after their training with it.
    """
    exact = device == DEVICE and not task.startswith(("glue", "prompts"))
    close = 1e-6 if exact else 0.02 if device == DEVICE else 0.05
    cells = elsewhere(_both, methods, task, protocol, data, device)
    assert {record.status for _, (record, _), _ in cells} <= {"ok", "skipped"}
    assert "ok" in {record.status for _, (record, _), _ in cells}
    for name, (record, arrays), (other, others) in cells:
        assert (other.status, other.error) == (record.status, record.error), name
        assert arrays.keys() == others.keys()
        if device != DEVICE and "outlier" in name and "_l" not in name:
            continue  # detectors with thresholds
        if not exact and name in COUNTING:
            continue
        for kind in arrays.keys() & {"scores", "attribution"}:
            size = np.abs(arrays[kind]).max()
            np.testing.assert_allclose(others[kind], arrays[kind], rtol=0, atol=close * size, err_msg=f"{name}, {kind}")
        assert other.metrics == pytest.approx(record.metrics, abs=1e-6 if exact else 0.5)


def _notebook(protocol: str, device: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(what, on the CPU, on the device) for every method's scores and attributions of a user's own tensors."""

    def found(where: str) -> dict[str, np.ndarray]:
        arrays = {name: torch.from_numpy(values) for name, values in last_layer(40, 3, 5).items()}
        here = {name: values if name == "labels" else values.to(where) for name, values in arrays.items()}
        model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
        for i, values in enumerate(model.parameters()):
            values.data = torch.linspace(-1, 1 + i, values.numel(), dtype=torch.float64).reshape(values.shape)
        model.to(where)
        train, reference = (
            harness.per_sample_gradients(model, here[f"{part}features"], here[f"{part}labels"].to(where))
            for part in ("", "reference_")
        )
        views = {
            "last layer": harness.View.from_arrays(**here, seed=1, bias=True),
            "blocks": harness.View.from_blocks(train, reference, labels=here["labels"], seed=1),
        }
        results = {}
        ours = [name for name, cls in METHODS.classes().items() if not cls.named_only]
        for name, (kind, view), action in product(ours, views.items(), ("score", "attribute")):
            with suppress(Unsupported, NotImplementedError):  # what a method cannot do, it can on no device
                ask = getattr(harness.method(name, protocol=protocol), action)
                results[f"{name}.{action} of {kind}"] = ask(view.fresh(1))
        return results

    on_cpu = found("cpu")
    with pretended() if device == DEVICE else nullcontext():
        there = found(device)
    assert on_cpu.keys() == there.keys()
    return [(name, on_cpu[name], there[name]) for name in on_cpu]


@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_own_tensors_on_another_device(elsewhere: Elsewhere, protocol: str, device: str) -> None:
    results = elsewhere(_notebook, protocol, device)
    assert len(results) > 30
    for name, ours, theirs in results:
        if device != DEVICE and name.startswith(("outlier_iforest", "outlier.")):
            continue  # detectors with thresholds
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * np.abs(ours).max(), err_msg=name)


def _traffic_of_training(n: int) -> dict[str, int]:
    from tasks._images import Recipe, Windows, fit
    from tasks._networks import make_network

    images = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)
    recipe = Recipe(2, 8, 0.1, 5e-4, "one_cycle", 0.5, Windows(32, 4), augment=True, shuffle=True)
    with pretended() as counted:
        network = make_network("small_cnn", 10, 0).to(DEVICE)
        data = images.to(DEVICE), torch.zeros(n, dtype=torch.int64, device=DEVICE)
        before = counted.copy()
        fit(network, *data, recipe, 0)
    return {name: counted[name] - before[name] for name in ("waits", "copies", "operations")}


def test_a_training_step_neither_waits_nor_copies(pretending: Elsewhere) -> None:
    """Ten times the steps, and as few waits and copies: those of an epoch."""
    few, many = (pretending(_traffic_of_training, n) for n in (16, 160))
    assert many["operations"] > 5 * few["operations"]
    assert few["waits"] == many["waits"] == 0
    assert few["copies"] == many["copies"]
    assert few["copies"] <= 4  # an order and the crops, twice


def _waits_of_reading(n: int) -> int:
    from tasks._images import Recipe, Windows, read_out
    from tasks._networks import make_network

    recipe = Recipe(1, 8, 0.1, 5e-4, "step", 0.5, Windows(32, 4), augment=True, shuffle=True)
    with pretended() as counted:
        network = make_network("small_cnn", 10, 0).to(DEVICE)
        images = torch.zeros(n, 3, 32, 32, dtype=torch.uint8, device=DEVICE)
        before = counted["waits"]
        read_out(network, images, recipe, augment_seed=1)
    return counted["waits"] - before


def test_reading_out_waits_for_nothing(pretending: Elsewhere) -> None:
    assert pretending(_waits_of_reading, 2100) == 0
