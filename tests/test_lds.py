"""Attributions against retraining: the score, its truth, and models without the most helpful samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
from scipy.stats import spearmanr

import harness
import harness.running.subset_losses
from harness.interfaces.lds_task import LdsTask
from harness.records.store import Store
from harness.results.lds import lds
from harness.running.base_models import model_seed
from harness.running.subset_losses import _computed
from harness.running.trimming import flagged, tie_seed
from harness.seeds import derive
from harness.testing import check_all
from reports.figures.cost import cost_figure
from tasks.synthetic import Blobs
from tests.command_line import call
from tests.conftest import plug_in
from tests.runs import run

FEW = "lds_blobs[subsets=30,repeats=2,asked=8,probed=3]"


def arrays(out: Path, **wanted: Any) -> list[dict[str, np.ndarray]]:
    return [
        dict(arrays)
        for record, arrays in Store(out).records()
        if all(getattr(record, name) == value for name, value in wanted.items())
    ]


@pytest.fixture
def problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Harms (5, 20), subsets (40, 20), and losses (4, 40, 5) that they explain in part."""
    harms = rng.integers(-12, 12, (5, 20)) / 8  # with ties, and sums without rounding
    subsets = rng.random((40, 20)) < 0.5
    losses = subsets @ harms.T + rng.standard_normal((4, 40, 5))
    return harms, subsets, losses


def test_by_hand(problem: Any) -> None:
    harms, subsets, losses = problem
    by_sample = [
        spearmanr([harms[z][subset].sum() for subset in subsets], losses.mean(0)[:, z]).statistic for z in range(5)
    ]
    halves = [spearmanr(losses[:2].mean(0)[:, z], losses[2:].mean(0)[:, z]).statistic for z in range(5)]

    found = lds(harms, subsets, losses)

    assert found["lds"] == pytest.approx(np.mean(by_sample), abs=1e-12)
    assert found["lds_ceiling"] == pytest.approx(np.mean(halves), abs=1e-12)
    assert lds(-harms, subsets, losses)["lds"] == pytest.approx(-found["lds"], abs=1e-12)
    assert lds(harms, subsets, (subsets @ harms.T)[None]) == {"lds": pytest.approx(1.0)}  # one repeat: no ceiling


def test_agrees_with_dattri(problem: Any) -> None:
    metrics = pytest.importorskip("dattri.metric")
    import torch

    harms, _, _ = problem
    rng = np.random.default_rng(0)
    indices = np.stack([rng.permutation(20)[:10] for _ in range(40)])
    subsets = np.zeros((40, 20), dtype=bool)
    np.put_along_axis(subsets, indices, True, axis=1)
    losses = subsets @ harms.T + rng.standard_normal((40, 5))
    truth = torch.from_numpy(losses), torch.from_numpy(indices)
    theirs, _ = metrics.lds(torch.from_numpy(harms.T.copy()), truth)
    assert lds(harms, subsets, losses[None])["lds"] == pytest.approx(float(theirs.mean()), abs=1e-12)


def test_what_says_nothing_counts_as_zero(problem: Any) -> None:
    harms, subsets, losses = problem
    assert lds(np.ones_like(harms), np.ones_like(subsets), losses)["lds"] == 0
    odd = np.where(np.arange(20) == 3, np.nan, harms)
    assert lds(odd, subsets, losses)["lds"] == lds(np.nan_to_num(odd), subsets, losses)["lds"]
    assert lds(harms, subsets, np.zeros_like(losses)) == {"lds": 0, "lds_ceiling": 0}


def test_a_convex_model(tmp_path: Path) -> None:
    """Exact influence is nearly what retraining gives; random attributions are not; every sign is right."""
    good = "leave_one_out,lissa,ekfac_influence,trak,trak[n_models=5],datamodels,datamodels[penalty=l1]"
    weaker = (
        "datainf,gradient_tracing,gradient_tracing[similarity=cosine],tracin_cp,representer,representation_similarity"
    )
    frame = harness.run(f"random,exact_hessian[damping=0.01],{good},{weaker}", "lds_blobs[probed=0]", 3, out=tmp_path)
    scores = frame[frame["metric"] == "lds"].groupby("method_spec")["value"]
    ceiling = frame[frame["metric"] == "lds_ceiling"]["value"]

    assert set(frame["status"]) == {"ok"}
    np.testing.assert_allclose(ceiling, 1, atol=0.005)  # float32 orders nearly equal losses
    assert scores.min()["exact_hessian[damping=0.01]"] > 0.95 * ceiling.max()
    assert abs(scores.mean()["random"]) < 0.05
    assert scores.mean()[good.split(",")].min() > 0.8
    assert scores.mean()[[name for name in scores.groups if name.split("[")[0] in weaker]].min() > 0.4


