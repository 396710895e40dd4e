"""`View` for method authors: construction, parts, timing, and the sentences when something does not fit."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from harness.interfaces.outputs import Outputs
from harness.interfaces.view import View
from tests.conftest import last_layer, view_of


def test_parts_of_a_view_from_arrays() -> None:
    arrays = last_layer(12, 3, 4)
    view = view_of(arrays, seed=4)
    assert (view.n, view.labels.tolist()) == (12, arrays["labels"].tolist())
    np.testing.assert_allclose(view.probs, arrays["probs"])
    assert view.predictions.tolist() == arrays["probs"].argmax(1).tolist()
    assert view.features.shape == (12, 4)
    assert view.gradients.dimension == 12
    assert view.reference("validation").n == 9
    assert view.reference("train").n == 12
    assert view.rng.random() == view.rng.random() == np.random.default_rng(4).random()


def test_torch_tensors_and_numpy_arrays_alike() -> None:
    arrays = last_layer(12, 3, 4)
    tensors = {name: torch.tensor(values) for name, values in arrays.items()}
    np.testing.assert_array_equal(view_of(arrays).gradients.norm(1), view_of(tensors).gradients.norm(1))


def test_sigmoid_outputs_are_two_classes() -> None:
    p = np.array([0.2, 0.9, 0.5])
    view = View.from_arrays(np.ones((3, 2)), p, [0, 1, 1])
    np.testing.assert_allclose(view.probs, np.stack([1 - p, p], 1))
    np.testing.assert_allclose(view.gradients["head"].rows(slice(None)), np.outer(p - [0, 1, 1], [1, 1]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"features": np.ones(12)}, "features must be a 2-D array of floats"),
        ({"features": np.ones((11, 4))}, "must have one row per sample; given 11, 12"),
        ({"labels": np.full(12, 3)}, "labels must lie in 0 … 2"),
        ({"labels": np.full(12, -1)}, "labels must lie in 0 … 2"),
        ({"labels": np.full(12, 0.5)}, "labels must be integers, not torch.float64 such as 0.5"),
        ({"labels": np.zeros((12, 1))}, "labels must be 1-D"),
        ({"probs": np.ones((12, 3))}, "probs must be probabilities"),
        ({"probs": -np.ones((12, 3))}, "probs must be probabilities"),
        ({"features": np.full((12, 4), np.nan)}, "features has values that are not finite"),
        ({"features": np.zeros((0, 4))}, "features is empty"),
        ({"reference_labels": None}, "give reference_features, reference_probs and reference_labels together"),
        ({"reference_features": np.ones((9, 5))}, "reference_features has 5 columns, features has 4"),
    ],
)
def test_arrays_that_do_not_fit(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        View.from_arrays(**{**last_layer(12, 3, 4), **change})


def test_probabilities_alone_are_enough_for_some() -> None:
    arrays = last_layer(12, 3, 4)
    view = View.from_arrays(None, arrays["probs"], arrays["labels"])
    assert harness.method("self_confidence").score(view).shape == (12,)
    with pytest.raises(harness.Unsupported, match="gradients need"):
        harness.method("outlier_l2").score(view)
    with pytest.raises(RequestError, match="labels must be an array of numbers"):
        View.from_arrays(None, arrays["probs"], ["cat"] * 12)


def test_blocks_that_do_not_fit() -> None:
    with pytest.raises(RequestError, match="all of one length"):
        View.from_blocks({"a": np.ones((3, 2)), "b": np.ones((4, 2))})
    with pytest.raises(RequestError, match="at least one array"):
        View.from_blocks({})
    with pytest.raises(RequestError, match="same names and sizes"):
        View.from_blocks({"a": np.ones((3, 2))}, {"a": np.ones((3, 3))})
    with pytest.raises(RequestError, match="labels has 2 entries"):
        View.from_blocks({"a": np.ones((3, 2))}, labels=[0, 1])


def test_what_numpy_and_others_hide_is_refused() -> None:
    with pytest.raises(RequestError, match="labels has masked values"):
        View.from_arrays(None, np.full((3, 2), 0.5), np.ma.array([0, 1, 0], mask=[0, 0, 1]))
    with pytest.raises(RequestError, match=r"labels must be class numbers; there is 1e\+300"):
        View.from_arrays(None, np.full((2, 2), 0.5), [0.0, 1e300])
    for blocks in (np.ones((3, 2)), [np.ones((3, 2))], None):
        with pytest.raises(RequestError, match="blocks must be a mapping"):
            View.from_blocks(blocks)
    turned = np.arange(24.0).reshape(4, 2, 3)
    with pytest.raises(RequestError, match=r"reference_blocks\['a'\] has rows of the shape \(3, 2\)"):
        View.from_blocks({"a": turned}, {"a": turned.transpose(0, 2, 1)})
    assert View.from_blocks({"a": turned}, {"a": turned.reshape(4, 6)}).reference("validation").n == 4


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", ">i8", "<i2", "bool", "float32", "object"])
def test_labels_of_any_type(kind: str) -> None:
    view = View.from_arrays(None, np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1], kind))
    np.testing.assert_allclose(harness.method("self_confidence").score(view), [0.1, 0.2])


@pytest.mark.parametrize("kind", ["reversed", "big-endian", "bfloat16", "half", "read-only", "long double"])
def test_probabilities_of_any_layout(kind: str) -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(300), 4)
    made = {
        "reversed": p[::-1][::-1],
        "big-endian": p.astype(">f8"),
        "bfloat16": torch.tensor(p).bfloat16(),
        "half": p.astype(np.float16),
        "read-only": p.copy(),
        "long double": p.astype(np.longdouble),
    }[kind]
    if kind == "read-only":
        made.flags.writeable = False
    view = View.from_arrays(None, made, [0, 1, 2, 3])

    np.testing.assert_allclose(view.probs.sum(1), 1, atol=2e-5)
    np.testing.assert_allclose(view.probs, p, rtol=0.02, atol=1e-6)


def test_blocks_of_any_shape_are_flattened() -> None:
    view = View.from_blocks({"lora_A": np.ones((3, 2, 5)), "lora_B": np.ones((3, 4))}, labels=[0, 1, 0])
    assert {name: block.dimension for name, block in view.gradients.items()} == {"lora_A": 10, "lora_B": 4}
    np.testing.assert_allclose(harness.method("outlier_l1").score(view), 14)


def test_parts_are_computed_once_and_timed_apart() -> None:
    calls = []

    def slow() -> Outputs:
        calls.append(1)
        time.sleep(0.05)
        return Outputs(torch.zeros(4, dtype=torch.int64), torch.full((4, 2), 0.5), torch.ones(4, 3))

    first = View(np.zeros(4, dtype=int), slow)
    second = first.fresh(1)
    assert first.gradients is second.gradients
    assert len(second.probs) == 4
    assert len(calls) == 1
    assert first.extract_seconds >= 0.05
    assert second.extract_seconds >= 0.05, "a part that another method paid for counts too"
    assert first.used == {"gradients", "outputs"}
    assert second.used == {"gradients", "probs", "outputs"}
    assert first.computed_seconds < 0.1


def test_a_method_cannot_change_labels_or_probs_for_the_next() -> None:
    view = view_of(last_layer(5, 2, 2))
    view.labels[:] = 9
    view.probs[:] = 9
    assert view.labels.max() < 2
    assert view.probs.max() <= 1


def test_losses_are_cross_entropies() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    expected = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    np.testing.assert_allclose(Outputs(y, logits.softmax(1)).losses(), expected)
    z, t = torch.tensor([[0.3], [-2.0]], dtype=torch.float64), torch.tensor([1, 0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], t.double(), reduction="none")
    np.testing.assert_allclose(Outputs(t, z.sigmoid()).losses(), expected)


def test_the_documented_interface() -> None:
    """The example of the design: arrays in, scores out."""
    arrays = last_layer(20, 3, 4)
    view = harness.View.from_arrays(**arrays)
    assert harness.method("datainf[reference=validation]").score(view).shape == (20,)
    assert harness.method("datainf", reference="train").attribute(view).shape == (20, 20)
    for name in harness.__all__:
        assert getattr(harness, name).__doc__, name


def test_a_method_needs_score_or_attribute() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Half(harness.Method):
        name = "half"

        def attribute(self, view: View) -> np.ndarray:
            return np.array([[1.0, 3.0], [3.0, 5.0]])

    @dataclass(frozen=True)
    class Empty(harness.Method):
        name = "empty"

    view = View.from_blocks({"a": np.ones((2, 1))})
    assert Half().score(view).tolist() == [2.0, 4.0]
    with pytest.raises(NotImplementedError, match="Empty implements neither"):
        Empty().score(view)
