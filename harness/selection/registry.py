"""The registries of methods and tasks: built-in families, installed entry points, and what plug-ins register."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Generic, TypeVar

from harness.errors import RequestError, unknown
from harness.interfaces.method import Method
from harness.interfaces.params import fields_of
from harness.interfaces.spec import Term, parse_selection
from harness.packages import own
from harness.selection.adoption import classes_in, method_class

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one kind by name, filled on first use. Modules that cannot be imported are kept with the reason.

    Args:
        kind: ``"method"`` or ``"task"``, for messages.
        package: the package whose modules hold the built-in families. The entry-point group of third parties is
            ``harness.<package>``.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self.unavailable: dict[str, str] = {}
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, cls: type[T]) -> type[T]:
        """Class decorator: add a class under its ``name``.

        Raises:
            TypeError: the class has no usable name, is no dataclass, or the name is taken by another class.
        """
        name = getattr(cls, "name", None)
        if not isinstance(name, str) or not name.replace("_", "").isalnum():
            raise TypeError(f"{cls.__name__}.name must be a word of letters, digits and '_', not {name!r}")
        if "__dataclass_fields__" not in vars(cls):
            raise TypeError(f"{cls.__name__} must be a @dataclass(frozen=True): its fields are its parameters")
        try:
            cls()
        except TypeError as error:
            raise TypeError(f"every field of {cls.__name__} needs a default value ({error})") from error
        known = self._classes.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"the {self.kind} name {name!r} is taken by {known.__module__}.{known.__qualname__}")
        self._classes[name] = cls
        return cls

    def classes(self) -> dict[str, type[T]]:
        """All registered classes by name; imports the built-in families and entry points on first use."""
        if not self._loaded:
            self._loaded = True
            package = own(self.package)
            families = (m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
            for module in sorted(families):
                self._import(module, partial(importlib.import_module, f"{self.package}.{module}"))
            for point in importlib.metadata.entry_points(group=f"harness.{self.package}"):
                self._import(point.name, partial(self._adopt_point, point))
        return self._classes

    def adopt(self, thing: Any) -> None:
        """Register a class, a function, or those that a module offers; see `harness.selection.adoption`.

        Raises:
            TypeError: ``thing`` cannot be registered.
        """
        for cls in classes_in(thing, self.kind):
            self.register(cls)

    def _adopt_point(self, point: importlib.metadata.EntryPoint) -> None:
        thing = point.load()
        if not (isinstance(thing, ModuleType) and self.of_module(thing)):  # decorators take precedence
            self.adopt(thing)

    def of_module(self, module: ModuleType) -> list[type[T]]:
        """The registered classes that a module, or one below it, defines."""
        name = module.__name__
        return [cls for cls in self._classes.values() if f"{cls.__module__}.".startswith(f"{name}.")]

    def forget(self, module: str) -> None:
        """Remove the classes that a module registered, for example before the module is imported again."""
        self._classes = {name: cls for name, cls in self._classes.items() if cls.__module__ != module}

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            RequestError: no such name, or its plug-in cannot be imported.
        """
        classes = self.classes()
        if name in classes:
            return classes[name]
        if name in self.unavailable:
            raise RequestError(f"the {self.kind} {name!r} is unavailable: {self.unavailable[name]}")
        raise unknown(self.kind, name, classes, f"python -m harness list {self.kind}s")

    def select(self, text: str) -> list[tuple[type[T], dict[str, str]]]:
        """Resolve a selection to classes with the parameters as written, in order and without repetition.

        Raises:
            RequestError: an unknown name, a parameter that a named class does not have, or nothing selected.
        """
        chosen: dict[str, tuple[type[T], dict[str, str]]] = {}
        for term in parse_selection(text):
            names = self._matching(term) if term.is_glob else [self.get(term.pattern).name]  # type: ignore[attr-defined]
            if not names and not term.exclude:
                raise unknown(self.kind, term.pattern, self.classes(), f"python -m harness list {self.kind}s")
            for name in names:
                cls = self._classes[name]
                if term.exclude:
                    chosen = {key: entry for key, entry in chosen.items() if entry[0] is not cls}
                    continue
                params = term.params
                if term.is_glob:  # a glob's parameter goes to the classes that have the parameter
                    params = {key: value for key, value in params.items() if key in fields_of(cls)}
                chosen.setdefault(f"{name}{sorted(params.items())}", (cls, params))
            if term.is_glob and term.params and not term.exclude:
                taken = {key for name in names for key in fields_of(self._classes[name])}
                for key in term.params:
                    if key not in taken:
                        raise RequestError(f"no {self.kind} that matches {term.pattern!r} has a parameter {key!r}")
        if not chosen:
            raise RequestError(f"the selection {text!r} leaves no {self.kind}; known: {', '.join(self.classes())}")
        return list(chosen.values())

    def _matching(self, term: Term) -> list[str]:
        """The names that a glob matches. A glob can exclude a class with ``named_only``, but cannot include it."""
        named_only = {name for name, cls in self.classes().items() if getattr(cls, "named_only", False)}
        return [name for name in self.classes() if term.matches(name) and (term.exclude or name not in named_only)]

    def _import(self, name: str, load: Callable[[], Any]) -> None:
        try:
            load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may raise anything; the others must still load
            self.unavailable[name] = f"{type(error).__name__}: {error}"


METHODS: Registry[Any] = Registry("method", "methods")
TASKS: Registry[Any] = Registry("task", "tasks")


M = TypeVar("M", bound="type | Callable[..., Any]")


def register_method(thing: M) -> M:
    """Decorator that adds a method to the registry and returns ``thing`` unchanged.

    Args:
        thing: a `Method` dataclass, a class with ``score(self, view)``, or a function whose first parameter is
            ``view``. All further parameters need defaults and become the method's parameters.

    Raises:
        TypeError: ``thing`` is no method, or the name is taken.
    """
    full: Any = isinstance(thing, type) and issubclass(thing, Method)
    METHODS.register(thing if full else method_class(thing))  # type: ignore[arg-type]
    return thing


def register_task(cls: type[T]) -> type[T]:
    """Class decorator that adds a task to the registry under its ``name``."""
    return TASKS.register(cls)
