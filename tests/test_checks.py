"""Every conformance check finds the fault it is for, and nothing else; sound detectors pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.conformance.check import CheckFailure, outcome
from harness.errors import RequestError
from harness.interfaces.view import View
from harness.selection.registry import METHODS, TASKS
from harness.testing import check_all, checks_of, expected_of, method_checks, task_checks
from tests.conftest import plug_in
from tests.faulty_detectors import (
    FAULTS,
    FIRST,
    adopted,
    failed,
    given,
    good,
    needs_every_class,
    raises,
    returns_nothing,
    spoils_reference_labels,
    too_many,
    wrong_sign,
)


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


@pytest.mark.slow
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
