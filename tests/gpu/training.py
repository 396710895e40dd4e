"""Images a second of the image presets, by precision and compiled or not, and a profile of the published recipe.

The images are random: speed does not depend on what they show. Seconds of one epoch are those of three epochs less
those of one, halved, so that what happens once (compilation, the choice of kernels) does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import harness
from harness.interfaces.clock import PeakMemory, timed
from harness.interfaces.split import Samples, Split
from tests.gpu.steps import Steps

N = 50_000


def run(steps: Steps, small: bool) -> None:
    presets = ("smoke",) if small else ("paper", "fast")
    kinds = (("float32", False),) if small else tuple(product(("bfloat16", "float32"), (False, True)))
    n = 64 if small else N
    for preset in presets:
        for precision, compiled in kinds:
            options = {"precision": precision, "compiled": compiled}
            steps(
                f"{preset}, {precision}{', compiled' if compiled else ''}",
                lambda preset=preset, options=options: _speed(steps, preset, n, options),
            )
        steps(f"profile of {preset}", lambda preset=preset: _profiled(steps, preset, min(n, 10_000)))
    for preset in presets:
        steps(f"one whole training of {preset}", lambda preset=preset: _whole(steps, preset, n, small))


def _split(device: str, n: int) -> Split:
    generator = torch.Generator().manual_seed(0)

    def samples(count: int) -> Samples:
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return Samples(images, torch.randint(0, 10, (count,), generator=generator))

    test = samples(min(n, 1000))
    return Split(samples(n), test, {"validation": test}, 10).to(device)


def _trained(steps: Steps, preset: str, split: Split, options: Mapping[str, Any]) -> float:
    task = harness.task("cifar10n", preset=preset, **options)
    with timed(steps.device) as watch:
        task.train(split, None, 0)
    return watch.seconds


def _speed(steps: Steps, preset: str, n: int, options: Mapping[str, Any]) -> Mapping[str, Any]:
    split = _split(steps.device, n)
    first = _trained(steps, preset, split, {**options, "epochs": 1})
    peak = PeakMemory(steps.device)
    one, three = (_trained(steps, preset, split, {**options, "epochs": epochs}) for epochs in (1, 3))
    epoch = max(1e-9, (three - one) / 2)
    return {
        "images_per_second": n / epoch,
        "epoch_seconds": epoch,
        "first_training_seconds": first,
        "peak_mib": round(peak.mib()),
    }


def _whole(steps: Steps, preset: str, n: int, small: bool) -> Mapping[str, Any]:
    """A training of the preset's own length; of the published recipe's, a tenth."""
    epochs = {"epochs": 10} if preset == "paper" else {"epochs": 1} if small else {}
    seconds = _trained(steps, preset, _split(steps.device, n), epochs)
    return {"seconds": seconds, **epochs}


def _profiled(steps: Steps, preset: str, n: int) -> Mapping[str, Any]:
    """Where the time of one epoch goes, by kernel, into a file of its own."""
    split = _split(steps.device, n)
    _trained(steps, preset, split, {"epochs": 1})
    on_gpu = steps.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        seconds = _trained(steps, preset, split, {"epochs": 1})
    table = found.key_averages().table(
        sort_by="self_cuda_time_total" if on_gpu else "self_cpu_time_total", row_limit=40, max_name_column_width=60
    )
    path = steps.folder / f"profile-{preset}.txt"
    path.write_text(table)
    return {"seconds_with_profiler": seconds, "file": path.name}
