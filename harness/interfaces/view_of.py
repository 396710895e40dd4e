"""A view of any trained torch module and a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from harness.errors import RequestError
from harness.gradients.sample_losses import Loss
from harness.interfaces.loaders import Batches, Taken
from harness.interfaces.passes import Passes
from harness.interfaces.trained import Model
from harness.interfaces.view import View


def view_of(
    model: nn.Module,
    loader: Any,
    *,
    validation: Any = None,
    layers: str | Sequence[str] | None = None,
    loss: Loss | None = None,
    outputs: Callable[[Any], Tensor] | None = None,
    take: Taken | None = None,
    seed: int = 0,
) -> View:
    """A view of a trained torch module on your data, for every method of the harness.

    Features are the input of the linear layer that gives the logits. Its gradients are products of features and
    residuals, so nothing is stored per weight. Gradients of other layers are computed chunk by chunk on the model's
    device and kept; beyond 4 GiB they are kept in a temporary file. All passes are in eval mode, without autocast.

    Args:
        model: returns logits (n, c), or a tuple, mapping or Hugging Face output that holds logits. A model of sequences
            returns logits (n, c, t) or what ``loss`` takes.
        loader: the training samples: a DataLoader that does not shuffle, a Dataset, or a list of batches. A batch is a
            tuple (inputs, targets), or a mapping with ``labels``.
        validation: clean samples in the same form, the reference set ``"validation"``; None for none.
        layers: further parameters or modules whose gradients methods see, by name or glob: ``"*"``,
            ``["encoder.layer.11.*"]``. None for the last layer alone. Frozen parameters are left out.
        loss: a function of (the model's output, targets) that returns the losses (n,); cross-entropy by default.
        outputs: from the model's output to the logits (n, c), where the model returns something else.
        take: from a batch to (inputs, targets), where batches have another form.
        seed: of the methods' own randomness.

    Raises:
        RequestError: the loader shuffles or cannot be read again, a batch has no targets, no layer has such a name, or
            the model cannot run on a batch.
    """
    if not isinstance(model, nn.Module) or next(iter(model.parameters()), None) is None:
        raise RequestError(f"model= must be a torch module with parameters; it is a {type(model).__name__}")
    if not (layers is None or isinstance(layers, str | list | tuple)):
        raise RequestError(f"layers={layers!r} must be a name, a glob, or a list of such")
    seen = Passes(model, loss, outputs, layers, Batches(loader, take, model))
    references = {}
    if validation is not None:
        other = Passes(model, loss, outputs, layers, Batches(validation, take, model))
        other.first_batch()
        references["validation"] = other.outputs
    first = seen.first_batch()
    device = str(next(model.parameters()).device)
    known = Model(seen.batches.inputs(), {}, partial(_callable, model, outputs), None) if first else None
    return View(
        seen.batches.labels(seen.is_cross_entropy), seen.outputs, references, model=known, seed=seed, device=device
    )


def _callable(model: nn.Module, outputs: Callable[[Any], Tensor] | None) -> Callable[..., Any]:
    return model.eval() if outputs is None else lambda *inputs: outputs(model(*inputs))
