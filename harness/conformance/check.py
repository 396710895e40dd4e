"""Defines a conformance check, and runs a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import Unsupported
from harness.randomness import left_as_found


class CheckFailure(AssertionError):
    """A broken rule that a check found.

    Args:
        fault: what is wrong.
        mend: how to mend the fault.
    """

    def __init__(self, fault: str, mend: str) -> None:
        super().__init__(f"{fault}\nMend: {mend}")
        self.fault, self.mend = fault, mend


@dataclass(frozen=True)
class Check:
    """One rule that a method or task must keep.

    Args:
        name: the check's name in `expected_failures` and in pytest.
        why: why the rule matters.
        run: raises `CheckFailure` if the rule is broken, and `Unsupported` if the rule cannot be checked.
    """

    name: str
    why: str
    run: Callable[[Any], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    ``expected``: a failure is declared, and the check failed. ``unexpected``: a failure is declared, but the check
    passed.
    """

    check: Check
    status: Literal["ok", "failed", "skipped", "expected", "unexpected"]
    fault: str = ""
    mend: str = ""

    @property
    def bad(self) -> bool:
        return self.status in ("failed", "unexpected")


def outcome(check: Check, subject: Any, expected: Mapping[str, str]) -> Outcome:
    """Run one check on a method or task.

    Args:
        expected: the reasons of declared failures, by check name.
    """
    try:
        with left_as_found():
            check.run(subject)
    except CheckFailure as failure:
        result = Outcome(check, "failed", failure.fault, failure.mend)
    except Unsupported as reason:
        return Outcome(check, "skipped", str(reason))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may raise anything
        place = _place(error)
        result = Outcome(check, "failed", f"it raised {type(error).__name__}: {error}{place}", "see the error")
    else:
        result = Outcome(check, "ok")
    if check.name not in expected:
        return result
    if result.status == "ok":
        return Outcome(check, "unexpected", f"a failure is declared ({expected[check.name]}), but it passes",
                       f"take {check.name!r} out of expected_failures")  # fmt: skip
    return Outcome(check, "expected", expected[check.name])


def _place(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
