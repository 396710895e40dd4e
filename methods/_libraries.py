"""What other attribution libraries are given: a copy of the trained model and data sets of tensors.

The libraries want a torch module of positional tensors, and data sets that end with the label. They register hooks,
replace layers and draw random numbers. So a library gets a copy of the model, and its random numbers are seeded.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.errors import Unsupported
from harness.interfaces.uses import of_reference
from methods._reference import ReferenceMethod

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import TensorDataset

    from harness.interfaces.view import View


@dataclass(frozen=True)
class LibraryMethod(ReferenceMethod):
    """Base of the methods that another library computes.

    Args:
        of: the influence on the ``reference`` set, or of each sample on ``self``.
        layers: ``all`` trained linear and convolutional layers of the task's torch module, or a glob over the names of
            these layers.
    """

    named_only: ClassVar[bool] = True  # libraries that happen to be installed must not change what ``all`` runs

    of: Literal["reference", "self"] = "reference"
    layers: str = "all"

    @property
    def uses(self) -> tuple[str, ...]:
        plain = ("labels", "inputs", "model")
        return plain if self.of == "self" else (*plain, *of_reference(self.reference))

    def score(self, view: View) -> np.ndarray:
        self.refuse_class_mean()
        with hosted(view):
            if self.of == "self":
                return np.asarray(self.on_itself(view), dtype=np.float64)
            return np.asarray(self.sign * self.harm(view).mean(0), dtype=np.float64)

    def pairwise(self, view: View) -> np.ndarray:
        if self.of == "self":
            raise Unsupported("of=self gives one score per training sample and attributes nothing to reference samples")
        with hosted(view):
            return np.asarray(self.harm(view), dtype=np.float64)

    @abstractmethod
    def harm(self, view: View) -> np.ndarray:
        """How much each training sample harms each reference sample, (n_reference, n)."""

    def on_itself(self, view: View) -> np.ndarray:
        """Self-influence of each training sample, (n,).

        Raises:
            Unsupported: the library computes none.
        """
        raise Unsupported(f"{self.name} computes no self-influence with these parameters; give of=reference")


@contextmanager
def hosted(view: View) -> Iterator[None]:
    """Seed the global generators, from which libraries draw, and put them back.

    Progress bars, prints and warnings of the libraries about their own code are hidden.
    """
    from harness.randomness import global_seed

    unread = StringIO()
    with global_seed(view.seed % 2**31), warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, eq=False)
class Handed:
    """A model and data sets in the form that libraries take.

    Args:
        model: a copy of positional tensors to logits (n, c ≥ 2), in eval mode; see `Logits`.
        layers: the names of the chosen layers in ``model``.
        train, reference: data sets of inputs and label; ``reference`` is None if none was asked for.
    """

    model: nn.Module
    layers: list[str]
    train: TensorDataset
    reference: TensorDataset | None

    @classmethod
    def of(cls, view: View, layers: str, reference: str | None) -> Handed:
        """The model of a view, its training samples and a reference set.

        Raises:
            Unsupported: the view has no torch module, or no layer has such a name.
        """
        from methods._network import Network

        network = Network.of(view, layers)
        inputs, names = _tensors(view.inputs)
        held = None if reference is None else view.reference(reference)
        return cls(
            logits_module(network.model, names),
            [f"inner.{name}" if name != "model" else "inner" for name in network.layers],
            _dataset(inputs, view.labels),
            None if held is None else _dataset(_tensors(held.inputs)[0], held.labels),
        )

    @property
    def held(self) -> TensorDataset:
        """The reference set, where one was asked for."""
        assert self.reference is not None
        return self.reference


def logits_module(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A copy of a model with positional arguments and at least two logits.

    Args:
        names: of the arguments; empty for one argument without a name.
    """
    import torch
    from torch import nn

    class Logits(nn.Module):
        """Logits (n, c). One sigmoid output z becomes the two logits (0, z), which have the same loss."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = deepcopy(model)

        def forward(self, *inputs: Tensor) -> Tensor:
            logits: Tensor = self.inner(**dict(zip(names, inputs, strict=True))) if names else self.inner(*inputs)
            return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits

    return Logits().eval()


def _tensors(inputs: Any) -> tuple[list[Tensor], tuple[str, ...]]:
    """A model's inputs as a list, and the names of arguments that have names."""
    if isinstance(inputs, Mapping):
        return [*inputs.values()], tuple(inputs)
    return ([*inputs] if isinstance(inputs, tuple) else [inputs]), ()


def _dataset(inputs: list[Tensor], labels: np.ndarray) -> TensorDataset:
    """Inputs and labels; images of bytes become floats of the same numbers, because libraries differentiate inputs."""
    import torch
    from torch.utils.data import TensorDataset

    floats = [values.float() if values.dtype == torch.uint8 else values for values in inputs]
    return TensorDataset(*floats, torch.from_numpy(labels).to(inputs[0].device))


def states_of(view: View) -> list[tuple[float, dict[str, Tensor]]]:
    """The learning rate and the state of `Handed.model` at each checkpoint."""
    from torch import nn

    states = []
    for made in view.checkpoints:
        model = made.view.model
        assert isinstance(model, nn.Module)
        states.append((made.learning_rate, {f"inner.{name}": values for name, values in model.state_dict().items()}))
    return states


def numbers(values: Tensor) -> np.ndarray:
    """A tensor as a float64 array."""
    return np.asarray(values.detach().cpu().double().numpy())
