"""From stored scores to a list of suspicious samples, with their labels where the data is at hand."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError, Unsupported, unknown
from harness.records.store import Record, Store
from harness.results.names import canonical
from harness.results.reload import known_task, loaded_again
from harness.seeds import derive

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Found:
    """One method's scores on one task: of one seed, or of all where they have the same samples."""

    records: list[Record]
    arrays: list[dict[str, np.ndarray]]

    def title(self, count: int) -> str:
        """What is shown."""
        first = self.records[0]
        seeds = ", ".join(str(record.seed) for record in self.records)
        several = "s" if len(self.records) > 1 else ""
        return (
            f"The {count} most suspicious of {first.n_train} samples of {first.task_label} by {first.method_label}, "
            f"protocol {first.protocol}, preset {first.preset}, seed{several} {seeds}"
        )


def _kind(record: Record) -> tuple[str, ...]:
    """What one list may hold: a method, a task, and all that decides their scores but the seed."""
    labels, params = canonical(record), [record.task_params, record.method_params]
    data = str(record.versions.get("data", ""))
    return (labels["task"], labels["method"], record.protocol, record.preset, json.dumps(params, sort_keys=True), data)


def find(
    out: str,
    method: str,
    task: str | None,
    protocol: str | None,
    preset: str | None,
    seed: int | None,
    array: str = "scores",
) -> Found:
    """The one result of a folder that is meant.

    Args:
        method, task: a label, or a name alone where one label has it.
        array: what it must hold, ``scores`` or ``attribution``.

    Raises:
        RequestError: there is none, or several.
    """
    everything = list(Store(out).records())
    ok = [entry for entry in everything if entry[0].status == "ok" and array in entry[1]]
    if not ok:
        what = "scores yet" if array == "scores" else "attributions, which tasks such as prompts_math have"
        raise RequestError(f"{out} holds no {what}; `run --out {out}` fills it")
    for option, wanted in (("method", method), ("task", task)):
        if wanted is not None:
            labels = [{getattr(record, f"{option}_label"), canonical(record)[option]} for record, _ in ok]
            names = [getattr(record, option) for record, _ in ok]
            if not any(wanted in either for either in [*labels, names]):
                tried = [r for r, _ in everything if wanted in (getattr(r, option), getattr(r, f"{option}_label"))]
                if tried:
                    raise RequestError(f"{wanted} has no scores in {out}: {tried[0].status}, {tried[0].error}")
                raise unknown(f"{option} in {out}", wanted, {*names, *(label for each in labels for label in each)})
            exact = [entry for entry, label in zip(ok, labels, strict=True) if wanted in label]
            ok = exact or [entry for entry, name in zip(ok, names, strict=True) if name == wanted]
    ok = [entry for entry in ok if protocol in (None, entry[0].protocol)]
    ok = [entry for entry in ok if preset in (None, entry[0].preset)]
    if not ok:
        raise RequestError(f"{out} holds no such result; leave out --protocol, --preset or --task to see what it holds")
    kinds = sorted({_kind(record) for record, _ in ok})
    if len(kinds) > 1:
        listed = "; ".join(f"{m} on {t}, protocol {p}, preset {q}" for t, m, p, q, *_ in kinds)
        raise RequestError(
            f"{out} holds several such results ({listed}); say which by --task, --method, --protocol or --preset"
            + (
                ", or take a folder of its own: parameters or data differ"
                if len({kind[:4] for kind in kinds}) == 1
                else ""
            )
        )
    together = bool(ok) and getattr(known_task(ok[0][0]), "same_samples", False) and seed is None
    by_seed = {record.seed: (record, arrays) for record, arrays in ok}
    chosen = sorted(by_seed) if together else [min(by_seed, default=0) if seed is None else seed]
    if not set(chosen) <= set(by_seed):
        raise RequestError(f"{out} has no such result of seed {seed}; it has {', '.join(map(str, sorted(by_seed)))}")
    records, arrays = zip(*(by_seed[each] for each in chosen), strict=True)
    return Found(list(records), list(arrays))


def suspects(found: Found, top: int) -> pd.DataFrame:
    """The most suspicious samples, most first.

    Returns:
        A row a sample: ``rank`` (from 1), ``index`` (its position in the training data, from 0), ``suspicion`` (its
        place in the ranking from 0 to 1, ties in the middle, averaged over seeds), ``score`` (likewise averaged),
        ``flagged`` (by the budget, in any seed), and, where the data is at hand, ``name`` (the file or row, where the
        position does not say it), ``given`` and, if known, ``true`` labels.
    """
    import pandas as pd
    from scipy.stats import rankdata

    scores = np.stack([arrays["scores"] for arrays in found.arrays])
    finite = np.where(np.isnan(scores), -np.inf, scores)
    suspicion = np.mean([(rankdata(each) - 1) / max(1, len(each) - 1) for each in finite], axis=0)
    order = np.argsort(-suspicion, kind="stable")[:top]
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "index": order,
            "suspicion": suspicion[order].round(4),
            "score": scores.mean(0)[order],
            "flagged": np.any([arrays["flagged"] for arrays in found.arrays], axis=0)[order],
        }
    )
    for name, values in _known(found).items():
        frame[name] = values[order]
    return frame


def _known(found: Found) -> dict[str, np.ndarray]:
    """Samples' names, given and true labels, as they are called; none where the data cannot be loaded again."""
    record = found.records[0]
    task = known_task(record)
    try:
        if task is None:
            raise RequestError(f"the task {record.task} is not known here; --plugin FILE brings it")
        split, truth = loaded_again(task, record, found.arrays[0])
    except (RequestError, Unsupported) as error:
        print(f"names and labels are left out: {error}", file=sys.stderr)
        return {}
    known, classes = {}, np.array(task.class_names() or range(split.n_classes))
    names = task.sample_names(derive("data", task.name, record.seed))
    if names is not None:
        known["name"] = np.array(names)
    known["given"] = classes[split.train.labels.numpy()]
    return known if truth is None else {**known, "true": classes[np.asarray(truth)]}
