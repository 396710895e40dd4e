"""How per-sample gradients are computed: the fastest of three ways that gives what each sample by itself gives.

1. ``rules``: layers with a rule (`harness.layer_rules`) take their gradients from one backward pass of a whole chunk.
2. ``vmap``: `torch.func`'s vmap of grad.
3. ``alone``: one backward pass per sample, which is right by definition and works for any model.

A parameter starts with the fastest way that its layer has, and falls to the next where that way cannot run or is wrong.
What is wrong is seen in two ways. The graph of each chunk's loss tells whether a parameter acts through calls of its
layer alone, as a rule supposes; a weight that is used elsewhere, by a penalty in the loss say, does not. And gradients
are compared with those of single samples: of one sample in every chunk, and for each parameter on samples where it has
a gradient.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from harness.errors import RequestError
from harness.layer_rules import PARAMETERS, Rule, Sum, rule_of
from harness.model_inputs import Inputs, has_scalar, part_of_output

Loss = Callable[[Any, Tensor], Tensor]
"""(the model's output, targets) to the losses (n,), or to their sum or mean."""

CHECKED_TOGETHER = 5
"""Samples of a chunk, at most, whose gradients are compared with backward passes of each alone."""

REENTRANT = "CheckpointFunctionBackward"
"""The node of a graph behind which reentrant checkpointing hides another."""


class NotPerSample(Exception):
    """What a batch gives cannot be told apart by samples."""


class _Call:
    """What a layer was given and gave in one call."""

    def __init__(self, module: nn.Module, given: Tensor, output: Tensor) -> None:
        self.module, self.given, self.output = module, given, output
        self.versions = given._version, output._version

    @property
    def overwritten(self) -> bool:
        return (self.given._version, self.output._version) != self.versions

    def has_rows(self, n: int) -> bool:
        """Whether the first axis of what went in and came out is the samples."""
        shapes = self.given.shape, self.output.shape
        return all(len(shape) > 0 and shape[0] == n for shape in shapes)


class _Whole(nn.Module):
    """Model and loss as one module, so that a loss that reads the model's weights reads those that stand in."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        return self.loss(inputs.call(self.model), targets)


class Engine:
    """Which way each parameter goes, and the three ways.

    Args:
        model: in eval mode whenever the engine is used.
        chosen: its parameters by name.
        loss: of outputs and targets.
    """

    def __init__(self, model: nn.Module, chosen: Mapping[str, Tensor], loss: Loss) -> None:
        self.model, self.chosen, self.loss = model, dict(chosen), loss
        self.clone = False
        self.tolerance, self.scale_tolerance = _tolerances(model)
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
        """Try one sample.

        Returns:
            Bytes that its forward pass keeps for the backward pass.

        Raises:
            RequestError: the model cannot run on the inputs, or the loss gives no losses.
        """
        counter = _Activations(self.model)
        try:
            try:
                with self._differentiable(), counter:
                    self._total(inputs.part(slice(0, 1)), targets.clone())
            except RuntimeError as error:  # torch.func within the model admits no such counting
                if "hooks" not in str(error):
                    raise
                with self._differentiable():
                    self._total(inputs.part(slice(0, 1)), targets.clone())
        except RequestError:
            raise
        except Exception as error:
            if _is_memory(error):
                raise
            raise RequestError(
                f"the model and its loss cannot run on one sample: {type(error).__name__}: {_first_line(error)}"
            ) from error
        if self._is_captured(inputs, targets):
            self.vmapped.clear()  # vmap would take weights that the loss holds by themselves for constants
        return counter.bytes

    def look(self, inputs: Inputs, targets: Tensor) -> None:
        """Compute some samples' gradients, only to verify the ways."""
        self.write(inputs, targets, {name: p.new_empty(len(targets), *p.shape) for name, p in self.chosen.items()})

    def write(self, inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]) -> None:
        """Write some samples' gradients, verified on one of them, and on more for parameters that had none so far."""
        into = {name: values for name, values in into.items() if values[:1].numel()}  # parameters without numbers
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
        """Let parameters go the next way."""
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
        """Parameters whose gradients are not those of single samples; the others count as verified, where they have
        any gradient to be compared."""
        wrong: set[str] = set()
        if not names:
            return wrong
        any_row = hash((len(targets), self.looked_at)) % len(targets)  # another one in every chunk
        self.looked_at += 1
        rows = [any_row, *self._rows_with_gradients(set(names) & self.unverified, into, len(targets))]
        for row in dict.fromkeys(rows):
            expected = self._of_one(sorted(names), inputs, targets, row)
            largest: dict[str, float] = {}
            for name, values in expected.items():  # layer by layer, since rounding in one says nothing of another
                layer = name.rpartition(".")[0]
                largest[layer] = max(largest.get(layer, 0.0), float(values.abs().nan_to_num(0).max()))
            for name, values in expected.items():
                if not self._alike(into[name][row], values, 1e-6 * largest[name.rpartition(".")[0]]):
                    wrong.add(name)
                if bool(values.any()):
                    self.unverified.discard(name)
        self.unverified -= wrong
        return wrong

    def _alike(self, found: Tensor, expected: Tensor, rounding: float) -> bool:
        """Whether a gradient is what it should be, up to rounding of its precision.

        Two things are compared: the largest difference, and, where rounding averages out, the size along the right
        gradient. NaN is like NaN, and an infinity like itself.
        """
        unknown = (found.isnan() & expected.isnan()) | ((found == expected) & ~expected.isfinite())
        found, expected = found[~unknown].double(), expected[~unknown].double()
        if not found.numel():
            return True
        apart = found - expected
        largest, most = float(apart.abs().max()), float(expected.abs().max())
        if largest <= rounding:
            return True
        along = abs(float((apart * expected).sum())) <= self.scale_tolerance * float(expected.square().sum())
        return along and largest <= self.tolerance * most

    def _rows_with_gradients(self, names: Collection[str], into: Mapping[str, Tensor], n: int) -> list[int]:
        """Rows to compare: for each parameter one of its largest gradients, and further ones up to five in all."""
        if not names:
            return []
        sizes = torch.stack([into[name].reshape(n, -1).abs().amax(1).float().cpu() for name in sorted(names)])
        sizes = torch.nan_to_num(sizes, nan=torch.inf)
        largest = {int(row) for row, size in zip(sizes.argmax(1), sizes.amax(1), strict=True) if size > 0}
        rows = sorted(largest)[:: max(1, len(largest) // CHECKED_TOGETHER)]
        total = (sizes > 0).sum(0)
        for row in total.argsort(descending=True, stable=True).tolist():
            if len(rows) >= min(n, CHECKED_TOGETHER) or total[row] == 0:
                break
            if row not in rows:
                rows.append(row)
        return rows

    # --- the ways

    @contextmanager
    def _differentiable(self) -> Iterator[dict[str, Tensor]]:
        """The chosen parameters themselves, with gradients on, whatever they are otherwise."""
        frozen = [values for values in self.chosen.values() if not values.requires_grad]
        with torch.inference_mode(False), torch.enable_grad():
            for values in frozen:
                values.requires_grad_(True)
            try:
                yield self.chosen
            finally:
                for values in frozen:
                    values.requires_grad_(False)

    def _total(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """The sum of the samples' losses."""
        return self._losses(inputs.call(self.model), targets).sum()

    def _losses(self, output: Any, targets: Tensor) -> Tensor:
        """Each sample's loss, (n,); one sample after another where the loss function gives a mean or sum."""
        n = len(targets)
        losses = _tensor(self.loss(output, targets))
        if losses.ndim and len(losses) == n:
            losses = losses.reshape(n, -1).sum(1)
        else:
            if n > 1 and has_scalar(output):
                raise NotPerSample("the model gives one number for a whole batch")
            parts = [slice(i, i + 1) for i in range(n)]
            each = [_tensor(self.loss(part_of_output(output, part, n), targets[part])).sum() for part in parts]
            losses = torch.stack(each)
        ignored = self._ignored(targets)
        return losses if ignored is None else losses[~ignored]

    def _ignored(self, targets: Tensor) -> Tensor | None:
        """Samples whose targets are all to be ignored, (n,) bool: their mean loss is 0/0, and they have no gradient."""
        index = getattr(self.loss, "ignore_index", None)
        if not isinstance(index, int) or targets.is_floating_point():
            return None
        ignored = (targets == index).reshape(len(targets), -1).all(1)
        return ignored if bool(ignored.any()) else None

    def _by_rules(self, inputs: Inputs, targets: Tensor, into: dict[str, Tensor]) -> set[str]:
        """Write gradients by rules; returns the parameters that rules do not hold for."""
        try:
            return self._ruled_gradients(inputs, targets, into)
        except Exception as error:  # what one sample at a time can do need not be possible for a batch
            if _is_memory(error):
                raise
            return set(into)

    def _ruled_gradients(self, inputs: Inputs, targets: Tensor, into: dict[str, Tensor]) -> set[str]:
        calls: list[_Call] = []
        n = len(targets)

        def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor | None:
            given = arguments[0] if arguments else named["input"]
            given = given.detach().clone() if self.clone else given.detach()
            if "weight" not in self.ruled[module][1] and len(given) == n:
                given = given[:, :0].new_empty(n)  # a bias does not need it
            calls.append(_Call(module, given, output))
            return output.clone() if self.clone else None

        with self._differentiable() as parameters:
            handles = [module.register_forward_hook(note, with_kwargs=True) for module in self.ruled]
            try:
                total = self._total(inputs.part(slice(0, n)), targets.clone())
            finally:
                for handle in handles:
                    handle.remove()
            if any(call.overwritten for call in calls) and not self.clone:
                self.clone = True  # something works in place on a layer's input or output: keep copies from now on
                return self._ruled_gradients(inputs, targets, into)
            calls = [call for call in calls if call.output.requires_grad]  # what ran without gradients has none
            counted: Counter[str] = Counter()
            for call in calls:
                counted.update(self.ruled[call.module][1].values())
            graph = _Graph(total, {id(parameters[name]): name for name in into})
            if graph.is_reentrant:
                return set(into)
            wrong = {name for name in into if graph.uses[name] != counted[name]}
            odd = [call.module for call in calls if not call.has_rows(n)]
            wrong |= {name for module in odd for name in self.ruled[module][1].values()}  # their first axis is another
            deltas = _gradients(total, [call.output for call in calls])
        sums = {name: Sum(values) for name, values in into.items() if name not in wrong}
        with torch.no_grad():
            for call, delta in zip(calls, deltas, strict=True):
                rule, own = self.ruled[call.module]
                wanted = {local: sums[name] for local, name in own.items() if name in sums}
                if wanted:
                    rule(call.module, call.given, delta, wanted)
            for values in (each.values for each in sums.values() if not each.started):
                values.zero_()
        return wrong

    def _by_vmap(self, names: Sequence[str], inputs: Inputs, targets: Tensor, into: Mapping[str, Tensor]) -> set[str]:
        """Write gradients by torch.func; returns the names where it cannot."""
        whole = _Whole(self.model, self.loss)
        detached = {f"model.{name}": self.chosen[name].detach() for name in names}
        copy = inputs.part(slice(0, inputs.n))
        batched = {key: value for key, value in copy.leaves().items() if copy.is_per_sample(value)}

        def one(values: dict[str, Tensor], sample: dict[str, Tensor], target: Tensor) -> Tensor:
            rows = iter(sample.values())
            arguments = copy.changed(lambda _: next(rows).unsqueeze(0), 1)
            return _tensor(functional_call(whole, values, (arguments, target.unsqueeze(0)))).sum()

        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(), _attributes_kept(self.model):
                warnings.filterwarnings("ignore", "There is a performance drop")  # still faster than one at a time
                found: dict[str, Tensor] = vmap(grad(one), in_dims=(None, 0, 0))(detached, batched, targets.clone())
        except Exception as error:  # torch.func raises many kinds for what it cannot do
            if _is_memory(error):
                raise
            self._tell(names, f"torch.func.vmap cannot run this model ({_first_line(error)})")
            return set(names)
        ignored = self._ignored(targets)
        for name in names:
            into[name].copy_(found[f"model.{name}"])
            if ignored is not None:
                into[name][ignored] = 0
        return set()

    def _tell(self, names: Collection[str], reason: str) -> None:
        """Warn once that parameters go the slow way."""
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
        """Gradients of one sample's loss: what all the ways must give."""
        sample = slice(row, row + 1)
        with self._differentiable() as parameters:
            wanted = [parameters[name] for name in names]
            total = self._total(inputs.part(sample), targets[sample].clone())
            if _Graph(total, {}).is_reentrant:
                found = _by_backward(total, wanted, [*self.model.parameters()])
            else:
                found = _gradients(total, wanted)
        return dict(zip(names, found, strict=True))

    def _is_captured(self, inputs: Inputs, targets: Tensor) -> bool:
        """Whether the loss depends on the chosen parameters even where others stand in for them in the model."""
        whole = _Whole(self.model, self.loss)
        with self._differentiable() as parameters:
            others = {f"model.{name}": values.detach().clone() for name, values in parameters.items()}
            try:
                total = _tensor(functional_call(whole, others, (inputs.part(slice(0, 1)), targets.clone()))).sum()
            except Exception as error:  # nothing can stand in for parameters in this model
                if _is_memory(error):
                    raise
                return True
            return bool(_Graph(total, {id(values): name for name, values in parameters.items()}).uses)


class _Activations:
    """Bytes that a forward and backward pass holds at a time, as counted in a forward pass: what is saved for the
    backward pass, or what layers give where more of it is computed than saved; the model's own tensors left out."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen = {values.untyped_storage().data_ptr() for values in (*model.parameters(), *model.buffers())}
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
        storage = tensor.untyped_storage() if tensor.layout is torch.strided else None
        if storage is not None and storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.saved += min(storage.nbytes(), tensor.numel() * tensor.element_size())  # it may be a part of the data
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


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Modules' attributes as they were: what a forward pass under torch.func notes down is of no use afterwards."""
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


class _Graph:
    """What the graph of a total says.

    Args:
        parameters: names by the id of the parameter.

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


def _gradients(total: Tensor, of: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """torch.autograd.grad, dense, with zeros for what the total does not depend on."""
    if not total.requires_grad or not of:
        return tuple(map(torch.zeros_like, of))
    found = torch.autograd.grad(total, of, allow_unused=True)
    dense = [None if values is None else values.to_dense() if values.is_sparse else values for values in found]
    return tuple(torch.zeros_like(own) if g is None else g for own, g in zip(of, dense, strict=True))


def _by_backward(total: Tensor, of: Sequence[Tensor], every: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same through ``backward``, which reentrant checkpointing needs.

    Args:
        every: parameter whose own gradient is put back.
    """
    before = [values.grad for values in every]
    for values in every:
        values.grad = None
    try:
        torch.autograd.backward(total)
        return tuple(torch.zeros_like(values) if values.grad is None else values.grad.clone() for values in of)
    finally:
        for values, kept in zip(every, before, strict=True):
            values.grad = kept


def _tensor(losses: Any) -> Tensor:
    if not isinstance(losses, Tensor):
        raise RequestError(f"loss= must give a tensor of losses, (n,); it gave {type(losses).__name__}")
    return losses


def _tolerances(model: nn.Module) -> tuple[float, float]:
    """By how much of its largest number, and of its size, a gradient may differ between a batch and a sample alone.

    That is what the coarsest of the model's weights leave open; weights coarser than bfloat16 are not computed with.
    """
    coarsest = torch.finfo(torch.bfloat16).eps
    kinds = [values.dtype for values in model.parameters()]
    eps = max(min(torch.finfo(k).eps, coarsest) if k.is_floating_point else coarsest for k in kinds)
    return max(1e-3, 16 * eps), max(1e-3, 4 * eps)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
