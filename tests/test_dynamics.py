"""Training dynamics: recorded without changing the training, complete, and charged to those who use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import harness
from harness.data.files import in_folder
from harness.interfaces import dynamics
from harness.interfaces.dynamics import Recorder
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Split
from harness.running.services import recorded
from tasks._array_models import OnImages
from tasks._image_task import image_samples
from tests.command_line import call
from tests.conftest import last_layer, plug_in, view_of
from tests.glue_files import write_glue


def outputs_of(task: Any, model: Any, split: Any) -> np.ndarray:
    return task.outputs(model, split.train).class_probs()


@pytest.mark.parametrize("name", ["moons", "blobs", "digits[steps=40,n_train=200]", "digits[steps=7,n_train=200]"])
def test_recording_leaves_a_full_batch_training_as_it_is(name: str) -> None:
    task = harness.task(name, preset="smoke")
    split, _ = task.load(0)

    recorder = Recorder(len(split.train), split.n_classes)
    model = task.train_recorded(split, 3, recorder)

    assert np.array_equal(outputs_of(task, model, split), outputs_of(task, task.train(split, None, 3), split))
    recording = recorder.recording(lambda made, _: task.outputs(made, split.train))
    assert len(recording.dynamics) == min(20, task.steps)
    assert recording.dynamics.epochs[-1] == task.steps
    last = recording.moments[-1].outputs("train").class_probs()
    assert np.array_equal(last, outputs_of(task, model, split))


def test_recorded_logits_are_those_of_the_steps() -> None:
    """The logits of step 13 are those of a model that was trained for 12 steps."""
    task = harness.task("digits[n_train=200,steps=20]")
    split, _ = task.load(0)
    recorder = Recorder(len(split.train), 10)

    task.train_recorded(split, 3, recorder)
    dynamics_ = recorder.recording(lambda made, _: made).dynamics

    shorter = harness.task("digits[n_train=200,steps=12]")
    expected = outputs_of(shorter, shorter.train(split, None, 3), split)
    np.testing.assert_allclose(dynamics_.probs_at(12), expected, atol=2e-3)  # step 13 begins with 12 steps done


def test_checkpoints_stand_for_equal_shares_of_the_learning_rate() -> None:
    recorder = Recorder(3, 2, checkpoints=3)
    rates = [4.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    recorder.start(rates)
    for k in range(6):
        recorder.batch(torch.tensor([2, 0, 1]), torch.full((3, 2), float(k)))
        recorder.moment(torch.tensor(float(k)))

    moments = recorder.recording(lambda made, _: Outputs(torch.zeros(1).long(), features=made[None, None])).moments

    assert [moment.epoch for moment in moments] == [1.0, 3.0, 6.0]  # where the sum passes 4, 8 and 12
    assert [moment.learning_rate for moment in moments] == [4.0, 4.0, 4.0]
    assert [float(moment.outputs("train").features) for moment in moments] == [0.0, 2.0, 5.0]


def test_many_logits_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "IN_MEMORY", 100)
    recorder = Recorder(50, 3)
    recorder.start([1.0] * 4)
    for k in range(4):
        recorder.moment(None, lambda k=k: torch.full((50, 3), 1e5 * k))

    made = recorder.recording(lambda *_: None).dynamics

    assert isinstance(made.logits, np.memmap)
    assert made.at(0).tolist() == np.zeros((50, 3)).tolist()
    assert np.isfinite(made.logits).all()  # cut off within float16's range


def test_what_does_not_fit_is_said() -> None:
    recorder = Recorder(3, 4)
    recorder.start([1.0])
    with pytest.raises(ValueError, match="recorded logits have 2 columns, and there are 4 classes"):
        recorder.batch(torch.arange(3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="0 moments were recorded of 1"):
        recorder.recording(lambda *_: None)
    with pytest.raises(harness.Unsupported, match="a task that records its training"):
        _ = view_of(last_layer(5, 3, 2)).dynamics


@dataclass(frozen=True)
class Last(harness.Method):
    """Minus the probability of the given label at the last moment; the sum of gradient norms over checkpoints."""

    name: ClassVar[str] = "last"
    uses: ClassVar[tuple[str, ...]] = ("labels", "training dynamics")

    def score(self, view: harness.View) -> np.ndarray:
        return -view.dynamics.probs_at(-1)[np.arange(view.n), view.labels]


@dataclass(frozen=True)
class Norms(harness.Method):
    name: ClassVar[str] = "norms"

    def score(self, view: harness.View) -> np.ndarray:
        return np.sum([made.learning_rate * made.view.gradients.norm(2) for made in view.checkpoints], axis=0)


@pytest.mark.parametrize("task", ["moons", "digits[n_train=200,steps=30]"])
def test_recording_is_charged_to_those_who_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Whether it was planned (Last says so) or not (Norms alone): the same scores, and never to others."""
    plug_in(monkeypatch)
    both = harness.run([Last, Norms, "random", "outlier_l2"], task, 2, preset="smoke", out=tmp_path / "both")
    alone = harness.run([Norms, "outlier_l2"], task, 2, preset="smoke", out=tmp_path / "alone")

    assert set(both["status"]) == set(alone["status"]) == {"ok"}
    for method in ("norms", "outlier_l2"):
        values = [
            frame[(frame["method"] == method) & (frame["metric"] == "auroc")]["value"].tolist()
            for frame in (both, alone)
        ]
        assert values[0] == values[1]
    seconds = both.groupby("method")["extract_seconds"].max()
    assert seconds["last"] > 0
    assert seconds["random"] == 0
    costs = both.groupby("method")["cost"].first().map(json.loads)
    assert costs["last"]["recording"] > 0
    assert costs["outlier_l2"]["recording"] == 0
    uses = both.groupby("method")["uses"].first()
    assert uses["norms"] == "labels;gradients;checkpoints"


