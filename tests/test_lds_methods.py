"""Methods that attribute, and what they are given, where attributions are checked against retraining."""

from __future__ import annotations

import numpy as np
import pytest

import harness
import harness.running.subset_losses
from tests.conftest import trained_view

FEW = "lds_blobs[subsets=30,repeats=2,asked=8,probed=3]"


def test_leave_one_out_by_sample() -> None:
    task, split, view = trained_view("digits[n_train=20,steps=30,n_validation=5]")
    method = harness.method("leave_one_out")
    pairs = method.attribute(view)
    without_4 = task.train(split, np.arange(20) != 4, 3)
    losses = task.outputs(without_4, split.references["validation"]).losses()
    whole = task.outputs(task.train(split, np.ones(20, dtype=bool), 3), split.references["validation"]).losses()

    assert pairs.shape == (5, 20)
    np.testing.assert_allclose(pairs[:, 4], whole - losses, atol=1e-5)
    np.testing.assert_allclose(pairs.mean(0), method.score(view), atol=1e-12)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_datamodels_find_a_linear_model(penalty: str, rng: np.random.Generator) -> None:
    """Losses that are linear in the subset, with some noise: the coefficients come back, but for a constant."""
    harms = np.where(rng.random((3, 30)) < 0.2, rng.standard_normal((3, 30)), 0)
    view = trained_view("digits[n_train=30,steps=1]")[2]

    def losses(keeps: np.ndarray, reference: str) -> np.ndarray:
        assert reference == "validation"
        return 5 + keeps @ harms.T + 0.01 * rng.standard_normal((len(keeps), 3))

    view._training = harness.interfaces.trained.Training(losses=losses)
    method = harness.method("datamodels", penalty=penalty, n_models=300)
    for found, wanted in ((method.attribute(view), harms), (method.score(view)[None], harms.mean(0, keepdims=True))):
        np.testing.assert_allclose(_centred(found), _centred(wanted), atol=0.02)


def test_representations() -> None:
    """By their definitions, with a sample that is its own most helpful one."""
    _, _, view = trained_view("digits[n_train=40,steps=60]")
    h, p, y = view.features.double().numpy(), view.probs, view.labels
    alpha = harness.method("representer", reference="train").attribute(view)
    for z, i in ((0, 1), (5, 5), (7, 30)):
        assert alpha[z, i] == pytest.approx(-((y[i] == y[z]) - p[i, y[z]]) * (h[i] @ h[z]))
    cosine = h @ h.T / np.outer(np.linalg.norm(h, axis=1), np.linalg.norm(h, axis=1))
    plain = harness.method("representation_similarity", reference="train", signed=False).attribute(view)
    signed = harness.method("representation_similarity", reference="train").attribute(view)
    np.testing.assert_allclose(plain, -cosine, atol=1e-6)
    np.testing.assert_allclose(signed, np.where(y[:, None] == y, -cosine, cosine), atol=1e-6)
    assert (signed.argmin(1) == np.arange(40)).all()


def test_damping_by_the_penalty_of_training() -> None:
    """C + λI is then the Hessian of the penalised loss: the same as giving λ by hand."""
    _, _, view = trained_view("blobs")
    assert view.penalty == 1 / 150
    for name in ("exact_hessian", "lissa", "datainf", "ekfac_influence", "ekfac_influence[layers=all]"):
        method = harness.method(name, damping="penalty")
        by_hand = harness.method(name, damping=1 / 150)
        np.testing.assert_array_equal(method.score(view), by_hand.score(view))
        np.testing.assert_array_equal(method.attribute(view), by_hand.attribute(view))
    without = trained_view("blobs[weight_decay=0,steps=50]")[2]
    with pytest.raises(harness.Unsupported, match="no L2 penalty"):
        harness.method("exact_hessian", damping="penalty").score(without)
    glue = harness.task("glue_sst2", preset="smoke")
    with pytest.raises(harness.Unsupported, match="names no L2 penalty"):
        glue.l2_penalty(None, None)


def test_gradients_of_every_layer() -> None:
    """`layers=all` sees the layers below the head; `last` sees the head; both as autograd has them."""
    import torch

    task = harness.task("lds_digits[n_train=20,steps=20]")
    split, _ = task.load(0)
    model = task.train(split, None, 1)
    view, module = task.view(model, split), task.module(model, split)
    every, last = view.gradients, view.gradients_of("last")
    assert tuple(every) == ("0.weight", "0.bias", "head")
    assert tuple(last) == ("head",)
    x, y = split.train.inputs[7:8], split.train.labels[7:8]
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(module(x), y), list(module.parameters()))
    for name, expected in zip(("0.weight", "0.bias"), gradients[:2], strict=True):
        torch.testing.assert_close(every[name].rows([7])[0].flatten(), expected.flatten(), rtol=1e-4, atol=1e-6)
    assert len(view.reference("test").gradients) == 3
    assert task.view(task.train(split, None, 1), split).fresh(0).gradients.keys() == every.keys()
    blobs = harness.task("lds_blobs[steps=5]")
    data, _ = blobs.load(0)
    assert tuple(blobs.view(blobs.train(data, None, 1), data).gradients) == ("head",)


def _centred(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - values.mean(1, keepdims=True))
