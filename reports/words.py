"""The text around a section's table: how to read the table, the setup of its numbers, and number formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.results.statistics import Summary
from reports.comparison import FEWEST_SEEDS, Section


def caption(section: Section, detection: bool) -> str:
    """How to read the table.

    Args:
        detection: say also what detection accuracy is at best and by chance, for the trimming budget.
    """
    if any(row.attributes for row in section.rows):
        classes = "Methods that use class labels know which training samples have the same class."
        if any("lds" in row.summaries for row in section.rows):
            return (
                f"Sorted by LDS, best first. {_bold(section)} LDS, flips and rise: ± is the deviation over "
                "seeds; class detection: over test samples. Flips: right predictions that are wrong after the training "
                f"samples most helpful to them are removed and the model is trained again. {classes}"
            )
        return f"Sorted by AUC, best first. {_bold(section)} ± is the deviation over test samples. {classes}"
    if not any("auroc" in row.summaries for row in section.rows) and any(not row.troubles for row in section.rows):
        wrong = section.facts["n_noisy"]
        if not wrong:
            return "There is no ranking, because no true labels are known; `suspects` lists a method's findings."
        if min(wrong) == max(section.facts["n_train"]):
            return "There is no ranking, as every label is wrong."
        return f"There is no ranking, as no {'method here flags anything' if max(wrong) else 'label is wrong'}."
    if not any("auroc" in row.summaries for row in section.rows):
        return "There is no ranking, because no method completed."
    text = f"Sorted by AUROC, best first. {_bold(section)}"
    if any("precision_at_errors" in row.summaries for row in section.rows):
        text += " Precision at #errors: of as many samples as are wrong, the most suspicious ones."
    if any("own_f1" in row.summaries for row in section.rows):
        text += " Own flags: what a method flags by its own threshold, whatever the budget."
    sizes = [section.facts[name] for name in ("n_train", "n_noisy", "n_flagged")]
    if detection and all(len(values) == 1 for values in sizes):
        n, noisy, flagged = (int(values[0]) for values in sizes)
        best = 1 - abs(noisy - flagged) / n
        chance = 1 - (noisy + flagged - 2 * noisy * flagged / n) / n
        text += f" Detection accuracy is {100 * best:.1f} % at best and {100 * chance:.1f} % by chance."
    return text


def _bold(section: Section) -> str:
    """What bold means in a section's table, or why nothing is bold."""
    if len(section.seeds) < FEWEST_SEEDS:
        return f"With fewer than {FEWEST_SEEDS} seeds, no value is bold."
    if not any(section.best.values()):
        return "No method is shown to be worse than the best one, so no value is bold."
    return (
        "Bold: not shown to be worse than the best one (paired t-tests over seeds, 5 %, Holm's correction over all "
        "pairs of methods). A method whose values vary much can stay so marked; controls are never marked."
    )


def facts_of(section: Section) -> str:
    """The setup of a section's numbers."""

    def span(values: Sequence[float]) -> str:
        numbers = [int(value) for value in values]
        return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"

    facts, told, params = section.facts, [], json.loads(section.params)
    seeds = len(section.seeds)
    told.append(f"{seeds} seed{'s' if seeds > 1 else ''} ({', '.join(map(str, section.seeds))})")
    if facts["n_train"]:
        told.append(f"{span(facts['n_train'])} training samples")
    if facts["n_noisy"]:
        told.append(f"{span(facts['n_noisy'])} with a wrong label")
    if facts["n_flagged"]:
        told.append(f"{span(facts['n_flagged'])} flagged{_repair(params)}")
    if facts["accuracy_base"]:
        told.append(f"untrimmed test accuracy {percent(facts['accuracy_base'])} %")
    if {"loss", "loss_before", "accuracy", "accuracy_before"} <= facts["abilities"].keys():
        able = facts["abilities"]
        told.append(
            f"fine-tuning takes the loss of test answers from {able['loss_before'].mean:.2f} to "
            f"{able['loss'].mean:.2f} and the share of right ones from {percent(able['accuracy_before'])} to "
            f"{percent(able['accuracy'])} %"
        )
    if params.get("subsets") and facts["truth_seconds"] == facts["truth_seconds"]:
        ceiling = f", LDS ceiling {fraction(facts['lds_ceiling'])}" if facts["lds_ceiling"] else ""
        told.append(
            f"checked against {params['subsets']} × {params['repeats']} models on {short(100 * params['kept'])} % of "
            f"the samples, trained in {seconds(facts['truth_seconds'])} s{ceiling}"
        )
    if facts["train_seconds"] is not None:
        told.append(f"base model trained in {seconds(facts['train_seconds'])} s")
    if len(facts["device_name"]) > 1:
        told.append(f"made on {' and '.join(facts['device_name'])}, so times are not comparable")
    return "; ".join(told) + ".\n\nTask parameters: " + ", ".join(f"{k}={short(v)}" for k, v in params.items()) + "."


def percent(summary: Summary) -> str:
    """Mean and deviation in per cent."""
    spread = "" if summary.std is None else f" ± {100 * summary.std:.1f}"
    return f"{100 * summary.mean:.1f}{spread}"


def fraction(summary: Summary) -> str:
    """Mean and deviation."""
    spread = "" if summary.std is None else f" ± {summary.std:.3f}"
    return f"{summary.mean:.3f}{spread}"


def signed(share: float) -> str:
    """A share as points with a sign."""
    return plus(100 * share, 1)


def plus(value: float, digits: int) -> str:
    """A number with its sign; a number that rounds to zero gets a plus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def short(value: object) -> str:
    """A parameter's value, as one writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def seconds(value: float | None) -> str:
    """Seconds with three digits, or whole ones, or a dash."""
    if value is None:
        return "—"
    return f"{value:.4f}" if value < 0.01 else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def _repair(params: Mapping[str, Any]) -> str:
    """What happened to the flagged samples."""
    if not params.get("retrain", True):
        return ""
    return " and relabelled" if params.get("repair") == "relabel" else " and removed"
