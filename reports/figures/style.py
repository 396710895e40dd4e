"""How figures look: one colour and marker per method everywhere, legends that fit, panels in a grid, file formats."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.interfaces.spec import changes
from harness.results.statistics import paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SHOWN = 10
"""Methods per panel. With more lines than these, readers cannot tell lines apart."""


def columns_of(figure: Figure, labels: Collection[str]) -> int:
    """Columns of a legend that fit the figure's width; a label of 8 points is about 0.07 inches per sign wide."""
    widest = 0.6 + 0.07 * max(map(len, labels), default=1)
    return max(1, min(len(labels), int(figure.get_figwidth() / widest)))


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F3C8D", "#6B6B00")
"""Colours that readers with any kind of colour vision tell apart (Okabe & Ito, 2008, and two darker ones)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

CONTROL_STYLES: dict[str, dict[str, Any]] = {
    "oracle": {"color": "black", "linestyle": "--", "marker": ""},
    "random": {"color": "0.45", "linestyle": ":", "marker": ""},
    "none": {"color": "0.6", "linestyle": "-", "marker": ""},
}
"""Controls are lines without markers."""


SHOWN_MOST = (
    *("self_confidence", "exact_hessian", "outlier_l2", "datainf", "ekfac_influence", "clean_probe", "aum", "lissa"),
    *("normalized_margin", "self_influence", "outlier_iforest", "gradient_tracing", "trak", "knn_labels", "data_oob"),
    *("confident_learning", "confidence_weighted_entropy", "self_datainf", "outlier_l1", "self_lissa", "knn_shapley"),
)
LATER = len(SHOWN_MOST)


def styles(specs: Collection[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each method. A method has the same ones in every figure.

    The methods that figures show most have looks of their own, the first eight of them different colours. The looks of
    others come from a hash of the method's spec. Where two looks of one figure are the same, one gets another marker.
    """
    looks: dict[str, dict[str, Any]] = {}
    taken: set[tuple[int, int]] = set()
    for spec in sorted(specs, key=lambda name: (SHOWN_MOST.index(name) if name in SHOWN_MOST else LATER, name)):
        if spec in CONTROL_STYLES:
            looks[spec] = {**CONTROL_STYLES[spec], "linewidth": 1.6}
            continue
        if spec in SHOWN_MOST:
            number = SHOWN_MOST.index(spec)
        else:
            number = int.from_bytes(hashlib.blake2b(spec.encode(), digest_size=4).digest(), "big")
        colour, marker = number % len(COLOURS), (number + number // len(COLOURS)) % len(MARKERS)
        for step in range(len(COLOURS) * len(MARKERS)):
            marker, colour = (marker + (step > 0)) % len(MARKERS), (colour + (step % len(MARKERS) == 6)) % len(COLOURS)
            if (colour, marker) not in taken:
                break
        taken.add((colour, marker))
        looks[spec] = {"color": COLOURS[colour], "marker": MARKERS[marker], "markersize": 5, "linewidth": 1.4}
    return looks


def label(title: str, spec: str) -> str:
    """What a legend calls a method: its title, and the parameters that its spec names."""
    return f"{title} {changes(spec)}".strip().replace("$", "\\$")  # matplotlib would read a formula between two $


def task_label(title: str, spec: str) -> str:
    """What a panel calls a task: its title, and the parameters that its spec names."""
    return f"{title} {changes(spec).replace(',', ', ')}".strip().replace("$", "\\$")


def interval_of(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> tuple[float, np.ndarray | None]:
    """Mean and the bar of its interval, (2, 1): Student's 95 %, cut to the range that a metric can have.

    Args:
        values: one per seed; no bar for one seed.
    """
    interval = paired_difference(values, np.zeros(len(values)))
    if interval.low is None or interval.high is None:
        return interval.mean, None
    below, above = max(low, interval.low), min(high, interval.high)
    return interval.mean, np.array([[interval.mean - below], [above - interval.mean]])


def best_and_controls(quality: Mapping[str, float], most: int = MOST_SHOWN) -> list[str]:
    """The controls, and the methods with the highest quality, best first; `most` in all."""
    ranked = sorted(quality, key=lambda spec: -quality[spec])
    controls = [spec for spec in ranked if spec in CONTROL_STYLES and spec != "none"]
    others = [spec for spec in ranked if spec not in CONTROL_STYLES]
    return [*others[: most - len(controls)], *controls]


def grid_of(count: int, across: int = 3, width: float = 4.4, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of panels and room for a legend below; surplus places are empty."""
    import seaborn
    from matplotlib.figure import Figure

    across = min(across, count)
    down = -(-count // across)
    if across == 1:
        width = max(width, 6.4)  # room for a legend of several columns
    with seaborn.axes_style("whitegrid"):
        figure = Figure(figsize=(width * across, height * down + 0.5), layout="constrained", dpi=130)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def titled(axes: Axes, text: str, width: int = 60) -> None:
    """A panel's title, wrapped to the panel's width."""
    lines = [part for line in text.split("\n") for part in wrap(line, width)]
    axes.set_title("\n".join(lines), fontsize=9)


def legend_below(figure: Figure, axes: Collection[Axes]) -> None:
    """One legend for all panels, in as many columns as fit."""
    shown = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=columns_of(figure, shown),
        fontsize=8,
        frameon=False,
    )


def encoded(figure: Figure, suffix: str) -> bytes:
    """The figure as a file. PDF embeds TrueType fonts (Type 42), and SVG keeps text as text.

    Raises:
        ValueError: no picture has this suffix.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):
        figure.savefig(buffer, format=suffix)
    return buffer.getvalue()
