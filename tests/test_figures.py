"""The paper's figures from a tidy table, by hand, and from a run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import harness
from harness.cli import main
from harness.errors import RequestError
from reports.figures.budget_curves import budget_figure
from reports.figures.epoch_curves import curve_figure
from reports.figures.flagged import Flagged, flagged_grid, most_like_published
from reports.figures.style import CONTROL_STYLES
from tests.test_paper_tables import cell, frame


def picture(figure: object) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_figure_5_shows_gains_by_budget() -> None:
    data = frame(
        *(
            cell(method, seed, 0.8 + gain * budget, budget=budget, given=f"budget={budget}")
            for method, gain in (("outlier_iforest", 0.3), ("random", -0.1), ("none", 0))
            for seed in (0, 1)
            for budget in (0, 0.05, 0.1)
        )
    )
    extra = [cell("outlier_iforest", 7, 0.9), cell("outlier_l1", 0, 0.9)]  # a seed and a method of one budget
    figure = budget_figure(pd.concat([data, frame(*extra)], ignore_index=True))
    axes = figure.axes[0]
    assert len([each for each in figure.axes if each.lines]) == 1
    curves = {tuple(np.round(each.get_ydata(), 3)): each for each in axes.lines if len(each.get_xdata()) == 3}
    assert set(curves) == {(0, 1.5, 3.0), (0, -0.5, -1.0)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "The outlier_iforest",
        "The random",
        "printed",
    ]
    marks = [each for each in axes.lines if each.get_marker() == "D"]
    assert [tuple(each.get_xydata()[0]) for each in marks] == [(5.0, pytest.approx(83.72 - 82.27))]
    assert picture(figure).std() > 5
    lissa = {"method": "lissa", "method_spec": "lissa", "method_title": "The lissa"}
    small = [
        {**row, **lissa, "task_params": row["task_params"].replace("34", "18")}
        for row in data.to_dict("records")
        if row["method"] == "outlier_iforest"
    ]
    both = budget_figure(pd.concat([data, pd.DataFrame(small)], ignore_index=True))
    assert {t.get_text() for t in both.legends[0].get_texts()} == {
        "The lissa",
        "The outlier_iforest",
        "The random",
        "printed",
    }
    with pytest.raises(RequestError, match="nothing stored belongs to Figure 5"):
        budget_figure(data, set(data["key"]))
    with pytest.raises(RequestError, match="nothing stored belongs to Figure 5"):
        budget_figure(frame(cell("none", 0, 0.8)))


def test_figure_2_shows_labels_above_and_below() -> None:
    images = np.full((2, 8, 8, 3), 200, dtype=np.uint8)
    figure = flagged_grid(
        [Flagged("top", images, ["cat", "dog"], ["cat", "deer"]), Flagged("low", images[:1], ["a_b"], ["c"])]
    )
    shown = [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes if axes.images]
    assert shown == [("cat", "label right"), ("dog", "deer"), ("a b", "c")]
    colours = {axes.get_title(): axes.title.get_color() for axes in figure.axes if axes.images}
    assert colours["dog"] == colours["a b"] != colours["cat"]
    assert picture(figure).std() > 5


def test_tables_and_figures_of_a_run(
    cifar10: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("run") / "out"
    small = "n_train=none,n_test=none,n_validation=4,epochs=1,batch_size=8"
    tasks = f"cifar10n[noise=worst|random,budget=0|0.05|0.1,{small}]"
    harness.run("none,outlier_iforest,outlier_iforest[n_estimators=25],random", tasks, 1, preset="smoke", out=out)
    assert main(["report", str(out), "--table", "2"]) == 0
    text = capsys.readouterr().out
    assert "83.72 ± 0.18" in text
    assert "CIFAR-10N random" in text
    assert main(["report", str(out), "--table", "7"]) == 0
    trees = capsys.readouterr().out
    assert "`[n_estimators=25]`" in trees
    assert "`[n_estimators=100]`" in trees
    for number in ("2", "3", "5"):
        path = out.parent / f"figure{number}.png"
        assert main(["report", str(out), "--figure", number, "--output", str(path)]) == 0
        assert np.asarray(Image.open(path)).std() > 5
    assert main(["report", str(out), "--figure", "5", "--output", str(out.parent / "f.svg")]) == 0
    assert b"<svg" in (out.parent / "f.svg").read_bytes()
    capsys.readouterr()
    for arguments, sentence in (
        (["--figure", "6"], "unknown figure '6'; known: 1, 2, 3, 4, 5, correlation, cost"),
        (["--figure", "4"], "holds no attributions"),
        (["--figure", "5", "--output", str(out.parent / "f.doc")], "has no suffix of a picture"),
        (["--table", "2", "--format", "csv"], "--format csv is the whole tidy table"),
        (["--table", "8"], "nothing stored belongs to Table 8"),
        (["--figure", "2", "--data-dir", str(out)], "cifar10n needs its data"),
    ):
        assert main(["report", str(out), *arguments]) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert len(told.strip().splitlines()) == 1
    assert not (out.parent / "f.doc").exists()


def test_figure_2_is_drawn_from_what_is_most_like_the_paper() -> None:
    def record(**changes: object) -> dict[str, object]:
        usual = {"task": "cifar10n", "task_params": {"budget": 0.05}, "preset": "fast", "protocol": "fair", "seed": 3}
        return {**usual, **changes}

    others = [record(task_params={"budget": 0.1}, preset="full", seed=0), record(preset="smoke", seed=0),
              record(protocol="paper", seed=0), record(seed=4)]  # fmt: skip
    assert most_like_published([*others, record()]) == 4
    assert most_like_published([record(preset="full", seed=9), record()]) == 0


def test_figure_2_refuses_other_data(
    cifar10: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags belong to samples by number, so they are shown on the data of the run or not at all."""
    import torch

    from harness.results.folder import Results
    from harness.results.pictures import flagged_pictures
    from reports.figures.flagged import FLAGGED_BY, most_like_published
    from tasks import _cifar_files as files
    from tasks.cifar import Cifar10N
    from tests.native import official

    out = tmp_path_factory.mktemp("run") / "out"
    small = "n_train=none,n_test=none,n_validation=4,epochs=1,batch_size=8"
    harness.run("outlier_iforest", f"cifar10n[{small}]", 1, preset="smoke", out=out)
    human = files.read_human_labels(cifar10 / "CIFAR-10_human.pt")
    torch.save({**human, "worse_label": human["clean_label"]}, cifar10 / "CIFAR-10_human.pt")
    official(cifar10, Cifar10N, monkeypatch)
    results = Results.read(out)
    with pytest.raises(RequestError, match=r"the data at hand is not what cifar10n.*, seed 0, was run on"):
        flagged_pictures(results, FLAGGED_BY, most_like_published)
    harness.run("outlier_iforest", "digits", 1, preset="smoke", out=out.parent / "digits")
    with pytest.raises(RequestError, match="no flags of outlier_iforest on images"):
        flagged_pictures(Results.read(out.parent / "digits"), FLAGGED_BY, most_like_published)