def test_a_cost_is_the_sum_of_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cross-validation and the method's own retraining stand apart, and the parts sum to the total."""
    methods = "self_confidence,confident_learning,leave_one_out,data_oob[n_models=20],aum"
    frame = harness.run(methods, "blobs[retrain=no]", 1, preset="smoke", out=tmp_path / "out")

    rows = frame.drop_duplicates("key").set_index("method")
    costs = rows["cost"].map(json.loads)
    for method, cost in costs.items():
        assert sum(cost.values()) == pytest.approx(rows.loc[method, "total_seconds"], rel=1e-6), method
    assert costs["confident_learning"]["cross_validation"] > 0
    assert costs["self_confidence"]["cross_validation"] == 0
    dearest = {method: max(cost, key=cost.get) for method, cost in costs.items()}
    assert dearest["leave_one_out"] == dearest["data_oob"] == "retraining"
    _, report, _ = call(capsys, "report", str(tmp_path / "out"), "--wide")
    assert "retraining" in {cell.strip() for cell in report.split("|")}


def test_a_view_offers_inputs_and_a_model() -> None:
    task = harness.task("digits[n_train=200,steps=30]")
    split, _ = task.load(0)
    model = task.train(split, None, 1)
    view = task.view(model, split)

    logits = view.model(view.inputs)

    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), view.probs, rtol=1e-5)
    assert torch.equal(view.reference("validation").inputs, split.references["validation"].inputs)
    assert view.used >= {"inputs", "model"}
    with pytest.raises(harness.Unsupported, match="only the model's outputs"):
        _ = view_of(last_layer(5, 3, 2)).inputs


def test_a_recording_made_later_is_the_same() -> None:
    task = harness.task("moons", preset="smoke")
    split, _ = task.load(0)
    recorder = Recorder(len(split.train), 2)
    task.train_recorded(split, 5, recorder)

    now, later = recorded(task, split, 5, recorder), recorded(task, split, 5)

    assert np.array_equal(now.dynamics.logits, later.dynamics.logits)
    assert len(now.moments) == len(later.moments) == 5


def small_images() -> Split:
    """Sixty images of three classes, each class of another brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (rng.integers(0, 60, (90, 3, 16, 16)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return Split(image_samples(images[:60], labels[:60]), image_samples(images[60:], labels[60:]), {}, 3)


@pytest.mark.parametrize("record", ["pass", "epoch"])
def test_recording_leaves_a_network_as_it_is(record: Any) -> None:
    task = OnImages(model="small_cnn", epochs=6, batch_size=20, size=16, record=record)
    split = small_images()
    recorder = Recorder(60, 3)

    model = task.train_recorded(split, 4, recorder)

    plain = task.train(split, None, 4)
    state = plain.network.state_dict()
    assert all(torch.equal(values, state[name]) for name, values in model.network.state_dict().items())
    recording = recorder.recording(lambda made, _: task.outputs(made, split.train))
    expected = outputs_of(task, model, split)
    assert np.array_equal(recording.moments[-1].outputs("train").class_probs(), expected)
    assert len(recording.dynamics) == 6
    assert all((np.abs(recording.dynamics.at(t)).sum(1) > 0).all() for t in range(6))  # nobody is left out
    same = np.allclose(recording.dynamics.probs_at(5), expected, atol=5e-3)
    assert same == (record == "epoch")  # the pass is over augmented images and moving weights
    assert recording.dynamics.learning_rates.sum() == pytest.approx(sum(task.recipe(True).masses(60)))


def test_the_module_of_a_network_gives_its_logits() -> None:
    task = OnImages(model="small_cnn", epochs=1, batch_size=20, size=16)
    split = small_images()
    model = task.train(split, None, 4)

    logits = task.module(model, split)(split.train.inputs)

    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), outputs_of(task, model, split), rtol=1e-4, atol=1e-6)


def test_fine_tuning_is_recorded_without_changing_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    write_glue(tmp_path, tasks=["SST-2"])
    sizes = "n_train=60,n_dev=20,n_validation=20,epochs=3"
    with in_folder(str(tmp_path)):
        for record in ("pass", "epoch"):
            task = harness.task(f"glue_sst2[{sizes},record={record}]", preset="smoke")
            split, _ = task.load(0)
            recorder = Recorder(60, 2)

            model = task.train_recorded(split, 2, recorder)

            expected = outputs_of(task, task.train(split, None, 2), split)
            assert np.array_equal(outputs_of(task, model, split), expected)
            made = recorder.recording(lambda model, _, task=task, split=split: task.outputs(model, split.train))
            assert len(made.dynamics) == 3
            if record == "epoch":
                np.testing.assert_allclose(made.dynamics.probs_at(2), expected, atol=5e-3)
            assert np.array_equal(made.moments[-1].outputs("train").class_probs(), expected)
