"""Softmax regression on fixed features, for many kept sets at once, solved to a tolerance.

The objective is the mean cross-entropy of the kept samples plus (λ/2)|W|², without a penalty of the bias. It is convex.
It is minimised by L-BFGS (Liu & Nocedal 1989) in coordinates in which the Hessian is near the identity: the features
are turned into the eigenvectors of their covariance, and scaled by 1/√(κσ + λ), where σ are the eigenvalues and κ is
the mean of p(1 − p) that is expected. Logits are linear in the weights, so a line search needs no product with the
features. An iteration takes two such products, whatever the number of trial steps.

The products are in float32 until the gradient is small, then in float64: float32 sums leave gradients of about 1e-6 of
the first one, and the tolerance may ask for less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.gradients.products import chunks
from tasks._preconditioned import Head, Preconditioned

MEMORY = 12
"""Pairs of steps and gradient differences that L-BFGS keeps."""

IN_FLOAT32 = 1e-4
"""Relative gradient norm down to which products are in float32."""

LEAST = 0.01
"""Where the features tell little of the labels, the gradient at zero weights is nearly zero. The tolerance is then
relative to this share of a typical sample's gradient."""

MOST_ITERATIONS = 500

TOGETHER_BYTES = 2**27
"""Bytes of the logits of the heads that are trained together."""


Watch = Callable[[int, Tensor, Head], None]


