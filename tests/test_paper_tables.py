"""The paper's tables and figures from a tidy table, by hand, and from a run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.errors import RequestError
from harness.results.table import COLUMNS
from harness.selection.names import method_spec, task_spec
from reports.comparison import sections
from reports.markdown import tables
from reports.paper_tables import paper_table
from reports.published import published
from reports.variants import differences, variants

FULL = {"model": "resnet34", "epochs": 100, "budget": 0.05, "noise": "worst"}


def cell(method: str, seed: int, accuracy: float, given: str = "", base: float = 0.8, **params: object) -> list[dict]:
    """Rows of one CIFAR-10N cell; ``given`` is what the user wrote in the task's brackets."""
    values = {**FULL, **params}
    name, _, inside = method.partition("[")
    trees = int(inside.rstrip("]").partition("=")[2] or 100)
    common = dict.fromkeys(COLUMNS, "") | {
        "key": f"{method}{seed}{values}", "slot": f"{method}{seed}{values}", "task": "cifar10n",
        "task_params": json.dumps(values, sort_keys=True), "method": name, "seed": seed, "protocol": "fair",
        "method_params": json.dumps({"n_estimators": trees}), "preset": "full", "status": "ok",
        "score_seconds": 0.2 + seed, "total_seconds": 1.2 + seed,
        "train_seconds": 1.0, "n_train": 50000, "n_noisy": 20000,
        "n_flagged": 0 if method == "none" else 2500,
        "health": '{"largest_tie": 1}', "task_spec": f"cifar10n[{given}]" if given else "cifar10n",
        "task_title": "CIFAR-10N", "method_spec": method, "method_title": f"The {name}", "device_name": "A GPU",
    }  # fmt: skip
    metrics = {"accuracy": accuracy, "accuracy_base": base, "accuracy_gain": accuracy - base}
    if method != "none":
        metrics |= {"auroc": 0.7 + seed / 100, "precision": 0.9}
    return [{**common, "metric": metric, "value": value} for metric, value in metrics.items()]


def frame(*cells: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row for rows in cells for row in rows], columns=list(COLUMNS))


def line(text: str, start: str) -> list[str]:
    return [part.strip() for part in next(r for r in text.splitlines() if r.startswith(f"| {start}")).split("|")[1:-1]]


def test_table_2_has_measured_and_printed_numbers() -> None:
    data = frame(
        cell("none", 0, 0.80),
        cell("none", 1, 0.82),
        cell("outlier_l1", 0, 0.84),
        cell("outlier_l1", 1, 0.86),
        cell("outlier_l1", 0, 0.9, noise="aggregate"),
        cell("outlier_l1", 0, 0.11, budget=0.1, given="budget=0.1"),
        cell("outlier_l1[x=1]", 0, 0.1),
        cell("outlier_l1", 0, 0.12, model="resnet18", given="model=resnet18"),
    )
    text = paper_table(data, "2")
    assert line(text, "The none") == ["The none", "—", "90.87 ± 0.23", "81.00 ± 1.41", "82.27 ± 0.37"]
    assert line(text, "The outlier_l1") == ["The outlier_l1", "90.00", "91.86 ± 0.14", "85.00 ± 1.41", "84.20 ± 0.19"]
    assert "11.0" not in text
    assert "12.0" not in text
    assert line(text, "The outlier_l1 `[x=1]` ‡")[1:] == ["—", "—", "10.00 (1/2 seeds)", "—"]
    assert "‡ Not a row of the paper's table." in text
    assert "model resnet34, epochs 100; 50000 training samples; seeds 0, 1; A GPU" in text
    assert "90.0 ± 0.0" in text  # precision
    assert "0.705 ± 0.007" in text  # AUROC
    assert text.count("## Protocol") == 1


