"""How per-sample gradients are computed: by layers' rules where these hold, else by torch.func's vmap of grad."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.errors import Unsupported
from harness.layer_rules import Rule, Sum, rule_of

Loss = Callable[[Any, Tensor], Tensor]
"""(the model's output, targets) to the losses (n,)."""


class _Call:
    """What a layer was given and gave in one call."""

    def __init__(self, module: nn.Module, given: Tensor, output: Tensor) -> None:
        self.module, self.given, self.output = module, given, output
        self.versions = given._version, output._version

    @property
    def overwritten(self) -> bool:
        return (self.given._version, self.output._version) != self.versions


class Engine:
    """Which parameters go by rule, and both ways of computing."""

    def __init__(self, model: nn.Module, chosen: dict[str, Tensor], loss: Loss) -> None:
        self.model, self.chosen, self.loss = model, chosen, loss
        self.clone = False
        self.tolerance = _tolerance(model)
        self.ruled: dict[nn.Module, tuple[Rule, dict[str, str]]] = {}
        names = {id(values): name for name, values in chosen.items()}
        for module in model.modules():
            own = {local: names[id(p)] for local, p in module.named_parameters(recurse=False) if id(p) in names}
            rule = rule_of(module)
            if own and rule is not None:
                self.ruled[module] = (rule, own)

    def check(self, inputs: Any, targets: Tensor) -> None:
        """Drop the rules of parameters for which they do not give what each sample by itself gives."""
        names = self._ruled_names()
        if not names:
            return
        found = {name: self.chosen[name].new_empty(len(targets), *self.chosen[name].shape) for name in names}
        self._by_rules(inputs, targets, found)
        parameters = {name: self.chosen[name].detach().requires_grad_() for name in names}
        for i in range(len(targets)):
            one = slice(i, i + 1)
            with torch.enable_grad():
                loss = self.loss(run(self.model, parameters, part_of(inputs, one)), targets[one]).sum()
            alone = _gradients(loss, list(parameters.values()))
            largest = {name: float(values.abs().max()) for name, values in zip(parameters, alone, strict=True)}
            rounding = 1e-6 * max(largest.values())
            apart = {
                name: float((found[name][i] - expected).abs().max())
                for name, expected in zip(parameters, alone, strict=True)
            }
            self._drop(names={name for name in names if not apart[name] <= self.tolerance * largest[name] + rounding})

    def _ruled_names(self) -> set[str]:
        return {name for _, own in self.ruled.values() for name in own.values()}

    def _drop(self, names: Collection[str]) -> None:
        """Take away the rules of some parameters."""
        for module, (rule, own) in list(self.ruled.items()):
            kept = {local: name for local, name in own.items() if name not in names}
            self.ruled[module] = (rule, kept)
            if not kept:
                del self.ruled[module]

    def write(self, inputs: Any, targets: Tensor, into: dict[str, Tensor]) -> None:
        """Write some samples' gradients."""
        by_rule = self._ruled_names()
        if by_rule:
            self._by_rules(inputs, targets, {name: into[name] for name in by_rule})
        rest = [name for name in into if name not in self._ruled_names()]  # some rules may have been dropped just now
        if rest:
            for name, values in self._by_vmap(rest, inputs, targets).items():
                into[name].copy_(values)

    def _by_rules(self, inputs: Any, targets: Tensor, into: dict[str, Tensor]) -> None:
        parameters = {name: p.detach().requires_grad_() for name, p in self.chosen.items()}
        calls: list[_Call] = []

        def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor | None:
            given = arguments[0] if arguments else named["input"]
            call = _Call(module, given.detach().clone() if self.clone else given.detach(), output)
            calls.append(call)
            return output.clone() if self.clone else None

        handles = [module.register_forward_hook(note, with_kwargs=True) for module in self.ruled]
        try:
            with torch.enable_grad():
                total = self.loss(run(self.model, parameters, inputs), targets).sum()
        finally:
            for handle in handles:
                handle.remove()
        if any(call.overwritten for call in calls):
            self.clone = True  # something works in place on a layer's input or output: keep copies from now on
            self._by_rules(inputs, targets, into)
            return
        calls = [call for call in calls if call.output.requires_grad]  # what ran without gradients has none
        deltas = _gradients(total, [call.output for call in calls])
        sums = {name: Sum(values) for name, values in into.items()}
        n = len(targets)
        odd = [call.module for call in calls if len(call.given) != n or len(call.output) != n]
        self._drop({name for module in odd for name in self.ruled[module][1].values()})  # their first axis is another
        with torch.no_grad():
            for call, delta in zip(calls, deltas, strict=True):
                if call.module in self.ruled:
                    rule, own = self.ruled[call.module]
                    rule(call.module, call.given, delta, {local: sums[name] for local, name in own.items()})
        for values in (each.values for each in sums.values() if not each.started):
            values.zero_()

    def _by_vmap(self, names: Sequence[str], inputs: Any, targets: Tensor) -> dict[str, Tensor]:
        detached = {name: self.chosen[name].detach() for name in names}

        def one(values: dict[str, Tensor], sample: Any, target: Tensor) -> Tensor:
            output = run(self.model, values, each(sample, lambda tensor: tensor.unsqueeze(0)))
            return self.loss(output, target.unsqueeze(0)).sum()

        try:
            with torch.no_grad():  # of the parameters that were not chosen
                found: dict[str, Tensor] = vmap(grad(one), in_dims=(None, 0, 0))(detached, inputs, targets)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise
            reason = str(error).split("\n", 1)[0]
            raise Unsupported(
                f"gradients of {', '.join(names)} need torch.func.vmap, which cannot run this model: {reason}; "
                "choose linear or convolutional layers by layers="
            ) from error
        return found


def _tolerance(model: nn.Module) -> float:
    """By how much of its largest number a gradient may differ between a batch and a sample alone: what the coarsest of
    the model's weights leave open, whole numbers being as coarse as bfloat16."""
    kinds = {values.dtype if values.is_floating_point() else torch.bfloat16 for values in model.parameters()}
    return max([1e-3, *(16 * torch.finfo(kind).eps for kind in kinds)])


def run(model: nn.Module, parameters: dict[str, Tensor], inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return functional_call(model, parameters, (), dict(inputs))
    return functional_call(model, parameters, inputs if isinstance(inputs, tuple) else (inputs,))


def part_of(inputs: Any, rows: slice | Tensor) -> Any:
    return each(inputs, lambda tensor: tensor[rows])


def each(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(inputs, Mapping):
        return {name: change(values) for name, values in inputs.items()}
    return tuple(map(change, inputs)) if isinstance(inputs, tuple) else change(inputs)


def _gradients(total: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """torch.autograd.grad with zeros for what the total does not depend on."""
    if not total.requires_grad or not of:
        return tuple(map(torch.zeros_like, of))
    return torch.autograd.grad(total, of, allow_unused=True, materialize_grads=True)
