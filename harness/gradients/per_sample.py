"""Per-sample gradients of any model's chosen parameters, many samples at a time.

For common layers, a rule computes the gradients of a whole chunk from one backward pass (`layer_rules`). Other layers
use `torch.func`. Where neither way works, gradients are computed one sample at a time. `per_sample_engine` chooses
the way for each parameter and checks the results against single samples.
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
from harness.gradients.model_inputs import Inputs, as_targets, logits_of
from harness.gradients.per_sample_engine import Engine
from harness.gradients.products import CHUNK_BYTES
from harness.gradients.sample_losses import Loss

MOST_TOGETHER = 256

CHECKED = 5
"""Samples, spread over the whole set, that are looked at before anything else."""

WRAPPED = "module."
"""What `DataParallel` and `DistributedDataParallel` put before the names of the model that they hold."""


def cross_entropies(output: Any, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample, (n,).

    Args:
        output: logits (n, c), or an object that holds logits: a Hugging Face output, a mapping with ``logits``, or a
            tuple whose first tensor is the logits.
        targets: class numbers (n,), or probabilities (n, c); −100 is ignored.

    Raises:
        RequestError: the output holds no logits, or the targets have another shape.
    """
    logits = logits_of(output)
    if not targets.is_floating_point():
        targets = targets.long()
    if logits.ndim < 2 or len(logits) != len(targets) or targets.shape not in (logits.shape, _without_classes(logits)):
        raise RequestError(
            f"cross-entropy needs logits (n, c) and targets (n,); the model gave {tuple(logits.shape)} for targets "
            f"{tuple(targets.shape)}: give loss=, a function of the model's output and the targets"
        )
    return cross_entropy(logits, targets, reduction="none")


def _without_classes(logits: Tensor) -> torch.Size:
    return logits.shape[:1] + logits.shape[2:]


def per_sample_gradients(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    layers: str | Sequence[str] = "*",
    loss: Loss = cross_entropies,
) -> dict[str, Tensor]:
    """Gradient of each sample's loss with respect to chosen parameters of a model in eval mode.

    Results of fast ways are compared with backward passes of single samples, for each parameter on samples where the
    parameter's gradient is not zero. If a fast way is wrong or cannot run, gradients are computed one sample at a
    time, and a warning says so.

    Args:
        model: a model in which samples do not influence each other. The model's mode, parameters and stored gradients
            stay unchanged. Autocast is switched off, so gradients have the parameters' own precision.
        inputs: a tensor or array (n, …). For a model of several arguments: a tuple or mapping of tensors or arrays.
            Arguments of one row, numbers, True, False and None are shared by all samples.
        targets: (n, …), as ``loss`` takes them.
        layers: parameters or modules by name, or globs: ``"head"``, ``["*.lora_A.*", "*.lora_B.*"]``.
        loss: a function of (output, targets) that returns the losses (n,); cross-entropy by default. If the function
            returns one mean or sum, the function is called for each sample separately. A term that depends only on
            the model's weights counts in the loss of every sample.

    Returns:
        {parameter: gradients (n, *parameter shape)}, in the model's order. `View.from_blocks` accepts this mapping.

    Raises:
        RequestError: no parameter has such a name; inputs and targets have different lengths; the model or the loss
            cannot run on the inputs; or a chosen parameter cannot have a gradient.
        Unsupported: a layer normalises over the batch even in eval mode.
    """
    chosen = chosen_parameters(model, layers)
    with torch.inference_mode(False):  # a tensor made in inference mode can be neither differentiated nor written to
        targets = as_targets(targets, model)
        gradients = {name: values.new_empty(len(targets), *values.shape) for name, values in chosen.items()}
        for _ in _fill(
            model, chosen, inputs, targets, loss, lambda rows: {name: g[rows] for name, g in gradients.items()}
        ):
            pass
    return gradients