def test_table_3_has_deviations_over_test_samples_and_says_which_seeds_are_missing() -> None:
    def attributed(method: str, seed: int, auc: float, spread: float) -> list[dict]:
        rows = cell(method, seed, 0.5)[:2]
        about = {"task": "prompts_math", "task_spec": "prompts_math", "task_title": "Math"}
        about["task_params"] = '{"budget": 0.0}'
        metrics = {"class_detection_auc": auc, "class_detection_auc_std": spread}
        return [{**row, **about, "metric": m, "value": v} for row, (m, v) in zip(rows, metrics.items(), strict=True)]

    text = paper_table(
        frame(
            attributed("random", 0, 0.5, 0.02),
            attributed("random", 1, 0.52, 0.04),
            attributed("datainf", 1, 0.9, 0.1),
        ),
        "3",
    )
    assert "0.510 ± 0.030" in line(text, "The random")
    assert "0.900 ± 0.100 (1/2 seeds)" in line(text, "The datainf")
    assert "0.999 ± 0.005" in line(text, "The datainf")  # printed


def test_other_tables() -> None:
    data = frame(
        cell("datainf", 0, 0.8),
        cell("datainf", 1, 0.8),
        cell("outlier_iforest", 0, 0.83),
        cell("outlier_iforest[n_estimators=50]", 0, 0.84),
        cell("outlier_iforest", 0, 0.7, model="resnet18", given="model=resnet18"),
    )
    seconds = paper_table(data, "5")
    assert line(seconds, "The datainf") == ["The datainf", "0.7", "4.01", "—", "1.7"]
    data = pd.concat([data, frame(cell("outlier_iforest[n_estimators=60]", 0, 0.845))])
    trees = paper_table(data, "7")
    rows = [row for row in trees.splitlines() if row.startswith("| The outlier_iforest")]
    assert [row.split("n_estimators=")[1].split("]")[0] for row in rows[:3]] == ["50", "60", "100"]
    assert "‡" not in trees
    assert line(trees, "The outlier_iforest `[n_estimators=50]`")[1:] == ["84.00", "84.38"]
    assert line(trees, "The outlier_iforest `[n_estimators=100]`")[1:] == ["83.00", "83.72"]
    assert line(paper_table(data, "9"), "The outlier_iforest")[1:] == ["70.00", "83.08 ± 0.26"]
    with pytest.raises(RequestError, match=r"nothing stored belongs to Table 8; .*run --tasks imagenet_subset"):
        paper_table(data, "8")
    with pytest.raises(
        RequestError, match=r"there is no Table 10 here.*; there is: 1, 2, 3, 4, 5, 6, 7, 8, 9, figure3"
    ):
        paper_table(data, "10")


def test_missing_seeds_are_told() -> None:
    data = frame(*(cell("none", seed, 0.8) for seed in range(3)), cell("outlier_l1", 2, 0.9))
    text = paper_table(data, "2")
    assert line(text, "The outlier_l1")[1] == "90.00 (1/3 seeds)"
    assert line(text, "The none")[1] == "80.00 ± 0.00"


def test_seconds_of_several_machines_stay_apart() -> None:
    data = frame(cell("datainf", 0, 0.8), [{**row, "device_name": "A CPU"} for row in cell("datainf", 1, 0.8)])
    text = paper_table(data, "5")
    assert line(text.split("## Protocol fair, preset full, A CPU")[1], "The datainf")[1] == "1.2"
    assert line(text.split("## Protocol fair, preset full, A GPU")[1], "The datainf")[1] == "0.2"


def test_other_label_sets_fill_no_table() -> None:
    with pytest.raises(RequestError, match="nothing stored belongs to Table 2"):
        paper_table(frame(cell("outlier_l1", 0, 0.8, noise="clean", given="noise=clean")), "2")


def test_specs_say_what_differs_however_it_was_asked_for(tmp_path: Path) -> None:
    """Also what a former default was: such cells are another setup."""
    asked = "outlier_iforest[n_estimators=100],lissa[iterations=2000],lissa[tolerance=0.5]"
    harness.run(asked, "moons[budget=0.1,spread=0.2]", 1, preset="smoke", out=tmp_path / "out")
    data = harness.load_results(tmp_path / "out")
    assert set(data["method_spec"]) == {"outlier_iforest", "lissa", "lissa[tolerance=0.5]"}
    assert set(data["task_spec"]) == {"moons[spread=0.2]"}
    former = {"budget": 0.1, "momentum": 0.5, "spread": 0.1}
    assert task_spec("moons", former, "fair", "smoke") == "moons[momentum=0.5]"
    assert method_spec("my", {}, "fair", "moons") is None  # not known here


