"""Turns a request into cells (task, method, seed) with all parameters, and groups the cells that share work."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

from harness.errors import RequestError, unknown
from harness.interfaces.method import Method
from harness.interfaces.params import build, layered, those_of, values_of
from harness.interfaces.task import Task
from harness.selection.names import method_spec, task_spec
from harness.selection.registry import METHODS, TASKS
from harness.selection.versions import code_version, gradients_version, machinery_version

SCHEMA = 1
"""Version of the record; raise it when a record's fields get another meaning."""

PROTOCOLS = ("fair", "paper")
PRESETS = ("smoke", "fast", "probe", "full")
"""Sizes of data, model and training; ``full`` is the published size."""
PRESET_ALIASES = {"paper": "full"}
"""Former names of presets, which are still accepted."""


@dataclass(frozen=True)
class CellSpec:
    """A cell as names and numbers."""

    task: str
    task_given: tuple[tuple[str, Any], ...]
    method: str
    method_given: tuple[tuple[str, Any], ...]
    seed: int
    protocol: str
    preset: str


SentCell = tuple[CellSpec, dict[str, Any]]
"""A cell and its versions, which take a second to compute, in the form that is sent between processes."""


@dataclass(frozen=True)
class Cell:
    """One (task, method, seed) with all parameters.

    `slot` identifies the requested cell. `key` identifies the requested cell and the versions of its code and data. A
    stored record with the same slot and another key is stale.
    """

    spec: CellSpec
    task: Task
    method: Method

    @property
    def seed(self) -> int:
        return self.spec.seed

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, except the versions of code and data. JSON-ready."""
        return {
            "task": self.task.name,
            "task_params": values_of(self.task),
            "method": self.method.name,
            "method_params": values_of(self.method),
            "seed": self.seed,
            "protocol": self.spec.protocol,
            "preset": self.spec.preset,
        }

    @cached_property
    def versions(self) -> dict[str, Any]:
        """Schema and code versions of all that decides the result."""
        code = {
            "schema": SCHEMA,
            "machinery": machinery_version(),
            "task": code_version(type(self.task)),
            "method": code_version(type(self.method)),
        }
        extra = {
            "gradients": gradients_version() if _sees_gradients(self.method) else "",
            "data": self.task.data_version(),
            "method_parts": self.method.parts_version(),
        }
        return code | {name: version for name, version in extra.items() if version}

    @property
    def sent(self) -> SentCell:
        """What another process makes this cell of, with `received`."""
        return self.spec, self.versions

    def with_versions(self) -> Cell:
        """This cell, with versions computed now. After a later edit, versions would not match the imported code."""
        _ = self.versions
        return self

    @cached_property
    def slot(self) -> str:
        return _hash(self._hashed)

    @cached_property
    def key(self) -> str:
        return _hash({**self._hashed, "versions": self.versions})

    @property
    def _hashed(self) -> dict[str, Any]:
        """The identity with the preset's former name, so that slots and keys of stored results stay the same."""
        former = {preset: name for name, preset in PRESET_ALIASES.items()}
        return {**self.identity, "preset": former.get(self.spec.preset, self.spec.preset)}

    @property
    def method_spec(self) -> str:
        """The method as it is printed."""
        spec = method_spec(self.method.name, values_of(self.method), self.spec.protocol, self.task.name)
        return spec or self.method.name

    @property
    def task_spec(self) -> str:
        """The task as it is printed."""
        return task_spec(self.task.name, values_of(self.task), self.spec.protocol, self.spec.preset) or self.task.name


