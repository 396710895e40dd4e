"""A benchmark harness for methods that find harmful training samples.

The public interface; everything is imported on first use, so that importing the package stays cheap.

    harness.View                   what a method sees; `View.from_arrays`, `View.from_blocks`
    harness.Method, Task           the interfaces to implement; `register_method`, `register_task`
    harness.method, task           a built-in or registered one by name and parameters
    harness.run                    cross methods with tasks and seeds
    harness.load_results           stored results as a tidy pandas DataFrame
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.packages import claim

if TYPE_CHECKING:
    from harness.api import method, run, task
    from harness.blocks import DenseBlock, OuterBlock
    from harness.errors import RequestError, Unsupported
    from harness.gradients import Gradients
    from harness.method_base import Method, register_method
    from harness.outputs import Outputs
    from harness.per_sample import per_sample_gradients
    from harness.results import load_results
    from harness.task_base import Samples, Split, Task, register_task
    from harness.view import View

_HOME = {
    "DenseBlock": "blocks",
    "Gradients": "gradients",
    "Method": "method_base",
    "OuterBlock": "blocks",
    "Outputs": "outputs",
    "RequestError": "errors",
    "Samples": "task_base",
    "Split": "task_base",
    "Task": "task_base",
    "Unsupported": "errors",
    "View": "view",
    "load_results": "results",
    "register_method": "method_base",
    "register_task": "task_base",
    "method": "api",
    "per_sample_gradients": "per_sample",
    "run": "api",
    "task": "api",
}
__all__ = [
    "DenseBlock",
    "Gradients",
    "Method",
    "OuterBlock",
    "Outputs",
    "RequestError",
    "Samples",
    "Split",
    "Task",
    "Unsupported",
    "View",
    "load_results",
    "method",
    "per_sample_gradients",
    "register_method",
    "register_task",
    "run",
    "task",
]


claim()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"harness.{_HOME[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
