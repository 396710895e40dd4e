"""All tasks of a protocol and preset in one table: mean rank, wins, and what a method lacks."""

from __future__ import annotations

from collections.abc import Sequence

from harness.interfaces.spec import changes
from reports.comparison import Section
from reports.overall import FEWEST_TASKS, Overall, overall
from reports.table import markdown_table


def over_tasks(sections: Sequence[Section]) -> list[str]:
    """Markdown, one section for each protocol and preset with several tasks."""
    return [_table(each) for each in overall(sections)]


def _table(each: Overall) -> str:
    wins, ranks, count = each.wins, each.mean_ranks, len(each.tasks)
    body = []
    for spec in ranks.index:
        values = each.values.loc[spec]
        body.append(
            [
                _name(each, spec),
                f"{ranks[spec]:.2f}",
                str(wins[spec]),
                f"{values.mean():.3f}",
                f"{values.min():.3f}",
                f"{count}",
            ]
        )
    rest = each.values.drop(index=ranks.index)
    rest = rest.loc[rest.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    for spec, values in rest.iterrows():
        body.append(
            [_name(each, str(spec)), "—", "—", f"{values.mean():.3f}", f"{values.min():.3f}", f"{values.notna().sum()}"]
        )
    header = ["Method", "Mean rank", "Wins", "Mean AUROC", "Lowest AUROC", f"Tasks of {count}"]
    told = [
        f"## All tasks, protocol {each.protocol}, preset {each.preset}",
        markdown_table(header, body),
        f"Tasks: {', '.join(f'`{task}`' for task in each.tasks)}. Ranks are by AUROC, means over seeds, "
        f"among the methods that have complete results on all {count} tasks; 1 is best. Other methods and controls "
        "follow without a rank.",
        _tested(each),
    ]
    return "\n\n".join(told)


def _tested(each: Overall) -> str:
    if each.friedman is None or each.critical is None:
        return f"With fewer than {FEWEST_TASKS} tasks or 3 methods, ranks are not tested."
    shown = "are shown to differ" if each.friedman < 0.05 else "are not shown to differ"
    told = [
        f"The methods {shown} (Friedman's test, p = {each.friedman:.2g}).",
        f"Two methods whose mean ranks differ by less than {each.critical:.2f} are not shown to differ (Nemenyi's "
        "critical difference, 5 %).",
    ]
    names = {task.partition("[")[0] for task in each.tasks}
    if len(names) < len(each.tasks):
        told.append(f"The tasks are variants of {len(names)} data sets. The tests take them for independent.")
    return " ".join(told)


def _name(each: Overall, spec: str) -> str:
    changed = changes(spec)
    return each.titles[spec] + (f" `{changed}`" if changed else "")
