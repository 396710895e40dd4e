"""What tables show and hide: incomplete rows, bold, ties, one seed, published numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import main
from harness.records.store import Store
from harness.results import folder
from harness.results.table import COLUMNS
from reports.comparison import sections
from reports.markdown import report, tables
from reports.published import published
from reports.table import markdown_table


def frame(cells: dict[tuple[str, int], dict[str, float] | str], task: str = "moons") -> pd.DataFrame:
    """A tidy table from ``{(method, seed): metrics or a failure's text}``."""
    rows = []
    for (method, seed), metrics in cells.items():
        failed = isinstance(metrics, str)
        base = dict.fromkeys(COLUMNS, "") | {
            "key": f"{method}{seed}", "task": task, "task_params": "{}", "method": method, "method_params": "{}",
            "seed": seed, "protocol": "fair", "preset": "fast", "status": "failed" if failed else "ok",
            "error": metrics if failed else "", "score_seconds": 0.5,
            "total_seconds": 0.75, "train_seconds": 1.0, "n_train": 10, "n_noisy": 2,
            "n_flagged": 1, "uses": "labels", "health": '{"largest_tie": 1}', "versions": "{}",
            "task_spec": task, "task_title": task, "method_spec": method, "method_title": method,
            "utc": "2026-01-02T03:04:05+00:00",
        }  # fmt: skip
        for metric, value in {"": None}.items() if failed else metrics.items():
            rows.append({**base, "metric": metric or None, "value": value, "higher_is_better": True})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cell(auroc: float, accuracy: float = 0.9) -> dict[str, float]:
    return {
        "auroc": auroc,
        "detection_accuracy": auroc,
        "precision": auroc,
        "accuracy": accuracy,
        "accuracy_base": 0.88,
    }


def line(text: str, method: str) -> list[str]:
    return [
        part.strip()
        for part in next(row for row in text.splitlines() if row.startswith(f"| {method} ")).split("|")[1:-1]
    ]


SEEDS = range(5)


def noisy(mean: float, seed: int, spread: float = 0.01) -> float:
    """One value per seed around a mean; methods of one seed do not move together."""
    return mean + spread * float(np.random.default_rng([int(1000 * mean), seed]).normal())


def test_best_first_and_bold_where_nothing_worse_is_shown() -> None:
    """a is the best, b cannot be told from a with five seeds, c and d are worse."""
    means = {"c": 0.7, "d": 0.5, "a": 0.9, "b": 0.897}
    text = tables(frame({(name, seed): cell(noisy(mean, seed)) for name, mean in means.items() for seed in SEEDS}))
    rows = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| ")][1:]
    assert [row for row in rows if row in means] in (["a", "b", "c", "d"], ["b", "a", "c", "d"])
    assert [line(text, name)[1].startswith("**") for name in "abcd"] == [True, True, False, False]
    assert "Bold: not shown to be worse than the best one" in text
    two = tables(frame({(name, seed): cell(noisy(mean, seed)) for name, mean in means.items() for seed in (0, 1)}))
    assert "**" not in two
    assert "With fewer than 3 seeds, no value is bold." in two


def test_bold_keeps_its_level() -> None:
    """Among equally good methods, one is called worse than another in at most 5 % of the experiments."""
    from harness.results.statistics import summarise
    from reports.comparison import Row, _best

    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        values = 0.8 + 0.02 * rng.normal(size=(8, 5))
        rows = [
            Row(
                str(k),
                str(k),
                (),
                5,
                {"auroc": summarise(row)},
                None,
                None,
                None,
                "",
                values={"auroc": dict(enumerate(row))},
            )
            for k, row in enumerate(values)
        ]
        wrong += bool(_best(rows, "auroc"))
    assert wrong / 600 < 0.05


def test_incomplete_rows_stay_visible_and_out_of_the_ranking() -> None:
    cells: dict[tuple[str, int], dict[str, float] | str] = {("a", 0): cell(0.99), ("e", 0): cell(0.5)}
    cells |= {("a", seed): "ValueError: no" for seed in (1, 2, 3)} | {("d", seed): "gone" for seed in range(4)}
    cells |= {(name, seed): cell(mean) for name, mean in (("b", 0.7), ("c", 0.6), ("f", 0.4)) for seed in range(4)}
    text = tables(frame(cells))
    assert line(text, "a")[1] == "0.990 (1/4 seeds)"
    assert line(text, "b")[1].startswith("**")
    assert line(text, "d")[1:4] == ["failed"] * 3
    assert "`a`: failed in 3 of 4 seeds: ValueError: no" in text
    assert "`e`: missing in 3 of 4 seeds" in text


def test_nobody_is_bold_when_nobody_is_worse() -> None:
    text = tables(frame({(name, seed): cell(1.0) for name in "abcdef" for seed in SEEDS}))
    assert "**" not in text
    assert "No method is shown to be worse than the best one" in text


def test_what_looks_equal_is_ranked_equal() -> None:
    aurocs = {"a": 0.90001, "b": 0.90002, "c": 0.89999, "d": 0.5, "e": 0.4, "f": 0.3}
    text = tables(frame({(name, seed): cell(value) for name, value in aurocs.items() for seed in SEEDS}))
    assert [line(text, name)[1] for name in "abc"] == ["**0.900 ± 0.000**"] * 3


def test_seeds_of_constant_models_are_shown_apart() -> None:
    data = frame({("a", seed): cell(0.9 - 0.2 * (seed == 1), 0.9) for seed in range(3)})
    data.loc[data["seed"] == 1, "health"] = '{"constant_model": true}'

    text = tables(data)

    both, alive = text.split("only seeds whose model tells classes apart")
    assert "same class in 1 of 3 seeds (1)" in both
    assert line(both, "a")[1] == "**0.833 ± 0.115**" or "0.833" in line(both, "a")[1]
    assert "0.900" in line(alive, "a")[1]
    assert "same class" not in alive


def test_what_is_no_number_is_left_out_and_said() -> None:
    data = frame({("a", seed): cell(0.9, 0.9) for seed in range(3)})
    data.loc[(data["seed"] == 1) & (data["metric"] == "auroc"), "value"] = np.nan

    text = tables(data)

    assert "nan" not in text.lower().replace("finance", "")
    assert "(2/3 seeds)" in line(text, "a")[1]
    assert "auroc is no finite number in 1 of 3 seeds" in text


def test_why_there_is_no_ranking() -> None:
    data = frame({("a", 0): cell(0.9, 0.9)})
    unranked = data[~data["metric"].isin(["auroc", "detection_accuracy", "precision"])]

    assert "no method here flags anything" in tables(unranked)
    assert "no label is wrong" in tables(unranked.assign(n_noisy=0))
    assert "no true labels are known" in tables(unranked.assign(n_noisy=np.nan))


def test_signs_of_nothing() -> None:
    from reports.words import plus

    assert [plus(-0.0001, 3), plus(0.0, 1), plus(-0.05, 1), plus(-0.06, 1)] == ["+0.000", "+0.0", "-0.1", "-0.1"]


def test_gain_is_paired_with_the_untrimmed_model() -> None:
    text = tables(frame({("a", seed): cell(0.9, 0.90) for seed in range(4)}))
    assert line(text, "a")[4] == "+2.0 [+2.0, +2.0]"
    text = tables(frame({("a", 0): cell(0.9, 0.90), ("a", 1): cell(0.9, 0.92)}))
    assert line(text, "a")[4] == "+3.0 [-9.7, +15.7]"
    assert line(tables(frame({("a", 0): cell(0.9, 0.9)})), "a")[4] == "+2.0"


def test_the_caption_gives_the_range_of_detection_accuracy() -> None:
    data = frame({("outlier_iforest", 0): cell(0.9)}).assign(n_train=250, n_noisy=20, n_flagged=25)
    assert "Detection accuracy is 98.0 % at best and 83.6 % by chance." in tables(data)


def test_stale_rows_are_marked_and_not_ranked() -> None:
    means = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}
    data = frame({(name, seed): cell(mean) for name, mean in means.items() for seed in SEEDS})
    text = tables(data, stale={"a0"})
    assert line(text, "a †")[1] == "0.900 ± 0.000"
    assert "† made by other code" in text
    assert sections(data, {"a0"})[0].best["auroc"] == {"b"}


