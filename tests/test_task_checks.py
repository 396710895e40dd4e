"""Every conformance check of tasks finds the fault it is for: tasks with one fault each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import harness
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split
from tests.faulty_detectors import failed


class ToyTask(harness.Task):
    """Sound; the tasks below each have one fault."""

    name: ClassVar[str] = "toy"

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        rng = np.random.default_rng(seed)
        truth = np.arange(60) % 2
        labels = np.where(rng.random(60) < 0.1, 1 - truth, truth)
        x = torch.from_numpy(rng.standard_normal((60, 3)) + 2 * truth[:, None])
        test = Samples(x[:50], torch.from_numpy(truth[:50].copy()))
        return Split(Samples(x, torch.from_numpy(labels)), test, {}, 2), truth

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        kept = torch.ones(len(split.train), dtype=torch.bool) if keep is None else torch.from_numpy(keep)
        inputs, labels = split.train.inputs[kept], split.train.labels[kept]
        return torch.stack([inputs[labels == k].mean(0) for k in range(2)])

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        return Outputs(samples.labels, (-torch.cdist(samples.inputs, model)).softmax(1), samples.inputs)

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        return {
            "accuracy": float((torch.cdist(split.test.inputs, model).argmin(1) == split.test.labels).double().mean())
        }


class OtherData(ToyTask):
    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        return super().load(int(np.random.randint(1000)))  # noqa: NPY002


class OtherModel(ToyTask):
    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        return super().train(split, keep, seed) + 1e-3 * torch.rand(3)


class KeepsAll(ToyTask):
    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        return super().train(split, None, seed)


class PerCent(ToyTask):
    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        return {"accuracy": 100 * super().evaluate(model, split)["accuracy"]}


class FloatLabels(ToyTask):
    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        split, truth = super().load(seed)
        return Split(split.train, Samples(split.test.inputs, split.test.labels.float()), {}, 2), truth


class TooFewNames(ToyTask):
    def sample_names(self, seed: int) -> list[str]:
        return [f"row {i}" for i in range(59)]


class ShowsTruth(ToyTask):
    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        split, truth = super().load(seed)
        return Split(
            split.train, split.test, {"validation": Samples(split.train.inputs, torch.from_numpy(truth))}, 2
        ), truth


class ShowsMask(ToyTask):
    def training_outputs(self, model: Any, samples: Samples) -> Outputs:
        mask = np.arange(60) % 2 != samples.labels.numpy()
        features = torch.column_stack([samples.inputs, torch.from_numpy(mask)])
        return replace(self.outputs(model, samples), features=features)


class HidesInDefaults(ToyTask):
    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        model = super().train(split, keep, seed)

        def trained(truth: np.ndarray = np.arange(60) % 2) -> Any:  # noqa: B008 - the fault
            return model

        return trained

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        return super().outputs(model(), samples)

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        return super().evaluate(model(), split)


class Recursive(ToyTask):
    """Sound: a helper that calls itself, and validation labels that are alike by design."""

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        split, truth = super().load(seed)
        held = Samples(split.train.inputs + 1, torch.from_numpy(truth.copy()))
        return Split(split.train, split.test, {"validation": held}, 2), truth

    def train(self, split: Split, keep: np.ndarray | None, seed: int) -> Any:
        model = super().train(split, keep, seed)

        def trained(depth: int = 2) -> Any:
            return trained(depth - 1) if depth else model

        return trained

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        return super().outputs(model(), samples)

    def evaluate(self, model: Any, split: Split) -> dict[str, float]:
        return super().evaluate(model(), split)


TASK_FAULTS = {
    ToyTask: set(),
    OtherData: {"same_data", "global_state", "keep", "same_model"},
    OtherModel: {"same_model", "global_state", "keep"},
    KeepsAll: {"keep"},
    PerCent: {"evaluate"},
    FloatLabels: {"labels"},
    TooFewNames: {"labels"},
    ShowsTruth: {"truth"},
    ShowsMask: {"truth"},
    HidesInDefaults: {"truth"},
    Recursive: set(),
}


@pytest.mark.parametrize("cls", TASK_FAULTS, ids=lambda cls: cls.__name__)
def test_faults_of_tasks(cls: Any) -> None:
    from dataclasses import dataclass as as_dataclass

    found = set(failed(as_dataclass(frozen=True)(cls)()))
    assert found <= TASK_FAULTS[cls]
    assert bool(found) == bool(TASK_FAULTS[cls])


class GradientsAlone(ToyTask):
    """Its view has gradients, which depend on labels, and no probabilities."""

    name: ClassVar[str] = "gradients_alone"

    def outputs(self, model: Any, samples: Samples) -> Outputs:
        gradients = super().outputs(model, samples).gradients()
        return Outputs(samples.labels, blocks={"head": gradients.rows(slice(None))})


def test_a_view_of_gradients_alone_is_no_fault_of_training() -> None:
    """Gradients of samples that are left out follow their labels; those of kept samples must not."""
    assert "keep" not in failed(GradientsAlone())
