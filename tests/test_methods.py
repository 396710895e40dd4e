"""The methods against brute force in float64: plain loops and dense matrices, at small and moderate damping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import harness
from harness.errors import RequestError, Unsupported
from harness.interfaces.uses import NEEDS_MODEL
from harness.selection.registry import METHODS
from tests.closed_forms import brute
from tests.conftest import last_layer, view_of


def test_label_quality_is_cleanlabs_documented_score() -> None:
    arrays = last_layer(50, 4, 3)
    view = view_of(arrays)
    p, y = arrays["probs"], arrays["labels"]
    given = p[np.arange(50), y]
    np.testing.assert_allclose(harness.method("self_confidence").score(view), 1 - given)
    rest = p.copy()
    rest[np.arange(50), y] = -1
    np.testing.assert_allclose(harness.method("normalized_margin").score(view), 1 - (given - rest.max(1) + 1) / 2)
    entropy = -(p * np.log(p)).sum(1) / np.log(4)
    ratio = given / entropy
    ours = harness.method("confidence_weighted_entropy").score(view)
    assert spearmanr(ours, -ratio).statistic > 0.999


def test_the_surest_right_labels_are_the_least_suspicious() -> None:
    """Cleanlab's number puts them on top, since it cuts a ratio off below 1e-6; `paper` keeps it, `fair` does not."""
    probs = np.array([[1, 0, 0], [1 - 1e-9, 1e-9, 0], [0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.05, 0.9, 0.05], [0, 1, 0]])
    view = harness.View.from_arrays(None, probs, np.zeros(6, int))
    fair = harness.method("confidence_weighted_entropy").score(view)
    assert view.health["clipped_by_cleanlab"] == 2
    published = harness.method("confidence_weighted_entropy", clipped=True).score(view)

    assert np.isfinite(fair).all()
    assert fair.argsort().tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(published[[0, 2, 3, 4]], [1, 0.158, 0.369, 0.707], atol=5e-4)
    assert published[0] == published.max()
    entropy = -(probs[2:5] * np.log(probs[2:5])).sum(1) / np.log(3)
    np.testing.assert_allclose(fair[2:5], np.log(entropy / probs[2:5, 0]))
    assert harness.method("confidence_weighted_entropy", protocol="paper").clipped


@pytest.mark.parametrize("damping", [1e-4, 1e-6, 1e-8])
def test_outer_products_of_a_last_layer_are_taken_in_float64(damping: float) -> None:
    """Features of low rank and float32 outputs: products rounded to float32 would come back divided by λ."""
    rng = np.random.default_rng(0)
    h = (rng.standard_normal((60, 2)) @ rng.standard_normal((2, 8))).astype(np.float32)
    p = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    y = rng.integers(0, 4, 60)
    view = harness.View.from_arrays(h, p, y, h[:9], p[:9], y[:9])
    e = view.outputs().probs.double().numpy() - np.eye(4)[y]
    g = (e[:, :, None] * h[:, None, :].astype(float)).reshape(60, -1)
    inverse = np.linalg.inv(g.T @ g / 60 + damping * np.eye(32))

    for name in ("exact_hessian", "self_influence"):
        method = harness.method(name, hessian="outer_product", damping=damping)
        expected = (
            -g[:9].mean(0) @ inverse @ g.T if name == "exact_hessian" else np.einsum("ip,pq,iq->i", g, inverse, g)
        )
        np.testing.assert_allclose(method.score(view), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_predicted_labels_hide_the_noise() -> None:
    """Row 1 of the protocols: with predicted labels the given ones no longer matter."""
    arrays = last_layer(50, 4, 3)
    other = {**arrays, "labels": (arrays["labels"] + 1) % 4}
    for name in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        paper = harness.method(name, protocol="paper")
        np.testing.assert_array_equal(paper.score(view_of(arrays)), paper.score(view_of(other)))
        assert not np.allclose(harness.method(name).score(view_of(arrays)), harness.method(name).score(view_of(other)))


@pytest.mark.parametrize("protocol", ["fair", "paper"])
@pytest.mark.parametrize(
    "case", ["one zero gradient", "all zero gradients", "one sample", "one class missing", "sigmoid"]
)
def test_degenerate_views_give_finite_scores(case: str, protocol: str) -> None:
    arrays = last_layer(1 if case == "one sample" else 12, 3, 4)
    if case == "one zero gradient":
        arrays["features"][0] = 0
    if case == "all zero gradients":
        arrays["features"][:] = 0
    if case == "one class missing":
        arrays["labels"] %= 2
    if case == "sigmoid":
        arrays["labels"] %= 2
        arrays["reference_labels"] %= 2
        arrays = {name: values[:, :1] if name.endswith("probs") else values for name, values in arrays.items()}
    for name, cls in METHODS.classes().items():
        if cls.named_only or NEEDS_MODEL & set(cls().uses):
            continue
        view = view_of(arrays)
        if case == "one sample" and name in ("outlier", "knn_labels"):  # which compare a sample with others
            with pytest.raises(harness.Unsupported, match=r"one sample has none|more samples than the 1"):
                harness.method(name, protocol=protocol).score(view)
            continue
        scores = harness.method(name, protocol=protocol).score(view)
        assert scores.shape == (view.n,), name
        assert np.isfinite(scores).all(), name


def test_dense_and_outer_blocks_agree() -> None:
    arrays = last_layer(20, 3, 4)
    dense = harness.View.from_blocks({"head": brute(arrays, False)}, {"head": brute(arrays, False, "reference_")})
    names = [
        "gradient_tracing",
        "datainf",
        "lissa",
        "self_datainf",
        "self_lissa",
        "outlier_l1",
        "outlier_l2",
        "outlier_iforest",
    ]
    for name in [*names, "exact_hessian[hessian=outer_product]", "self_influence[hessian=outer_product]"]:
        method = harness.method(name)
        np.testing.assert_allclose(method.score(dense), method.score(view_of(arrays)), rtol=1e-6, err_msg=name)
    with pytest.raises(Unsupported, match="outer_product"):
        harness.method("exact_hessian[hessian=exact]").score(dense)


def test_what_a_view_lacks_is_said() -> None:
    arrays = last_layer(10, 2, 3)
    alone = harness.View.from_arrays(arrays["features"], arrays["probs"], arrays["labels"])
    with pytest.raises(Unsupported, match="no reference set 'validation'"):
        harness.method("datainf").score(alone)
    with pytest.raises(Unsupported, match="retraining needs a task"):
        harness.method("leave_one_out").score(alone)
    with pytest.raises(Unsupported, match="a task that can retrain"):
        harness.method("self_confidence[probs=out_of_sample]").score(alone)
    with pytest.raises(Unsupported, match="attributes nothing"):
        harness.method("outlier_l2").attribute(alone)


IMPOSSIBLE = (
    "datainf[damping=0]",
    "lissa[damping=-1]",
    "lissa[iterations=0]",
    "lissa[scale=0]",
    "self_lissa[scale=-1]",
    "outlier_iforest[n_estimators=0]",
    "outlier_iforest[projection=0]",
)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_parameters_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="must be"):
        harness.method(name)


