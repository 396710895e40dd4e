"""The raw scores of a results folder by experiment, for what is drawn of scores rather than of metrics."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.records.store import Record
from harness.results.folder import Results
from harness.selection.names import method_spec, task_spec

AFTER_SCORING = ("budget", "retrain", "repair")
"""Task parameters that do not change scores. Of a sweep over them, one experiment is kept."""


@dataclass(frozen=True)
class ScoredMethod:
    """One method's scores in an experiment.

    Args:
        title: the method's title.
        scores: by seed, (n,) each, higher = more suspicious.
    """

    title: str
    scores: dict[int, np.ndarray]


@dataclass
class Experiment:
    """The scores of all methods on one task with its parameters, protocol and preset.

    Args:
        title, spec, protocol, preset: of the task.
        noisy: which labels are wrong, by seed, (n,) bool; empty where this is not known.
        methods: by the method's spec.
    """

    title: str
    spec: str
    protocol: str
    preset: str
    noisy: dict[int, np.ndarray] = field(default_factory=dict)
    methods: dict[str, ScoredMethod] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def experiments(results: Results) -> list[Experiment]:
    """The experiments of a folder, without stale results."""
    found: dict[str, Experiment] = {}
    seen: set[tuple[str, str, int]] = set()
    for record in sorted(results.records, key=lambda record: record.task_params.get("budget") or 0):
        if not record.scored or record.key in results.stale:
            continue
        identity, spec = _identity(record), _method(record)
        if (identity, spec, record.seed) in seen:
            continue
        arrays = results.arrays(record)
        if not arrays or "scores" not in arrays:
            continue
        seen.add((identity, spec, record.seed))
        here = found.setdefault(identity, _experiment(record))
        if "noisy" in arrays:
            here.noisy[record.seed] = arrays["noisy"]
        of_method = here.methods.setdefault(spec, ScoredMethod(record.method_title, {}))
        of_method.scores[record.seed] = arrays["scores"]
    return [found[identity] for identity in sorted(found)]


def with_truth(found: Sequence[Experiment]) -> list[Experiment]:
    """The experiments, restricted to seeds with wrong and right labels that are known; others are left out."""
    known = []
    for experiment in found:
        noisy = {seed: wrong for seed, wrong in experiment.noisy.items() if wrong.any() and not wrong.all()}
        methods = {}
        for spec, method in experiment.methods.items():
            scores = {seed: values for seed, values in method.scores.items() if seed in noisy}
            if scores:
                methods[spec] = ScoredMethod(method.title, scores)
        if methods:
            known.append(replace(experiment, noisy=noisy, methods=methods))
    return known


def scoring_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """A task's parameters without those that do not change scores."""
    return {name: value for name, value in params.items() if name not in AFTER_SCORING}


def _identity(record: Record) -> str:
    params = scoring_params(record.task_params)
    return json.dumps([record.task, record.protocol, record.preset, params], sort_keys=True)


def _experiment(record: Record) -> Experiment:
    params = scoring_params(record.task_params)
    spec = task_spec(record.task, params, record.protocol, record.preset) or record.task_spec
    return Experiment(record.task_title, spec, record.protocol, record.preset)


def _method(record: Record) -> str:
    spec = method_spec(record.method, record.method_params, record.protocol, record.task)
    return spec or record.method_spec