def test_setups_stay_apart() -> None:
    data = frame(
        cell("none", 0, 0.8),
        cell("none", 0, 0.7, shuffle_base=False, given="shuffle_base=False"),
        [{**row, "protocol": "paper"} for row in cell("none", 0, 0.6)],
    )
    text = paper_table(data, "4")
    assert text.count("## Protocol") == 3
    for setup, value in (
        ("fair, preset full", 80),
        ("fair, preset full, shuffle_base=False", 70),
        ("paper, preset", 60),
    ):
        part = text.split(f"## Protocol {setup}")[1]
        assert line(part, "The none")[1] == f"{value}.00"


def test_stale_results_are_told() -> None:
    data = frame(cell("none", 0, 0.8))
    assert "other code" in paper_table(data, "2", {data["key"].iloc[0]})
    assert "other code" not in paper_table(data, "2", {"another"})


def test_printed_numbers_stand_beside_the_same_budget_and_network_only() -> None:
    def number(**params: object) -> str:
        return str(published("cifar10n", json.dumps({**FULL, **params}), "outlier_iforest", "accuracy"))

    assert number() == "83.72 ± 0.18"
    assert number(budget=0.1) == "None"
    assert number(model="resnet18") == "83.08 ± 0.26"
    assert str(published("imagenet_subset", '{"flip": 0.4, "budget": 0.05}', "none", "accuracy")) == "49.15"
    assert published("imagenet_subset", '{"flip": 0.2, "budget": 0.05}', "none", "accuracy") is None
    assert str(published("cifar100n", '{"noise": "noisy100"}', "none", "accuracy")) == "57.36 ± 0.43"


def test_what_one_parameter_alone_changes() -> None:
    """Paired by seed, as a mean over the methods that trim; budgets and label sets are no variants."""
    data = frame(
        *(cell("none", seed, 0.80, shuffle_base=True) for seed in (0, 1)),
        *(cell("outlier_l1", seed, 0.82, shuffle_base=True) for seed in (0, 1)),
        *(cell("random", seed, 0.80, shuffle_base=True) for seed in (0, 1)),
        *(
            cell(method, seed, value, base=0.7 + seed / 10, shuffle_base=False, given="shuffle_base=no")
            for seed in (0, 1)
            for method, value in (("none", 0.75), ("outlier_l1", 0.85), ("random", 0.83))
        ),
        *(cell("outlier_l1", seed, 0.82, shuffle_base=True, budget=0.1, given="budget=0.1") for seed in (0, 1)),
        cell("outlier_l1", 0, 0.82, shuffle_base=True, noise="random", given="noise=random"),
    )
    found = variants(sections(data))
    assert [(base.spec, [what for what, _ in changed]) for base, changed in found] == [
        ("cifar10n", ["shuffle_base=False"])
    ]
    values = differences(data, found[0][0], found[0][1][0][1])
    assert values["accuracy_base"].mean == pytest.approx(-0.05)
    assert values["accuracy"].mean == pytest.approx(0.03)
    assert values["accuracy_gain"].mean == pytest.approx(0.08)
    text = tables(data)
    changed = ["-5.0 [-68.5, +58.5]", "+8.0 [-55.5, +71.5]", "+0.000", "none"]
    assert line(text, "`shuffle_base=False`") == ["`shuffle_base=False`", *changed]


def test_other_data_have_no_printed_numbers_beside_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = harness.run("self_confidence", "moons,moons[spread=0.2]", 1, preset="smoke", protocol="paper", out=out)
    usual, other = paper_table(data, "1").split("## Protocol ")[1:]
    assert "printed" in usual
    assert "spread=0.2" in other
    assert "| printed" not in other
    assert "The data are not the paper's" in other
    usual, other = tables(data).split("## Half moons: ")[1:]
    assert "Printed: detection accuracy" in usual
    assert "Printed:" not in other
