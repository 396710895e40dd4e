"""Every conformance check finds the fault it is for, and nothing else: detectors and tasks with one fault each."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import harness
from harness.cli import main
from harness.conformance.check import CheckFailure, outcome
from harness.errors import RequestError
from harness.registry import METHODS, TASKS
from harness.task_base import Samples, Split
from harness.testing import check_all, checks_of, expected_of, method_checks, task_checks
from harness.view import View
from tests.conftest import plug_in


def given(view: View) -> np.ndarray:
    return view.probs[np.arange(view.n), view.labels]


def good(view: View) -> np.ndarray:
    """A sound detector: minus the probability of the given label."""
    return -given(view)


def failed(subject: Any) -> list[str]:
    return [result.check.name for result in check_all(subject) if result.bad]


def adopted(function: Callable[..., Any]) -> Any:
    from harness.adoption import method_class

    return method_class(function)()


def wrong_sign(view: View) -> np.ndarray:
    return given(view)


def one_constant(view: View) -> np.ndarray:
    return np.zeros(view.n)


def returns_nothing(view: View) -> None:
    view.labels.sum()


def too_many(view: View) -> np.ndarray:
    return np.zeros((view.n, 2))


def logarithm_of_zero(view: View) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -np.log(given(view))


def by_position(view: View) -> np.ndarray:
    return -given(view) + np.arange(view.n) / view.n


def global_noise(view: View) -> np.ndarray:
    return -given(view) + 1e-3 * np.random.rand(view.n)  # noqa: NPY002


def seeds_globally(view: View) -> np.ndarray:
    torch.manual_seed(0)
    return -given(view) + 1e-3 * torch.rand(view.n).numpy()


def overwrites(view: View) -> np.ndarray:
    view.features.mul_(2)
    return -given(view)


def standardised(view: View) -> np.ndarray:
    scores = -given(view)
    with np.errstate(invalid="ignore"):
        return (scores - scores.mean()) / scores.std()


def needs_every_class(view: View) -> np.ndarray:
    centres = np.stack([view.probs[view.labels == k].mean(0) for k in range(view.probs.shape[1])])
    return np.linalg.norm(view.probs - centres.mean(0), axis=1) - 2 * given(view)


def by_chunk(view: View) -> np.ndarray:
    from harness.products import chunks

    parts = [good(view)[part] for part in chunks(view.n, 64)]
    return np.concatenate([part - part.mean() for part in parts])


def undeclared(view: View) -> np.ndarray:
    view.reference("validation")
    return -given(view)


undeclared.uses = ("labels", "probs")  # type: ignore[attr-defined]


def walks_frames(view: View) -> np.ndarray:
    import sys

    frame: Any = sys._getframe()
    while frame is not None:
        base = frame.f_locals.get("base")
        if base is not None and hasattr(base, "noisy"):
            return base.noisy + 1e-6 * -given(view)
        frame = frame.f_back
    return -given(view)


def walks_objects(view: View) -> np.ndarray:
    import gc

    from harness.base_models import Base

    for thing in gc.get_objects():
        if isinstance(thing, Base) and thing.noisy is not None and len(thing.noisy) == view.n:
            return thing.noisy - 1e-6 * given(view)
    return -given(view)


def loads_the_task(view: View) -> np.ndarray:
    harness.task("moons", preset="smoke").load(0)
    return -given(view)


def reads_a_file(view: View) -> np.ndarray:
    (Path(__file__).parents[1] / "README.md").read_text()
    return -given(view)


@functools.cache
def _once() -> int:
    harness.task("blobs", preset="smoke").load(0)
    return (Path(__file__).parents[1] / "README.md").stat().st_size


def loads_once(view: View) -> np.ndarray:
    _once()
    return -given(view)


def spoils_reference_labels(view: View) -> np.ndarray:
    view.reference("validation").labels[:] = 0
    return -given(view)


def constant_up_to_rounding(view: View) -> np.ndarray:
    rows = view.gradients.rows(slice(None)).double().numpy()
    return (rows * rows).sum(1) / np.linalg.norm(rows, axis=1) ** 2


def raw_outputs(view: View) -> np.ndarray:
    probs = view.outputs().class_probs()
    return -probs[np.arange(view.n), view.labels]


raw_outputs.uses = ("class labels",)  # type: ignore[attr-defined]


class FewPairs:
    def attribute(self, view: View) -> np.ndarray:
        return np.tile(-given(view), (77, 1))


def raises(view: View) -> np.ndarray:
    raise ZeroDivisionError("on purpose")


FAULTS: dict[Callable[[View], Any], set[str]] = {
    wrong_sign: {"orientation"},
    one_constant: {"constant"},
    logarithm_of_zero: {"certain_model"},
    by_position: {"sample_order"},
    global_noise: {"same_seed", "global_state", "truth", "working_memory", "sample_order"},
    seeds_globally: {"global_state", "sample_order"},
    overwrites: {"inputs_unchanged", "working_memory", "truth", "same_seed"},
    standardised: {"one_sample"},
    by_chunk: {"working_memory"},
    undeclared: {"uses"},
    walks_frames: {"truth"},
    walks_objects: {"truth", "sample_order", "orientation"},
    loads_the_task: {"truth"},
    reads_a_file: {"truth"},
    loads_once: {"truth"},
    constant_up_to_rounding: {"constant", "certain_model", "sample_order"},
    raw_outputs: {"uses"},
    FewPairs: {"attribution"},
}
"""What each fault may be called."""

FIRST = {
    global_noise: "same_seed",
    seeds_globally: "global_state",
    overwrites: "inputs_unchanged",
    walks_objects: "truth",
    constant_up_to_rounding: "constant",
}
"""What it must be called, where it has several names."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_called_by_its_name(fault: Callable[[View], Any]) -> None:
    found = set(failed(adopted(fault)))
    assert FIRST.get(fault, next(iter(FAULTS[fault]))) in found
    assert found <= FAULTS[fault]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("fault", [returns_nothing, too_many, needs_every_class, raises])
