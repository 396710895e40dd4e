"""All figures by their name on the command line: the paper's by number, the others by what they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import unknown
from harness.results.folder import Results
from harness.results.influential import attributions
from harness.results.pictures import flagged_pictures
from harness.results.planes import planes
from harness.results.scored import experiments, with_truth
from reports.comparison import sections
from reports.figures.budget_curves import budget_figure
from reports.figures.correlation import correlation_figure
from reports.figures.cost import cost_figure
from reports.figures.distributions import distribution_figure
from reports.figures.epoch_curves import curve_figure
from reports.figures.flagged import FLAGGED_BY, flagged_grid, most_like_published
from reports.figures.heat_maps import heat_maps
from reports.figures.inspection import inspection_figure, precision_recall_figure
from reports.figures.planes import INFLUENCE, OUTLIER, plane_figure
from reports.figures.protocol_effects import protocol_figure
from reports.figures.ranks import rank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Args:
        title: what it shows.
        draw: makes it of results, and of the method that the user chose, if any.
        photos: whether it shows photographs.
    """

    title: str
    draw: Callable[[Results, str | None], Figure]
    photos: bool = False


FIGURES = {
    "1": Drawn(
        "two-dimensional data, influence scores and gradient space",
        lambda results, method: plane_figure(planes(results, method or OUTLIER, INFLUENCE)),
    ),
    "2": Drawn(
        "the most suspicious images",
        lambda results, method: flagged_grid(flagged_pictures(results, method or FLAGGED_BY, most_like_published)),
        True,
    ),
    "3": Drawn("accuracy by epoch", lambda results, _: curve_figure(results.frame, results.stale)),
    "4": Drawn("influence of classes on classes", lambda results, _: heat_maps(attributions(results))),
    "5": Drawn("gain by trimming budget", lambda results, _: budget_figure(results.frame, results.stale)),
    "inspection": Drawn(
        "wrong labels found by samples inspected",
        lambda results, _: inspection_figure(with_truth(experiments(results))),
    ),
    "precision-recall": Drawn(
        "precision by recall", lambda results, _: precision_recall_figure(with_truth(experiments(results)))
    ),
    "cost": Drawn("AUROC or LDS by total seconds", lambda results, _: cost_figure(results.frame, results.stale)),
    "scores": Drawn(
        "scores of wrong and of right labels", lambda results, _: distribution_figure(with_truth(experiments(results)))
    ),
    "correlation": Drawn("rank correlation of methods", lambda results, _: correlation_figure(experiments(results))),
    "ranks": Drawn(
        "mean ranks over tasks, with critical difference",
        lambda results, _: rank_figure(sections(results.frame, results.stale)),
    ),
    "protocols": Drawn(
        "what the protocol changes", lambda results, _: protocol_figure(sections(results.frame, results.stale))
    ),
}


def figure_called(name: str) -> Drawn:
    """A figure by its name.

    Raises:
        RequestError: there is no such figure.
    """
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    return FIGURES[name]
