"""Makes methods and tasks from user code: decorated classes, plain classes, plain functions, whole modules.

    @register_method on a Method dataclass              the full interface: uses, protocols, attribution
    class MyDetector: def score(self, view): ...        parameters are those of __init__, each with a default
    def my_detector(view, strength=1.0): ...            parameters are the function's, each with a default

In a module without decorators, every public class and function of these forms becomes a method, and every public
`Task` class becomes a task. In a module with decorators, only decorated classes and functions count. A function of a
view with a parameter that has no default is a helper, if the module has other methods.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import numpy as np

from harness.interfaces.method import Method
from harness.interfaces.task import Task

if TYPE_CHECKING:
    from harness.interfaces.view import View


DECLARED = ("title", "source", "requires", "uses", "protocols", "trims", "version", "expected_failures")
"""What a plain class or function may declare by attributes, beside ``name``."""


@dataclasses.dataclass(frozen=True)
class Adopted(Method):
    """Base of methods made from plain classes and functions.

    Attributes:
        original: the class or function.
        parameters: the names of its parameters.
    """

    original: ClassVar[Any]
    parameters: ClassVar[tuple[str, ...]]

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return _again, (type(self).original, values)

    def _params(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).parameters}

    def score(self, view: View) -> np.ndarray:
        original = type(self).original
        made: Any = original(**self._params()) if inspect.isclass(original) else None
        if made is None:
            scores: np.ndarray = original(view, **self._params())
        elif hasattr(made, "score"):
            scores = made.score(view)
        else:
            scores = np.asarray(made.attribute(view)).mean(axis=0)
        return scores

    def check(self) -> None:
        original: Any = type(self).original
        made: Any = original(**self._params()) if inspect.isclass(original) else None
        if hasattr(made, "check"):
            made.check()

    def flag(self, view: View, scores: np.ndarray) -> Any:
        original = type(self).original
        return original(**self._params()).flag(view, scores) if hasattr(original, "flag") else None

    def attribute(self, view: View) -> np.ndarray:
        original = type(self).original
        if not hasattr(original, "attribute"):
            return super().attribute(view)
        pairs: np.ndarray = original(**self._params()).attribute(view)
        return pairs


def _again(original: Any, params: dict[str, Any]) -> Method:
    made: Method = method_class(original)(**params)
    return made


def classes_in(thing: Any, kind: str) -> list[type]:
    """The ``"method"`` or ``"task"`` classes that a class, a function or a module stands for, not yet registered.

    Raises:
        TypeError: a class or function is no method, or a parameter has no default.
    """
    if isinstance(thing, ModuleType):
        classes, refused = [], []
        for candidate in _candidates(thing, kind):
            try:
                classes += classes_in(candidate, kind)
            except TypeError as error:
                refused.append(error)
        if refused and not classes:
            raise refused[0]
        return classes
    return [_as_dataclass(thing)] if is_task(thing) else [method_class(thing)]


def is_task(thing: Any) -> bool:
    """Whether ``thing`` is a subclass of `Task`."""
    return inspect.isclass(thing) and issubclass(thing, Task)


def method_class(thing: Any) -> Any:
    """A `Method` class from a `Method` class, a class with ``score`` or ``attribute``, or a function of a view.

    Raises:
        TypeError: ``thing`` is none of the three, or a parameter has no default.
    """
    if inspect.isclass(thing) and issubclass(thing, Method):
        return _as_dataclass(thing)
    if not _is_plain_method(thing):
        raise TypeError(
            f"{getattr(thing, '__name__', thing)!r} is no method: a class with score(self, view), or a function whose "
            "first parameter is called view"
        )
    return _made(thing)


@functools.cache  # one class per thing, so that instances with equal parameters are equal
def _made(thing: Any) -> Any:
    name = getattr(thing, "name", None) or _snake_case(thing.__name__)
    about = inspect.getdoc(thing) or f"{thing.__name__}, a plug-in."
    values = {key: getattr(thing, key) for key in DECLARED if hasattr(thing, key)}
    fields = _fields(thing)
    made = dataclasses.make_dataclass(
        thing.__name__,
        fields,
        bases=(Adopted,),
        namespace={
            "__doc__": about,
            "name": name,
            "original": staticmethod(thing),
            "parameters": tuple(field[0] for field in fields),
            **values,
        },
        frozen=True,
    )
    made.__module__, made.__qualname__ = thing.__module__, thing.__qualname__
    return made


def _fields(thing: Any) -> list[Any]:
    """Parameters of a function after the view, or of a class's ``__init__``, as dataclass fields."""
    parameters = list(inspect.signature(thing).parameters.values())
    if not inspect.isclass(thing):
        parameters = parameters[1:]
    fields = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        name, default = parameter.name, parameter.default
        if default is parameter.empty:
            raise TypeError(f"the parameter {name!r} of {thing.__name__} needs a default value")
        inherited = {field.name for field in dataclasses.fields(Adopted)}  # may have another meaning here
        if (hasattr(Adopted, name) and name not in inherited) or name in ("name", "original", "parameters"):
            raise TypeError(f"a parameter of {thing.__name__} cannot be called {name!r}; give it another name")
        if type(default) not in (int, float, str, bool, type(None)) or default in (math.inf, -math.inf):
            raise TypeError(
                f"the default of {name!r} of {thing.__name__} is {default!r}; parameters are finite numbers, text, "
                "True, False or None"
            )
        fields.append((name, _type_of(parameter, thing), default))
    return fields


def _type_of(parameter: inspect.Parameter, thing: Any) -> Any:
    """The annotated type, if it can be evaluated and does not contain ``Any``; otherwise the type of the default."""
    home = sys.modules.get(thing.__module__)
    try:
        hints = get_type_hints(SimpleNamespace(__annotations__={"it": parameter.annotation}), vars(home), {})
        if parameter.annotation is not parameter.empty and "Any" not in str(hints["it"]):
            return hints["it"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        pass  # the annotation uses a name that only type checkers import
    return int | float | str | None if parameter.default is None else type(parameter.default)


def _as_dataclass(cls: Any) -> Any:
    return cls if "__dataclass_fields__" in vars(cls) else dataclasses.dataclass(frozen=True)(cls)


def _is_plain_method(thing: Any) -> bool:
    if inspect.isclass(thing):
        functions = [getattr(thing, name, None) for name in ("score", "attribute")]
        return any(
            callable(function) and list(inspect.signature(function).parameters)[1:2] == ["view"]
            for function in functions
        )
    named = inspect.isfunction(thing) and thing.__name__ != "<lambda>"
    return named and next(iter(inspect.signature(thing).parameters), "") == "view"


def _candidates(module: ModuleType, kind: str) -> list[Any]:
    """Public classes and functions that a module itself defines and that can be methods, or tasks."""
    public = [thing for name, thing in vars(module).items() if not name.startswith("_")]
    own = [thing for thing in public if getattr(thing, "__module__", None) == module.__name__]
    if kind == "task":
        return [thing for thing in own if is_task(thing) and not inspect.isabstract(thing)]
    methods = [thing for thing in own if not is_task(thing) and _is_plain_method(thing)]
    bases = {base for thing in methods if inspect.isclass(thing) for base in thing.__mro__[1:]}
    candidates = [thing for thing in methods if thing not in bases and not inspect.isabstract(thing)]
    return [thing for thing in candidates if not _is_helper(thing)] or candidates


def _is_helper(thing: Any) -> bool:
    """Whether a function of a view has a further parameter without a default."""
    if inspect.isclass(thing):
        return False
    further = list(inspect.signature(thing).parameters.values())[1:]
    return any(
        parameter.default is parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        for parameter in further
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