def test_other_faults_are_found(fault: Callable[[View], Any]) -> None:
    expected = {returns_nothing: "shape", too_many: "shape", needs_every_class: "missing_class", raises: "finite"}
    assert expected[fault] in failed(adopted(fault))


def test_a_sound_detector_passes() -> None:
    assert failed(adopted(good)) == []
    assert failed(harness.method("outlier", detector="KernelDensity")) == []


def neighbours(view: View) -> np.ndarray:
    """Share of the seven nearest neighbours in feature space that have another label."""
    x = view.features.double().numpy()
    if view.n < 8:
        raise harness.Unsupported("seven neighbours need eight samples")
    near = np.argsort(((x[:, None] - x[None]) ** 2).sum(2), axis=1)[:, 1:8]
    return (view.labels[near] != view.labels[:, None]).mean(1) - 1e-3 * given(view)


def cross_validated(view: View) -> np.ndarray:
    return -view.out_of_sample_probs[np.arange(view.n), view.labels]


def temporary(view: View) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x")
    return -given(view)


def retrained(view: View) -> np.ndarray:
    groups = np.stack([view.labels != k for k in range(3)])
    return -given(view) + 1e-3 * view.retrain(groups, "validation")[view.labels]


@pytest.mark.parametrize(
    "sound",
    [neighbours, cross_validated, temporary, retrained, "self_confidence[probs=out_of_sample]",
     "outlier[detector=GaussianMixture]", "outlier[detector=EllipticEnvelope]", "outlier[detector=OneClassSVM]"],
    ids=lambda sound: getattr(sound, "__name__", sound),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_sound_detectors_pass(sound: Any) -> None:
    results = check_all(harness.method(sound) if isinstance(sound, str) else adopted(sound))
    assert [(result.check.name, result.found) for result in results if result.bad] == []


def test_one_method_cannot_spoil_the_checks_of_the_next() -> None:
    failed(adopted(spoils_reference_labels))
    assert failed(harness.method("exact_hessian")) == []


def test_expected_failures_are_strict() -> None:
    subject = adopted(wrong_sign)
    results = {r.check.name: r for r in check_all(subject, {"orientation": "as the reference code has it"})}
    assert results["orientation"].status == "expected"
    results = {r.check.name: r for r in check_all(subject, {"finite": "no reason at all"})}
    assert results["finite"].status == "unexpected"
    assert results["finite"].bad
    with pytest.raises(RequestError, match=r"unknown check 'orientatoin' .did you mean 'orientation'"):
        check_all(subject, {"orientatoin": "?"})


@dataclass(frozen=True)
class Declares(harness.Method):
    name: ClassVar[str] = "declares"
    expected_failures: ClassVar[dict[str, str]] = {"orientation": "flags the most typical samples on purpose"}

    def score(self, view: View) -> np.ndarray:
        return given(view)


def test_a_method_declares_its_own() -> None:
    assert failed(Declares()) == []
    marked = {param.id: param.marks for param in method_checks(Declares)}
    assert marked["orientation"][0].kwargs["strict"] is True
    assert not marked["finite"]


def test_in_a_suite_of_ones_own(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makepyfile(
        detector="import numpy as np\ndef turned(view):\n    return view.probs[np.arange(view.n), view.labels]\n"
        "def right(view):\n    return -turned(view)\n",
        test_it="""
        import pytest
        from harness.testing import method_checks
        import detector

        @pytest.mark.parametrize("check", method_checks(detector.right))
        def test_right(check):
            check()

        @pytest.mark.parametrize("check", method_checks(detector.turned))
        def test_turned(check):
            check()

        @pytest.mark.parametrize("check", method_checks(detector.turned, {"orientation": "why", "finite": "why"}))
        def test_declared(check):
            check()
        """,
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 2  # turned's orientation, and "finite" that passes though declared to fail
    assert outcomes["xfailed"] == 1
    result.stdout.fnmatch_lines(["*wrong labels get lower scores than right ones: AUROC 0.*", "*turn the sign*"])


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

    def view(self, model: Any, split: Split) -> View:
        probs = (-torch.cdist(split.train.inputs, model)).softmax(1)
        return View.from_arrays(split.train.inputs, probs, split.train.labels)

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


class ShowsTruth(ToyTask):
    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        split, truth = super().load(seed)
        return Split(
            split.train, split.test, {"validation": Samples(split.train.inputs, torch.from_numpy(truth))}, 2
        ), truth


class ShowsMask(ToyTask):
    def view(self, model: Any, split: Split) -> View:
        view = super().view(model, split)
        mask = np.arange(60) % 2 != split.train.labels.numpy()
        view.health["hint"] = [int(wrong) for wrong in mask]
        return view


class HidesInDefaults(ToyTask):
    def view(self, model: Any, split: Split) -> View:
        shown = super().view(model, split)

        def outputs(truth: np.ndarray = np.arange(60) % 2) -> Any:  # noqa: B008 - the fault
            return shown.outputs()

        return View(split.train.labels.numpy(), outputs)


class Recursive(ToyTask):
    """Sound: a helper that calls itself, and validation labels that are alike by design."""

    def load(self, seed: int) -> tuple[Split, np.ndarray]:
        split, truth = super().load(seed)
        held = Samples(split.train.inputs + 1, torch.from_numpy(truth.copy()))
        return Split(split.train, split.test, {"validation": held}, 2), truth

    def view(self, model: Any, split: Split) -> View:
        shown = super().view(model, split)

        def outputs(depth: int = 2) -> Any:
            return outputs(depth - 1) if depth else shown.outputs()

        return View(split.train.labels.numpy(), outputs)


TASK_FAULTS = {
    ToyTask: set(),
    OtherData: {"same_data", "global_state", "keep", "same_model"},
    OtherModel: {"same_model", "global_state", "keep"},
    KeepsAll: {"keep"},
    PerCent: {"evaluate"},
    FloatLabels: {"labels"},
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


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    path = tmp_path / "detectors.py"
    path.write_text(
        "import numpy as np\n\ndef sound(view):\n    return -view.probs[np.arange(view.n), view.labels]\n\n\n"
        "class Turned:\n    def score(self, view):\n        return -sound(view)\n"
    )
    assert main(["check", f"{path}:sound"]) == 0
    assert "failed" not in capsys.readouterr().out
    assert main(["check", str(path)]) == 1
    out = capsys.readouterr().out
    assert "FAILED   orientation: wrong labels get lower scores than right ones" in out
    assert "why it matters: a detector with its sign turned removes the best samples" in out
    assert "mend: turn the sign: higher means more suspicious" in out
    assert main(["check", "turned", "--plugin", str(path)]) == 1
    assert main(["check", "datainf[damping=0.1]"]) == 0
    assert main(["check", "blobs"]) == 0
    capsys.readouterr()
    assert main(["check", "datainv"]) == 2
    assert "unknown method or task 'datainv' (did you mean 'datainf'?)" in capsys.readouterr().err
    assert main(["check", f"{path}:soundly"]) == 2
    assert "it has no 'soundly' (did you mean 'sound'?)" in capsys.readouterr().err


def test_what_the_checks_are_called() -> None:
    """Names are what suites declare expected failures by."""
    assert [param.id for param in method_checks("none")] == [check.name for check in checks_of(harness.method("none"))]
    assert [param.id for param in task_checks("blobs")] == [check.name for check in checks_of(harness.task("blobs"))]
    assert expected_of(harness.method("none")) == {}
    assert "none" in METHODS.classes()
    assert "blobs" in TASKS.classes()


def test_a_failure_says_what_and_how() -> None:
    check = next(check for check in checks_of(harness.method("none")) if check.name == "orientation")
    with pytest.raises(CheckFailure, match="Mend: turn the sign"):
        check.run(adopted(wrong_sign))
    assert outcome(check, adopted(wrong_sign), {}).mend.startswith("turn the sign")
