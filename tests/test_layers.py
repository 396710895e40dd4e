"""Gradients in several layers: which of them a method sees, when they are computed, and brute force block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import harness
from harness.errors import Unsupported
from harness.interfaces.outputs import Outputs
from harness.interfaces.view import View
from tests.closed_forms import brute, lam, softmax_hessian
from tests.conftest import last_layer


def layered(calls: list[str] | None = None) -> tuple[View, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A view with a last layer and two further blocks, its arrays, and its gradients by block."""
    arrays, rng = last_layer(30, 3, 4), np.random.default_rng(5)
    dense = {"one.lora_A": rng.normal(size=(30, 2, 3)), "two.lora_A": 0.1 * rng.normal(size=(30, 5))}
    reference = {name: rng.normal(size=(9, *values.shape[1:])) for name, values in dense.items()}

    def outputs(prefix: str, blocks: dict[str, np.ndarray]) -> Outputs:
        def computed() -> dict[str, torch.Tensor]:
            if calls is not None:
                calls.append(prefix or "train")
            return {name: torch.from_numpy(values) for name, values in blocks.items()}

        h, p, y = (torch.from_numpy(arrays[prefix + name]) for name in ("features", "probs", "labels"))
        return Outputs(y, p, h, blocks=computed, with_head=True)

    view = View(arrays["labels"], lambda: outputs("", dense), {"validation": lambda: outputs("reference_", reference)})
    flat = {name: values.reshape(30, -1) for name, values in dense.items()} | {"head": brute(arrays, bias=False)}
    flat |= {f"reference {name}": values.reshape(9, -1) for name, values in reference.items()}
    return view, arrays, flat | {"reference head": brute(arrays, False, "reference_")}


def test_the_last_layer_costs_nothing_of_the_others() -> None:
    calls: list[str] = []
    view, _, flat = layered(calls)
    assert list(view.gradients_of("last")) == ["head"]
    np.testing.assert_allclose(view.gradients_of("last").single().rows(slice(None)), flat["head"])
    assert list(view.reference("validation", "last").gradients) == ["head"]
    assert calls == []
    assert "gradients" not in view.used
    assert list(view.gradients) == ["one.lora_A", "two.lora_A", "head"]
    assert list(view.gradients_of("*lora_A")) == ["one.lora_A", "two.lora_A"]
    assert list(view.reference("train", "two*").gradients) == ["two.lora_A"]
    assert calls == ["train"]


def test_layers_that_are_not_there() -> None:
    view, _, _ = layered()
    with pytest.raises(Unsupported, match=r"layers='heads' names no gradient block here \(did you mean 'head'\?\)"):
        harness.method("outlier_l2", layers="heads").score(view)


def test_of_one_layer_the_last_is_all() -> None:
    view = View.from_blocks({"a": np.ones((3, 2)), "b": np.ones((3, 1))})
    assert list(view.gradients_of("last")) == ["a", "b"]
    arrays = last_layer(6, 2, 3)
    view = View.from_arrays(arrays["features"], arrays["probs"], arrays["labels"])
    assert view.gradients_of("last") is view.gradients


@pytest.mark.parametrize("damping", [1e-6, 1e-2, "auto"])
@pytest.mark.parametrize("layers", ["all", "last", "*lora_A"])
def test_influence_block_by_block(damping: float | str, layers: str) -> None:
    view, arrays, flat = layered()
    chosen = {"all": ["one.lora_A", "two.lora_A", "head"], "last": ["head"], "*lora_A": ["one.lora_A", "two.lora_A"]}
    expected = {"exact_hessian": np.zeros(30), "datainf": np.zeros(30), "self_influence": np.zeros(30)}
    for name in chosen[layers]:
        g, ref = flat[name], flat[f"reference {name}"].mean(0)
        curvature = softmax_hessian(arrays, bias=False) if name == "head" else g.T @ g / len(g)
        inverse = np.linalg.inv(curvature + lam(g, damping) * np.eye(g.shape[1]))
        expected["exact_hessian"] -= g @ inverse @ ref
        expected["self_influence"] += np.einsum("ip,pq,iq->i", g, inverse, g)
        one = lam(g, damping)
        u = np.mean([(ref - ref @ k / (one + k @ k) * k) / one for k in g], axis=0)
        expected["datainf"] -= g @ u
    for name, values in expected.items():
        found = harness.method(name, damping=damping, layers=layers).score(view)
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6 * np.abs(values).max())


@pytest.mark.parametrize(
    ("layers", "rows"),
    [
        ("last", lambda flat: flat["head"]),
        ("all", lambda flat: np.hstack([flat["one.lora_A"], flat["two.lora_A"], flat["head"]])),
    ],
)
def test_outlier_analysis_sees_the_chosen_layers(
    layers: str, rows: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> None:
    view, _, flat = layered()
    expected = rows(flat)
    for order in (1, 2):
        found = harness.method(f"outlier_l{order}", layers=layers).score(view)
        np.testing.assert_allclose(found, np.linalg.norm(expected, order, axis=1))
    for name in ("outlier_iforest", "outlier"):
        alone = View.from_blocks({"whole": expected}).fresh(view.seed)
        np.testing.assert_allclose(harness.method(name, layers=layers).score(view), harness.method(name).score(alone))


def test_the_true_hessian_is_taken_where_it_is_known() -> None:
    view, _, _ = layered()
    auto = harness.method("exact_hessian", layers="last").score(view)
    np.testing.assert_array_equal(auto, harness.method("exact_hessian", layers="last", hessian="exact").score(view))
    with pytest.raises(Unsupported, match="known for a last layer"):
        harness.method("exact_hessian", hessian="exact").score(view)