def fit(
    data: Preconditioned,
    labels: Tensor,
    keeps: Tensor,
    n_classes: int,
    penalties: Tensor,
    tolerance: float,
    start: Head | None = None,
    watch: Watch | None = None,
) -> list[Head]:
    """The heads of m kept sets.

    Args:
        labels: (n,) int64, or (m, n) where each head has labels of its own.
        keeps: (m, n) bool; no row may be empty.
        penalties: λ of each head, (m,), positive.
        tolerance: the gradient norm to reach, relative to the norm at zero weights (but see `LEAST`).
        start: a head to start from; None starts from zero weights. The optimum is the same.
        watch: called after every iteration with its number, the logits (n, c) of the first head, and that head.

    Raises:
        ValueError: a kept set is empty, or the tolerance is not reached in `MOST_ITERATIONS`.
    """
    if not bool(keeps.any(1).all()):
        raise ValueError("a kept set is empty: there is nothing to train on")
    together = max(1, TOGETHER_BYTES // (4 * keeps.shape[1] * n_classes))
    own = torch.split(labels, together) if labels.ndim == 2 else None
    heads: list[Head] = []
    for k, (kept, penalty) in enumerate(
        zip(torch.split(keeps, together), torch.split(penalties, together), strict=True)
    ):
        told = labels.unsqueeze(0) if own is None else own[k]
        heads += _Program(data, told, kept, n_classes, penalty, start, watch).run(tolerance)
    return heads


class _Program:
    """Heads that are trained together. Weights are (D, c, m) float64, logits (n, c, m).

    The heads are the last dimension, because a softmax over a short last dimension takes several times as long.
    """

    def __init__(
        self,
        data: Preconditioned,
        labels: Tensor,
        keeps: Tensor,
        n_classes: int,
        penalties: Tensor,
        start: Head | None,
        watch: Watch | None,
    ) -> None:
        self.data, self.watch = data, watch
        self.target = one_hot(labels.T, n_classes).transpose(1, 2).contiguous()  # (n, c, m); m is 1 for equal labels
        self.shares = (keeps.double() / keeps.sum(1, keepdim=True)).T.unsqueeze(1).contiguous()  # (n, 1, m)
        self.decay = (data.decay.unsqueeze(1) * penalties.double()).unsqueeze(1)  # (D, 1, m)
        self.weights = torch.zeros(len(data.decay), n_classes, len(keeps), dtype=torch.float64, device=labels.device)
        even = torch.full((keeps.shape[1], n_classes, len(keeps)), 1 / n_classes, device=labels.device)
        self.first = _norms(self._gradient(even)).clamp_min(LEAST * self._typical(n_classes))
        if start is not None:
            self.weights += data.coordinates(start).unsqueeze(2)

    def _typical(self, n_classes: int) -> float:
        """The root mean square of the norms of single samples' gradients at zero weights, of the loss alone."""
        squares = self.data.values.square().sum(dtype=torch.float64) / len(self.data.values)
        return float((squares * (1 - 1 / n_classes)).sqrt())

    def run(self, tolerance: float) -> list[Head]:
        self.tolerance = tolerance
        iterations, norms = self._descend(max(tolerance, IN_FLOAT32), torch.float32, 0)
        if tolerance < IN_FLOAT32:
            iterations, norms = self._descend(tolerance, torch.float64, iterations)
        relative = (norms / self.first).tolist()
        return [self.data.head(self.weights[:, :, k], iterations, norm) for k, norm in enumerate(relative)]

    def _descend(self, tolerance: float, dtype: torch.dtype, done: int) -> tuple[int, Tensor]:
        """L-BFGS until every head's gradient is within the tolerance: the iterations and the gradient norms (m,)."""
        logits = self._times(self.weights, dtype)
        gradient = self._gradient(logits.softmax(1))
        steps: list[tuple[Tensor, Tensor]] = []
        for iteration in range(done, MOST_ITERATIONS):
            norms = _norms(gradient)
            active = norms > tolerance * self.first
            if not bool(active.any()):
                return iteration, norms
            direction = -_inverse_times(gradient, steps) * active  # a finished head stays where it is
            along = self._times(direction, dtype)
            step, probs = self._search(logits, along, direction, gradient)
            moved = step * direction
            self.weights, logits = self.weights + moved, logits + step.to(dtype) * along
            before, gradient = gradient, self._gradient(probs)
            steps = [*steps, (moved, gradient - before)][-MEMORY:]
            if self.watch is not None:
                head = self.data.head(self.weights[:, :, 0], iteration + 1, math.nan)
                self.watch(iteration + 1, logits[:, :, 0], head)
        raise ValueError(
            f"the head's gradient norm is {float((norms / self.first).max()):.2g} of the first one after "
            f"{MOST_ITERATIONS} iterations, and tolerance={self.tolerance:g}; give a larger tolerance or penalty"
        )

    def _search(self, logits: Tensor, along: Tensor, direction: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Steps (m,) that nearly minimise the objective along a direction, and the probabilities there.

        The slope along the direction is increasing, so Newton's method finds its zero; where a Newton step leaves the
        interval in which the zero must lie, the interval is halved. The probabilities are those at the returned steps.

        Args:
            along: the change of the logits with a step of 1.
        """
        shares = self.shares.to(logits.dtype)
        decayed = self.decay * direction
        bent, tilt = _inner(decayed, direction), _inner(decayed, self.weights)
        toward = (shares * (self.target * along).sum(1, keepdim=True)).sum((0, 1), dtype=torch.float64)
        flat = FLAT * _inner(gradient, direction).abs()
        step, low, high = torch.ones_like(bent), torch.zeros_like(bent), torch.full_like(bent, math.inf)
        for trial in range(MOST_TRIALS):
            probs = (logits + step.to(logits.dtype) * along).softmax(1)
            weighted = probs * along
            mean = weighted.sum(1, keepdim=True)
            slope = (shares * mean).sum((0, 1), dtype=torch.float64) - toward + tilt + step * bent
            done = slope.abs() <= flat
            if bool(done.all()) or trial == MOST_TRIALS - 1:
                break
            low, high = torch.where(slope < 0, step, low), torch.where(slope > 0, step, high)
            spread = (weighted * along).sum(1, keepdim=True) - mean * mean
            bend = (shares * spread).sum((0, 1), dtype=torch.float64) + bent
            newton = (step - slope / bend.clamp_min(1e-300)).clamp(max=10 * step)
            middle = torch.where(high.isinf(), 10 * step, (low + high) / 2)
            step = torch.where(done, step, torch.where((newton > low) & (newton < high), newton, middle))
        return step, probs

    def _gradient(self, probs: Tensor) -> Tensor:
        """Of the objective, (D, c, m) float64, at the probabilities (n, c, m) of the current weights."""
        n, c, m = probs.shape
        residuals = ((probs - self.target) * self.shares.to(probs.dtype)).reshape(n, c * m)
        values = self.data.values
        if residuals.dtype == values.dtype:
            product = (values.T @ residuals).double()
        else:
            product = torch.zeros(values.shape[1], c * m, dtype=residuals.dtype, device=values.device)
            for rows in chunks(n, 8 * values.shape[1]):
                product += values[rows].to(residuals.dtype).T @ residuals[rows]
        return product.reshape(-1, c, m) + self.decay * self.weights

    def _times(self, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """The features times weights (D, c, m): (n, c, m)."""
        values, (d, c, m) = self.data.values, weights.shape
        flat = weights.reshape(d, c * m).to(dtype)
        if dtype == values.dtype:
            return (values @ flat).view(-1, c, m)
        return torch.cat([values[rows].to(dtype) @ flat for rows in chunks(len(values), 8 * d)]).view(-1, c, m)


FLAT = 0.1
"""A step is taken where the slope is at most this share of the slope at the start."""

MOST_TRIALS = 20


def _inverse_times(gradient: Tensor, steps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """L-BFGS's two loops: an approximate inverse Hessian times the gradient, head by head."""
    result = gradient.clone()
    applied = []
    for step, change in reversed(steps):
        inverse = _ratio(torch.ones_like(result[0, 0]), _inner(step, change), 0.0)  # 0 leaves the pair out
        factor = inverse * _inner(step, result)
        result -= factor * change
        applied.append((step, change, inverse, factor))
    if steps:
        step, change = steps[-1]
        result *= _ratio(_inner(step, change), _inner(change, change), 1.0)
    for step, change, inverse, factor in reversed(applied):
        result += (factor - inverse * _inner(change, result)) * step
    return result


def _ratio(over: Tensor, under: Tensor, otherwise: float) -> Tensor:
    """A quotient; ``otherwise`` where the divisor is so small that it is rounding."""
    return torch.where(under > 1e-30, over / under, otherwise)


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of weights (D, c, m), head by head: (m,)."""
    return (left * right).sum((0, 1))


def _norms(weights: Tensor) -> Tensor:
    return _inner(weights, weights).sqrt()
