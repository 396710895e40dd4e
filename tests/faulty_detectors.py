"""Detectors with one fault each, and what the conformance checks may call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.interfaces.view import View
from harness.testing import check_all


def given(view: View) -> np.ndarray:
    return view.probs[np.arange(view.n), view.labels]


def good(view: View) -> np.ndarray:
    """A sound detector: minus the probability of the given label."""
    return -given(view)


def failed(subject: Any) -> list[str]:
    return [result.check.name for result in check_all(subject) if result.bad]


def adopted(function: Callable[..., Any]) -> Any:
    from harness.selection.adoption import method_class

    return method_class(function)()


def wrong_sign(view: View) -> np.ndarray:
    return given(view)


def one_constant(view: View) -> np.ndarray:
    return np.zeros(view.n)


def returns_nothing(view: View) -> None:
    view.labels.sum()


def too_many(view: View) -> np.ndarray:
    return np.zeros((view.n, 2))


def logarithm_of_zero(view: View) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -np.log(given(view))


def by_position(view: View) -> np.ndarray:
    return -given(view) + np.arange(view.n) / view.n


def global_noise(view: View) -> np.ndarray:
    return -given(view) + 1e-3 * np.random.rand(view.n)  # noqa: NPY002


def seeds_globally(view: View) -> np.ndarray:
    torch.manual_seed(0)
    return -given(view) + 1e-3 * torch.rand(view.n).numpy()


def overwrites(view: View) -> np.ndarray:
    view.features.mul_(2)
    return -given(view)


def standardised(view: View) -> np.ndarray:
    scores = -given(view)
    with np.errstate(invalid="ignore"):
        return (scores - scores.mean()) / scores.std()


def needs_every_class(view: View) -> np.ndarray:
    centres = np.stack([view.probs[view.labels == k].mean(0) for k in range(view.probs.shape[1])])
    return np.linalg.norm(view.probs - centres.mean(0), axis=1) - 2 * given(view)


def by_chunk(view: View) -> np.ndarray:
    from harness.gradients.products import chunks

    parts = [good(view)[part] for part in chunks(view.n, 64)]
    return np.concatenate([part - part.mean() for part in parts])


def undeclared(view: View) -> np.ndarray:
    view.reference("validation")
    return -given(view)


undeclared.uses = ("labels", "probs")  # type: ignore[attr-defined]


def walks_frames(view: View) -> np.ndarray:
    import sys

    frame: Any = sys._getframe()
    while frame is not None:
        base = frame.f_locals.get("base")
        if base is not None and hasattr(base, "noisy"):
            return base.noisy + 1e-6 * -given(view)
        frame = frame.f_back
    return -given(view)


def walks_objects(view: View) -> np.ndarray:
    import gc

    from harness.running.base_models import Base

    for thing in gc.get_objects():
        if isinstance(thing, Base) and thing.noisy is not None and len(thing.noisy) == view.n:
            return thing.noisy - 1e-6 * given(view)
    return -given(view)


def spoils_reference_labels(view: View) -> np.ndarray:
    view.reference("validation").labels[:] = 0
    return -given(view)


def constant_up_to_rounding(view: View) -> np.ndarray:
    rows = view.gradients.rows(slice(None)).double().numpy()
    return (rows * rows).sum(1) / np.linalg.norm(rows, axis=1) ** 2


def raw_outputs(view: View) -> np.ndarray:
    probs = view.outputs().class_probs()
    return -probs[np.arange(view.n), view.labels]


raw_outputs.uses = ("class labels",)  # type: ignore[attr-defined]


class FewPairs:
    def attribute(self, view: View) -> np.ndarray:
        return np.tile(-given(view), (77, 1))


def raises(view: View) -> np.ndarray:
    raise ZeroDivisionError("on purpose")


FAULTS: dict[Callable[[View], Any], set[str]] = {
    wrong_sign: {"orientation"},
    one_constant: {"constant"},
    logarithm_of_zero: {"certain_model"},
    by_position: {"sample_order"},
    global_noise: {"same_seed", "global_state", "truth", "working_memory", "sample_order"},
    seeds_globally: {"global_state", "sample_order"},
    overwrites: {"inputs_unchanged", "working_memory", "truth", "same_seed"},
    standardised: {"one_sample"},
    by_chunk: {"working_memory"},
    undeclared: {"uses"},
    walks_frames: {"truth"},
    walks_objects: {"truth", "sample_order", "orientation"},
    constant_up_to_rounding: {"constant", "certain_model", "sample_order"},
    raw_outputs: {"uses"},
    FewPairs: {"attribution"},
}
"""What each fault may be called."""

FIRST = {
    global_noise: "same_seed",
    seeds_globally: "global_state",
    overwrites: "inputs_unchanged",
    walks_objects: "truth",
    constant_up_to_rounding: "constant",
}
"""What it must be called, where it has several names."""