def iterate(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    layers: str | Sequence[str] = "*",
    loss: Loss = cross_entropies,
    parts: Iterable[slice] | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """The gradients of `per_sample_gradients` chunk by chunk, (rows, {parameter: (r, *shape)}), to save memory.

    Args:
        parts: the rows of each chunk. By default a chunk has at most 256 rows, and its gradients and the model's
            activations together fit in `CHUNK_BYTES`.
    """
    chosen = chosen_parameters(model, layers)

    def fresh(rows: slice) -> dict[str, Tensor]:
        return {name: values.new_empty(rows.stop - rows.start, *values.shape) for name, values in chosen.items()}

    with torch.inference_mode(False):
        checked = as_targets(targets, model)
    yield from _fill(model, chosen, inputs, checked, loss, fresh, parts)


def _fill(
    model: nn.Module,
    chosen: dict[str, Tensor],
    inputs: Any,
    targets: Tensor,
    loss: Loss,
    room: Callable[[slice], dict[str, Tensor]],
    parts: Iterable[slice] | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Compute gradients chunk by chunk, and write each chunk's gradients into the tensors of ``room(rows)``."""
    n = len(targets)
    if n == 0:
        return
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner, prefix = model.module, WRAPPED
    else:
        inner, prefix = model, ""
    with torch.inference_mode(False):
        batch = Inputs.of(inputs, n, inner)
    engine = Engine(inner, {name.removeprefix(prefix): values for name, values in chosen.items()}, loss)
    one = slice(0, 1)
    with _evaluating(inner):
        kept = engine.begin(batch.part(one), targets[one])
        # float32 gradients and a summand of the same size; the model's activations and the activations' gradients
        row_bytes = 8 * sum(values.numel() for values in chosen.values()) + 2 * kept
        step = min(MOST_TOGETHER, max(1, CHUNK_BYTES // row_bytes))
        few = torch.linspace(0, n - 1, min(CHECKED, n)).long()
        for start in range(0, len(few), step):
            engine.look(batch.part(few[start : start + step]), targets[few[start : start + step]])
    usual = (slice(start, min(start + step, n)) for start in range(0, n, step))
    for rows in usual if parts is None else parts:
        with _evaluating(inner):  # not around the yield: the caller's code must run in the caller's own modes
            into = room(rows)
            engine.write(batch.part(rows), targets[rows], {name.removeprefix(prefix): g for name, g in into.items()})
        yield rows, into


def chosen_parameters(model: nn.Module, layers: str | Sequence[str]) -> dict[str, Tensor]:
    """The parameters that names or globs choose, by name, in the model's order.

    Raises:
        RequestError: a name that no parameter has, or a parameter that cannot have a gradient.
    """
    names: dict[str, Tensor] = {**dict(model.named_parameters())}
    others = {name: values for name, values in model.named_parameters(remove_duplicate=False) if name not in names}
    matched: set[str] = set()
    if not layers:
        raise RequestError(
            f"layers={layers!r} chooses nothing; name layers or parameters of this model: {_listed(names)}"
        )
    if not names:
        raise RequestError(f"{type(model).__name__} has no parameter that a loss could have a gradient in")
    for pattern in [layers] if isinstance(layers, str) else layers:
        matching = {name for name in names if _matches(name, pattern)}
        taken = {id(names[name]) for name in (*matched, *matching)}
        for name, tied in others.items():  # a tied weight is listed under the first of its names that matches
            if _matches(name, pattern) and id(tied) not in taken:
                names[name] = tied
                matching.add(name)
                taken.add(id(tied))
        if not matching:
            known = [*names, *(name for name, _ in model.named_modules() if name)]
            near = difflib.get_close_matches(pattern, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise RequestError(f"layers={pattern!r} names no parameter of this model{hint}; it has {_listed(names)}")
        matched |= matching
    chosen = {name: values for name, values in names.items() if name in matched}
    for name, values in chosen.items():
        if isinstance(values, nn.parameter.UninitializedParameter):
            raise RequestError(f"{name} has no shape yet; call the model once on a sample first")
        if not values.is_floating_point():
            raise RequestError(f"{name} is {values.dtype}, not a real float; choose other layers by layers=")
        if values.is_inference():
            raise RequestError(
                f"{name} was made in torch.inference_mode, so it has no gradient; make the model outside"
            )
    return chosen


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


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
    try:
        model.eval()
    except NotImplementedError as error:
        raise RequestError(f"{type(model).__name__} cannot be put into eval mode: {error}") from error
    device = next(model.parameters()).device.type
    try:
        with torch.autocast(device, enabled=False), torch.inference_mode(False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
