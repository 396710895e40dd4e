"""The same scores by dattri, pyDVL and captum, each in the way its documentation shows, against ours.

A last layer of 10 × 64 weights, 2,000 training and 200 test samples; times are from model and data to scores. Each
peer is skipped where it is not installed (``tox -e peers-dattri,peers-pydvl``; they need different versions of NumPy).

All three return g·H⁻¹g with the sign that makes helpful samples positive. Captum sums its Hessian over samples where
the others average, and keeps 50 eigenvectors unless told; dattri's explicit Hessian is of one batch, which has to be
the whole training set; pyDVL's DataInf averages inverses over batches, so batches of one sample are DataInf's formula.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import harness
from tests.benchmarks.conftest import Versus

DAMPING = 0.01


@dataclass
class Problem:
    """A linear head and its data."""

    model: nn.Linear
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def train(self) -> TensorDataset:
        return TensorDataset(self.x, self.y)

    @property
    def test(self) -> TensorDataset:
        return TensorDataset(self.test_x, self.test_y)

    @property
    def loaders(self) -> tuple[DataLoader, DataLoader]:
        return DataLoader(self.train, batch_size=len(self.y)), DataLoader(self.test, batch_size=len(self.test_y))


def problem(n: int, m: int, c: int = 10, d: int = 64) -> Problem:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        model = nn.Linear(d, c, bias=False)
    model.weight.data = torch.randn(c, d, generator=generator) / 4
    x, test_x = (torch.randn(count, d, generator=generator) for count in (n, m))
    y, test_y = (torch.randint(0, c, (count,), generator=generator) for count in (n, m))
    return Problem(model, x, y, test_x, test_y)


def view_of(p: Problem) -> harness.View:
    with torch.no_grad():
        probs, test_probs = p.model(p.x).softmax(1), p.model(p.test_x).softmax(1)
    return harness.View.from_arrays(p.x, probs, p.y, p.test_x, test_probs, p.test_y)


def ours(name: str) -> Callable[[Problem], np.ndarray]:
    """Influences [test, train] with the sign turned to the peers', or self-influences [train]."""
    damped = name if name == "gradient_tracing" else f"{name}[damping={DAMPING}]"
    method = harness.method(damped)
    if name.startswith("self"):
        return lambda p: method.score(view_of(p))
    return lambda p: -method.attribute(view_of(p))


def dattri_task(p: Problem) -> Any:
    from dattri.task import AttributionTask

    def loss(params: Any, data: Any) -> Tensor:
        logits = torch.func.functional_call(p.model, params, data[0])
        return nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), data[1].long().view(-1))

    return AttributionTask(loss, p.model, p.model.state_dict())


def dattri_influence(name: str) -> Callable[[Problem], np.ndarray]:
    def run(p: Problem) -> np.ndarray:
        from dattri.algorithm import influence_function

        attributor = getattr(influence_function, name)(dattri_task(p), regularization=DAMPING)
        attributor.cache(p.loaders[0])
        return attributor.attribute(*p.loaders).T.detach().numpy()

    return run


def dattri_self(p: Problem) -> np.ndarray:
    from dattri.algorithm.influence_function import IFAttributorExplicit

    attributor = IFAttributorExplicit(dattri_task(p), regularization=DAMPING)
    attributor.cache(p.loaders[0])
    return attributor.self_attribute(p.loaders[0]).detach().numpy().ravel()


def dattri_tracin(p: Problem) -> np.ndarray:
    from dattri.algorithm.tracin import TracInAttributor

    attributor = TracInAttributor(dattri_task(p), weight_list=torch.ones(1), normalized_grad=False)
    attributor.projector_kwargs = None  # it projects at random unless told otherwise, and has no argument to tell it
    return attributor.attribute(*p.loaders).T.detach().numpy()


def pydvl_influence(name: str, batch: int | None) -> Callable[[Problem], np.ndarray]:
    def run(p: Problem) -> np.ndarray:
        import pydvl.influence.torch as models

        model = getattr(models, name)(p.model, nn.functional.cross_entropy, regularization=DAMPING)
        fitted = model.fit(DataLoader(p.train, batch_size=batch or len(p.y)))
        return fitted.influences(p.test_x, p.test_y, p.x, p.y).detach().numpy()

    return run


def captum_naive(p: Problem, itself: bool = False) -> np.ndarray:
    from captum.influence import NaiveInfluenceFunction

    n = len(p.y)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.pt")
        torch.save(p.model.state_dict(), path)
        function = NaiveInfluenceFunction(
            p.model,
            p.train,
            path,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=n,
            projection_dim=p.model.weight.numel(),
            hessian_reg=n * DAMPING,
            hessian_inverse_tol=0.0,
            sample_wise_grads_per_batch=True,
        )
        if itself:
            return n * function.self_influence().detach().numpy()
        return n * function.influence((p.test_x, p.test_y)).detach().numpy()


def captum_tracin(p: Problem) -> np.ndarray:
    from captum.influence import TracInCPFast

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.pt")
        model = nn.Sequential(p.model)
        torch.save(model.state_dict(), path)
        function = TracInCPFast(
            model,
            model[0],
            p.train,
            [path],
            checkpoints_load_func=lambda m, f: (m.load_state_dict(torch.load(f)), 1.0)[1],
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=len(p.y),
        )
        return function.influence((p.test_x, p.test_y)).detach().numpy()


CASES: dict[str, tuple[str, Callable[[Problem], np.ndarray]]] = {
    "dattri exact_hessian": ("exact_hessian", dattri_influence("IFAttributorExplicit")),
    "dattri datainf": ("datainf", dattri_influence("IFAttributorDataInf")),
    "dattri gradient_tracing": ("gradient_tracing", dattri_tracin),
    "dattri self_influence": ("self_influence", dattri_self),
    "pydvl exact_hessian": ("exact_hessian", pydvl_influence("DirectInfluence", None)),
    "pydvl datainf": ("datainf", pydvl_influence("InverseHarmonicMeanInfluence", 1)),
    "captum exact_hessian": ("exact_hessian", captum_naive),
    "captum gradient_tracing": ("gradient_tracing", captum_tracin),
    "captum self_influence": ("self_influence", lambda p: captum_naive(p, itself=True)),
}


@pytest.mark.parametrize("name", CASES)
def test_same_scores_as_a_peer(versus: Versus, name: str) -> None:
    pytest.importorskip(name.split()[0])
    data = problem(2000, 200) if versus.full else problem(60, 7, 3, 5)
    method, peer = CASES[name]
    with torch.random.fork_rng():  # the peers draw from the global generator
        run, expected = ours(method), peer(data)
        found = versus(f"{name}, n=2,000 m=200 p=640", lambda: run(data), lambda: peer(data), rounds=5)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())  # theirs are float32
