"""The usual way, written for comparison as the reference influence engine and most scripts work.

Gradients are kept in a dictionary, sample by sample and layer by layer; sums over samples are Python loops. Models
are trained one after another, and per-sample gradients taken by one backward pass per sample.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

Gradients = dict[int, dict[str, Tensor]]


def damping_of(gradients: Gradients, layer: str) -> Tensor:
    means = torch.zeros(len(gradients))
    for i in gradients:
        means[i] = torch.mean(gradients[i][layer] ** 2)
    return torch.mean(means) / 10


def datainf(gradients: Gradients, reference: dict[str, Tensor]) -> np.ndarray:
    solved = {}
    for layer, v in reference.items():
        damping = damping_of(gradients, layer)
        total = torch.zeros(v.shape)
        for i in gradients:
            g = gradients[i][layer]
            coefficient = torch.sum(v * g) / (damping + torch.sum(g**2))
            total += (v - coefficient * g) / (len(gradients) * damping)
        solved[layer] = total
    return influences(gradients, solved)


def lissa(gradients: Gradients, reference: dict[str, Tensor], iterations: int = 10) -> np.ndarray:
    solved = {}
    for layer, v in reference.items():
        damping = damping_of(gradients, layer)
        running = v.clone()
        for _ in range(iterations):
            product = torch.zeros(v.shape)
            for i in gradients:
                g = gradients[i][layer]
                product += (torch.sum(g * running) * g - damping * running) / len(gradients)
            running = v + running - product
        solved[layer] = running
    return influences(gradients, solved)


def influences(gradients: Gradients, solved: dict[str, Tensor]) -> np.ndarray:
    found = np.zeros(len(gradients))
    for i in gradients:
        for layer, u in solved.items():
            found[i] -= float(torch.sum(u * gradients[i][layer]))
    return found


def one_backward_a_sample(model: nn.Module, inputs: Tensor, targets: Tensor) -> Gradients:
    found: Gradients = {}
    for i in range(len(targets)):
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1]).backward()
        found[i] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found


def train_one(
    inputs: Tensor, labels: Tensor, widths: list[int], bias: bool, steps: int, lr: float, weight_decay: float
) -> nn.Sequential:
    """A network from torch.nn, trained by torch's Adam on the samples it is given."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        for a, b in pairwise(widths[:-1]):
            layers += [nn.Linear(a, b), nn.ReLU()]
        net = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))
    loss = nn.BCEWithLogitsLoss() if widths[-1] == 1 else nn.CrossEntropyLoss()
    targets = labels.to(inputs.dtype).unsqueeze(1) if widths[-1] == 1 else labels
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(net(inputs), targets).backward()
        optimiser.step()
    return net
