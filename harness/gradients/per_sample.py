"""Per-sample gradients of any model's chosen parameters, many samples at a time.

Common layers have a rule that takes them from one backward pass of a whole chunk (`layer_rules`), others go through
`torch.func`, and what neither can do is computed one sample at a time. `per_sample_engine` chooses, and verifies its
choice against single samples.
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
        output: logits (n, c), or what holds them: a Hugging Face output, a mapping with ``logits``, a tuple whose first
            tensor they are.
        targets: class numbers (n,), or probabilities (n, c); −100 is ignored.

    Raises:
        RequestError: there are no logits, or targets of another form.
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
    """Gradient of each sample's loss in chosen parameters of a model in eval mode.

    Fast ways are compared with single backward passes, for each parameter on samples where it has a gradient; where
    they are wrong or cannot run, samples are computed one at a time, and a warning says so.

    Args:
        model: samples must not influence each other in it; its mode, parameters and their gradients stay as they are.
            Autocast is off: gradients are taken in the parameters' own precision.
        inputs: a tensor (n, …) or array, or a tuple or mapping of such for models of several arguments; arguments of
            one row, numbers, True, False and None go to every sample.
        targets: (n, …), as ``loss`` takes them.
        layers: parameters or modules by name, or globs: ``"head"``, ``["*.lora_A.*", "*.lora_B.*"]``.
        loss: (output, targets) to the losses (n,); cross-entropy unless told. Where it gives a mean or a sum of several
            samples, it is asked for each sample by itself. Terms that depend on the model's weights count for every
            sample.

    Returns:
        {parameter: (n, *its shape)}, in the model's order; `View.from_blocks` takes it as it is.

    Raises:
        RequestError: no parameter of such a name; inputs and targets of different lengths; a model or loss that cannot
            run on them; parameters that can have no gradient.
        Unsupported: a layer normalises over the batch even in eval mode.
    """
    chosen = _chosen(model, layers)
    with torch.inference_mode(False):  # what is made in inference mode cannot be differentiated, nor written to later
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
    """`per_sample_gradients` by chunks, (rows, {parameter: (r, *shape)}), for those who do not keep the whole.

    Args:
        parts: which rows to take together, one after another; by default as many as keep their gradients and the
            model's activations within the bound of a chunk.
    """
    chosen = _chosen(model, layers)

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
    """Fill the memory that ``room`` gives for some rows with their gradients."""
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
        # gradients and what is added to them; what the model keeps, and the gradients of that
        row_bytes = 8 * sum(values.numel() for values in chosen.values()) + 2 * kept
        step = min(MOST_TOGETHER, max(1, CHUNK_BYTES // row_bytes))
        few = torch.linspace(0, n - 1, min(CHECKED, n)).long()
        for start in range(0, len(few), step):
            engine.look(batch.part(few[start : start + step]), targets[few[start : start + step]])
    usual = (slice(start, min(start + step, n)) for start in range(0, n, step))
    for rows in usual if parts is None else parts:
        with _evaluating(inner):  # not around the yield: what the caller does in between is its own affair
            into = room(rows)
            engine.write(batch.part(rows), targets[rows], {name.removeprefix(prefix): g for name, g in into.items()})
        yield rows, into


def _chosen(model: nn.Module, layers: str | Sequence[str]) -> dict[str, Tensor]:
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
        for name, tied in others.items():  # a tied weight goes by the first of its names that is asked for
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
