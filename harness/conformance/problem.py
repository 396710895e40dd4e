"""A small problem with known wrong labels, on which methods are checked.

The data are three Gaussian classes. The model is multinomial logistic regression at its optimum. The model is
retrained as often as a method asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.errors import Unsupported
from harness.interfaces.dynamics import Recorder, Recording
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split, Task
from harness.interfaces.trained import Training
from harness.interfaces.view import View

CLASSES = 3
DESCENT_RATE = 1.0
DECAY = 1e-3
"""L2 penalty. With the penalty, an optimum exists even if the classes are separable."""


def newton(inputs: Tensor, labels: Tensor, keeps: Tensor, steps: int = 30) -> Tensor:
    """Optima of the L2-penalised mean loss on m kept sets, (m, d + 1, c) float64, bias last.

    Args:
        inputs: (n, d).
        labels: (n,).
        keeps: (m, n) bool.
    """
    x = torch.cat([inputs.double(), torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
    target = torch.nn.functional.one_hot(labels, CLASSES).double()
    shares = keeps.double() / keeps.sum(1, keepdim=True)
    m, p = len(keeps), x.shape[1] * CLASSES
    weights = torch.zeros(m, x.shape[1], CLASSES, dtype=torch.float64)
    for _ in range(steps):
        probs = (x @ weights).softmax(2)
        residuals = (probs - target) * shares.unsqueeze(2)
        gradient = (x.T @ residuals + DECAY * weights).reshape(m, p)
        curvature = torch.diag_embed(probs) - probs.unsqueeze(3) * probs.unsqueeze(2)
        hessian = torch.einsum("mn,ni,nj,mnab->miajb", shares, x, x, curvature).reshape(m, p, p)
        step = torch.linalg.solve(hessian + DECAY * torch.eye(p, dtype=torch.float64), gradient)
        weights = weights - step.reshape(weights.shape)
        if step.abs().max() < 1e-10:
            break
    return weights


def descent(inputs: Tensor, labels: Tensor, steps: int = 12) -> Tensor:
    """Weights after each step of gradient descent from zero on all samples, (steps, d + 1, c) float64."""
    x = torch.cat([inputs.double(), torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
    target = torch.nn.functional.one_hot(labels, CLASSES).double()
    weights, path = torch.zeros(x.shape[1], CLASSES, dtype=torch.float64), []
    for _ in range(steps):
        weights = weights - DESCENT_RATE * (x.T @ ((x @ weights).softmax(1) - target) / len(x) + DECAY * weights)
        path.append(weights)
    return torch.stack(path)


def record(train: Samples, sharpness: float, shown: Tensor, recorder: Recorder) -> None:
    """Record the descent on some samples, as the logits of the samples shown."""
    path = sharpness * descent(train.inputs, train.labels)
    recorder.start([DESCENT_RATE] * len(path))
    for weights in path:
        recorder.moment(weights, partial(_logits, weights, shown))


@dataclass(frozen=True)
class CheckTask(Task):
    """The problem as a task. ``turned`` makes the returned true labels false, to see whether scores depend on them.

    Args:
        turned: return true labels by which other samples are mislabelled than in fact.
    """

    name: ClassVar[str] = "conformance"
    turned: bool = False

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        rng = np.random.default_rng(seed)
        truth = np.arange(120) % CLASSES
        given = truth.copy()
        wrong = rng.permutation(120)[:12]
        given[wrong] = (truth[wrong] + rng.integers(1, CLASSES, 12)) % CLASSES
        claimed = truth
        if self.turned:
            claimed, others = given.copy(), np.random.default_rng(seed + 1).permutation(120)[:12]
            claimed[others] = (given[others] + 1) % CLASSES
        held = np.arange(60) % CLASSES
        noisy = np.where(rng.random(60) < 0.1, (held + 1) % CLASSES, held)
        train, test, validation = (_points(labels, rng) for labels in (truth, np.arange(300) % CLASSES, held))
        references = {"validation": Samples(validation, _long(held))}
        references["noisy_validation"] = Samples(validation, _long(noisy))
        tested = Samples(test, _long(np.arange(300) % CLASSES))
        return Split(Samples(train, _long(given)), tested, references, CLASSES), claimed

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Tensor:
        keeps = np.ones((1, len(split.train)), dtype=bool) if keep is None else keep[None]
        return newton(split.train.inputs, split.train.labels, torch.from_numpy(keeps))[0]

    def train_recorded(self, split: Split, seed: int, recorder: Recorder) -> Tensor:
        record(split.train, 1.0, split.train.inputs, recorder)
        return self.train(split, None, seed)

    def outputs(self, model: Tensor, samples: Samples) -> Outputs:
        inputs = samples.inputs.clone()  # what a method does to features must not reach the next check
        return Outputs(samples.labels.clone(), _probs(model, inputs).float(), inputs, bias=True)

    def evaluate(self, model: Tensor, split: Split) -> dict[str, float]:
        predicted = _probs(model, split.test.inputs).argmax(1)
        return {"accuracy": float((predicted == split.test.labels).double().mean())}


@dataclass(frozen=True, eq=False)
class Problem:
    """Data and a model's weights; `view` shows any of its samples in any order.

    Args:
        split: as `CheckTask` loads it.
        noisy: which labels are wrong, (n,) bool.
        weights: (d + 1, c) float64.
        sharpness: factor of the logits; a large one makes probabilities exactly 0 and 1.
    """

    split: Split
    noisy: np.ndarray
    weights: Tensor
    sharpness: float = 1.0

    def view(self, seed: int = 1, order: np.ndarray | None = None, device: str = "cpu") -> View:
        """A fresh view, in which nothing is computed yet.

        Args:
            seed: the seed of the method's random numbers.
            order: positions of the samples shown, in that order; None for all.
        """
        chosen = torch.arange(len(self.split.train)) if order is None else torch.from_numpy(order)
        inputs, labels = self.split.train.inputs[chosen], self.split.train.labels[chosen]
        split = replace(self.split, train=Samples(inputs, labels))

        def retrain(keeps: np.ndarray, reference: str) -> np.ndarray:
            if not keeps.any(1).all():
                raise Unsupported("a kept set is empty: there is nothing to train on")
            held = split.train if reference == "train" else split.references[reference]
            optima = newton(inputs, labels, torch.from_numpy(keeps))
            return np.array([CheckTask().outputs(weights, held).losses() for weights in optima])

        def out_of_sample(keep: np.ndarray | None = None) -> np.ndarray:
            fold = chosen.numpy() % 5  # the fold depends on the sample, not on its position
            if len(set(fold)) < 5:
                raise Unsupported("cross-validation needs more samples")
            others = np.stack([fold != k for k in range(5)])
            optima = newton(inputs, labels, torch.from_numpy(others if keep is None else others & keep))
            probs = torch.stack([_probs(weights, inputs) for weights in optima]).numpy()
            return np.asarray(probs[fold, np.arange(len(labels))])

        def retrained(keeps: np.ndarray) -> Iterator[View]:
            for weights in newton(inputs, labels, torch.from_numpy(keeps)):
                yield CheckTask().view(weights, split.to(device))

        def recording() -> Recording:
            recorder = Recorder(len(labels), CLASSES)
            record(self.split.train, self.sharpness, inputs, recorder)
            moved = split.to(device)
            sets = {"train": moved.train, **moved.references}
            return recorder.recording(lambda weights, name: CheckTask().outputs(weights, sets[name]))

        view = CheckTask().view(self.sharpness * self.weights, split.to(device))
        return view.fresh(seed, Training(retrain, retrained, out_of_sample, recording))


@cache
def problem(seed: int = 0) -> Problem:
    """The problem of a seed."""
    split, truth = CheckTask().load(seed)
    return Problem(split, truth != split.train.labels.numpy(), CheckTask().train(split, None, 0))


def without_a_class() -> Problem:
    """No training sample is labelled with the last class, though the model knows it."""
    whole = problem()
    labels = whole.split.train.labels.clone()
    labels[labels == CLASSES - 1] = 0
    return replace(whole, split=replace(whole.split, train=Samples(whole.split.train.inputs, labels)))


def certain() -> Problem:
    """A model that is sure of everything: probabilities are 0 and 1 in floating point."""
    return replace(problem(), sharpness=1e4)


def _points(labels: np.ndarray, rng: np.random.Generator) -> Tensor:
    centres = 2.0 * np.eye(CLASSES, 4)
    return torch.from_numpy((centres[labels] + rng.standard_normal((len(labels), 4))).astype(np.float32))


def _long(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _logits(weights: Tensor, inputs: Tensor) -> Tensor:
    return inputs.cpu().double() @ weights[:-1] + weights[-1]


def _probs(weights: Tensor, inputs: Tensor) -> Tensor:
    """Class probabilities, computed on the CPU whatever the device, so that only the method's own part differs."""
    return _logits(weights, inputs).softmax(1).to(inputs.device)
