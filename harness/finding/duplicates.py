"""Exact and near duplicates among the samples, and whether their labels agree."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import Unsupported

if TYPE_CHECKING:
    import pandas as pd

    from harness.interfaces.view import View

NEAR = 0.1
"""Two samples are near duplicates if their distance is below this share of the median distance to a nearest sample."""

MOST_COMPARED = 50_000
"""With more samples, only exact duplicates are looked for, because every pair of samples is compared."""


def duplicates(view: View, contents: Sequence[bytes], rows: np.ndarray, given: np.ndarray) -> pd.DataFrame:
    """Sets of samples that are the same, or nearly the same.

    Near duplicates are found by the distance 1 − cosine of centred features. Sets are the connected components.

    Args:
        view: whose features are compared.
        contents: what each sample consists of, n of them.
        rows: row numbers in the data, (n,).
        given: names of the given labels, (n,).

    Returns:
        One row per sample that has a duplicate: ``set`` (from 1), ``row``, ``kind`` (``exact`` or ``near``), ``given``,
        and ``labels_differ``, whether the set has several labels.
    """
    import pandas as pd
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(contents)
    first: dict[bytes, int] = {}
    exact = [(first.setdefault(content, k), k) for k, content in enumerate(contents)]
    pairs = [(a, b) for a, b in exact if a != b]
    is_exact = {k for pair in pairs for k in pair}
    near = _near(view) if n <= MOST_COMPARED else []
    pairs += near
    if not pairs:
        return pd.DataFrame(columns=["set", "row", "kind", "given", "labels_differ"])
    left, right = np.array(pairs).T
    _, member = connected_components(coo_matrix((np.ones(len(left)), (left, right)), shape=(n, n)), directed=False)
    sizes = np.bincount(member)
    frame = pd.DataFrame({"component": member, "row": rows, "given": given})
    frame["kind"] = ["exact" if k in is_exact else "near" for k in range(n)]
    frame = frame[sizes[member] > 1]
    frame["labels_differ"] = frame.groupby("component")["given"].transform("nunique") > 1
    frame = frame.sort_values(["labels_differ", "component", "row"], ascending=[False, True, True], kind="stable")
    frame["set"] = pd.factorize(frame["component"])[0] + 1
    chosen: pd.DataFrame = frame[["set", "row", "kind", "given", "labels_differ"]].reset_index(drop=True)
    return chosen


def _near(view: View) -> list[tuple[int, int]]:
    from harness.interfaces.neighbours import nearest

    features = None
    for part in ("encoder_features", "features"):  # an encoder of texts or images sees more than a trained model
        with suppress(Unsupported):
            features = getattr(view, part) if features is None else features
    if features is None:
        return []
    if len(features) < 3 or features.shape[1] < 2:
        return []
    neighbours = nearest(features - features.mean(0), 1)
    distances = 1 - neighbours.similarities[:, 0].astype(np.float64)
    close = distances < min(NEAR * float(np.median(distances)), 1 - np.cos(0.1))
    return [(int(k), int(neighbours.indices[k, 0])) for k in np.flatnonzero(close)]
