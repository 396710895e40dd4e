"""Features in coordinates in which a softmax regression is well conditioned, and the head that comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.gradients.products import chunks

CURVATURE = 0.02
"""κ. Of probabilities of ten classes of which one is likely, a typical mean of p(1 − p)."""


@dataclass(frozen=True, eq=False)
class Head:
    """A softmax regression.

    Args:
        weight: (c, d) float32.
        bias: (c,) float32.
        iterations: of the optimiser.
        gradient_norm: of the objective at these weights, relative to the norm at zero weights.
    """

    weight: Tensor
    bias: Tensor
    iterations: int
    gradient_norm: float

    def logits(self, features: Tensor) -> Tensor:
        """(n, c) float32."""
        return features @ self.weight.T + self.bias


class Preconditioned:
    """Features in coordinates in which the Hessian of the objective is near the identity.

    Args:
        features: (n, d) float32.
        spectrum: of the features.
        penalty: λ, or a λ near those that heads are fitted with.

    Attributes:
        values: (n, d + 1) float32; the last column is the bias's.
        decay: what λ is multiplied by in these coordinates, (d + 1,) float64; 0 for the bias.
    """

    def __init__(self, features: Tensor, spectrum: Spectrum, penalty: float) -> None:
        self.spectrum = spectrum
        scale = (CURVATURE * spectrum.values + penalty).rsqrt()
        self._turn = spectrum.vectors * scale  # (d, d): from weights in these coordinates to weights of the features
        self.decay = torch.cat([scale.square(), scale.new_zeros(1)])
        self._bias = CURVATURE**-0.5
        self.values = torch.empty(len(features), features.shape[1] + 1, device=features.device)
        turn = self._turn.float()
        for rows in chunks(len(features), 8 * features.shape[1]):
            self.values[rows, :-1] = (features[rows] - spectrum.mean.float()) @ turn
        self.values[:, -1] = self._bias

    def head(self, weights: Tensor, iterations: int, norm: float) -> Head:
        """A head from weights (d + 1, c) in these coordinates."""
        weight = self._turn @ weights[:-1]
        bias = weights[-1] * self._bias - self.spectrum.mean @ weight
        return Head(weight.T.float().contiguous(), bias.float(), iterations, norm)

    def coordinates(self, head: Head) -> Tensor:
        """The weights (d + 1, c) in these coordinates that give a head."""
        weight = head.weight.double().T
        inner = torch.linalg.solve(self._turn, weight)
        bias = (head.bias.double() + self.spectrum.mean @ weight) / self._bias
        return torch.cat([inner, bias.unsqueeze(0)])


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean (d,), and eigenvalues (d,) and eigenvectors (d, d) of the covariance of features, float64."""

    mean: Tensor
    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Spectrum:
        n, d = features.shape
        mean = features.double().mean(0) if n * d < 2**24 else features.mean(0, dtype=torch.float64)
        covariance = torch.zeros(d, d, dtype=torch.float64, device=features.device)
        for rows in chunks(n, 8 * d):
            centred = features[rows] - mean.float()
            covariance += (centred.T @ centred).double()
        values, vectors = _eigen(covariance / n)
        return cls(mean, values.clamp_min(0), vectors)


def _eigen(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors. The divide-and-conquer solver can fail where most eigenvalues are equal, as those
    of fewer samples than features are; then LAPACK's solver by relatively robust representations is asked."""
    try:
        values, vectors = torch.linalg.eigh(symmetric)
    except RuntimeError:  # torch.linalg.LinAlgError is one
        from scipy.linalg import eigh

        values, vectors = map(torch.from_numpy, eigh(symmetric.cpu().numpy(), driver="evr"))
    return values.to(symmetric.device), vectors.to(symmetric.device)
