"""How far each method's ranking agrees with one that is taken as the judge, as leave-one-out retraining."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError, unknown
from harness.records.store import Store
from harness.results.names import canonical

if TYPE_CHECKING:
    import pandas as pd

CELL = ["task", "task_title", "task_label", "protocol", "preset", "seed"]


def agreement(out: str, judge: str) -> pd.DataFrame:
    """Rank correlation of every method's scores with the judge's, on the same task and seed.

    Args:
        out: a results folder.
        judge: a method's label, or its name.

    Returns:
        A row a method and cell that the judge has scored too: `CELL`, ``method``, ``title``, ``spearman`` (rank
        correlation over all training samples; NaN where one side's scores are all equal), ``common`` (share of the
        judge's flagged samples that the method flags too), ``n_train``.

    Raises:
        RequestError: the judge scored nothing there, or several sets of parameters have its name.
    """
    import pandas as pd
    from scipy.stats import spearmanr

    scored: dict[tuple[Any, ...], dict[str, tuple[str, str, np.ndarray, np.ndarray]]] = {}
    for record, arrays in Store(out).records():
        if record.status == "ok" and "scores" in arrays:
            labels = canonical(record)
            exact = json.dumps([record.task_params, record.versions.get("data", "")], sort_keys=True)
            cell = (exact, record.task, record.task_title, labels["task"], record.protocol, record.preset, record.seed)
            entry = (record.method, record.method_title, arrays["scores"], arrays["flagged"])
            scored.setdefault(cell, {})[labels["method"]] = entry
    names = {label: entry[0] for methods in scored.values() for label, entry in methods.items()}
    judges = {label for label, name in names.items() if judge == label} or {
        label for label, name in names.items() if judge == name
    }
    if len(judges) != 1:
        if judges:
            raise RequestError(f"--judge {judge} means several: {', '.join(sorted(judges))}; give one of them")
        raise unknown(f"method in {out}", judge, {*names, *names.values()})
    rows = []
    chosen = judges.pop()
    for cell, methods in scored.items():
        if chosen not in methods:
            continue
        _, _, truth, marked = methods[chosen]
        for label, (_, title, scores, flagged) in methods.items():
            if label == chosen or not flagged.any():
                continue
            told = len(np.unique(scores)) > 1 and len(np.unique(truth)) > 1
            rows.append(
                dict(zip(CELL, cell[1:], strict=True))
                | {
                    "method": label,
                    "title": title,
                    "spearman": float(spearmanr(scores, truth, nan_policy="omit").statistic) if told else np.nan,
                    "common": float((flagged & marked).sum() / marked.sum()) if marked.any() else np.nan,
                    "n_train": len(scores),
                }
            )
    return pd.DataFrame(rows, columns=[*CELL, "method", "title", "spearman", "common", "n_train"])
