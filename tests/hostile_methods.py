"""A plug-in of methods that do what no method should. `EXPECTED` and `LEFT` say what their records tell."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import torch


class Odd(BaseException):
    """An exception that ``except Exception`` does not catch."""


def scores(view: Any) -> np.ndarray:
    return np.asarray(-view.probs[np.arange(view.n), view.labels])


def good_probs(view: Any) -> np.ndarray:
    return scores(view)


def good_norms(view: Any) -> np.ndarray:
    return np.asarray(view.features.norm(dim=1))


def odd_exception(view: Any) -> None:
    raise Odd("odd")


def interrupting(view: Any) -> None:
    raise KeyboardInterrupt("mine")


def generator_exit(view: Any) -> None:
    raise GeneratorExit


def sys_exit(view: Any) -> None:
    sys.exit(3)


def hard_exit(view: Any) -> None:
    os._exit(0)


def aborting(view: Any) -> None:
    os.abort()


def killed(view: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(view: Any) -> None:
    time.sleep(10_000)


def greedy(view: Any) -> None:
    held = []
    while True:
        held.append(np.ones(10**7))


def greedy_tensors(view: Any) -> None:
    held = []
    while True:
        held.append(torch.ones(10**7))


def short(view: Any) -> np.ndarray:
    return np.zeros(3)


def complex_numbers(view: Any) -> np.ndarray:
    return scores(view) + 1j


def dates(view: Any) -> np.ndarray:
    return np.zeros(view.n, "datetime64[s]")


def words(view: Any) -> list[str]:
    return ["high"] * view.n


def elsewhere(view: Any) -> torch.Tensor:
    return torch.zeros(view.n, device="meta")


def wordy(view: Any) -> None:
    raise ValueError("x" * 10**7)


def unspeakable(view: Any) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Silent


def writing(view: Any) -> np.ndarray:
    view.features[:] = 0
    return scores(view)


def training_on(view: Any) -> np.ndarray:
    with torch.no_grad():
        for parameter in view.model.parameters():
            parameter.zero_()
    return scores(view)


def moving(view: Any) -> np.ndarray:
    os.chdir("/")
    return scores(view)


def numpy_errors(view: Any) -> np.ndarray:
    np.seterr(all="raise")
    return scores(view)


def doubling(view: Any) -> np.ndarray:
    torch.set_default_dtype(torch.float64)
    return scores(view)


def no_gradients(view: Any) -> np.ndarray:
    torch.set_grad_enabled(False)
    return scores(view)


def importing(view: Any) -> np.ndarray:
    sys.path.insert(0, "/nowhere")
    return scores(view)


def patching(view: Any) -> np.ndarray:
    made = scores(view)
    np.argsort = lambda *_, **__: np.zeros(1)  # type: ignore[assignment]
    return made


def patching_tensors(view: Any) -> np.ndarray:
    made = scores(view)
    torch.Tensor.backward = None  # type: ignore[method-assign, assignment]
    return made


def warning_errors(view: Any) -> np.ndarray:
    warnings.simplefilter("error")
    return scores(view)


def seeding(view: Any) -> np.ndarray:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    return scores(view)


def many_threads(view: Any) -> np.ndarray:
    torch.set_num_threads(7)
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return scores(view)


def leaving_a_child(view: Any) -> np.ndarray:
    subprocess.Popen(["sleep", "1117"])
    return scores(view)


def leaving_a_daemon(view: Any) -> np.ndarray:
    subprocess.Popen("setsid sleep 1117 &", shell=True).wait()
    time.sleep(0.2)
    return scores(view)


def closing(view: Any) -> np.ndarray:
    os.closerange(3, 200)
    return scores(view)


def garbage(view: Any) -> np.ndarray:
    for number in range(3, 100):
        with contextlib.suppress(OSError):
            os.write(number, b"\0\0\0\x05hello" * 100)
    return scores(view)


def closing_output(view: Any) -> np.ndarray:
    sys.stdout.close()
    return scores(view)


EXPECTED = {
    "odd_exception": ("failed", "Odd: odd"),
    "interrupting": ("failed", "KeyboardInterrupt: mine"),
    "generator_exit": ("failed", "GeneratorExit"),
    "sys_exit": ("failed", "SystemExit: 3"),
    "hard_exit": ("failed", "ended during score with exit code 0"),
    "aborting": ("failed", "ended during score with exit code -6"),
    "killed": ("out_of_memory", "was killed during score"),
    "hanging": ("timeout", "score took longer than 8 s"),
    "greedy": ("out_of_memory", "MemoryError"),
    "greedy_tensors": ("out_of_memory", "can't allocate memory"),
    "short": ("failed", "shape (3,)"),
    "complex_numbers": ("failed", "returned complex128"),
    "dates": ("failed", "returned datetime64[s]"),
    "words": ("failed", "could not convert string to float"),
    "elsewhere": ("failed", "meta device"),
    "wordy": ("failed", "(10,000,000 characters)"),
    "unspeakable": ("failed", "its text cannot be had"),
    "writing": ("failed", "changed its inputs in place: the model's outputs"),
    "training_on": ("failed", "changed its inputs in place: the model"),
    "closing": ("failed", "the process ended during score"),
    "garbage": ("failed", "cannot be read"),
}
"""Status of the record, and a part of its error."""

LEFT = {
    "moving": "the working folder",
    "numpy_errors": "numpy's error state",
    "doubling": "the default dtype",
    "no_gradients": "whether gradients are recorded",
    "importing": "sys.path",
    "patching": "numpy.argsort is replaced",
    "patching_tensors": "torch.Tensor.backward is replaced",
    "warning_errors": "the filters of warnings",
    "seeding": "the random state of numpy",
    "many_threads": "running threads: 1",
    "leaving_a_child": "running processes: 1",
    "leaving_a_daemon": "running processes: 1",
    "closing_output": "standard output",
}
"""What a method that is ``ok`` left behind, as its health says."""
