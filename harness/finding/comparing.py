"""Detectors compared on a user's own data: known errors are planted in a copy, and every detector looks for them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.finding.planting import KINDS, Ground, confused_classes
from harness.finding.scoring import highest, scored, view_on
from harness.interfaces.flags import Flags
from harness.interfaces.method import Method
from harness.interfaces.own_data import OwnData
from harness.interfaces.split import Split
from harness.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

MOST_SAMPLES = 5_000
"""Detectors are compared on at most this many samples."""

LEAST_RATE, MOST_RATE, LEAST_PLANTED = 0.01, 0.3, 10

PATIENCE = 60.0
"""A detector whose first scores take more seconds than this is left out of the other runs."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Detectors on planted errors.

    Args:
        table: one row per detector, best first: ``method``; ``average_precision`` with ``low`` and ``high`` (Student's
            95 % interval of the mean over runs); the average precision on each kind of error; ``auroc``; ``f1`` of what
            the detector flags; ``seconds`` per run.
        left_out: why other detectors have no row, by name.
        best: the first detector.
        planted: how many errors a copy has.
        samples: how many samples a copy has.
        runs: kinds × seeds.
        precision: the expected share of wrong labels among the first suspects of the real list: the mean over runs and
            a 95 % prediction interval for one more data set. It is about as many suspects as labels are wrong.
    """

    table: pd.DataFrame
    left_out: Mapping[str, str]
    best: str
    planted: int
    samples: int
    runs: int
    precision: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Judged:
    """What is known before detectors are compared.

    Args:
        split: the data.
        probs: out-of-sample probabilities, (n, c).
        flagged: the probably wrong labels, (n,) bool.
        estimated: how many labels are wrong.
    """

    split: Split
    probs: np.ndarray
    flagged: np.ndarray
    estimated: float


@dataclass(frozen=True)
class Contest:
    """Which detectors are compared, and how often.

    Args:
        methods: by spec.
        seeds: number of seeds for each kind of error.
        say: receives what is being done.
    """

    methods: Mapping[str, Method]
    seeds: int = 3
    say: Callable[[str], None] = field(default=lambda _: None)

    def held(self, task: OwnData, known: Judged) -> Compared:
        """Plant errors of every kind and seed, and let every detector look for them.

        Probably wrong labels stay as they are and count neither as found nor as missed. Wrong labels that are not
        flagged count as false alarms, so the expected precision is a little too low where there are many of them.

        Raises:
            RequestError: no detector can score the data.
        """
        part, chosen = _part(task, known.split)
        labels, flagged = part.train.labels.cpu().numpy(), known.flagged[chosen]
        n, free = len(labels), ~flagged
        wanted = max(known.estimated / len(known.flagged), LEAST_RATE, LEAST_PLANTED / n)
        planted = min(round(min(wanted, MOST_RATE) * n), int(free.sum()) // 2)
        inputs = task.module_inputs(part.train)
        features = None if inputs is None else np.asarray(inputs.cpu())
        probs = known.probs[chosen]
        ground = Ground(labels, probs, features, free, confused_classes(labels, probs, flagged))
        rows: list[dict[str, Any]] = []
        left_out: dict[str, str] = {}
        kinds = [kind for kind in KINDS if kind != "clusters" or features is not None]
        copies = [(seed, kind) for seed in range(self.seeds) for kind in kinds]
        start = time.perf_counter()
        for done, (seed, kind) in enumerate(copies):
            noisy = KINDS[kind](ground, planted, np.random.default_rng(derive("planted", task.name, seed, kind)))
            left = (time.perf_counter() - start) / max(1, done) * (len(copies) - done)
            told = f", about {left:.0f} s left" if done else ""
            self.say(f"copy {done + 1} of {len(copies)}: {planted} errors of the kind {kind}, seed {seed}{told}")
            rows += self._run(task, part, noisy, free, seed, kind, left_out)
        if not rows:
            told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
            raise RequestError(f"no detector can score this data: {told}")
        return _summary(rows, left_out, planted, n)

    def _run(
        self,
        task: OwnData,
        part: Split,
        noisy: np.ndarray,
        free: np.ndarray,
        seed: int,
        kind: str,
        left_out: dict[str, str],
    ) -> list[dict[str, Any]]:
        """One row per detector that can score the copy; the others get a reason in ``left_out``."""
        import torch

        labels = torch.from_numpy(noisy).to(part.train.labels)
        wrong = noisy != part.train.labels.cpu().numpy()
        view = view_on(task, replace(part, train=replace(part.train, labels=labels)), seed)
        rows = []
        for spec, method in self.methods.items():
            if spec in left_out:
                continue
            start = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    scores, flags = scored(method, view)
            except Unsupported as error:
                left_out[spec] = str(error)
                continue
            except Exception as error:  # a detector of the user's may raise anything
                left_out[spec] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                continue
            seconds = time.perf_counter() - start
            rows.append({"method": spec, "kind": kind, "seed": seed, "seconds": seconds})
            rows[-1] |= _measured(scores, flags, wrong, free)
            if seconds > PATIENCE and len(self.methods) > 1:
                left_out[spec] = f"it took {seconds:.0f} s for one run; compare it alone by --compare {spec}"
        return rows


def _part(task: OwnData, split: Split) -> tuple[Split, np.ndarray]:
    """A random part of the samples, and their positions."""
    n = len(split.train)
    if n <= MOST_SAMPLES:
        return split, np.arange(n)
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:MOST_SAMPLES])
    return task.part(split, chosen), chosen


def _measured(scores: np.ndarray, flags: Flags | None, wrong: np.ndarray, free: np.ndarray) -> dict[str, float]:
    """How well scores and flags find the planted errors, among the samples that are not probably wrong already.

    A method without a rule of its own flags its highest scores, as many as were planted.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    finite = np.nan_to_num(np.where(np.isnan(scores), -np.inf, scores))[free]
    target = wrong[free]
    top = highest(scores, free, int(target.sum()))
    flagged = (top if flags is None else flags.flagged)[free]
    both = int((flagged & target).sum())
    return {
        "average_precision": float(average_precision_score(target, finite)),
        "auroc": float(roc_auc_score(target, finite)),
        "f1": 2 * both / max(1, int(flagged.sum() + target.sum())),
        "precision": float(wrong[top].mean()),
    }


def _summary(rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, str], planted: int, n: int) -> Compared:
    import pandas as pd
    from scipy.stats import t

    frame = pd.DataFrame(rows)
    runs = frame.groupby(["kind", "seed"]).ngroups
    by_method = frame.groupby("method")
    complete = by_method.size() == runs
    scores = by_method["average_precision"]
    half = scores.std() / np.sqrt(runs) * (t.ppf(0.975, runs - 1) if runs > 1 else np.nan)
    table = pd.DataFrame(
        {"average_precision": scores.mean(), "low": scores.mean() - half, "high": scores.mean() + half}
    )
    kinds = frame.pivot_table("average_precision", "method", "kind")[list(dict.fromkeys(frame["kind"]))]
    table = table.join(kinds).join(by_method[["auroc", "f1", "seconds"]].mean())
    table = table[complete].sort_values("average_precision", ascending=False, kind="stable").reset_index()
    best = str(table["method"].iloc[0])
    found = frame[frame["method"] == best]["precision"]
    share, reach = float(found.mean()), float("nan")
    if runs > 1:
        reach = float(t.ppf(0.975, runs - 1) * found.std() * np.sqrt(1 + 1 / runs))
    precision = (share, max(0.0, share - reach), min(1.0, share + reach))
    return Compared(table, left_out, best, planted, n, runs, precision)
