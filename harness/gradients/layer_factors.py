"""Covariances of layers' inputs and output gradients: the two factors of a layer's curvature in K-FAC.

A linear or convolutional layer has the gradient Σ_t δ_t a_tᵀ. Here a_t is the layer's input at position t: a token, or
the input under the kernel, with a one for the bias. δ_t is the gradient of the loss with respect to the layer's output
at t. K-FAC takes the layer's curvature as E[δδᵀ] ⊗ E[aaᵀ] (Martens & Grosse, ICML 2015; Grosse & Martens, ICML 2016,
for convolutions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import Unsupported, did_you_mean
from harness.gradients.layer_rules import windows
from harness.gradients.model_inputs import Inputs, logits_of
from harness.gradients.products import chunks

MASK = "attention_mask"
"""The argument of text models that is 0 at padding. Padding does not count in a covariance."""

Loss = Callable[[Tensor, slice], Tensor]
"""(logits of some samples, their rows) to a sum of losses."""


@dataclass
class Factors:
    """One layer's covariances, float64.

    Args:
        inputs: E[aaᵀ], (d, d), over all positions of all samples; the last row and column are the bias's, if any.
        outputs: E[δδᵀ], (c, c).
    """

    inputs: Tensor
    outputs: Tensor


def kronecker_layers(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The trainable linear and convolutional layers of a model, by name.

    Args:
        pattern: a glob over the names; ``all`` is every such layer.

    Raises:
        Unsupported: no layer has such a name.
    """
    known = {name or "model": layer for name, layer in model.named_modules() if _has_factors(layer)}
    chosen = {name: layer for name, layer in known.items() if pattern == "all" or fnmatchcase(name, pattern)}
    if not chosen:
        listed = f"; give all, last, or a glob over {', '.join([*known][:12])}" if known else ""
        raise Unsupported(
            f"layers={pattern!r} names no trainable linear or convolutional layer of the model"
            f"{did_you_mean(pattern, [*known])}{listed}"
        )
    return chosen


def _has_factors(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        simple = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return simple and layer.weight.requires_grad
    return isinstance(layer, nn.Linear) and layer.weight.requires_grad


def parameters_of(name: str, layer: nn.Module) -> list[str]:
    """The names of a layer's weight and, if the layer has one that is trained, of its bias, in this order."""
    prefix = "" if name == "model" else f"{name}."
    trained = [own for own, values in layer.named_parameters(recurse=False) if values.requires_grad]
    return [f"{prefix}{own}" for own in ("weight", "bias") if own in trained]


def factors(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Any,
    n: int,
    losses: Sequence[Loss],
    parts: Iterable[slice],
) -> dict[str, Factors]:
    """The factors of several layers, by one forward pass of the model and one backward pass per loss.

    Args:
        model: in eval mode.
        inputs: of n samples, as `harness.gradients.per_sample.per_sample_gradients` takes them.
        losses: each gives the sum of √w_i times the loss of sample i. Then E[δδᵀ] is the sum over the losses, with
            the weights w_i.
        parts: slices of 0 … n.
    """
    sums = {name: _Sums.of(layer) for name, layer in layers.items()}
    names = {layer: name for name, layer in layers.items()}
    batch = Inputs.of(inputs, n, model)
    for rows in parts:
        part = batch.part(rows)
        with torch.enable_grad(), _calls(names) as calls:
            logits = logits_of(part.call(model))
            totals = [loss(logits, rows) for loss in losses]
        outputs = [output for _, _, output in calls]
        for layer, given, output in calls:
            sums[names[layer]].add_inputs(layer, given, output, part.named.get(MASK))
        for total in totals:
            deltas = torch.autograd.grad(total, outputs, retain_graph=total is not totals[-1], materialize_grads=True)
            for (layer, _, _), delta in zip(calls, deltas, strict=True):
                sums[names[layer]].add_deltas(delta, part.named.get(MASK))
    return {name: total.factors(len(losses)) for name, total in sums.items()}


@dataclass
class _Sums:
    inputs: Tensor
    outputs: Tensor
    with_bias: bool
    n_inputs: int = 0
    n_outputs: int = 0

    @classmethod
    def of(cls, layer: nn.Module) -> _Sums:
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        with_bias = isinstance(bias, Tensor) and bias.requires_grad
        sizes = (weight[0].numel() + with_bias, len(weight))
        inputs, outputs = (torch.zeros(k, k, dtype=torch.float64, device=weight.device) for k in sizes)
        return cls(inputs, outputs, with_bias)

    def add_inputs(self, layer: nn.Module, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        width = self.inputs.shape[0] - self.with_bias
        row_bytes = given.element_size() * width * output[0].numel() // self.outputs.shape[0]
        for rows in chunks(len(given), row_bytes):
            if isinstance(layer, nn.Conv2d):
                size = output.shape[2:]
                flat = windows(layer, given[rows], size).reshape(-1, width, size.numel()).mT.reshape(-1, width)
            else:
                flat = _real(given[rows], mask, rows)
            if self.with_bias:
                flat = torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)
            self.inputs += flat.T @ flat
            self.n_inputs += len(flat)

    def add_deltas(self, delta: Tensor, mask: Tensor | None) -> None:
        flat = delta.flatten(2).mT.flatten(0, 1) if delta.ndim == 4 else _real(delta, mask, slice(None))
        self.outputs += flat.T @ flat
        self.n_outputs += len(flat)

    def factors(self, n_losses: int) -> Factors:
        return Factors(self.inputs / max(1, self.n_inputs), self.outputs * n_losses / max(1, self.n_outputs))


def _real(values: Tensor, mask: Tensor | None, rows: slice) -> Tensor:
    """(n, …, k) as (positions, k), without the positions of padding in a text model's (n, t, k)."""
    if mask is not None and values.ndim == 3 and values.shape[1] <= mask.shape[1]:
        return values[mask[rows, : values.shape[1]].bool()]
    return values.reshape(-1, values.shape[-1])


@contextmanager
def _calls(layers: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Collect each call of the layers as (layer, input, output).

    The rest of the model gets a copy of each output, so that an operation in place leaves the collected output alone.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor:
        calls.append((layer, (arguments[0] if arguments else named["input"]).detach().clone(), output))
        return output.clone()

    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
