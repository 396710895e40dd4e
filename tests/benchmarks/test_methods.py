"""The cost of every method on fixed sizes, to compare two commits by; docs/speed.md says how.

A last layer of 10 classes and 256 features, 5,000 samples with 500 for reference; a method that must retrain is
measured on the conformance problem (120 samples, logistic regression).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import harness
from harness.conformance.problem import problem
from harness.interfaces.uses import NEEDS_MODEL
from harness.selection.registry import METHODS
from tests.benchmarks.test_scores import head

SIZES = {"last layer, n=5,000 c=10 d=256": (5_000, 10, 256), "last layer, n=500 c=10 d=64": (500, 10, 64)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", sorted(name for name, cls in METHODS.classes().items() if not cls.named_only))
def test_cost_of_a_method(benchmark: Any, name: str, size: str) -> None:
    method = harness.method(name)
    shape = (60, 3, 5) if benchmark.disabled else SIZES[size]
    if NEEDS_MODEL & set(method.uses):
        if size != next(iter(SIZES)):
            pytest.skip("its problem has one size")
        benchmark.group = f"{name}, conformance problem"
        view = problem().view()
    else:
        benchmark.group = f"{name}, {size}"
        view = harness.View.from_arrays(**head(*shape), seed=1)
    benchmark.extra_info["version"] = METHODS.get(name).version
    view.probs, view.gradients.norm(2)
    if "clean validation" in method.uses:
        view.reference("validation")
    scores = benchmark.pedantic(method.score, args=(view,), rounds=5, warmup_rounds=1)
    assert scores.shape == (view.n,)
    assert np.isfinite(scores).all()
