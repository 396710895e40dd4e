"""What passes of a user's model over batches show: probabilities, features of the last layer, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.errors import RequestError, Unsupported
from harness.gradients.model_inputs import Inputs, logits_of
from harness.gradients.per_sample import chosen_parameters, cross_entropies, iterate, per_sample_gradients
from harness.gradients.sample_losses import Loss
from harness.gradients.storage import allocated
from harness.interfaces.loaders import Batches
from harness.interfaces.outputs import Outputs

COMPARED = 4
"""Samples on which the last layer's gradients are compared with those of backward passes."""

ALONE = "the model's output for a sample depends on the samples beside it, so no sample has a gradient"

MIXED = 0.05
"""How far the logits of a sample by itself may be from those in a batch, as a share of the largest logit. Rounding in
half precision stays below."""


class Passes:
    """What one pass of the model over one set of batches shows.

    Args:
        loss, logits, layers: as for `view_of`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        logits: Callable[[Any], Tensor] | None,
        layers: str | Sequence[str] | None,
        batches: Batches,
    ) -> None:
        self.model, self.batches, self.layers = model, batches, layers
        self.logits = logits or logits_of
        self.is_cross_entropy = loss is None
        self.loss = loss or self._cross_entropies

    def _cross_entropies(self, output: Any, targets: Tensor) -> Tensor:
        logits = self.logits(output)
        if len(targets) == targets.numel() == logits.numel():  # one sigmoid output
            told = targets.reshape(logits.shape).to(logits.dtype)
            return binary_cross_entropy_with_logits(logits, told, reduction="none").reshape(len(targets), -1).sum(1)
        return cross_entropies(logits, targets)

    def first_batch(self) -> tuple[Any, Tensor]:
        """The first batch.

        Raises:
            RequestError: there is no batch, or the model cannot run on it.
        """
        for inputs, targets in self.batches:
            self.run(inputs, targets)
            return inputs, targets
        raise RequestError("loader= has no batch")

    def run(self, inputs: Any, targets: Tensor) -> Any:
        """The model's output for a batch, in eval mode and without gradients.

        Raises:
            RequestError: the model cannot run on the batch.
        """
        with _evaluating(self.model):
            try:
                return Inputs.of(inputs, len(targets), self.model).call(self.model)
            except RequestError:
                raise
            except Exception as error:  # a model of the user's may raise anything
                told = (str(error).splitlines() or [""])[0]
                raise RequestError(f"the model cannot run on a batch: {type(error).__name__}: {told}") from error

    def outputs(self) -> Outputs:
        """Labels, probabilities, last-layer features and gradients of all samples."""
        labels = torch.from_numpy(self.batches.labels(self.is_cross_entropy)).to(next(self.model.parameters()).device)
        head, probs, features = self._passed()
        if head is not None and not self._head_is_right(head):
            head, features = None, None
        weight = None if head is None else self.model.get_submodule(head)
        bias = weight is not None and getattr(weight, "bias", None) is not None
        names = self._other_parameters(head)
        blocks = None if names == [] else partial(self._blocks, names)
        return Outputs(labels, probs, features, bias=bias, blocks=blocks, with_head=head is not None)

    def _passed(self) -> tuple[str | None, Tensor | None, Tensor | None]:
        """The name of the layer that gives the logits, probabilities (n, c) and that layer's inputs (n, d).

        None, each, where there is no such layer or no class probabilities.
        """
        head = self._head()
        probs: list[Tensor] = []
        features: list[Tensor] = []
        caught: list[Tensor] = []
        handle = None
        if head is not None:
            layer = self.model.get_submodule(head)
            handle = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            for known, (inputs, targets) in zip(self.batches.targets, self.batches, strict=False):
                if known.shape != targets.shape or not torch.equal(known, targets):
                    raise RequestError("the loader gives other samples in a second pass; give one with a fixed order")
                caught.clear()
                logits = self._class_logits(self.run(inputs, targets))
                if logits is None:
                    return None, None, None
                if head is not None:
                    features.append(caught[-1].float())
                if not probs:
                    self._check_alone(inputs, targets, logits)
                probs.append(logits.float().softmax(1) if logits.shape[1] > 1 else logits.float().sigmoid())
        finally:
            if handle is not None:
                handle.remove()
        return head, torch.cat(probs), torch.cat(features) if head is not None else None

    def _check_alone(self, inputs: Any, targets: Tensor, logits: Tensor) -> None:
        """Raise an `Unsupported` if the first sample's logits depend on the samples beside it."""
        if len(targets) < 2:
            return
        first = Inputs.of(inputs, len(targets), self.model).part(slice(0, 1))
        try:
            with _evaluating(self.model):
                alone = self._class_logits(first.call(self.model))
        except Exception as error:  # a model of the user's may raise anything
            raise Unsupported(f"{ALONE} ({(str(error).splitlines() or [''])[0]})") from error
        assert alone is not None  # the whole batch has class logits
        scale = float(logits.float().abs().max()) + 1e-6
        if float((alone.float() - logits[:1].float()).abs().max()) > MIXED * scale:
            raise Unsupported(
                "the model's output for a sample depends on the samples beside it, so no sample has a gradient"
            )

    def _class_logits(self, output: Any) -> Tensor | None:
        """Logits (n, c), or None where the output is not one row of class logits per sample."""
        try:
            logits = self.logits(output)
        except RequestError:
            return None
        if logits.ndim == 1:
            logits = logits.unsqueeze(1)
        return logits if logits.ndim == 2 and self.batches.one_target else None

    def _head(self) -> str | None:
        """The linear layer whose output is the logits and whose inputs are (n, d); None if there is no such layer."""
        if not self.is_cross_entropy:
            return None
        inputs, targets = self.first_batch()
        calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
        names: dict[nn.Module, str] = {m: name for name, m in self.model.named_modules() if isinstance(m, nn.Linear)}

        def note(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            calls.setdefault(names[module], []).append((arguments[0], output))

        handles = [module.register_forward_hook(note) for module in names]
        try:
            with _evaluating(self.model):
                logits = self._class_logits(Inputs.of(inputs, len(targets), self.model).call(self.model))
        finally:
            for handle in handles:
                handle.remove()
        if logits is None:
            return None
        for name, made in calls.items():
            taken_in, given = made[-1]
            if len(made) == 1 and taken_in.ndim == 2 and given.shape == logits.shape and torch.equal(given, logits):
                return name
        return None

    def _head_is_right(self, head: str) -> bool:
        """Whether products of features and residuals are the layer's gradients, on a few samples.

        They are not if the layer's weight is used elsewhere, too.
        """
        inputs, targets = self.first_batch()
        few = slice(0, min(COMPARED, len(targets)))
        whole = Inputs.of(inputs, len(targets), self.model)
        part = whole.part(few)
        given: Any = part.named or (part.positional if len(part.positional) > 1 else part.positional[0])
        expected = per_sample_gradients(self.model, given, targets[few], _joined(head, "weight"), self.loss)
        (gradient,) = expected.values()
        caught: list[Tensor] = []
        handle = self.model.get_submodule(head).register_forward_pre_hook(lambda _, seen: caught.append(seen[0]))
        try:
            with _evaluating(self.model):
                logits = self._class_logits(whole.part(few).call(self.model))
        finally:
            handle.remove()
        assert logits is not None  # `_head` found the layer by its logits
        residuals = logits.float().softmax(1) if logits.shape[1] > 1 else logits.float().sigmoid()
        rows = torch.arange(len(residuals), device=residuals.device)
        told = targets[few].reshape(len(residuals)).long()
        if residuals.shape[1] > 1:
            residuals[rows, told] -= 1
        else:
            residuals = residuals - told.unsqueeze(1)
        product = residuals.unsqueeze(2) * caught[-1].float().unsqueeze(1)
        close = 1e-3 if gradient.dtype == torch.float32 or gradient.dtype == torch.float64 else 3e-2
        scale = float(product.abs().max()) + 1e-12
        return bool(((product - gradient.float()).abs().max() / scale) < close)

    def _other_parameters(self, head: str | None) -> list[str] | None:
        """The trainable parameters that ``layers`` names, without those of the last layer; None if none are named."""
        if self.layers is None:
            return [] if head is not None else None
        chosen = chosen_parameters(self.model, self.layers)
        own = set() if head is None else {_joined(head, "weight"), _joined(head, "bias")}
        names = [name for name, values in chosen.items() if values.requires_grad and name not in own]
        if not names and head is None:
            raise RequestError(f"layers={self.layers!r} names frozen parameters only; name trainable ones")
        return names

    def _blocks(self, names: Sequence[str] | None) -> dict[str, Tensor]:
        """Gradients of the parameters, (n, *shape) each, batch by batch.

        Raises:
            Unsupported: no parameters are named, and the model has no last layer by itself.
        """
        if names is None:
            raise Unsupported(
                "no linear layer by itself gives this model's logits; name the layers whose gradients are wanted by "
                'layers=, such as "*"'
            )
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        device = next(self.model.parameters()).device
        shapes = {name: tuple(parameters[name].shape) for name in names}
        gradients = allocated(shapes, self.batches.n, device)
        start = 0
        for inputs, targets in self.batches:
            for rows, part in iterate(self.model, inputs, targets, list(names), self.loss):
                for name, values in part.items():
                    gradients[name][start + rows.start : start + rows.stop] = values.float()
            start += len(targets)
        return gradients


def _joined(module: str, parameter: str) -> str:
    """A parameter's name; the model itself has an empty name."""
    return f"{module}.{parameter}" if module else parameter


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, and every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    device = next(model.parameters()).device.type
    try:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
