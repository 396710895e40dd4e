"""What a comparison consists of: rules of how much worse a metric may get, lines with verdicts, and the whole."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Literal, get_args

from harness.errors import RequestError, did_you_mean
from harness.results.metrics import COSTS, HIGHER_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_RULES = ("auroc:-0.02", "detection_accuracy:-0.02", "accuracy:-0.02", "lds:-0.02")

Verdict = Literal["worse", "undecided", "no worse", "better", "same", "not compared"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Rule:
    """How much worse a metric may get.

    Args:
        metric: its name.
        tolerance: how far the metric may fall (or rise, if lower is better); a share of BASE's value if ``relative``.
    """

    metric: str
    tolerance: float
    relative: bool
    higher_is_better: bool

    @property
    def text(self) -> str:
        size = f"{100 * self.tolerance:g}%" if self.relative else f"{self.tolerance:g}"
        return f"{self.metric}:{'-' if self.higher_is_better else '+'}{size}"


@dataclass(frozen=True)
class Line:
    """One metric of one method on one task: the values in BASE and NEW, and the verdict.

    ``difference`` is NEW − BASE with the interval ``low`` to ``high``, as a share of BASE if the rule is relative.
    For one seed, ``low`` and ``high`` are None. If nothing could be compared, all three are None.
    """

    task: str
    method: str
    metric: str
    verdict: Verdict
    note: str = ""
    rule: Rule | None = None
    base: float | None = None
    new: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0


@dataclass(frozen=True)
class Comparison:
    """All lines of a comparison, and the results that BASE has and NEW lacks."""

    lines: list[Line]
    missing: list[str]

    def count(self, verdict: Verdict) -> int:
        return sum(line.verdict == verdict for line in self.lines)

    @property
    def gaps(self) -> int:
        """The number of lines without a decision: undecided, or not compared."""
        return self.count("undecided") + self.count("not compared")

    @property
    def frame(self) -> pd.DataFrame:
        """One row per line, with the columns of `Line`."""
        import pandas as pd

        lines = [{**vars(line), "rule": line.rule.text if line.rule else ""} for line in self.lines]
        return pd.DataFrame(lines, columns=[field.name for field in fields(Line)])

    def _repr_html_(self) -> str:
        missing = "".join(f"<p>missing in NEW: {escape(text)}</p>" for text in self.missing)
        return str(self.frame.to_html(index=False, na_rep="—", float_format="{:+.3f}".format)) + missing

    @property
    def exit_code(self) -> int:
        """1 if a line is worse; otherwise 2 if nothing is comparable or NEW lacks a result of BASE; otherwise 0."""
        if self.count("worse"):
            return 1
        compared = any(line.verdict != "not compared" for line in self.lines)
        return 0 if compared and not self.missing else 2


def parse_rule(text: str, others: Collection[str] = ()) -> Rule:
    """Read ``auroc:-0.02`` or ``score_seconds:+25%``.

    Args:
        others: further metrics, for example of your own task. Higher is better for these metrics.

    Raises:
        RequestError: an unknown metric, no number, or a sign in the direction in which the metric gets better.
    """
    metric, colon, delta = text.partition(":")
    lower = dict.fromkeys(COSTS, False)
    known = dict.fromkeys(others, True) | HIGHER_IS_BETTER | lower
    if metric not in known:
        raise RequestError(f"--fail {text}: unknown metric {metric!r}{did_you_mean(metric, known)}; known: "
                           f"{', '.join(known)}")  # fmt: skip
    sign = "-" if known[metric] else "+"
    example = f"{metric}:-0.02" if known[metric] else f"{metric}:+25%"
    try:
        number = float(delta.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not colon or not math.isfinite(number) or not delta.startswith(sign):
        direction = "fall" if known[metric] else "rise"
        raise RequestError(f"--fail {text} is not valid; write how far {metric} may {direction}, such as {example}")
    relative = delta.endswith("%")
    return Rule(metric, abs(number) / (100 if relative else 1), relative, known[metric])
