"""Makes a list of suspicious samples from stored scores, with labels if the data is available."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError, Unsupported, unknown
from harness.records.store import Record
from harness.results.folder import Results
from harness.results.reload import known_task, loaded_again
from harness.seeds import derive
from harness.selection.names import method_spec, task_spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Chosen:
    """One method's result on one task: of one seed, or of all seeds if all seeds have the same samples."""

    records: Sequence[Record]
    arrays: Sequence[dict[str, np.ndarray]]

    def title(self, count: int) -> str:
        """The heading of a list of ``count`` suspects."""
        first = self.records[0]
        seeds = ", ".join(str(record.seed) for record in self.records)
        several = "s" if len(self.records) > 1 else ""
        return (
            f"The {count} most suspicious of {first.n_train} samples of {first.task_spec} by {first.method_spec}, "
            f"protocol {first.protocol}, preset {first.preset}, seed{several} {seeds}"
        )


@dataclass(frozen=True)
class Wanted:
    """The result that the user asks for. A field that is None accepts any value.

    Args:
        method, task: a spec, or a name alone if only one spec has the name.
    """

    method: str
    task: str | None = None
    protocol: str | None = None
    preset: str | None = None
    seed: int | None = None


def choose(results: Results, wanted: Wanted, attributions: bool = False) -> Chosen:
    """The one result of a folder that ``wanted`` describes.

    Args:
        attributions: look for attributions of an attribution task instead of scores.

    Raises:
        RequestError: no result or several results fit.
    """
    out = results.path
    records = [record for record in results.records if (record.attributes if attributions else record.scored)]
    if not records:
        kind = "attributions, which tasks such as prompts_math have" if attributions else "scores yet"
        raise RequestError(f"{out} holds no {kind}; `run --out {out}` fills it")
    records = _called(results, records, "method", wanted.method)
    if wanted.task is not None:
        records = _called(results, records, "task", wanted.task)
    records = [record for record in records if wanted.protocol in (None, record.protocol)]
    records = [record for record in records if wanted.preset in (None, record.preset)]
    if not records:
        raise RequestError(f"{out} holds no such result; leave out --protocol, --preset or --task to see what it holds")
    _of_one_kind(records, out)
    by_seed = {record.seed: record for record in records}
    if wanted.seed is not None:
        seeds = [wanted.seed]
    else:
        alike = getattr(known_task(records[0]), "same_samples", False)
        seeds = sorted(by_seed) if alike else [min(by_seed)]
    if not set(seeds) <= by_seed.keys():
        had = ", ".join(map(str, sorted(by_seed)))
        raise RequestError(f"{out} has no such result of seed {wanted.seed}; it has {had}")
    read = [(by_seed[seed], results.arrays(by_seed[seed])) for seed in seeds]
    whole = [(record, arrays) for record, arrays in read if arrays is not None]
    if not whole:
        raise RequestError(f"{out}: the file of scores is damaged: {'; '.join(results.problems)}")
    return Chosen(*zip(*whole, strict=True))


def _called(results: Results, records: Sequence[Record], option: str, wanted: str) -> list[Record]:
    """The records whose method or task (``option``) has the spec ``wanted``, or otherwise the name ``wanted``."""
    specs = [{getattr(record, f"{option}_spec"), _specs(record)[option]} for record in records]
    names = [getattr(record, option) for record in records]
    if not any(wanted in either for either in [*specs, names]):
        for record in results.records:
            if wanted in (getattr(record, option), getattr(record, f"{option}_spec")):
                raise RequestError(f"{wanted} has no scores in {results.path}: {record.status}, {record.error}")
        raise unknown(f"{option} in {results.path}", wanted, {*names, *chain.from_iterable(specs)})
    exact = [record for record, spec in zip(records, specs, strict=True) if wanted in spec]
    return exact or [record for record, name in zip(records, names, strict=True) if name == wanted]


def _specs(record: Record) -> dict[str, str]:
    method = method_spec(record.method, record.method_params, record.protocol, record.task)
    task = task_spec(record.task, record.task_params, record.protocol, record.preset)
    return {"method": method or record.method_spec, "task": task or record.task_spec}


def _of_one_kind(records: Sequence[Record], out: str) -> None:
    """Raise a RequestError if the records differ in method, task, parameters, data, protocol or preset."""
    kinds: dict[tuple[str, ...], set[str]] = {}
    for record in records:
        specs = _specs(record)
        shown = (specs["method"], specs["task"], record.protocol, record.preset)
        exact = [record.task_params, record.method_params, str(record.versions.get("data", ""))]
        kinds.setdefault(shown, set()).add(json.dumps(exact, sort_keys=True))
    listed = "; ".join(f"{m} on {t}, protocol {p}, preset {q}" for m, t, p, q in sorted(kinds))
    if len(kinds) > 1:
        raise RequestError(
            f"{out} holds several such results ({listed}); say which by --task, --method, --protocol or --preset"
        )
    if any(len(exact) > 1 for exact in kinds.values()):
        raise RequestError(
            f"{out} holds several such results ({listed}) of other parameters or data; give a folder with one of them"
        )


def suspects(chosen: Chosen, top: int) -> pd.DataFrame:
    """The most suspicious samples, most first.

    Returns:
        One row per sample: ``rank`` (from 1), ``index`` (the position in the training data, from 0), ``suspicion``
        (the rank scaled to 0 … 1, 1 = most suspicious; ties get the mean rank; averaged over seeds), ``score``
        (averaged over seeds), ``flagged`` (by the budget, in any seed). If the data is available, also ``name`` (the
        file or row, if the task names its samples), the ``given`` label and, if known, the ``true`` label.
    """
    import pandas as pd
    from scipy.stats import rankdata

    scores = np.stack([arrays["scores"] for arrays in chosen.arrays])
    finite = np.where(np.isnan(scores), -np.inf, scores)
    suspicion = np.mean([(rankdata(values) - 1) / max(1, len(values) - 1) for values in finite], axis=0)
    order = np.argsort(-suspicion, kind="stable")[:top]
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "index": order,
            "suspicion": suspicion[order].round(4),
            "score": scores.mean(0)[order],
            "flagged": np.any([arrays["flagged"] for arrays in chosen.arrays], axis=0)[order],
        }
    )
    for name, values in _known(chosen).items():
        frame[name] = values[order]
    return frame


def _known(chosen: Chosen) -> dict[str, np.ndarray]:
    """The names, given labels and true labels of the samples, by column. Empty if the data cannot be loaded again."""
    record = chosen.records[0]
    task = known_task(record)
    try:
        if task is None:
            raise RequestError(f"the task {record.task} is not known here; --plugin FILE brings it")
        split, truth = loaded_again(task, record, chosen.arrays[0])
    except (RequestError, Unsupported) as error:
        print(f"names and labels are left out: {error}", file=sys.stderr)
        return {}
    known, classes = {}, np.array(task.class_names() or range(split.n_classes))
    names = task.sample_names(derive("data", task.name, record.seed))
    if names is not None:
        known["name"] = np.array(names)
    known["given"] = classes[split.train.labels.numpy()]
    return known if truth is None else {**known, "true": classes[np.asarray(truth)]}
