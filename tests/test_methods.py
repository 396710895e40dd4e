"""The methods against brute force in float64: plain loops and dense matrices, at small and moderate damping."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import harness
from harness.errors import RequestError, Unsupported
from harness.selection.registry import METHODS
from methods import _solvers as solvers
from tests.conftest import last_layer, view_of

LAMBDAS = [1e-6, 1e-3, 0.1, "auto"]
SHAPES = [(40, 2, 3), (25, 4, 5), (6, 3, 7)]  # the last has more parameters than samples


def brute(arrays: dict[str, np.ndarray], bias: bool, prefix: str = "") -> np.ndarray:
    """Gradients (n, p) by a loop over samples."""
    h, p, y = (arrays[prefix + name] for name in ("features", "probs", "labels"))
    if bias:
        h = np.hstack([h, np.ones((len(h), 1))])
    return np.stack([np.outer(p[i] - np.eye(p.shape[1])[y[i]], h[i]).ravel() for i in range(len(y))])


def softmax_hessian(arrays: dict[str, np.ndarray], bias: bool) -> np.ndarray:
    """True Hessian, sample by sample."""
    h, p = arrays["features"], arrays["probs"]
    if bias:
        h = np.hstack([h, np.ones((len(h), 1))])
    total = sum(np.kron(np.diag(p[i]) - np.outer(p[i], p[i]), np.outer(h[i], h[i])) for i in range(len(p)))
    return np.asarray(total) / len(p)


def lam(g: np.ndarray, damping: float | str) -> float:
    return float((g**2).mean() / 10) if damping == "auto" else float(damping)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("damping", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hessian", ["exact", "outer_product"])
def test_exact_influence(shape: tuple[int, int, int], damping: float | str, bias: bool, hessian: str) -> None:
    arrays = last_layer(*shape)
    g, ref = brute(arrays, bias), brute(arrays, bias, "reference_")
    matrix = softmax_hessian(arrays, bias) if hessian == "exact" else g.T @ g / len(g)
    inverse = np.linalg.inv(matrix + lam(g, damping) * np.eye(len(matrix)))
    method = harness.method("exact_hessian", damping=damping, hessian=hessian)
    view = view_of(arrays, bias=bias)
    tolerance = {"rtol": 1e-6, "atol": 1e-8 * np.abs(inverse).max()}
    np.testing.assert_allclose(method.score(view), -g @ inverse @ ref.mean(0), **tolerance)
    np.testing.assert_allclose(method.attribute(view), -ref @ inverse @ g.T, **tolerance)
    itself = harness.method("self_influence", damping=damping, hessian=hessian).score(view)
    np.testing.assert_allclose(itself, np.einsum("ip,pq,iq->i", g, inverse, g), **tolerance)
    smallest = view.health["head"]["smallest_eigenvalue"]
    assert abs(smallest - np.linalg.eigvalsh(matrix)[0]) < 1e-3 * np.linalg.eigvalsh(matrix)[-1]


@pytest.mark.parametrize("damping", [1e-3, "auto"])
@pytest.mark.parametrize("shape", SHAPES)
def test_beyond_the_direct_dimension_conjugate_gradients_agree(
    shape: tuple[int, int, int], damping: float | str
) -> None:
    arrays = last_layer(*shape)
    for name in ("exact_hessian", "self_influence"):
        method = harness.method(name, damping=damping)
        direct = method.score(view_of(arrays))
        with mock.patch.object(solvers, "FACTOR_BYTES", 0):
            view = view_of(arrays)
            iterated = method.score(view)
        np.testing.assert_allclose(iterated, direct, rtol=1e-5, atol=1e-7 * np.abs(direct).max())
        assert view.health["head"]["solver"] == "conjugate_gradient"
        assert view.health["head"]["converged"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_where_memory_does_not_suffice_conjugate_gradients_take_over(error: Exception) -> None:
    arrays = last_layer(*SHAPES[0])
    for name in ("exact_hessian", "self_influence"):
        direct = harness.method(name).score(view_of(arrays))
        with mock.patch.object(solvers.Factorised, "__init__", side_effect=error):
            view = view_of(arrays)
            iterated = harness.method(name).score(view)
        np.testing.assert_allclose(iterated, direct, rtol=1e-5, atol=1e-7 * np.abs(direct).max())
        assert view.health["head"]["solver"] == "conjugate_gradient"
    with (
        mock.patch.object(solvers.Factorised, "__init__", side_effect=RuntimeError("another fault")),
        pytest.raises(RuntimeError, match="another fault"),
    ):
        harness.method("exact_hessian").score(view_of(arrays))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("damping", LAMBDAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_datainf(shape: tuple[int, int, int], damping: float | str, bias: bool) -> None:
    arrays = last_layer(*shape)
    g, ref = brute(arrays, bias), brute(arrays, bias, "reference_")
    value, n = lam(g, damping), len(g)
    inverse = sum(np.linalg.inv(value * np.eye(g.shape[1]) + np.outer(row, row)) for row in g) / n
    view = view_of(arrays, bias=bias)
    method = harness.method("datainf", damping=damping)
    tolerance = {"rtol": 1e-6, "atol": 1e-9 * np.abs(inverse).max()}
    np.testing.assert_allclose(method.score(view), -g @ inverse @ ref.mean(0), **tolerance)
    np.testing.assert_allclose(method.attribute(view), -ref @ inverse @ g.T, **tolerance)
    np.testing.assert_allclose(
        harness.method("self_datainf", damping=damping).score(view),
        np.einsum("ip,pq,iq->i", g, inverse, g),
        **tolerance,
    )


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("damping", [1e-2, "auto"])
@pytest.mark.parametrize("shape", SHAPES)
def test_lissa_converges_to_the_damped_inverse(
    shape: tuple[int, int, int], damping: float | str, spectral: bool
) -> None:
    import methods.influence

    arrays = last_layer(*shape)
    g, ref = brute(arrays, False), brute(arrays, False, "reference_")
    inverse = np.linalg.inv(g.T @ g / len(g) + lam(g, damping) * np.eye(g.shape[1]))
    view = view_of(arrays)
    settings = {"damping": damping, "tolerance": 1e-9, "iterations": 200_000}
    with mock.patch.object(methods.influence, "SPECTRAL_DIMENSION", 10_000 if spectral else 0):
        scores = harness.method("lissa", **settings).score(view)
    expected = -g @ inverse @ ref.mean(0)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
    assert view.health["head"]["converged"]
    itself = harness.method("self_lissa", **settings).score(view_of(arrays))
    expected = np.einsum("ip,pq,iq->i", g, inverse, g)
    np.testing.assert_allclose(itself, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_self_lissa_is_the_recursion_stopped_early(shape: tuple[int, int, int]) -> None:
    """T iterations through eigenvalues equal T iterations by the loop, where nothing has converged yet."""
    arrays = last_layer(*shape)
    g = brute(arrays, False)
    damping, scale = lam(g, "auto"), 0.03
    a = g.T @ g / len(g) + damping * np.eye(g.shape[1])
    r = scale * g.T
    for _ in range(15):
        r = scale * g.T + r - scale * a @ r
    ours = harness.method("self_lissa", iterations=15, tolerance=None, scale=scale).score(view_of(arrays))
    np.testing.assert_allclose(ours, (g * r.T).sum(1), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("damping", [1e-6, "auto", 10.0])
def test_self_lissa_stops_at_its_tolerance(shape: tuple[int, int, int], damping: float | str) -> None:
    """At the first iteration whose residual is small enough, and not one later; at the limit it says so."""
    arrays = last_layer(*shape)
    g = brute(arrays, False)
    a = g.T @ g / len(g) + lam(g, damping) * np.eye(g.shape[1])
    scale = 1 / (1.1 * np.linalg.eigvalsh(g.T @ g / len(g)).max() + lam(g, damping))
    view = view_of(arrays)
    ours = harness.method("self_lissa", tolerance=0.2, damping=damping, iterations=300).score(view)
    health = view.health["head"]
    spectrum = np.linalg.svd(g, compute_uv=False) ** 2 / len(g)  # directions that no gradient has do not count
    spectrum = spectrum if len(g) < g.shape[1] else np.linalg.eigvalsh(g.T @ g / len(g))
    slowest = np.abs(1 - scale * (spectrum + lam(g, damping))).max()
    done = health["iterations"]
    assert health["relative_residual"] == pytest.approx(slowest ** (done + 1), rel=1e-6)
    assert slowest ** (done + 1) <= 0.2 * (1 + 1e-9) or done == 300
    assert done == 0 or slowest**done > 0.2
    assert health["converged"] == (health["relative_residual"] <= 0.2)
    r = scale * g.T
    for _ in range(done):
        r = scale * g.T + r - scale * a @ r
    np.testing.assert_allclose(ours, (g * r.T).sum(1), rtol=1e-8)


def test_self_influence_declines_what_it_cannot_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods._solvers.FACTOR_BYTES", 0)
    view = view_of(last_layer(20, 3, 4))
    assert np.isfinite(harness.method("self_influence").score(view)).all()
    monkeypatch.setattr("methods.self_influence.MOST_WORK", 20 * 20 * 12 - 1)
    with pytest.raises(harness.Unsupported, match="20 of 12 unknowns each are too many"):
        harness.method("self_influence").score(view_of(last_layer(20, 3, 4)))


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize(("sign", "scale"), [(1, 0.3), (-1, 0.3), (-1, 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_lissa_is_its_loop_stopped_early(
    shape: tuple[int, int, int], sign: int, scale: float, spectral: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import methods.influence

    monkeypatch.setattr(methods.influence, "SPECTRAL_DIMENSION", 10_000 if spectral else 0)
    arrays = last_layer(*shape)
    g, ref = brute(arrays, False), brute(arrays, False, "reference_")
    damping, v = lam(g, "auto"), ref.T
    r = scale * v
    for _ in range(17):
        r = scale * v + r - scale * (g.T @ (g @ r) / len(g) + sign * damping * r)
    residual = scale * v - scale * (g.T @ (g @ r) / len(g) + sign * damping * r)
    view = view_of(arrays)
    settings = {"scale": scale, "damping_sign": sign, "iterations": 17, "tolerance": None}
    found = harness.method("lissa", **settings).attribute(view)
    np.testing.assert_allclose(found, -(g @ r).T, rtol=1e-9, atol=1e-9 * np.abs(g @ r).max())
    health = view.health["head"]
    assert (health["iterations"], health["dimension"]) == (17, g.shape[1])
    worst = (np.linalg.norm(residual, axis=0) / np.linalg.norm(scale * v, axis=0)).max()
    assert health["relative_residual"] == pytest.approx(worst)


def test_lissa_says_when_it_did_not_converge() -> None:
    view = view_of(last_layer(40, 3, 4))
    harness.method("lissa", iterations=2).score(view)
    health = view.health["head"]
    assert not health["converged"]
    assert health["iterations"] == 2
    assert health["relative_residual"] > 1e-3


def test_one_sample_lissa_is_its_loop() -> None:
    """The closed recursion of ``curvature=sample`` against vectors, with the right and the wrong sign of damping."""
    arrays = last_layer(12, 3, 4)
    g = brute(arrays, False)
    for sign in (1, -1):
        expected = []
        for row in g:
            damping = sign * (row**2).mean() / 10
            r = row.copy()
            for _ in range(10):
                r = row + r - (row * (row @ r) + damping * r)
            expected.append(r @ row)
        method = harness.method(
            "self_lissa", curvature="sample", damping_sign=sign, scale=1.0, iterations=10, tolerance=None
        )
        np.testing.assert_allclose(method.score(view_of(arrays)), expected, rtol=1e-9)


def test_gradient_tracing_and_norms() -> None:
    arrays = last_layer(30, 3, 4)
    g, ref = brute(arrays, True), brute(arrays, True, "reference_")
    view = view_of(arrays, bias=True)
    np.testing.assert_allclose(harness.method("gradient_tracing").score(view), -g @ ref.mean(0))
    np.testing.assert_allclose(harness.method("gradient_tracing").attribute(view), -ref @ g.T)
    np.testing.assert_allclose(harness.method("gradient_tracing[sign=-1]").score(view), g @ ref.mean(0))
    np.testing.assert_allclose(harness.method("gradient_tracing[reference=train]").score(view), -g @ g.mean(0))
    np.testing.assert_allclose(harness.method("outlier_l1").score(view), np.abs(g).sum(1))
    np.testing.assert_allclose(harness.method("outlier_l2").score(view), np.linalg.norm(g, axis=1))


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


def test_self_influence_on_the_head_alone_is_the_published_way() -> None:
    for name in ("self_influence", "self_datainf", "self_lissa"):
        assert harness.method(name, protocol="paper").layers == "last"
        assert harness.method(name).layers == "all"


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
        if "retraining" in cls().uses:
            continue
        view = view_of(arrays)
        if (case, name) == ("one sample", "outlier"):  # a sample is an outlier among others
            with pytest.raises(harness.Unsupported, match="one sample has none"):
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
        if "retraining" not in cls().uses:
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_self_datainf_of_parallel_gradients(dtype: type) -> None:
    """What is left of |g|² is a ten-thousandth of it, which float32's products alone would not give."""
    rng = np.random.default_rng(0)
    direction, lengths = rng.standard_normal(700), rng.uniform(0.5, 2, 40)
    gradients = np.outer(lengths, direction).astype(dtype)
    found = harness.method("self_datainf").score(harness.View.from_blocks({"g": gradients}))
    exact = gradients.astype(np.float64)
    squared = (exact**2).sum(1)
    damping = (exact**2).mean() / 10
    shared = ((exact @ exact.T) ** 2 / (damping + squared)).mean(1)
    np.testing.assert_allclose(found, (squared - shared) / damping, rtol=1e-6)


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


@pytest.mark.parametrize("size", [1e-14, 1.0, 1e12])
def test_self_datainf_of_gradients_of_any_size(size: float) -> None:
    """The score does not change when all gradients are multiplied, at the automatic damping."""
    values = np.random.default_rng(0).standard_normal((60, 40)).astype(np.float32)
    expected = harness.method("self_datainf").score(harness.View.from_blocks({"g": values.astype(np.float64)}))
    found = harness.method("self_datainf").score(harness.View.from_blocks({"g": (values * np.float32(size))}))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_datainf_of_parallel_gradients() -> None:
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(3000)
    train, reference = (np.outer(rng.uniform(0.5, 2, n), direction).astype(np.float32) for n in (50, 5))
    found, expected = (
        harness.method("datainf").score(harness.View.from_blocks({"g": train.astype(t)}, {"g": reference.astype(t)}))
        for t in (np.float32, np.float64)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)


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