def curve(task: str, method: str, seed: int, values: list[float], protocol: str = "fair") -> list[dict]:
    """Rows of one cell's accuracy by epoch."""
    first = {
        **cell(method, seed, values[-1])[0],
        "task": task,
        "task_title": task.upper(),
        "task_params": '{"model": "some/small"}',
        "protocol": protocol,
        "metric": "accuracy_by_epoch",
        "key": f"{task}{method}{seed}{protocol}",
    }
    return [{**first, "step": step, "value": value} for step, value in enumerate(values, 1)]


def test_figure_3_has_a_panel_a_task_and_a_line_a_method() -> None:
    methods = {"none": 0.0, "outlier_iforest": 0.1, "datainf[damping=1]": -0.1}
    rows = [
        curve(task, method, seed, [0.5 + gain, 0.6 + gain + 0.02 * seed, 0.7 + gain])
        for task in ("other", "glue_mrpc", "glue_qnli")
        for method, gain in methods.items()
        for seed in (0, 1)
    ]
    data = frame(*rows, curve("glue_qnli", "none", 0, [0.1, 0.2, 0.3], "paper"), cell("none", 0, 0.8))
    figure = curve_figure(data)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["GLUE_QNLI", "GLUE_QNLI", "GLUE_MRPC", "OTHER"]
    assert figure.axes[0].get_title().split("\n")[1] == "small, protocol fair, 2 seeds, 50000 training samples"
    drawn = {tuple(np.round(each.get_ydata(), 6)): each for each in figure.axes[0].lines if len(each.get_xdata()) == 3}
    assert set(drawn) == {(50, 61, 70), (60, 71, 80), (40, 51, 60)}
    assert drawn[50, 61, 70].get_color() == CONTROL_STYLES["none"]["color"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["The datainf [damping=1]", "The none", "The outlier_iforest"]
    assert picture(figure).std() > 5
    gone = set(data["key"][data["metric"] == "accuracy_by_epoch"])
    with pytest.raises(RequestError, match="nothing stored belongs to Figure 3"):
        curve_figure(data, gone)


def test_figure_2_without_true_labels(tmp_path: Path) -> None:
    """Own images of which nobody knows the true labels: what is given, and what the model suggests."""
    from sklearn.datasets import load_digits

    from harness.results.folder import Results
    from harness.results.pictures import flagged_pictures

    digits = load_digits()
    images = np.repeat((digits.images[:200] * 15).astype("uint8")[..., None], 3, 3)
    np.savez(tmp_path / "own.npz", images=images, labels=digits.target[:200])
    harness.run("outlier_iforest", f"arrays[path={tmp_path}/own.npz,epochs=1]", 1, out=tmp_path / "r")

    (row,) = flagged_pictures(Results.read(tmp_path / "r"), "outlier_iforest", most_like_published)

    assert "true labels are not known, below is what the model predicts" in row.title
    assert not row.known
    assert len(row.images) == len(row.given) == len(row.true) == 10
    assert flagged_grid([row]).axes[0].get_title() == row.given[0]


def test_a_method_looks_the_same_in_every_figure() -> None:
    """Whatever is beside it; and all methods of one figure differ in colour or marker."""
    from harness.selection.registry import METHODS
    from reports.figures.style import styles

    names = [name for name in METHODS.classes() if name not in CONTROL_STYLES]
    alone = {name: styles([name])[name] for name in names}
    some = styles(names[::3])
    same = [some[name] == alone[name] for name in names[::3]]
    assert sum(same) >= 0.8 * len(same)
    looks = [(look["color"], look["marker"]) for look in styles(names).values()]
    assert len(set(looks)) == len(looks)
