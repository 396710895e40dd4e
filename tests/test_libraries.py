"""Other libraries as methods: their scores are ours where the formula is one, and a harmful sample comes out on top."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import harness
from tests.conftest import trained_view
from tests.test_conformance import overlapping

ADAPTERS = {
    "captum": ["captum[algorithm=tracin]", "captum[algorithm=arnoldi]", "captum[algorithm=similarity]"],
    "kronfluence": ["kronfluence", "kronfluence[strategy=kfac]", "kronfluence[strategy=diagonal]"],
    "dattri": [f"dattri[algorithm={name}]" for name in ("explicit", "cg", "datainf", "trak")],
    "pydvl": [f"pydvl[inverse={name}]" for name in ("direct", "cg", "nystroem", "harmonic")],
    "trak": ["traker[damping=1e-6]"],
}
ON_THEMSELVES = {
    "captum": ["captum[of=self]", "captum[of=self,algorithm=arnoldi]"],
    "kronfluence": ["kronfluence[of=self]"],
    "dattri": ["dattri[of=self]"],
}


def cases(table: dict[str, list[str]]) -> list[Any]:
    return [pytest.param(module, name, id=name) for module, names in table.items() for name in names]


@pytest.mark.parametrize(("module", "name"), cases(ADAPTERS) + cases(ON_THEMSELVES))
def test_harmful_samples_come_out_on_top(module: str, name: str) -> None:
    pytest.importorskip(module)
    noisy, view = overlapping(0)

    scores = harness.method(name).score(view)

    assert scores.shape == (view.n,)
    assert roc_auc_score(noisy, scores) > 0.7
    np.testing.assert_array_equal(harness.method(name).score(view), scores, err_msg="same seed, other scores")


SAME = {
    "captum[algorithm=tracin]": ("captum", "blobs", "tracin_cp"),
    "captum[algorithm=tracin,of=self]": ("captum", "blobs", "tracin_self"),
    "kronfluence[fisher=empirical]": ("kronfluence", "moons", "ekfac_influence[layers=all,hessian=outer_product]"),
    "kronfluence[fisher=empirical,damping=0.01]": (
        "kronfluence",
        "digits[n_train=200,steps=30]",
        "ekfac_influence[layers=all,hessian=outer_product,damping=0.01]",
    ),
    "kronfluence[fisher=empirical,of=self]": (
        "kronfluence",
        "moons",
        "ekfac_self_influence[layers=all,hessian=outer_product]",
    ),
    "dattri[algorithm=explicit]": ("dattri", "blobs", "exact_hessian[damping=0.01]"),
    "dattri[algorithm=cg]": ("dattri", "blobs", "exact_hessian[damping=0.01]"),
    "dattri[of=self]": ("dattri", "blobs", "self_influence[damping=0.01]"),
    "pydvl[inverse=direct]": ("pydvl", "blobs", "exact_hessian[damping=0.01]"),
    "pydvl[inverse=cg]": ("pydvl", "blobs", "exact_hessian[damping=0.01]"),
    "traker": ("trak", "blobs", "trak[layers=all]"),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_formula_gives_the_same_scores(name: str) -> None:
    module, task, ours = SAME[name]
    pytest.importorskip(module)
    _, _, view = trained_view(task)

    theirs, own = harness.method(name).score(view), harness.method(ours).score(view)

    if module == "trak":  # traker divides gradients by a constant
        theirs = theirs * np.abs(own).max() / np.abs(theirs).max()
    np.testing.assert_allclose(theirs, own, rtol=5e-3, atol=2e-3 * np.abs(own).max())


@pytest.mark.parametrize(("module", "name"), cases(ADAPTERS))
def test_the_model_and_the_random_numbers_are_left_alone(module: str, name: str) -> None:
    """The autouse fixture checks global generators."""
    import torch

    pytest.importorskip(module)
    _, _, view = trained_view("moons")
    model: Any = view.model
    before = {key: values.clone() for key, values in model.state_dict().items()}

    attributed = harness.method(name).attribute(view)

    assert attributed.shape == (view.reference("validation").n, view.n)
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())
    assert all(not part._forward_hooks and not part._backward_hooks for part in model.modules())
