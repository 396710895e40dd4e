"""What the commands on stored results show, as functions for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import in_folder
from harness.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

    from harness.gate.verdicts import Comparison


def suspects(
    out: str | Path,
    method: str,
    *,
    task: str | None = None,
    protocol: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    top: int = 100,
    data_dir: str | Path | None = None,
) -> pd.DataFrame:
    """The samples that a method finds most suspicious, as ``python -m harness suspects`` lists them.

    Args:
        out: a results folder.
        method, task: a spec, or a name alone if only one spec has the name; ``task`` may be left out if there is one.
        protocol, preset, seed, data_dir: as on the command line.
        top: length of the list.

    Returns:
        See `harness.results.suspects.suspects`.

    Raises:
        RequestError: no result or several results fit.
    """
    from harness.results.folder import Results
    from harness.results.suspects import Wanted, choose
    from harness.results.suspects import suspects as listed

    if top < 1:
        raise RequestError(f"top={top} is not valid; give at least 1")
    with in_folder(None if data_dir is None else str(data_dir)):
        return listed(choose(Results.read(out), Wanted(method, task, protocol, preset, seed)), top)


def compare(base: str | Path, new: str | Path, fail: Sequence[str] = ()) -> Comparison:
    """Tell whether results got worse, as ``python -m harness compare`` does.

    Args:
        base, new: a results folder, or a file of ``baseline write``.
        fail: how far metrics may move, such as ``["auroc:-0.02"]``; the default rules if empty.

    Returns:
        The comparison; its ``exit_code`` is 0 for no worse, 1 for worse, and 2 if nothing could be compared.

    Raises:
        RequestError: a rule, a folder or a file is not valid.
    """
    from harness.gate.compare import compare as compared
    from harness.gate.measured import measured
    from harness.gate.verdicts import DEFAULT_RULES, parse_rule

    before, after = measured(str(base)), measured(str(new))
    others = {str(metric) for metric in before["metric"].dropna()}
    rules = {rule.metric: rule for rule in (parse_rule(text, others) for text in fail or DEFAULT_RULES)}
    return compared(before, after, list(rules.values()))
