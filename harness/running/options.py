"""How cells are run: limits, devices, threads, and what a new process needs to run them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.errors import RequestError
from harness.selection.plugins import load_only


@dataclass(frozen=True)
class Options:
    """How to run cells. These options do not change results, with two exceptions.
    The number of CPU threads, which jobs share, may change the last bits of a factorisation. With ``precision=auto``,
    the device decides the precision of training.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for CUDA where there is one.
        jobs: number of groups run at a time. Each group runs in a process with its own device or share of the cores.
        timeout: seconds for one cell's stage (base training, scoring, retraining). A process in which a stage takes
            longer is ended.
        memory: GiB of data that a process may hold. Beyond it, memory cannot be had, and the cell that asked fails.
        isolate: run each group in a process of its own, and each method of a plug-in in a further one.
        backend: joblib's backend for several jobs, ``loky`` (this machine) or ``dask``.
        scheduler: address of a Dask scheduler; without one, Dask starts ``jobs`` workers here.
        plugins: plug-in files or modules.
        data_dir: folder of real data.
    """

    device: str = "auto"
    jobs: int = 1
    timeout: float | None = None
    memory: float | None = None
    isolate: bool = False
    backend: str = "loky"
    scheduler: str | None = None
    plugins: tuple[str, ...] = ()
    data_dir: str | None = None

    @property
    def supervised(self) -> bool:
        """Whether groups run in processes that can be ended."""
        return self.isolate or self.timeout is not None or self.memory is not None


def resolve_device(device: str) -> str:
    """The device that ``auto`` stands for, or the given device after a check that it exists.

    Raises:
        RequestError: the device does not exist.
    """
    import torch

    import harness.gradients.products  # noqa: F401 - the import checks a setting, before anything is written

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (number.isascii() and number.isdigit())):
        raise RequestError(f"--device {device} is not a device; give auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise RequestError(f"--device {device} is not there; this machine has {count} CUDA devices")
        return f"cuda:{number or 0}"
    return "cpu"


def devices(options: Options) -> list[str]:
    import torch

    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [resolve_device(options.device)]


def prepare(options: Options) -> None:
    """Give a new process the data folder, plug-ins and share of the cores of the process that planned the run."""
    import torch
    from threadpoolctl import threadpool_limits

    if options.data_dir is not None:
        os.environ["HARNESS_DATA"] = options.data_dir
    if options.jobs > 1:
        share = max(1, cores() // options.jobs)
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(share)  # of libraries that are not loaded yet
        threadpool_limits(share)  # of NumPy's, SciPy's and scikit-learn's, which know nothing of torch's number
        torch.set_num_threads(share)
    load_only(options.plugins)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
