"""How far each method's ranking agrees with the ranking of a judge, for example leave-one-out retraining."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RequestError, unknown
from harness.results.folder import Results
from harness.selection.names import method_spec, task_spec

if TYPE_CHECKING:
    import pandas as pd

CELL = ["task", "task_title", "task_spec", "protocol", "preset", "seed"]


@dataclass(frozen=True)
class Ranking:
    """One method's scores and flags on one task and seed."""

    name: str
    title: str
    scores: np.ndarray
    flagged: np.ndarray


def agreement(results: Results, judge: str) -> pd.DataFrame:
    """Rank correlation of every method's scores with the judge's, on the same task and seed.

    Args:
        results: a results folder.
        judge: a method's spec, or its name.

    Returns:
        One row per method and task and seed that the judge has scored, too. The columns are `CELL`, ``method``,
        ``title``, ``spearman`` (rank correlation over all training samples; NaN if all scores of the method or of the
        judge are equal), ``common`` (the share of the judge's flagged samples that the method flags, too),
        ``n_train``.

    Raises:
        RequestError: the judge has no scores in the folder, or several sets of parameters have the judge's name.
    """
    import pandas as pd

    cells = _rankings(results)
    names = {spec: ranking.name for rankings in cells.values() for spec, ranking in rankings.items()}
    judges = {judge} & names.keys() or {spec for spec, name in names.items() if judge == name}
    if not judges:
        raise unknown(f"method in {results.path}", judge, {*names, *names.values()})
    if len(judges) > 1:
        raise RequestError(f"--judge {judge} means several: {', '.join(sorted(judges))}; give one of them")
    (chosen,) = judges
    rows = [
        dict(zip(CELL, cell[1:], strict=True)) | {"method": spec, **_compared(ranking, rankings[chosen])}
        for cell, rankings in cells.items()
        if chosen in rankings
        for spec, ranking in rankings.items()
        if spec != chosen and ranking.flagged.any()
    ]
    return pd.DataFrame(rows, columns=[*CELL, "method", "title", "spearman", "common", "n_train"])


def _rankings(results: Results) -> dict[tuple[object, ...], dict[str, Ranking]]:
    """Rankings by cell, then by the method's spec. A cell is the identity of the data, followed by `CELL`."""
    cells: dict[tuple[object, ...], dict[str, Ranking]] = {}
    for record in results.records:
        arrays = results.arrays(record) if record.status == "ok" else None
        if arrays and "scores" in arrays:
            data = json.dumps([record.task_params, record.versions.get("data", "")], sort_keys=True)
            task = task_spec(record.task, record.task_params, record.protocol, record.preset) or record.task_spec
            cell = (data, record.task, record.task_title, task, record.protocol, record.preset, record.seed)
            method = method_spec(record.method, record.method_params, record.protocol, record.task)
            ranking = Ranking(record.method, record.method_title, arrays["scores"], arrays["flagged"])
            cells.setdefault(cell, {})[method or record.method_spec] = ranking
    return cells


def _compared(ranking: Ranking, judge: Ranking) -> dict[str, object]:
    from scipy.stats import spearmanr

    told = len(np.unique(ranking.scores)) > 1 and len(np.unique(judge.scores)) > 1
    spearman = float(spearmanr(ranking.scores, judge.scores, nan_policy="omit").statistic) if told else np.nan
    hits = (ranking.flagged & judge.flagged).sum()
    common = float(hits / judge.flagged.sum()) if judge.flagged.any() else np.nan
    return {"title": ranking.title, "spearman": spearman, "common": common, "n_train": len(ranking.scores)}