def test_inputs_are_left_unchanged() -> None:
    arrays = last_layer(20, 3, 4)
    copies = {name: values.copy() for name, values in arrays.items()}
    view = view_of(arrays)
    for name, cls in METHODS.classes().items():
        if not (cls.named_only or NEEDS_MODEL & set(cls().uses)):
            harness.method(name).score(view)
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, copies[name], err_msg=name)
    assert torch.equal(view.features, torch.tensor(copies["features"]))


FLOAT32 = ["gradient_tracing", "datainf", "exact_hessian", "lissa", "self_influence", "self_datainf", "self_lissa"]


@pytest.mark.parametrize("damping", [1e-4, 1e-2, "auto"])
@pytest.mark.parametrize("name", FLOAT32)
def test_float32_gradients_give_the_scores_of_float64(name: str, damping: float | str) -> None:
    """The bound is of float32's rounding of the inputs times what the damping amplifies, not of the engine's own."""
    arrays = last_layer(1200, 4, 60, n_ref=50)
    single = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()}
    double = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in single.items()}
    method = harness.method(name) if name == "gradient_tracing" else harness.method(name, damping=damping)
    expected, scores = (method.score(view_of(part)) for part in (double, single))
    np.testing.assert_allclose(scores, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    assert spearmanr(scores, expected)[0] > 0.999999


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_blocks_are_multiplied_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values, reference = (torch.rand(n, 200, generator=generator).to(dtype) * 300 for n in (400, 20))
    half, full = (
        harness.View.from_blocks({"g": values.to(kind)}, {"g": reference.to(kind)}) for kind in (dtype, torch.float32)
    )
    for name in ("datainf", "gradient_tracing", "outlier_l1", "outlier_l2", "self_datainf", "outlier_iforest"):
        method = harness.method(name)
        np.testing.assert_allclose(method.score(half), method.score(full), rtol=1e-4, err_msg=name)


def test_arrays_in_any_memory_order() -> None:
    arrays = last_layer(50, 4, 5)
    other = {name: np.asfortranarray(values) for name, values in arrays.items()}
    for name in ("datainf", "lissa", "gradient_tracing", "exact_hessian"):
        method = harness.method(name)
        np.testing.assert_allclose(method.attribute(view_of(other)), method.attribute(view_of(arrays)), rtol=1e-9)


def test_a_forest_refuses_gradients_that_are_not_finite() -> None:
    from harness.interfaces.outputs import Outputs

    values = torch.ones(30, 3)
    values[4] = np.nan
    view = harness.View(np.zeros(30, dtype=int), lambda: Outputs(torch.zeros(30).long(), blocks={"g": values}))
    with pytest.raises(ValueError, match="not finite"):
        harness.method("outlier_iforest").score(view)
