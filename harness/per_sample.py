"""Per-sample gradients of any model's chosen parameters, many samples at a time.

Common layers have a rule that takes them from one backward pass of a whole chunk (`harness.layer_rules`); others go
through `torch.func`, vmap of grad. The rules' result is compared with backward passes of a few single samples first, so
that a layer whose weight is also used elsewhere, say, is noticed, and left to torch.func.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import RequestError, Unsupported
from harness.per_sample_engine import Engine, Loss, part_of
from harness.products import CHUNK_BYTES

MOST_TOGETHER = 256

CHECKED = 5
"""Samples, spread over the whole set, whose gradients by rule are compared with a backward pass of each alone."""


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample, (n,)."""
    return cross_entropy(logits, targets, reduction="none")


def per_sample_gradients(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    layers: str | Sequence[str] = "*",
    loss: Loss = cross_entropies,
) -> dict[str, Tensor]:
    """Gradient of each sample's loss in chosen parameters of a model in eval mode.

    Args:
        model: samples must not influence each other in it; its mode, parameters and their gradients stay as they are.
            Autocast is off: gradients are taken in the parameters' own precision.
        inputs: a tensor (n, …), or a tuple or mapping of such for models of several arguments.
        targets: (n, …), as ``loss`` takes them.
        layers: parameters or modules by name, or globs: ``"head"``, ``["*.lora_A.*", "*.lora_B.*"]``.
        loss: (output, targets) to the losses (n,); cross-entropy unless told.

    Returns:
        {parameter: (n, *its shape)}, in the model's order; `View.from_blocks` takes it as it is.

    Raises:
        RequestError: no parameter of such a name.
        Unsupported: a layer normalises over the batch even in eval mode, or cannot be vmapped.
    """
    chosen = _chosen(model, layers)
    found = {name: values.new_empty(len(targets), *values.shape) for name, values in chosen.items()}
    for _ in _fill(model, chosen, inputs, targets, loss, lambda rows: {name: g[rows] for name, g in found.items()}):
        pass
    return found


def iterate(
    model: nn.Module,
    inputs: Any,
    targets: Tensor,
    layers: str | Sequence[str] = "*",
    loss: Loss = cross_entropies,
    parts: Iterable[slice] | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """`per_sample_gradients` by chunks, (rows, {parameter: (r, *shape)}), for those who do not keep the whole.

    Args:
        parts: which rows to take together, one after another; by default as many as keep the gradients in memory.
    """
    chosen = _chosen(model, layers)

    def fresh(rows: slice) -> dict[str, Tensor]:
        return {name: values.new_empty(rows.stop - rows.start, *values.shape) for name, values in chosen.items()}

    yield from _fill(model, chosen, inputs, targets, loss, fresh, parts)


def _fill(
    model: nn.Module,
    chosen: dict[str, Tensor],
    inputs: Any,
    targets: Tensor,
    loss: Loss,
    room: Callable[[slice], dict[str, Tensor]],
    parts: Iterable[slice] | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Fill the memory that ``room`` gives for some rows with their gradients."""
    width = sum(values.numel() for values in chosen.values())
    step = min(MOST_TOGETHER, max(1, CHUNK_BYTES // (8 * width)))
    if len(targets) == 0:
        return
    engine = Engine(model, chosen, loss)
    few = torch.linspace(0, len(targets) - 1, min(CHECKED, len(targets))).long()
    with _evaluating(model):
        engine.check(part_of(inputs, few), targets[few])
    usual = (slice(start, min(start + step, len(targets))) for start in range(0, len(targets), step))
    for rows in usual if parts is None else parts:
        into = room(rows)
        with _evaluating(model):  # not around the yield: what the caller does in between is its own affair
            engine.write(part_of(inputs, rows), targets[rows], into)
        yield rows, into


def _chosen(model: nn.Module, layers: str | Sequence[str]) -> dict[str, Tensor]:
    names = dict(model.named_parameters())
    found: set[str] = set()
    if not layers:
        raise RequestError(
            f"layers={layers!r} chooses nothing; name layers or parameters of this model: {_listed(names)}"
        )
    for pattern in [layers] if isinstance(layers, str) else layers:
        matching = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not matching:
            known = [*names, *(name for name, _ in model.named_modules() if name)]
            near = difflib.get_close_matches(pattern, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise RequestError(f"layers={pattern!r} names no parameter of this model{hint}; it has {_listed(names)}")
        found |= matching
    return {name: values for name, values in names.items() if name in found}


def _listed(names: Mapping[str, Tensor]) -> str:
    shown = list(names)[:12]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without autocast, and every module's own mode restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise Unsupported(
                f"{name or type(module).__name__} normalises by the batch's own statistics even in eval mode, "
                "so a sample by itself has no gradient; give it running statistics"
            )
    model.eval()
    device = next(model.parameters()).device.type
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