def test_the_truth_is_retraining(tmp_path: Path) -> None:
    """Each stored loss is that of one model, trained by itself; so is each flip."""
    frame = run(tmp_path, "gradient_tracing", FEW.replace("blobs", "moons"))
    ((record, stored),) = [(record, arrays) for record, arrays in Store(tmp_path).records()]
    task = harness.task(FEW.replace("blobs", "moons"), preset="smoke")
    split, _ = task.load(derive("data", task.name, 0))
    asked, labels = split.references["test"], split.references["test"].labels.numpy()

    assert stored["losses"].shape == (2, 30, 8)
    assert (stored["subsets"].sum(1) == 125).all()
    for repeat, i in ((0, 3), (1, 29)):
        model = task.train(split, stored["subsets"][i], derive("subset models", task.name, 0, repeat))
        np.testing.assert_allclose(
            stored["losses"][repeat, i], task.outputs(model, asked).losses(), rtol=1e-4, atol=1e-5
        )

    seed = model_seed(task, 0)
    base = task.outputs(task.train(split, None, seed), asked)
    flips, rises = [], []
    for z in np.flatnonzero(base.class_probs().argmax(1) == labels)[:3]:
        removed = flagged(-stored["attribution"][z], task.budget, tie_seed(task.name, "gradient_tracing", 0))
        assert removed.sum() == 25
        after = task.outputs(task.train(split, ~removed, seed), asked)
        flips.append(after.class_probs().argmax(1)[z] != labels[z])
        rises.append(after.losses()[z] - base.losses()[z])
    values = frame.set_index("metric")["value"]
    assert values["flips"] == pytest.approx(np.mean(flips))
    assert values["loss_rise"] == pytest.approx(np.mean(rises), rel=1e-3, abs=1e-5)
    assert record.retrain_seconds


def test_the_truth_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later runs train no model again; another cache and two workers give the same numbers; damage is computed anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    run(tmp_path / "first", "random", FEW, 2)
    with mock.patch.object(harness.running.subset_losses, "_computed", side_effect=AssertionError("trained again")):
        frame = run(tmp_path / "later", "gradient_tracing", FEW, 2)
    assert set(frame["status"]) == {"ok"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    run(tmp_path / "workers", "random", FEW, 2, jobs=2, isolate=True)
    kept = sorted((tmp_path / "two" / "influence-harness" / "subset_losses").glob("*.npz"))
    assert len(kept) == 2 * 2  # seeds and repeats
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    run(tmp_path / "mended", "random", FEW, 2)

    first = {record.seed: arrays["losses"] for record, arrays in Store(tmp_path / "first").records()}
    for name in ("later", "workers", "mended"):
        for record, stored in Store(tmp_path / name).records():
            np.testing.assert_array_equal(stored["losses"], first[record.seed])
    assert not np.array_equal(first[0], first[1])
    with mock.patch.object(harness.running.subset_losses, "_computed", wraps=_computed) as computed:
        run(tmp_path / "more", "random", FEW.replace("repeats=2", "repeats=3"), 2)
    assert computed.call_count == 2  # the third repeat of two seeds


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert set(run(tmp_path / "out", "random", FEW)["status"]) == {"ok"}


@dataclass(frozen=True)
class Mine(LdsTask, Blobs):
    """Blobs of my own."""

    name: ClassVar[str] = "lds_mine"

    steps: int = 100
    asked: int = 4
    subsets: int = 5


def test_ones_own_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    harness.register_task(Mine)
    assert not [outcome for outcome in check_all(Mine()) if outcome.bad]
    frame = run(tmp_path, "random", "lds_mine")
    assert {"lds", "lds_ceiling", "flips", "class_detection_auc"} <= set(frame["metric"])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("lds_blobs[kept=1]", "kept=1"),
        ("lds_blobs[subsets=2]", "subsets"),
        ("lds_blobs[repair=relabel]", "repair=relabel"),
    ],
)
def test_wrong_parameters(spec: str, told: str) -> None:
    with pytest.raises(harness.RequestError, match=told):
        harness.task(spec)


