"""The text that the command ``list`` prints."""

from __future__ import annotations

import importlib.util
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import RequestError
from harness.interfaces.params import fields_of, type_text
from harness.interfaces.spec import written
from harness.selection.plan import PRESETS, PROTOCOLS
from harness.selection.plugins import load_plugin
from harness.selection.registry import METHODS, TASKS, Registry

ABOUT = {
    "fair": "the default: given labels, influence with the right sign on clean validation samples, the true Hessian",
    "paper": "what the reference code behind the published tables did, quirk by quirk",
}


SHARED = {"threshold"}
"""Parameters that every method has, which are listed once."""

EVERY_METHOD = (
    "Every method also takes threshold=none (mixture|otsu|none), a threshold on the scores. The samples above the "
    "threshold are the method's own flags, whatever the budget."
)


def listing(what: str | None, plugins: Sequence[str]) -> str:
    """Methods, tasks and protocols with parameters, sources and availability.

    Args:
        what: ``methods``, ``tasks``, ``protocols``, or None for all.
        plugins: plug-in files or modules to include. A plug-in that cannot be imported is listed with the reason.
    """
    broken = []
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except RequestError as error:
            broken.append(f"{plugin}\n    unavailable: {error}")
    parts = []
    if what in (None, "methods"):
        parts.append(f"METHODS\n\n{EVERY_METHOD}\n\n" + "\n".join(_entries(METHODS)))
    if what in (None, "tasks"):
        parts.append("TASKS\n\n" + "\n".join(_entries(TASKS)))
    if what in (None, "protocols"):
        parts.append("PROTOCOLS\n\n" + "\n".join(_protocols()))
    if broken:
        parts.append("PLUG-INS\n\n" + "\n".join(broken))
    return "\n\n".join(parts)


def wrapped(text: str, width: int) -> str:
    """A listing with long lines broken at a width. A continued line is indented further."""
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line, width, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def _entries(registry: Registry[Any]) -> list[str]:
    lines = []
    for name, cls in sorted(registry.classes().items()):
        about = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        lines += [name, f"    {about}"]
        own = {key: field for key, field in fields_of(cls).items() if key not in SHARED or field[1] is not None}
        parameters = [f"{key}={_shown(default)} ({type_text(hint)})" for key, (hint, default) in own.items()]
        lines += [f"    parameters: {', '.join(parameters)}"] if parameters else []
        lines += [f"    source: {cls.source}"] if cls.source else []
        if hasattr(cls, "uses"):
            lines += [f"    uses: {', '.join(cls().uses) or 'nothing'}"]
        if getattr(cls, "presets", None):
            lines += [
                f"    preset {preset}: {_values(cls.presets.get(preset))}"
                for preset in PRESETS
                if preset in cls.presets or preset != "probe"
            ]
        if getattr(cls, "needs", ""):
            lines += [f"    needs: {cls.needs}"]
        missing = [module for module in cls.requires if importlib.util.find_spec(module.partition(".")[0]) is None]
        if missing:
            lines += [f"    unavailable: needs the package {', '.join(missing)}, which is not installed"]
    for name, reason in sorted(registry.unavailable.items()):
        lines += [name, f"    unavailable: {reason}"]
    return lines


def _protocols() -> list[str]:
    lines = []
    for protocol in PROTOCOLS:
        lines += [protocol, f"    {ABOUT[protocol]}"]
        for registry in (METHODS, TASKS):
            for name, cls in sorted(registry.classes().items()):
                values = cls.protocols.get(protocol, {})
                if values:
                    lines.append(f"    {name}: {_values(values)}")
    return lines


def _values(values: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key}={_shown(value)}" for key, value in values.items()) if values else "the defaults"


def _shown(value: Any) -> str:
    return written(value)