def test_published_numbers() -> None:
    assert str(published("moons", "{}", "outlier_iforest", "detection_accuracy")) == "96.0"
    assert str(published("cifar10n", '{"noise": "worst", "epochs": 3}', "outlier_l1", "accuracy")) == "84.20 ± 0.19"
    assert published("cifar10n", '{"noise": "aggregate"}', "outlier_l1", "accuracy") != published(
        "cifar10n", '{"noise": "worst"}', "outlier_l1", "accuracy"
    )
    assert published("moons", "{}", "datainf[damping=0.1]", "accuracy") is None
    assert published("digits", "{}", "datainf", "accuracy") is None
    assert published("moons", "{}", "datainf", "auroc") is None


def test_damaged_files_head_the_report() -> None:
    text = report(frame({("a", 0): cell(0.9)}), problems=["x.json: torn"], commands=["python -m harness run"])
    assert text.index("x.json: torn") < text.index("## moons")
    assert "python -m harness run" in text
    assert "2026-01-02" in text


def test_cells_of_markdown_tables_are_escaped() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1"]]).splitlines()[2] == r"| x\|y | 1 |"


def test_reports_never_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, reports.markdown, harness.results.table, harness.records.store; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("count", [1, 2])
def test_one_task_has_one_section_a_protocol(count: int) -> None:
    data = frame({("a", 0): cell(0.9)})
    parts = [data.assign(protocol=protocol) for protocol in ("fair", "paper")[:count]]
    found = sections(pd.concat(parts))
    assert [s.protocol for s in found] == ["fair", "paper"][:count]
    assert ("What the protocol alone changes" in tables(pd.concat(parts))) == (count == 2)


@pytest.mark.parametrize("form", ["md", "html", "csv"])
def test_a_report_reads_the_folder_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Every record and every file of scores once (figures of scores: once more), and staleness is found out once."""
    out = str(tmp_path / "out")
    harness.run("none,random,outlier_l2", "moons", 2, preset="smoke", out=out)
    (tmp_path / "out" / "metrics.json").unlink()
    read: Counter[str] = Counter()
    for cls, name in ((Store, "_read"), (Store, "arrays")):
        original = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda *args, of=original, name=name: read.update([name]) or of(*args))
    monkeypatch.setattr(folder, "stale_keys", lambda records: read.update(["stale"]) or set())

    assert main(["report", out, "--format", form]) == 0

    assert read["_read"] == 6
    assert read["arrays"] == (12 if form == "html" else 6)
    assert read["stale"] == (0 if form == "csv" else 1)
