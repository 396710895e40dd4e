"""Computes per-sample gradients by the fastest of three ways that gives the same result as each sample by itself.

1. ``rules``: layers with a rule (`layer_rules`) take their gradients from one backward pass of a whole chunk.
2. ``vmap``: `torch.func`'s vmap of grad.
3. ``alone``: one backward pass per sample, which is right by definition and works for any model.

Each parameter starts with the fastest way that the parameter's layer allows. If that way cannot run or gives a wrong
result, the parameter moves to the next way. Two checks find wrong results:

- The graph of each chunk's loss shows whether a parameter is used only in calls of its layer, as a rule assumes. A
  weight that is also used elsewhere, for example in a penalty term of the loss, fails this check.
- Gradients are compared with gradients of single samples: for one sample in every chunk, and for each parameter on
  samples where the parameter's gradient is not zero.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.errors import RequestError
from harness.gradients.autograd import (
    Activations,
    Graph,
    attributes_kept,
    by_backward,
    differentiable,
    gradients_of,
    is_memory,
)
from harness.gradients.layer_rules import PARAMETERS, Call, Rule, Sum, rule_of
from harness.gradients.model_inputs import Inputs
from harness.gradients.per_sample_check import Comparison, rows_with_gradients
from harness.gradients.sample_losses import Loss, Losses, Whole, losses_of


class Engine:
    """Chooses a way for each parameter, and computes gradients in the three ways.

    Args:
        model: the model, in eval mode whenever the engine is used.
        chosen: the chosen parameters of the model, by name.
        loss: the loss as a function of outputs and targets.
    """

    def __init__(self, model: nn.Module, chosen: Mapping[str, Tensor], loss: Loss) -> None:
        self.model, self.chosen, self.losses = model, dict(chosen), Losses(model, loss)
        self.clone = False
        self.comparison = Comparison.of(model)
        self.told: set[str] = set()
        self.looked_at = 0
        self.unverified = set(chosen)
        self.ruled: dict[nn.Module, tuple[Rule, dict[str, str]]] = {}
        self.vmapped = set(chosen)
        names = {id(values): name for name, values in chosen.items()}
        for module in model.modules():
            own = {local: names[id(p)] for local, p in module.named_parameters(recurse=False) if id(p) in names}
            own = {local: name for local, name in own.items() if local in PARAMETERS}
            rule = rule_of(module)
            if own and rule is not None:
                self.ruled[module] = (rule, own)

    def begin(self, inputs: Inputs, targets: Tensor) -> int:
        """Run the model and the loss on one sample.

        Returns:
            Bytes that the forward pass keeps for the backward pass.

        Raises:
            RequestError: the model cannot run on the inputs, or the loss function returns no losses.
        """
        counter = Activations(self.model)
        try:
            try:
                with differentiable(self.chosen), counter:
                    self.losses.total(inputs.part(slice(0, 1)), targets.clone())
            except RuntimeError as error:  # a model that itself uses torch.func allows no saved-tensor hooks
                if "hooks" not in str(error):
                    raise
                with differentiable(self.chosen):
                    self.losses.total(inputs.part(slice(0, 1)), targets.clone())
        except RequestError:
            raise
        except Exception as error:
            if is_memory(error):
                raise
            raise RequestError(
                f"the model and its loss cannot run on one sample: {type(error).__name__}: {_first_line(error)}"
            ) from error
        if self._is_captured(inputs, targets):
            self.vmapped.clear()  # vmap would treat weights that the loss reads directly as constants
        return counter.bytes

    def look(self, inputs: Inputs, targets: Tensor) -> None:
        """Compute some samples' gradients only to check the chosen ways."""
        self.write(inputs, targets, {name: p.new_empty(len(targets), *p.shape) for name, p in self.chosen.items()})

    def write(self, inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]) -> None:
        """Write some samples' gradients, and check the gradients of one sample.

        For parameters that are not verified yet, more samples are checked.
        """
        into = {name: values for name, values in into.items() if values[:1].numel()}  # no empty parameters
        todo = set(into)
        while todo:
            ruled = {name: into[name] for name in self._ruled_names() & todo}
            wrong = self._by_rules(inputs, targets, ruled) if ruled else set()
            rest = [name for name in into if name in todo and name not in ruled]
            by_vmap = [name for name in rest if name in self.vmapped]
            if by_vmap:
                wrong |= self._by_vmap(by_vmap, inputs, targets, into)
            alone = [name for name in rest if name not in self.vmapped]
            if alone:
                self._alone(alone, inputs, targets, into)
            wrong |= self._disagreeing(todo - wrong - set(alone), inputs, targets, into)
            self._fall(wrong)
            todo = wrong

    def _ruled_names(self) -> set[str]:
        return {name for _, own in self.ruled.values() for name in own.values()}

    def _fall(self, names: Collection[str]) -> None:
        """Move these parameters to their next way."""
        ruled = self._ruled_names()
        self.vmapped -= {name for name in names if name not in ruled}
        for module, (rule, own) in list(self.ruled.items()):
            kept = {local: name for local, name in own.items() if name not in names}
            self.ruled[module] = (rule, kept)
            if not kept:
                del self.ruled[module]

    # --- comparing with single samples

    def _disagreeing(
        self, names: Collection[str], inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]
    ) -> set[str]:
        """The parameters whose gradients differ from those of single samples.

        Another parameter counts as verified if at least one compared gradient of the parameter is not zero.
        """
        wrong: set[str] = set()
        if not names:
            return wrong
        any_row = hash((len(targets), self.looked_at)) % len(targets)  # a different row in every chunk
        self.looked_at += 1
        rows = [any_row, *rows_with_gradients(set(names) & self.unverified, into, len(targets))]
        for row in dict.fromkeys(rows):
            expected = self._of_one(sorted(names), inputs, targets, row)
            largest: dict[str, float] = {}
            for name, values in expected.items():  # per layer: rounding errors differ in size between layers
                layer = name.rpartition(".")[0]
                largest[layer] = max(largest.get(layer, 0.0), float(values.abs().nan_to_num(0).max()))
            for name, values in expected.items():
                if not self.comparison.alike(into[name][row], values, 1e-6 * largest[name.rpartition(".")[0]]):
                    wrong.add(name)
                if bool(values.any()):
                    self.unverified.discard(name)
        self.unverified -= wrong
        return wrong

    # --- the ways

    def _by_rules(self, inputs: Inputs, targets: Tensor, into: dict[str, Tensor]) -> set[str]:
        """Write gradients by rules; returns the parameters that rules do not hold for."""
        try:
            return self._ruled_gradients(inputs, targets, into)
        except Exception as error:  # a model that runs on one sample may fail on a batch
            if is_memory(error):
                raise
            return set(into)

    def _ruled_gradients(self, inputs: Inputs, targets: Tensor, into: dict[str, Tensor]) -> set[str]:
        calls: list[Call] = []
        n = len(targets)

        def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor | None:
            inputs = arguments[0] if arguments else named["input"]
            inputs = inputs.detach().clone() if self.clone else inputs.detach()
            if "weight" not in self.ruled[module][1] and len(inputs) == n:
                inputs = inputs[:, :0].new_empty(n)  # the gradient of a bias does not need the inputs
            calls.append(Call(module, inputs, output))
            return output.clone() if self.clone else None

        with differentiable(self.chosen) as parameters:
            handles = [module.register_forward_hook(note, with_kwargs=True) for module in self.ruled]
            try:
                total = self.losses.total(inputs.part(slice(0, n)), targets.clone())
            finally:
                for handle in handles:
                    handle.remove()
            if any(call.overwritten for call in calls) and not self.clone:
                self.clone = True  # something works in place on a layer's input or output: keep copies from now on
                return self._ruled_gradients(inputs, targets, into)
            calls = [call for call in calls if call.output.requires_grad]  # calls without gradients have none
            counted: Counter[str] = Counter()
            for call in calls:
                counted.update(self.ruled[call.module][1].values())
            graph = Graph(total, {id(parameters[name]): name for name in into})
            if graph.is_reentrant:
                return set(into)
            wrong = {name for name in into if graph.uses[name] != counted[name]}
            odd = [call.module for call in calls if not call.has_rows(n)]
            wrong |= {name for module in odd for name in self.ruled[module][1].values()}  # not one row per sample
            deltas = gradients_of(total, [call.output for call in calls])
        sums = {name: Sum(values) for name, values in into.items() if name not in wrong}
        with torch.no_grad():
            for call, delta in zip(calls, deltas, strict=True):
                rule, own = self.ruled[call.module]
                wanted = {local: sums[name] for local, name in own.items() if name in sums}
                if wanted:
                    rule(call.module, call.inputs, delta, wanted)
            for values in (total.values for total in sums.values() if not total.started):
                values.zero_()
        return wrong

    def _by_vmap(self, names: Sequence[str], inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]) -> set[str]:
        """Write gradients by `torch.func`; return the names of the parameters for which `torch.func` fails."""
        whole = Whole(self.model, self.losses.function)
        detached = {f"model.{name}": self.chosen[name].detach() for name in names}
        copy = inputs.part(slice(0, inputs.n))
        batched = {key: value for key, value in copy.leaves().items() if copy.is_per_sample(value)}

        def one(values: dict[str, Tensor], sample: dict[str, Tensor], target: Tensor) -> Tensor:
            rows = iter(sample.values())
            arguments = copy.changed(lambda _: next(rows).unsqueeze(0), 1)
            return losses_of(functional_call(whole, values, (arguments, target.unsqueeze(0)))).sum()

        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(), attributes_kept(self.model):
                warnings.filterwarnings("ignore", "There is a performance drop")  # still faster than one at a time
                gradients: dict[str, Tensor] = vmap(grad(one), in_dims=(None, 0, 0))(detached, batched, targets.clone())
        except Exception as error:  # torch.func raises many exception types for unsupported operations
            if is_memory(error):
                raise
            self._tell(names, f"torch.func.vmap cannot run this model ({_first_line(error)})")
            return set(names)
        ignored = self.losses.ignored(targets)
        for name in names:
            into[name].copy_(gradients[f"model.{name}"])
            if ignored is not None:
                into[name][ignored] = 0
        return set()

    def _tell(self, names: Collection[str], reason: str) -> None:
        """Warn once per parameter that its gradients are computed the slow way."""
        new = [name for name in names if name not in self.told]
        if new:
            self.told.update(new)
            warnings.warn(
                f"gradients of {_listed(new)} are computed one sample at a time, which is slow: {reason}", stacklevel=2
            )

    def _alone(self, names: Sequence[str], inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]) -> None:
        if len(targets) > 1:
            self._tell(names, "a batch does not give what each sample by itself gives")
        for row in range(len(targets)):
            for name, values in self._of_one(names, inputs, targets, row).items():
                into[name][row].copy_(values)

    def _of_one(self, names: Sequence[str], inputs: Inputs, targets: Tensor, row: int) -> dict[str, Tensor]:
        """Gradients of one sample's loss: the reference result for all three ways."""
        sample = slice(row, row + 1)
        with differentiable(self.chosen) as parameters:
            wanted = [parameters[name] for name in names]
            total = self.losses.total(inputs.part(sample), targets[sample].clone())
            if Graph(total, {}).is_reentrant:
                gradients = by_backward(total, wanted, [*self.model.parameters()])
            else:
                gradients = gradients_of(total, wanted)
        return dict(zip(names, gradients, strict=True))

    def _is_captured(self, inputs: Inputs, targets: Tensor) -> bool:
        """Whether the loss depends on the chosen parameters even after copies replace them in the model."""
        whole = Whole(self.model, self.losses.function)
        with differentiable(self.chosen) as parameters:
            others = {f"model.{name}": values.detach().clone() for name, values in parameters.items()}
            try:
                total = losses_of(functional_call(whole, others, (inputs.part(slice(0, 1)), targets.clone()))).sum()
            except Exception as error:  # the parameters of this model cannot be replaced
                if is_memory(error):
                    raise
                return True
            return bool(Graph(total, {id(values): name for name, values in parameters.items()}).uses)


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
