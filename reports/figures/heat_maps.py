"""Figure 4: the influence of every training sample on every test sample, ordered by class."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.interfaces.spec import changes
from harness.results.influential import Attribution
from reports.published import PROMPTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def heat_maps(attributions: Sequence[Attribution]) -> Figure:
    """One row per task with its parameters, protocol and preset, one column per method; dark is helpful.

    Colours show ranks within one row (one test sample), because the methods' values differ by orders of magnitude.

    Args:
        attributions: one seed for each task and method.
    """
    from matplotlib.figure import Figure

    rows: dict[tuple[str, ...], list[Attribution]] = {}
    for attribution in sorted(attributions, key=_place):
        rows.setdefault(tuple(attribution.about[key] for key in ("task_spec", "protocol", "preset")), []).append(
            attribution
        )
    across = max(map(len, rows.values()))
    figure = Figure(figsize=(2.3 * across + 1.8, 2.5 * len(rows) + 0.3), layout="constrained", dpi=150)
    seeds = sorted({attribution.about["seed"] for attribution in attributions})
    figure.suptitle(
        "Influence of training samples on test samples, ranked within each row: dark is helpful, light is harmful "
        f"(seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})",
        fontsize=8,
    )
    grid = figure.subplots(len(rows), across, squeeze=False)
    for line, ((_, protocol, preset), members) in zip(grid, rows.items(), strict=True):
        for axes, attribution in zip(line, members, strict=False):
            image = _draw(axes, attribution)
        bar = figure.colorbar(image, ax=list(line), shrink=0.7, aspect=30, ticks=[0, 0.5, 1])
        bar.ax.set_yticklabels(["most helpful", "middle", "most harmful"], fontsize=5)
        for axes in line[len(members) :]:
            axes.set_axis_off()
        first = members[0]
        changed = changes(first.about["task_spec"]).replace(",", ", ")
        title = textwrap.fill(f"{first.about['task_title']} {changed}".strip(), 44, break_long_words=False)
        line[0].set_ylabel(f"{title}\nprotocol {protocol}, preset {preset}\ntest samples by class", fontsize=6)
        if first.class_names:
            _name_classes(line[0], first)
    return figure


def _draw(axes: Axes, attribution: Attribution) -> AxesImage:
    train, test = (
        np.argsort(classes, kind="stable") for classes in (attribution.train_classes, attribution.test_classes)
    )
    harm = np.where(np.isnan(attribution.harm), np.inf, attribution.harm)[test][:, train]
    share = np.stack([_ranks(row) for row in harm])
    image = axes.imshow(share, cmap="Blues_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for classes, draw in (
        (attribution.train_classes[train], axes.axvline),
        (attribution.test_classes[test], axes.axhline),
    ):
        for edge in np.flatnonzero(np.diff(classes)):
            draw(edge + 0.5, color="white", linewidth=0.4)
    axes.set_title(
        f"{attribution.about['method_title']}\n{changes(attribution.about['method_spec'])}".strip(), fontsize=7
    )
    axes.set_xlabel("training samples by class", fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def _name_classes(axes: Axes, attribution: Attribution) -> None:
    classes, counts = np.unique(attribution.test_classes, return_counts=True)
    axes.set_yticks(np.cumsum(counts) - counts / 2 - 0.5)
    axes.set_yticklabels([attribution.class_names[k] for k in classes], fontsize=5.5)
    axes.tick_params(axis="y", length=0)


def _ranks(row: np.ndarray) -> np.ndarray:
    """Ranks from 0 (smallest) to 1; equal values share the mean rank."""
    values, places, counts = np.unique(row, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[places] / max(1, len(row) - 1)) if len(values) else row


def _place(attribution: Attribution) -> tuple[int, str, str]:
    """Sort key: tasks in the figure's order, methods by name."""
    order = list(PROMPTS)
    task = attribution.about["task"]
    return (
        order.index(task) if task in order else len(order),
        attribution.about["task_spec"],
        attribution.about["method_spec"],
    )
