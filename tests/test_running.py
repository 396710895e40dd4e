"""Plan, runner and store: sharing, resuming, failing, time limits, interruption, damage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.records.store import Store
from harness.selection.registry import TASKS
from tests.runs import run, scores


def test_the_same_command_twice_computes_once_and_scores_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "a", "all,-leave_one_out", "moons,blobs", 2)
    other = run(tmp_path / "b", "all,-leave_one_out", "moons,blobs", 2)
    for key, values in scores(tmp_path / "a").items():
        np.testing.assert_array_equal(values, scores(tmp_path / "b")[key])
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(first[values], other[values])
    monkeypatch.setattr("harness.running.group.run_group", lambda *_: pytest.fail("something ran again"))
    again = run(tmp_path / "a", "all,-leave_one_out", "moons,blobs", 2)
    pd.testing.assert_frame_equal(first, again)


def test_methods_of_a_seed_share_one_base_model_and_equal_kept_sets_one_retraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    cls = TASKS.get("moons")
    original = cls.train_all

    def counted(self, wanted):
        trained.append(sum(len(keeps) for _, keeps, _ in wanted))
        return original(self, wanted)

    monkeypatch.setattr(cls, "train_all", counted)
    # normalised margin and self-confidence order two classes alike, so they keep the same samples
    frame = run(tmp_path, "none,normalized_margin,self_confidence,outlier_l2,self_lissa")
    assert trained[0] == 1
    assert len(trained) == 2
    assert trained[1] < 4
    flags = {record.method: arrays["flagged"].tobytes() for record, arrays in Store(tmp_path).records()}
    assert trained[1] == len({mask for name, mask in flags.items() if name != "none"})
    assert frame.query("metric == 'accuracy_base'")["value"].nunique() == 1


def test_what_is_paired_is_paired(tmp_path: Path) -> None:
    """Another selection of methods, in another order, gives each method the same scores and accuracy."""
    together = run(tmp_path / "a", "all,-leave_one_out").set_index(["method", "metric"])["value"]
    for name in ("outlier_iforest", "random", "lissa"):
        alone = run(tmp_path / name, name).set_index(["method", "metric"])["value"]
        pd.testing.assert_series_equal(alone, together.loc[alone.index])


def test_records_say_how_they_came_about(tmp_path: Path) -> None:
    frame = run(tmp_path, "lissa")
    row = frame.iloc[0]
    assert (row["n_train"], row["n_flagged"], row["n_noisy"]) == (250, 25, 20)
    assert row["uses"] == "labels;gradients;clean validation"
    assert min(row["train_seconds"], row["extract_seconds"], row["score_seconds"], row["retrain_seconds"]) > 0
    assert row["peak_memory_mib"] > 10
    assert row["device"] == "cpu"
    health = json.loads(row["health"])["head"]
    assert health["converged"] in (True, False)
    assert health["relative_residual"] > 0
    assert {"accuracy", "accuracy_base", "accuracy_gain", "auroc", "precision"} <= set(frame["metric"])
    values = frame.set_index("metric")["value"]
    assert values["accuracy_gain"] == pytest.approx(values["accuracy"] - values["accuracy_base"])


def test_metrics_are_recomputed_from_raw_scores(tmp_path: Path) -> None:
    frame = run(tmp_path, "outlier_l2").set_index("metric")["value"]
    ((_, arrays),) = Store(tmp_path).records()
    order = np.argsort(-arrays["scores"])[:25]
    assert frame["precision"] == arrays["noisy"][order].mean()


def test_ties_up_to_rounding_are_counted() -> None:
    from harness.running.measuring import largest_tie

    assert largest_tie(np.array([1.0, 1 + 1e-12, 2.0, 0.0])) == 2
    assert largest_tie(np.zeros(5)) == 5
    assert largest_tie(np.array([1e30, 1e3, 1e2, 10.0])) == 1, "each is judged against its own size"
    assert largest_tie(np.arange(4.0)) == 1


@pytest.mark.slow
def test_interrupted_and_run_again_is_as_uninterrupted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    selection = ["--methods", "all,-leave_one_out", "--tasks", "moons,blobs,digits", "--seeds", "3"]
    command = [sys.executable, "-m", "harness", "run", *selection, "--preset", "smoke", "--out", str(out)]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        command,
        cwd=root,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
    )
    deadline = time.monotonic() + 120
    while not list(out.rglob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished cells are kept" in complaint
    assert "Traceback" not in complaint
    kept = {path: path.read_bytes() for path in out.rglob("*.json")}
    assert 0 < len(kept) < 15 * 9
    assert not list(out.rglob("*.tmp"))
    frame = run(out, "all,-leave_one_out", "moons,blobs,digits", 3)
    for path, content in kept.items():
        assert path.read_bytes() == content, "a finished cell was computed again"
    whole = run(tmp_path / "whole", "all,-leave_one_out", "moons,blobs,digits", 3)
    values = ["key", "metric", "value"]
    pd.testing.assert_frame_equal(frame[values], whole[values])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_stopped_run_ends_its_workers(sent: signal.Signals, code: int, word: str, tmp_path: Path) -> None:
    """Batch systems send SIGTERM to the process that they started, and to no other."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "harness", "run", "--methods", "leave_one_out,data_oob", "--tasks", "digits"]
    process = subprocess.Popen(
        [*command, "--seeds", "40", "--jobs", "2", "--out", str(out)],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(out.rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)  # the workers start
    process.send_signal(sent)
    start = time.monotonic()
    _, complaint = process.communicate(timeout=60)  # which waits for the workers, too: they hold the pipe
    assert process.returncode == code
    assert time.monotonic() - start < 20
    assert complaint.splitlines()[-1] == f"{word}; all finished cells are kept, the same command goes on"
    assert "Traceback" not in complaint
    deadline = time.monotonic() + 5
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(process.pid)


def _alive(group: int) -> list[str]:
    """The processes of a process group that are no zombies."""
    shown = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True, check=False)
    return [state for state in shown.stdout.split() if not state.startswith("Z")]


def test_the_data_folder_is_set_for_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    run(tmp_path / "out", "none", data_dir=tmp_path)
    assert "HARNESS_DATA" not in os.environ


def test_cross_validated_probabilities(tmp_path: Path) -> None:
    """Out-of-sample probabilities come from models that did not see the sample, and detect noise too."""
    frame = run(tmp_path, "self_confidence,self_confidence[probs=out_of_sample]", "digits")
    auroc = frame[frame["metric"] == "auroc"].set_index("method_spec")["value"]
    assert auroc["self_confidence[probs=out_of_sample]"] > 0.9
    assert auroc.nunique() == 2
    uses = frame.set_index("method_spec")["uses"]["self_confidence[probs=out_of_sample]"].iloc[0]
    assert uses == "labels;out-of-sample probabilities"