@dataclass(frozen=True)
class Group:
    """Cells of one task that run together: cells of one seed or, for small models, of several seeds.

    Cells of one seed share data and base model. The tasks of a group may differ in the parameters that count only
    after training; see `Task.after_training` and `Task.of_outputs`.
    """

    cells: tuple[Cell, ...]

    @property
    def task(self) -> Task:
        """The task of the first cell. This task loads the data and trains the models for all cells."""
        return self.cells[0].task

    @cached_property
    def by_seed(self) -> dict[int, tuple[Cell, ...]]:
        """The cells of each seed."""
        seeds = dict.fromkeys(cell.seed for cell in self.cells)
        return {seed: tuple(cell for cell in self.cells if cell.seed == seed) for seed in seeds}

    @property
    def is_foreign(self) -> bool:
        """Whether the task is a plug-in's, and not one of this package."""
        return not type(self.task).__module__.startswith("tasks.")

    @property
    def name(self) -> str:
        return f"{self.cells[0].task_spec} seed {', '.join(map(str, self.by_seed))}"


def make_cell(spec: CellSpec) -> Cell:
    """Resolve a cell's names and parameters.

    Raises:
        RequestError: an unknown name or parameter, or a value that does not fit.
    """
    task_class, method_class = TASKS.get(spec.task), METHODS.get(spec.method)
    task = build(task_class, layered(task_class, spec.protocol, spec.preset, dict(spec.task_given)))
    own = {**those_of(method_class, task_class.method_params), **dict(spec.method_given)}
    method = build(method_class, layered(method_class, spec.protocol, None, own))
    return Cell(spec, task, method)


def received(sent: SentCell) -> Cell:
    """The cell that another process has sent, with the versions of the code that planned it."""
    spec, versions = sent
    cell = make_cell(spec)
    vars(cell)["versions"] = versions
    return cell


def preset_called(name: str) -> str:
    """The preset that has ``name`` as its name or former name.

    Raises:
        RequestError: no preset has this name.
    """
    preset = PRESET_ALIASES.get(name, name)
    if preset not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return preset


def make_plan(methods: str, tasks: str, seeds: Sequence[int], protocol: str, preset: str) -> list[Cell]:
    """All cells of a request, ordered by task, seed and method. A cell that is requested twice is planned once.

    Raises:
        RequestError: see `make_cell`; an empty selection; an unknown protocol or preset.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    preset = preset_called(preset)
    if not seeds:
        raise RequestError("no seed given; --seeds takes a number of seeds, or a list such as 0,3,7")
    chosen_methods, chosen_tasks = METHODS.select(methods), TASKS.select(tasks)
    cells: dict[str, Cell] = {}
    for task_class, task_given in chosen_tasks:
        for seed in seeds:
            for method_class, method_given in chosen_methods:
                spec = CellSpec(
                    task_class.name,
                    tuple(task_given.items()),
                    method_class.name,
                    tuple(method_given.items()),
                    seed,
                    protocol,
                    preset,
                )
                cell = make_cell(spec).with_versions()
                cells.setdefault(cell.slot, cell)
    return list(cells.values())


def group(cells: Sequence[Cell], jobs: int | None = 1) -> list[Group]:
    """Cells by what they share, in order of first appearance.

    Args:
        jobs: the number of groups that seeds trained together are divided into. With None, every seed is one group.
    """
    tasks: dict[str, dict[int, list[Cell]]] = {}
    for cell in cells:
        shared = {k: v for k, v in cell.identity.items() if not k.startswith("method") and k != "seed"}
        later = cell.task.after_training | cell.task.of_outputs
        shared["task_params"] = {k: v for k, v in shared["task_params"].items() if k not in later}
        tasks.setdefault(_hash(shared), {}).setdefault(cell.seed, []).append(cell)
    groups = []
    for seeds in tasks.values():
        together = jobs is not None and next(iter(seeds.values()))[0].task.seeds_together
        size = math.ceil(len(seeds) / jobs) if together and jobs else 1
        members = iter(seeds.values())
        while some := list(islice(members, size)):
            groups.append(Group(tuple(chain.from_iterable(some))))
    return groups


def _sees_gradients(method: Method) -> bool:
    """Whether a method can depend on gradient code.

    It says so, it multiplies features, it can differentiate the model, or it does not declare what it uses.
    """
    seen = {"gradients", "features", "encoder", "model"}
    return type(method).uses is Method.uses or bool(seen & set(method.uses))


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
