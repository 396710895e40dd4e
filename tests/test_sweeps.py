"""Sweeps: alternatives in a selection, and what their cells share."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.errors import RequestError
from harness.interfaces.params import build
from harness.interfaces.spec import parse_selection
from harness.records.store import Store
from harness.running.services import training
from harness.seeds import derive
from harness.selection.plan import make_plan
from reports.markdown import tables
from tasks.synthetic import Moons
from tests.conftest import trained_view


def test_alternatives_stand_for_several_terms() -> None:
    terms = parse_selection("a[x=1|2,y=u|v],b[z=3],c")
    assert [(t.pattern, t.params) for t in terms] == [
        ("a", {"x": "1", "y": "u"}),
        ("a", {"x": "1", "y": "v"}),
        ("a", {"x": "2", "y": "u"}),
        ("a", {"x": "2", "y": "v"}),
        ("b", {"z": "3"}),
        ("c", {}),
    ]
    with pytest.raises(RequestError, match=r"'x=1\|' has an empty alternative; write x=value\|value"):
        parse_selection("a[x=1|]")


def test_a_budget_sweep_trains_and_scores_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One base model, one scoring per method, one retraining per distinct kept set; results as without the sweep."""
    kept: list[list[int | None]] = []
    real = Moons.train_all

    def counted(self, wanted):  # type: ignore[no-untyped-def]
        kept.append([None if keep is None else int(keep.sum()) for _, keeps, _ in wanted for keep in keeps])
        return real(self, wanted)

    scored: list[float] = []
    norm = harness.Gradients.norm

    def noted(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        scored.append(args[0])
        return norm(self, *args, **kwargs)

    bases: list[object] = []
    train = Moons.train
    monkeypatch.setattr(Moons, "train", lambda self, *args: bases.append(args[1]) or train(self, *args))
    monkeypatch.setattr(Moons, "train_all", counted)
    monkeypatch.setattr(harness.Gradients, "norm", noted)
    methods, sweep = "none,outlier_l1,outlier_l2,random", "moons[budget=0|0.04|0.1]"
    frame = harness.run(methods, sweep, 1, preset="smoke", out=tmp_path / "sweep")
    assert set(frame["status"]) == {"ok"}, set(frame["error"])
    assert frame["key"].nunique() == 12
    assert bases == [None]
    assert sorted(scored) == [1, 2]
    assert kept[0] == [None]
    assert len(kept) == 2
    assert sorted(kept[1]) == 3 * [225] + 3 * [240]  # three methods, two budgets above none
    monkeypatch.undo()
    for budget in (0, 0.04, 0.1):
        alone = harness.run(methods, f"moons[budget={budget}]", 1, preset="smoke", out=tmp_path / f"alone{budget}")
        here = frame[frame["task_params"].isin(alone["task_params"])]
        both = here.merge(alone, on=["slot", "metric"], suffixes=("", "_alone"))
        assert len(both) == len(alone) == len(here)
        np.testing.assert_array_equal(both["value"], both["value_alone"])
    nothing = frame[(frame["n_flagged"] == 0) & (frame["metric"] == "accuracy_gain")]
    assert (nothing["value"] == 0).all()


def test_detection_without_retraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same flags and detection for the price of the base model; what was not measured is not there."""
    whole = harness.run("none,outlier_l1,random", "moons", 2, preset="smoke", out=tmp_path / "whole")
    trained: list[int] = []
    real = Moons.train_all
    monkeypatch.setattr(
        Moons, "train_all", lambda self, wanted: trained.append(sum(len(k) for _, k, _ in wanted)) or real(self, wanted)
    )
    frame = harness.run("none,outlier_l1,random", "moons[retrain=no]", 2, preset="smoke", out=tmp_path / "out")
    assert set(frame["status"]) == {"ok"}
    assert trained == [2]
    both = whole.merge(frame, on=["method", "seed", "metric"], how="left", suffixes=("", "_detection"))
    after = both["metric"].isin(["accuracy", "accuracy_gain"])
    assert both.loc[after, "value_detection"].isna().all()
    np.testing.assert_array_equal(both.loc[~after, "value"], both.loc[~after, "value_detection"])
    assert {"accuracy_base", "precision", "auroc"} <= set(both.loc[~after, "metric"])
    assert "20 with a wrong label; 25 flagged; untrimmed" in tables(frame)


def test_an_option_at_its_default_is_no_part_of_a_cell() -> None:
    """Results and baselines from before there was such a parameter keep their place."""
    plain, chosen, other = (make_plan("none", task, [0], "fair", "smoke")[0]
                            for task in ("moons", "moons[retrain=yes]", "moons[retrain=no]"))  # fmt: skip
    assert plain.slot == chosen.slot != other.slot
    assert "retrain" not in plain.identity["task_params"]
    assert other.identity["task_params"]["retrain"] is False
    for cell in (plain, other):
        assert build(type(cell.task), cell.identity["task_params"]) == cell.task


def test_cells_with_and_without_retraining_share_the_rest(tmp_path: Path) -> None:
    frame = harness.run("outlier_l1", "moons[retrain=yes|no]", 1, preset="smoke", out=tmp_path / "out")
    values = frame.groupby("metric")["value"]
    assert values.count().loc[["auroc", "accuracy_base", "accuracy"]].tolist() == [2, 2, 1]
    assert values.nunique().loc[["auroc", "accuracy_base"]].tolist() == [1, 1]


def test_flags_of_a_sweep_are_nested(tmp_path: Path) -> None:
    """Ties included: a larger budget flags what a smaller one did, and more."""
    harness.run("outlier_l1,random", "moons[budget=0.02|0.1|0.3]", 1, preset="smoke", out=tmp_path / "out")
    by_method: dict[str, list[np.ndarray]] = {}
    for record, arrays in Store(tmp_path / "out").records():
        by_method.setdefault(record.method, []).append(arrays["flagged"])
    for masks in by_method.values():
        masks.sort(key=np.sum)
        assert [int(mask.sum()) for mask in masks] == [5, 25, 75]
        assert all((small <= large).all() for small, large in pairwise(masks))


def test_a_method_that_fails_fails_at_every_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.leave_one_out.MOST_SAMPLES", 10)
    frame = harness.run("leave_one_out,outlier_l1", "moons[budget=0.02|0.1]", 1, preset="smoke", out=tmp_path / "out")
    statuses = frame.drop_duplicates("key").groupby("method")["status"].apply(list).to_dict()
    assert statuses == {"leave_one_out": ["skipped", "skipped"], "outlier_l1": ["ok", "ok"]}


def test_reported_epoch_is_decided_after_training(tmp_path: Path) -> None:
    """Cells that differ in what is reported alone share every model, and report differently."""
    from harness.selection.plan import group, make_plan

    cells = make_plan("none", "cifar10n[report=last_epoch|best_epoch,budget=0|0.05]", [0, 1], "fair", "smoke")
    assert [len(members.cells) for members in group(cells)] == [4, 4]
    other = make_plan("none", "cifar10n[report=last_epoch],cifar10n[shuffle_base=no]", [0], "fair", "smoke")
    assert [len(members.cells) for members in group(other)] == [1, 1]


def test_suspects_are_relabelled_or_removed(tmp_path: Path) -> None:
    """Both from one base model and one scoring; relabelled is a training on all samples with other labels."""
    out = tmp_path / "out"
    frame = harness.run("self_confidence,none", "blobs[repair=remove|relabel]", 1, preset="smoke", out=out)

    gains = frame[frame["metric"] == "accuracy"].set_index(["task_spec", "method"])["value"]
    task = harness.task("blobs", preset="smoke")
    split, _ = task.load(derive("data", "blobs", 0))
    seed = derive("model", "blobs", 0)
    offered = training(task, split, seed, derive("folds", "blobs", 0))
    assert offered.out_of_sample is not None
    predicted = offered.out_of_sample().argmax(1)
    (flagged,) = (
        arrays["flagged"]
        for record, arrays in Store(out).records()
        if record.method == "self_confidence" and record.task_params.get("repair") == "relabel"
    )
    labels = torch.from_numpy(np.where(flagged, predicted, split.train.labels.numpy()))
    other = replace(split, train=replace(split.train, labels=labels))
    expected = task.evaluate(task.train(other, None, seed), split)["accuracy"]
    assert gains["blobs[repair=relabel]", "self_confidence"] == expected
    assert gains["blobs[repair=relabel]", "none"] == gains["blobs", "none"]
    scores = frame[frame["metric"] == "auroc"].groupby("method")["value"].nunique()
    assert set(scores) == {1}
    seconds = frame.drop_duplicates("key").set_index(["task_spec", "method"])["retrain_seconds"]
    assert seconds["blobs[repair=relabel]", "self_confidence"] > 0
    costs = frame.drop_duplicates("key").set_index(["task_spec", "method"])["cost"].map(json.loads)
    assert costs["blobs[repair=relabel]", "self_confidence"]["repair"] > 0
    assert costs["blobs", "self_confidence"]["repair"] == 0


def test_the_oracle_removes_what_is_wrong(tmp_path: Path) -> None:
    """Below the share of wrong labels it removes wrong ones alone, beyond it all of them; its uses say what it saw."""
    frame = harness.run("oracle,random", "blobs[budget=0.04|0.2]", 2, preset="smoke", out=tmp_path / "out")

    values = frame.pivot_table(index=["method", "task_spec"], columns="metric", values="value")
    assert values.loc[("oracle", "blobs[budget=0.04]"), "precision"] == 1
    assert values.loc[("oracle", "blobs[budget=0.2]"), "recall"] == 1
    assert values.loc["oracle", "auroc"].tolist() == [1, 1]
    assert set(frame[frame["method"] == "oracle"]["uses"]) == {"true labels"}


def test_no_view_tells_the_oracle() -> None:
    with pytest.raises(harness.Unsupported, match="told which labels are wrong"):
        harness.method("oracle").score(trained_view("blobs")[2])
