"""Conformance checks for your own test suite, in the manner of scikit-learn's ``parametrize_with_checks``.

import pytest
from harness.testing import method_checks

@pytest.mark.parametrize("check", method_checks("my_detector.py"))
def test_my_detector_conforms(check):
    check()
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.conformance.check import Check, CheckFailure, Outcome, outcome
from harness.errors import RequestError, unknown
from harness.interfaces.method import Method
from harness.interfaces.params import build, layered
from harness.interfaces.spec import parse_term
from harness.interfaces.task import Task
from harness.selection.adoption import is_task, method_class
from harness.selection.plugins import load_plugin, split_source
from harness.selection.registry import METHODS, TASKS

__all__ = ["Check", "CheckFailure", "check_all", "method_checks", "task_checks"]


def method_checks(method: Any, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """The conformance checks of a method, for ``pytest.mark.parametrize``.

    Args:
        method: a method's name with parameters (``"datainf[damping=0.1]"``), a plug-in (``"my_detector.py"``,
            ``"FILE.py:NAME"``), a class, a function of a view, or a `Method` instance.
        expected_failures: reasons by the name of the check. These checks become strict expected failures: the test
            fails if the check passes. The expected failures that the method declares itself are added.

    Returns:
        One ``pytest.param`` per check. Each holds a callable without arguments.

    Raises:
        RequestError: an unknown name, a plug-in without a method, or an expected failure of an unknown check.
    """
    return _params(subjects(method, "method"), expected_failures)


def task_checks(task: Any, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """The conformance checks of a task with preset ``smoke``. The arguments are as for `method_checks`."""
    return _params(subjects(task, "task"), expected_failures)


def check_all(subject: Any, expected_failures: Mapping[str, str] | None = None) -> list[Outcome]:
    """Run every check on a method or task; see `Outcome`.

    Raises:
        RequestError: an expected failure of an unknown check.
    """
    expected = expected_of(subject, expected_failures)
    return [outcome(check, subject, expected) for check in checks_of(subject)]


def checks_of(subject: Any) -> Sequence[Check]:
    """The checks of a method or of a task."""
    if isinstance(subject, Method):
        from harness.conformance.methods import METHOD_CHECKS

        return METHOD_CHECKS
    from harness.conformance.tasks import TASK_CHECKS

    return TASK_CHECKS


def subjects(what: Any, kind: str | None = None) -> list[Any]:
    """The method and task instances that a name, plug-in, class, function or instance stands for.

    Args:
        kind: ``"method"`` or ``"task"`` for one kind only; None for both.

    Raises:
        RequestError: ``what`` stands for no method or task of this kind.
    """
    if isinstance(what, str):
        file, name = split_source(what)
        if file.endswith(".py") or (name and "[" not in what):
            subjects = [_made(cls, {}) for cls in load_plugin(what)]
        else:
            term = parse_term(what)
            registries = [METHODS, TASKS] if kind is None else [METHODS if kind == "method" else TASKS]
            registry = next((registry for registry in registries if term.pattern in registry.classes()), None)
            if registry is None:
                both = [name for registry in registries for name in registry.classes()]
                raise unknown(kind or "method or task", term.pattern, both)
            subjects = [_made(registry.get(term.pattern), term.params)]
    elif inspect.isclass(what) or inspect.isfunction(what):
        subjects = [_made(what if is_task(what) else method_class(what), {})]
    elif isinstance(what, Method | Task):
        subjects = [what]
    else:
        raise RequestError(f"{what!r} is no method or task; give a name, a file, a class, a function or an instance")
    subjects = [subject for subject in subjects if kind is None or isinstance(subject, Method) == (kind == "method")]
    if not subjects:
        raise RequestError(f"{what} brings no {kind or 'method or task'}")
    return subjects


def _made(cls: Any, params: Mapping[str, Any]) -> Any:
    return build(cls, layered(cls, "fair", "smoke", params))


def expected_of(subject: Any, further: Mapping[str, str] | None = None) -> dict[str, str]:
    expected = {**type(subject).expected_failures, **(further or {})}
    names = [check.name for check in checks_of(subject)]
    for name in expected:
        if name not in names:
            raise unknown("check", name, names)
    return expected


def _params(subjects: Sequence[Any], expected_failures: Mapping[str, str] | None) -> list[Any]:
    import pytest

    params = []
    for subject in subjects:
        expected = expected_of(subject, expected_failures)
        for check in checks_of(subject):
            reason = expected.get(check.name)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=CheckFailure)]
            identity = f"{subject.name}-{check.name}" if len(subjects) > 1 else check.name
            params.append(pytest.param(_for_pytest(check, subject), id=identity, marks=marks))
    return params


def _for_pytest(check: Check, subject: Any) -> Callable[[], None]:
    return partial(_run, check, subject)


def _run(check: Check, subject: Any) -> None:
    import pytest

    result = outcome(check, subject, {})
    if result.status == "skipped":
        pytest.skip(result.fault)
    if result.status == "failed":
        raise CheckFailure(f"{subject.name}: {result.fault}. It matters: {check.why}", result.mend)
