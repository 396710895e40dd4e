"""Mean ranks over tasks with Nemenyi's critical difference (Demšar, JMLR 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import RequestError
from reports.comparison import Section
from reports.figures.style import label, styles
from reports.overall import FEWEST_TASKS, overall

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rank_figure(sections: Sequence[Section]) -> Figure:
    """One critical-difference diagram for each protocol and preset; a bar joins methods not shown to differ.

    Args:
        sections: as from `reports.comparison.sections`.

    Raises:
        RequestError: there are too few tasks or methods, or the extra `ranks` is not installed.
    """
    from matplotlib.figure import Figure

    found = [each for each in overall(sections) if each.critical is not None]
    if not found:
        raise RequestError(
            f"ranks need {FEWEST_TASKS} tasks and 3 methods that have results on all of these tasks, in one "
            "protocol and preset"
        )
    try:
        import scikit_posthocs
    except ImportError as error:
        raise RequestError("--figure ranks needs the extra ranks: pip install 'influence-harness[ranks]'") from error
    most = max(len(each.ranks) for each in found)
    figure = Figure(figsize=(9, len(found) * (0.13 * most + 1.6)), layout="constrained", dpi=130)
    for axes, each in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
        names = {spec: label(each.titles[spec], spec) for spec in each.ranks.index}
        ranks = each.mean_ranks.rename(index=names)
        p_values = scikit_posthocs.posthoc_nemenyi_friedman(-each.values.loc[each.ranks.index].round(3).T)
        p_values = p_values.rename(index=names, columns=names)
        looks = {names[spec]: look["color"] for spec, look in styles(list(each.ranks.index)).items()}
        scikit_posthocs.critical_difference_diagram(
            ranks,
            p_values,
            ax=axes,
            label_props={"fontsize": 7},
            label_fmt_left="{label} ({rank:.1f}) ",
            label_fmt_right=" ({rank:.1f}) {label}",
            color_palette=looks,
            elbow_props={"linewidth": 0.9},
        )
        axes.set_title(
            f"Mean rank (1 is best) by {each.metric.upper()} over {len(each.tasks)} tasks, protocol {each.protocol}, "
            f"preset {each.preset}; Friedman p = {each.friedman:.2g}, critical difference {each.critical:.2f}",
            fontsize=9,
        )
    return figure