def test_more_test_samples_than_there_are(tmp_path: Path) -> None:
    frame = run(tmp_path, "random", "lds_blobs[asked=500,subsets=3]")
    assert frame["status"].tolist() == ["failed"]
    assert "asked=500" in frame["error"][0]


def test_reports(tmp_path: Path) -> None:
    """The table has a column per task, whatever the budgets; flips have one per budget; the figure has a ceiling."""
    out = tmp_path / "out"
    task = "lds_moons[budget=0.1|0.3,subsets=10,repeats=2,asked=6,probed=3]"
    frame = run(out, "random,gradient_tracing,exact_hessian,outlier_l2", task, 2)
    table = str(harness.report(out, table="attribution"))
    lines = {line.split("|")[1].strip(" `*"): line for line in table.splitlines() if line.startswith("|")}
    values = frame[(frame["metric"] == "lds") & (frame["method"] == "exact_hessian")].drop_duplicates("seed")["value"]
    first, second = table.split("Flips, %")[0].split("\n\n| Method")[1:]

    assert first.splitlines()[0].count("lds_moons[") == 1
    assert second.splitlines()[0].count("lds_moons[") == 2
    assert ", 10 % |" in second.splitlines()[0]
    assert ", 30 % |" in second.splitlines()[0]
    assert f"{values.mean():.3f} ± {12.706 * values.std() / 2**0.5:.3f}" in first
    assert "outlier_l2" not in lines
    whole = str(harness.report(out))
    assert "LDS ceiling" in whole
    assert "checked against 10 × 2 models on 50 % of the samples" in whole
    assert "Flips without the most helpful %" in whole
    axes = cost_figure(harness.load_results(out)).axes[0]
    assert axes.get_ylabel() == "LDS"
    assert "ceiling of LDS" in [line.get_label() for line in axes.lines]
    run(tmp_path / "other", "random")
    with pytest.raises(harness.RequestError, match="checked against retraining"):
        harness.report(tmp_path / "other", table="attribution")


def test_what_other_commands_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Influential samples without texts have positions and classes; `--baseline` and the gate know LDS."""
    out = tmp_path / "out"
    run(out, "random,exact_hessian", FEW, 3)
    of = ("influential", str(out), "--task", "lds_blobs", "--method", "exact_hessian", "--top", "2", "--test")
    told = call(capsys, *of, "2")[1]
    assert told.splitlines()[0].startswith("Test sample 2, class ")
    assert "The 2 most influential training samples:" in told
    assert ", influence 0." in told
    assert "Difference of LDS" in call(capsys, "report", str(out), "--baseline", "random")[1]
    assert "--test 8 is not there; test samples are numbered 0 to 7" in call(capsys, *of, "8")[2]
    compared = harness.compare(str(out), str(out)).frame
    assert set(compared.loc[compared["metric"] == "lds", "verdict"]) == {"same"}


def test_real_images_and_texts(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small network on CIFAR-10, and adapters on SST-2: every layer's gradients, a ceiling, and texts."""
    images = "lds_cifar[subsets=4,asked=5,probed=1,epochs=2]"
    texts = "lds_glue[subsets=3,repeats=1,asked=4,probed=1,n_train=40,epochs=1]"
    methods = (
        "gradient_tracing[layers=last|all],exact_hessian[damping=penalty],representation_similarity,trak[layers=all]"
    )
    frame = run(tmp_path, methods, f"{images},{texts}", data_dir=data_dir)
    ok = frame[frame["status"] == "ok"]
    assert set(frame["status"]) == {"ok", "skipped"}
    assert ok[ok["metric"] == "lds"].groupby("task").size().to_dict() == {"lds_cifar": 5, "lds_glue": 4}
    assert "names no L2 penalty" in frame.loc[frame["status"] == "skipped", "error"].item()
    one, other = (
        ok[(ok["method_spec"] == f"gradient_tracing{which}") & (ok["metric"] == "lds")].set_index("task")["value"]
        for which in ("", "[layers=last]")
    )
    assert one["lds_cifar"] != other["lds_cifar"]
    _, told, _ = call(
        capsys,
        *("influential", str(tmp_path), "--task", "lds_glue", "--method", "trak[layers=all]", "--test", "3"),
        *("--data-dir", str(data_dir)),
    )
    assert told.count("    ") > 5
