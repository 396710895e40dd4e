"""A benchmark harness for methods that find harmful training samples.

The public interface; everything is imported on first use, so that importing the package stays cheap.

    harness.View                   what a method sees; `View.from_arrays`, `View.from_blocks`
    harness.view_of                a view of any trained torch module and a DataLoader
    harness.Method, Task           the interfaces to implement; `register_method`, `register_task`
    harness.LdsTask                makes a task with labels an attribution task that is checked against retraining
    harness.method, task           a built-in or registered one by name and parameters
    harness.find                   label errors in your own data, as a pandas DataFrame
    harness.run                    cross methods with tasks and seeds
    harness.report, suspects, compare
                                   what the commands of these names show, in Python
    harness.load_results           stored results as a tidy pandas DataFrame
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.packages import claim

if TYPE_CHECKING:
    from harness.api import find, method, run, task
    from harness.commands.report import report
    from harness.errors import RequestError, Unsupported
    from harness.gradients.blocks import DenseBlock, OuterBlock
    from harness.gradients.gradients import Gradients
    from harness.gradients.per_sample import per_sample_gradients
    from harness.interfaces.lds_task import LdsTask
    from harness.interfaces.method import Method
    from harness.interfaces.outputs import Outputs
    from harness.interfaces.task import Samples, Split, Task
    from harness.interfaces.view import View
    from harness.interfaces.view_of import view_of
    from harness.results.folder import load_results
    from harness.selection.registry import register_method, register_task
    from harness.stored import compare, suspects

_HOME = {
    "DenseBlock": "gradients.blocks",
    "Gradients": "gradients.gradients",
    "LdsTask": "interfaces.lds_task",
    "Method": "interfaces.method",
    "OuterBlock": "gradients.blocks",
    "Outputs": "interfaces.outputs",
    "RequestError": "errors",
    "Samples": "interfaces.task",
    "Split": "interfaces.task",
    "Task": "interfaces.task",
    "Unsupported": "errors",
    "View": "interfaces.view",
    "load_results": "results.folder",
    "register_method": "selection.registry",
    "register_task": "selection.registry",
    "compare": "stored",
    "find": "api",
    "report": "commands.report",
    "suspects": "stored",
    "method": "api",
    "per_sample_gradients": "gradients.per_sample",
    "run": "api",
    "view_of": "interfaces.view_of",
    "task": "api",
}
__all__ = [
    "DenseBlock",
    "Gradients",
    "LdsTask",
    "Method",
    "OuterBlock",
    "Outputs",
    "RequestError",
    "Samples",
    "Split",
    "Task",
    "Unsupported",
    "View",
    "compare",
    "find",
    "load_results",
    "method",
    "per_sample_gradients",
    "register_method",
    "register_task",
    "report",
    "run",
    "suspects",
    "task",
    "view_of",
]


claim()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"harness.{_HOME[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
