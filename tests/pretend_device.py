"""A device that is not there: its tensors are computed on the CPU and behave as if they lay elsewhere.

Operations that mix it with the CPU fail as they do on a GPU, and whatever makes the host wait for the device, or copies
to it, is counted. So misplaced tensors and needless waiting are found on machines without a GPU; what a GPU's own
kernels do is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
DEVICE = f"{NAME}:0"
CPU = torch.device("cpu")

INDEXING = ("aten.index.Tensor", "aten.index_put_.default", "aten._index_put_impl_.default")
COPYING = ("aten.copy_.default", "aten._to_copy.default")
WAITING = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten.equal",
    "aten._unique",
    "aten.unique",
    "aten.allclose",
    "aten.bincount",
    "aten.repeat_interleave",
)
"""What cannot go on before the device has answered, since its values or its shapes are needed here."""

COUNTERS: list[Counter[str]] = [Counter()]
"""Of the with-blocks that are open, the last of which counts."""

KERNELS = torch.library.Library("aten", "IMPL")


class There(Tensor):
    """A tensor on the pretended device; ``content`` is what it holds, on the CPU."""

    content: Tensor

    @staticmethod
    def __new__(cls, content: Tensor) -> There:
        sparse = content.layout != torch.strided  # which has no strides to tell
        like = torch.empty(content.size(), dtype=content.dtype, device="meta") if sparse else content
        made: There = Tensor._make_wrapper_subclass(
            cls,
            like.size(),
            strides=like.stride(),
            storage_offset=like.storage_offset(),
            dtype=like.dtype,
            layout=like.layout,
            device=torch.device(DEVICE),
        )
        made.content = content
        return made

    def __init__(self, content: Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: checked, counted, done on the CPU, and its result put where it belongs."""
    name = str(func)
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = any(isinstance(value, There) for value in tensors)
    _refuse_mixtures(name, tensors, there)
    target = torch.device(DEVICE) if there else CPU
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"])
    if kwargs.get("generator") is not None and target.type == NAME:
        raise RuntimeError(f"{name}: expected a generator of {DEVICE} and found one of the CPU")
    COUNTERS[-1][_traffic(name, tensors, target)] += 1
    plain_args, plain_kwargs = tree_map(_plain, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if func._schema.is_mutable and isinstance(result, Tensor):  # the tensor that was written to
        return kwargs.get("out", args[0] if args else None)
    return (
        tree_map(lambda value: There(value) if isinstance(value, Tensor) else value, result)
        if target != CPU
        else result
    )


def _refuse_mixtures(name: str, tensors: list[Tensor], there: bool) -> None:
    """Tensors of two devices go together in copies alone; numbers may come from the CPU, and so may indices."""
    if not there or name in COPYING:
        return
    if name in INDEXING:
        if not isinstance(tensors[0], There):
            raise RuntimeError(f"{name}: indices should be on the CPU or on the indexed tensor's device")
        return
    if any(value.ndim and not isinstance(value, There) for value in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on one device and found {DEVICE} and cpu")


def _traffic(name: str, tensors: list[Tensor], target: torch.device) -> str:
    """``waits`` of the host for the device, ``copies`` to it, or ``operations`` of either."""
    there = [isinstance(value, There) for value in tensors]
    if name == "aten.copy_.default":
        into, source = there
        return "operations" if into == source else "copies" if into else "waits"
    if name in INDEXING and any(there) and not all(there):
        return "copies"  # of indices or values
    if any(there):
        masks = name in INDEXING and any(value.dtype == torch.bool for value in tensors[1:])
        return "waits" if target == CPU or masks or name.startswith(WAITING) else "operations"
    return "copies" if name == "aten._to_copy.default" and target.type == NAME else "operations"


def _plain(value: Any) -> Any:
    if isinstance(value, There):
        return value.content
    return CPU if isinstance(value, torch.device) else value


class _Module:
    """What PyTorch asks a device's module for."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> There:
    """For what PyTorch makes beneath every mode, as an index from a list."""
    return There(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    into, source_there = isinstance(target, There), isinstance(source, There)
    if into != source_there:
        COUNTERS[-1]["copies" if into else "waits"] += 1
    _plain(target).copy_(_plain(source))
    return target


def register() -> None:
    """Make the device known, for good, so in a process of its own, and before its first backward pass.

    Raises:
        ImportError: this PyTorch knows no devices that are written in Python.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
    KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")


@contextmanager
def pretended() -> Iterator[Counter[str]]:
    """The device, for a with-block, and the count of its traffic."""
    COUNTERS.append(Counter())
    try:
        with _Pretending():
            yield COUNTERS[-1]
    finally:
        COUNTERS.pop()
