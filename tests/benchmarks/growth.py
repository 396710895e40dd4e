"""How cost grows: ``python -m tests.benchmarks.growth docs/speed`` measures, writes growth.csv (where there is none
yet) and draws growth.png.

Seconds and extra memory of scoring against the number of samples (1,000 to 100,000 at c = 10, d = 128) and of
parameters (d = 16 to 512 at n = 5,000), each the better of two runs in a process of their own; and the wall-clock of
``run`` on moons and blobs against the number of methods.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

C = 10
METHODS = {
    "outlier_l1": "outlier L1",
    "outlier_iforest": "outlier iForest",
    "gradient_tracing": "gradient tracing",
    "datainf": "DataInf",
    "lissa[iterations=10,tolerance=none]": "LiSSA, 10 iterations",
    "exact_hessian": "exact Hessian",
    "self_influence": "self-influence (exact)",
    "self_datainf": "Self-DataInf",
    "self_confidence": "self-confidence",
}
SAMPLES = (1_000, 3_000, 10_000, 30_000, 100_000)
WIDTHS = (16, 32, 64, 128, 256, 512)
TIRELESS = 120
"""Seconds after which a method's larger sizes are left out."""

FIELDS = ("sweep", "method", "n", "p", "methods", "seconds", "extra_mib")


def cost(spec: str, n: int, d: int) -> tuple[float, float]:
    """Seconds and extra MiB of one scoring, in this process."""
    import harness
    from tests.benchmarks.conftest import extra_mib, seconds
    from tests.benchmarks.test_scores import head

    method = harness.method(spec)
    harness.method(spec).score(harness.View.from_arrays(**head(200, C, d)))  # imports and starts libraries
    view = harness.View.from_arrays(**head(n, C, d))
    view.gradients, view.reference("validation"), view.probs
    found: list[float] = []
    extra = extra_mib(lambda: found.append(seconds(lambda: method.score(view))))
    found.append(seconds(lambda: method.score(view)))
    return min(found), extra or 0.0


def apart(spec: str, n: int, d: int) -> tuple[float, float]:
    """`cost` in a process of its own."""
    code = f"from tests.benchmarks.growth import cost; print(*cost({spec!r}, {n}, {d}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, second = done.stdout.split()[-2:]
    return float(first), float(second)


def sweep() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for spec, title in METHODS.items():
        for kind, sizes in (("n", [(n, 128) for n in SAMPLES]), ("p", [(5_000, d) for d in WIDTHS])):
            for n, d in sizes:
                took, extra = apart(spec, n, d)
                rows.append(dict(zip(FIELDS, (kind, title, n, C * d, "", f"{took:.5f}", f"{extra:.1f}"), strict=True)))
                print(rows[-1], flush=True)
                if took > TIRELESS:
                    break
    return rows


def runs() -> list[dict[str, object]]:
    """Wall-clock of ``run`` with 1 to 15 methods, the better of two."""
    from harness.selection.registry import METHODS as REGISTRY
    from tests.benchmarks.conftest import seconds

    names = [name for name in sorted(REGISTRY.classes()) if name != "leave_one_out"]
    rows: list[dict[str, object]] = []
    for protocol in ("fair", "paper"):
        for count in (1, 2, 4, 8, len(names)):
            took = []
            for _ in range(2):
                with tempfile.TemporaryDirectory() as folder:
                    asked = ["--methods", ",".join(names[:count]), "--tasks", "moons,blobs", "--protocol", protocol]
                    command = [sys.executable, "-m", "harness", "run", *asked, "--seeds", "5", "--out", folder]
                    took.append(seconds(lambda c=command: subprocess.run(c, check=True, capture_output=True)))  # type: ignore[misc]
            rows.append(dict(zip(FIELDS, ("methods", protocol, "", "", count, f"{min(took):.2f}", ""), strict=True)))
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, str]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8.2), layout="constrained")
    colours = {title: f"C{i}" for i, title in enumerate(METHODS.values())}
    panels = (("n", "samples n (c·d = 1,280)", 0), ("p", "parameters c·d (n = 5,000)", 1))
    for kind, label, column in panels:
        for title in METHODS.values():
            own = [row for row in rows if row["sweep"] == kind and row["method"] == title]
            sizes = [int(row[kind]) for row in own]
            for line, field in ((0, "seconds"), (1, "extra_mib")):
                values = [max(float(row[field]), 0.1 if line else 1e-5) for row in own]
                axes[line][column].loglog(sizes, values, marker="o", ms=4, color=colours[title], label=title)
        axes[0][column].set(xlabel=label, ylabel="seconds to score")
        axes[1][column].set(xlabel=label, ylabel="memory beyond the data, MiB")
        sizes = SAMPLES if kind == "n" else [C * d for d in WIDTHS]
        whole = [4 * (n * 1280 if kind == "n" else 5_000 * n) / 2**20 for n in sizes]
        axes[1][column].loglog(sizes, whole, "k--", lw=1, label="the gradients, materialised")
    for protocol in ("fair", "paper"):
        own = [row for row in rows if row["sweep"] == "methods" and row["method"] == protocol]
        axes[0][2].plot(
            [int(row["methods"]) for row in own], [float(row["seconds"]) for row in own], marker="o", label=protocol
        )
    axes[0][2].set(xlabel="methods", ylabel="seconds of `run`: moons and blobs, 5 seeds", ylim=(0, None))
    axes[0][2].legend()
    axes[1][2].axis("off")
    handles, labels = axes[1][0].get_legend_handles_labels()
    axes[1][2].legend(handles, labels, loc="center", frameon=False)
    for column, sizes in ((0, SAMPLES), (1, [C * d for d in WIDTHS])):
        for axis in axes[:, column]:
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axis.set_xticks([], minor=True)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "growth.csv"
    if not table.exists():  # delete it to measure again
        measure(table)
    with table.open() as file:
        draw(list(csv.DictReader(file)), folder / "growth.png")


def measure(table: Path) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows([*sweep(), *runs()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
