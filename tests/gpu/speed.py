"""Seconds of every method's scores of a head on n = 50,000 samples, with the extra memory, and the bandwidth's floor.

The floor is the time of reading the features once. `Table 5` of the paper has the printed seconds, on a V100.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

import harness
from harness.errors import Unsupported
from harness.interfaces.clock import PeakMemory, timed
from harness.selection.registry import METHODS
from tests.benchmarks.test_scores import head
from tests.gpu.steps import Steps

SHAPES = {10: (50_000, 10, 512), 100: (50_000, 100, 512)}
SMALL = (300, 4, 9)
ROUNDS = 3
LONG = 20.0
"""Seconds after which one round is enough."""
LISSA = "lissa[damping_sign=-1,scale=1,iterations=10,tolerance=none]"
"""As published."""
LAST = ("self_influence", "relat_if", "self_lissa", "outlier", "outlier_iforest", "lissa", "relation_graph")
"""Methods that may take minutes, measured after all others."""


def run(steps: Steps, small: bool) -> None:
    steps("bandwidth", lambda: _bandwidth(steps.device, 2**24 if small else 2**28))
    steps("products", lambda: _products(steps.device, 256 if small else 8192))
    if small:
        plans = [(4, name) for name in ("datainf", "outlier_l1", "random", "aum")]
    else:
        usual = [name for name, cls in METHODS.classes().items() if not cls.named_only and name not in LAST]
        plans = [(c, name) for c in SHAPES for name in [*usual, LISSA]] + [(c, name) for name in LAST for c in SHAPES]
    for c, name in plans:
        shape = SMALL if small else SHAPES[c]
        for protocol in ("fair", "paper"):
            steps(
                f"{name}, c={c}, {protocol}",
                lambda shape=shape, name=name, protocol=protocol: _scored(steps, shape, name, protocol),
            )


def _scored(steps: Steps, shape: tuple[int, int, int], name: str, protocol: str) -> Mapping[str, Any]:
    arrays = {key: torch.from_numpy(values) for key, values in head(*shape).items()}
    on_device = {key: values if key.endswith("labels") else values.to(steps.device) for key, values in arrays.items()}
    method = harness.method(name, protocol=protocol)
    seconds: list[float] = []
    memory = 0.0
    try:
        for i in range(ROUNDS + 1):  # the first one warms up
            view = harness.View.from_arrays(**on_device, seed=i)
            gc.collect()
            before = _allocated(steps.device)
            peak = PeakMemory(steps.device)
            with timed(steps.device) as watch:
                method.score(view)
            memory = peak.mib() - before
            seconds.append(watch.seconds)
            if watch.seconds > LONG:
                break
    except (Unsupported, NotImplementedError) as error:
        return {"skipped": str(error) or type(error).__name__}
    floor = 4 * shape[0] * shape[2] / _bytes_per_second(steps)
    timed_ones = seconds[1:] or seconds
    return {
        "seconds": median(timed_ones),
        "rounds": len(timed_ones),
        "first_seconds": seconds[0],
        "extra_mib": round(memory, 1),
        "reading_features_seconds": floor,
    }


def _allocated(device: str) -> float:
    return torch.cuda.memory_allocated(device) / 2**20 if device.startswith("cuda") else PeakMemory(device).mib()


def _bytes_per_second(steps: Steps) -> float:
    return float(steps.done["bandwidth"]["read_bytes_per_second"])


def _bandwidth(device: str, count: int) -> Mapping[str, Any]:
    generator = torch.Generator(device).manual_seed(0)
    values, other = (torch.randn(count, device=device, generator=generator) for _ in range(2))
    best = {"read": float("inf"), "copy": float("inf")}
    for _ in range(5):
        for name, work in (("read", values.sum), ("copy", lambda: other.copy_(values))):
            with timed(device) as watch:
                work()
            best[name] = min(best[name], watch.seconds)
    return {
        "read_bytes_per_second": 4 * count / best["read"],
        "copied_bytes_per_second": 8 * count / best["copy"],  # read and written
    }


def _products(device: str, side: int) -> Mapping[str, Any]:
    rates, generator = {}, torch.Generator(device).manual_seed(0)
    for kind in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(side, side, device=device, dtype=kind, generator=generator) for _ in range(2))
        best = float("inf")
        for _ in range(5):
            with timed(device) as watch:
                a @ b
            best = min(best, watch.seconds)
        rates[f"{str(kind).removeprefix('torch.')}_operations_per_second"] = 2 * side**3 / best
    return rates
