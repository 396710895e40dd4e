"""Reads from torch's autograd the graph, the gradients and the memory use of a pass through a model."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

REENTRANT = "CheckpointFunctionBackward"
"""The node of a graph behind which reentrant checkpointing hides another."""


class Activations:
    """Estimates, during a forward pass, how many bytes a forward and backward pass holds at the same time.

    The estimate is the larger of two sums: the tensors saved for the backward pass, and the outputs of all layers
    without child modules. Parameters and buffers are not counted as saved tensors.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen = {_place(values) for values in (*model.parameters(), *model.buffers())}
        self.saved = self.given = 0
        keep: Any = self._keep
        if "torch._dynamo" in sys.modules:
            keep = torch.compiler.disable(keep)  # type: ignore[no-untyped-call]
        self.hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept)
        self.handles: list[Any] = []

    @property
    def bytes(self) -> int:
        return max(self.saved, self.given)

    def _keep(self, tensor: Tensor) -> Tensor:
        place = _place(tensor)
        if place not in self.seen:
            self.seen.add(place)
            self.saved += tensor.numel() * tensor.element_size()
        return tensor

    def _note(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self.given += output.numel() * output.element_size()

    def __enter__(self) -> None:
        leaves = [module for module in self.model.modules() if next(module.children(), None) is None]
        with suppress(RuntimeError):  # a scripted module takes no hooks
            self.handles = [module.register_forward_hook(self._note) for module in leaves]
        self.hooks.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)
        for handle in self.handles:
            handle.remove()


def _place(tensor: Tensor) -> int:
    """The address of a tensor's memory, or the tensor's `id` if the tensor has no single storage."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse tensors, and subclasses that hold other tensors
        return id(tensor)


@contextmanager
def differentiable(parameters: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield the same parameters with `requires_grad` switched on; frozen parameters are frozen again afterwards."""
    frozen = [values for values in parameters.values() if not values.requires_grad]
    with torch.inference_mode(False), torch.enable_grad():
        for values in frozen:
            values.requires_grad_(True)
        try:
            yield parameters
        finally:
            for values in frozen:
                values.requires_grad_(False)


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Restore all module attributes afterwards: values stored by a forward pass under torch.func are not usable."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            for name in [name for name in vars(module) if name not in attributes]:
                del vars(module)[name]
            for name, value in attributes.items():
                if vars(module).get(name) is not value:
                    vars(module)[name] = value


class Graph:
    """What the autograd graph of a summed loss shows about the parameters.

    Args:
        parameters: each parameter's name, by the `id` of the parameter.

    Attributes:
        uses: how often each parameter enters the graph.
        is_reentrant: whether a part of the graph is hidden by reentrant checkpointing.
    """

    def __init__(self, total: Tensor, parameters: Mapping[int, str]) -> None:
        self.uses: Counter[str] = Counter()
        self.is_reentrant = False
        seen, todo = set(), [total.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            self.is_reentrant |= node.name() == REENTRANT
            for following, _ in node.next_functions:
                name = None if following is None else parameters.get(id(getattr(following, "variable", None)))
                if name is not None:
                    self.uses[name] += 1
                else:
                    todo.append(following)


def gradients_of(total: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`torch.autograd.grad` with dense results, and with zeros for inputs that the total does not depend on."""
    if not total.requires_grad or not inputs:
        return tuple(map(torch.zeros_like, inputs))
    gradients = torch.autograd.grad(total, inputs, allow_unused=True)
    dense = [None if values is None else values.to_dense() if values.is_sparse else values for values in gradients]
    return tuple(torch.zeros_like(own) if g is None else g for own, g in zip(inputs, dense, strict=True))


def by_backward(total: Tensor, inputs: Sequence[Tensor], every: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of `gradients_of`, computed by ``backward``, because reentrant checkpointing needs ``backward``.

    Args:
        every: all parameters whose ``.grad`` is restored afterwards.
    """
    before = [values.grad for values in every]
    for values in every:
        values.grad = None
    try:
        torch.autograd.backward(total)
        return tuple(torch.zeros_like(values) if values.grad is None else values.grad.clone() for values in inputs)
    finally:
        for values, kept in zip(every, before, strict=True):
            values.grad = kept


def is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
