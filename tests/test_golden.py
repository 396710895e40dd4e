"""Agreement with the reference influence engine, quirks included.

``golden/influence_reference.npz`` holds that engine's inputs and float32 outputs on random problems: a last layer
(c = 4, d = 12, n = 60, 25 reference samples) and two dense blocks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import harness


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "golden" / "influence_reference.npz") as loaded:
        return dict(loaded)


def head(golden: dict[str, np.ndarray]) -> harness.View:
    names = ("features", "probs", "labels")
    return harness.View.from_arrays(*(golden[n] for n in names), *(golden[f"ref_{n}"] for n in names))


def dense(golden: dict[str, np.ndarray]) -> harness.View:
    """The two dense blocks that the ``blocks_*`` outputs sum over."""
    return harness.View.from_blocks(
        {"a": golden["train_block0"], "b": golden["train_block1"]},
        {"a": golden["ref_block0"], "b": golden["ref_block1"]},
    )


PAPER = {
    "identity": "gradient_tracing",
    "proposed": "datainf",
    "LiSSA": "lissa[damping_sign=-1,scale=1,iterations=10,tolerance=none]",
    "accurate": "exact_hessian[hessian=outer_product]",
}


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """1e-4 relative, to the size of the whole output (single values may cancel to zero)."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("kind", PAPER)
def test_influence_of_a_reference_set(golden: dict[str, np.ndarray], kind: str) -> None:
    assert_close(harness.method(PAPER[kind]).score(head(golden)), golden[f"head_ref_{kind}"])


@pytest.mark.parametrize("kind", PAPER)
def test_influence_on_the_training_set(golden: dict[str, np.ndarray], kind: str) -> None:
    method = harness.method(PAPER[kind], reference="train")
    assert_close(method.score(head(golden)), golden[f"head_self_train_{kind}"])


@pytest.mark.parametrize("kind", ["identity", "proposed"])
def test_pairwise_influence(golden: dict[str, np.ndarray], kind: str) -> None:
    assert_close(harness.method(PAPER[kind]).attribute(head(golden)), golden[f"head_ref_pairwise_{kind}"])
    on_train = harness.method(PAPER[kind], reference="train").attribute(head(golden))
    assert_close(on_train, golden[f"head_self_train_pairwise_{kind}"])


@pytest.mark.parametrize("kind", PAPER)
def test_dense_blocks_sum(golden: dict[str, np.ndarray], kind: str) -> None:
    assert_close(harness.method(PAPER[kind]).score(dense(golden)), golden[f"blocks_{kind}"])


@pytest.mark.parametrize("kind", ["identity", "proposed"])
def test_dense_blocks_pairwise(golden: dict[str, np.ndarray], kind: str) -> None:
    assert_close(harness.method(PAPER[kind]).attribute(dense(golden)), golden[f"blocks_pairwise_{kind}"])


def test_paper_protocol_is_the_engine_with_its_sign_turned(golden: dict[str, np.ndarray]) -> None:
    for kind, name in {"identity": "gradient_tracing", "proposed": "datainf", "accurate": "exact_hessian"}.items():
        ours = harness.method(name, protocol="paper").score(head(golden))
        assert_close(-ours, golden[f"head_self_train_{kind}"])
    assert_close(-harness.method("lissa", protocol="paper").score(head(golden)), golden["head_self_train_LiSSA"])


def test_one_sample_self_lissa(golden: dict[str, np.ndarray]) -> None:
    ours = harness.method("self_lissa", protocol="paper").score(head(golden))
    assert_close(-ours, golden["head_selfinfluence_LiSSA"])


def test_one_sample_self_datainf_is_constant(golden: dict[str, np.ndarray]) -> None:
    """The published Self-DataInf ranks float noise: the score is 10p/(10p + 1) whatever the sample."""
    ours = harness.method("self_datainf", protocol="paper").score(head(golden))
    p = golden["features"].shape[1] * golden["residuals"].shape[1]
    np.testing.assert_allclose(ours, 10 * p / (10 * p + 1), rtol=1e-12)
    np.testing.assert_allclose(-golden["head_selfinfluence_proposed"], 10 * p / (10 * p + 1), rtol=1e-4)
