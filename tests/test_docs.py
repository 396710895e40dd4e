"""The documentation's examples run as they stand."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.cli import main
from harness.selection.registry import METHODS, TASKS
from harness.testing import check_all
from tests.conftest import last_layer, plug_in

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The page's indented command lines."""
    lines = re.findall(r"^    (python -m harness .*)$", (ROOT / page).read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[3:] for line in lines]


@pytest.mark.slow
def test_the_page_on_detectors_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files, then its commands in their order (smaller, where they say nothing of size), all as they stand."""
    plug_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for code in blocks("docs/detectors.md", "python"):
        Path(code.splitlines()[0].removeprefix("# ")).write_text(code)
    assert {path.name for path in tmp_path.iterdir()} == {
        "my_detector.py", "my_method.py", "save_digits.py", "test_my_detector.py"
    }  # fmt: skip
    for script in (["save_digits.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_detector.py"]):
        done = subprocess.run([sys.executable, *script], env=os.environ | {"PYTHONPATH": str(ROOT)},
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout
    seen = set()
    for command in commands("docs/detectors.md"):
        seen.add(command[0])
        if any("ECOD" in word for word in command) and importlib.util.find_spec("pyod") is None:
            continue
        small = ["--preset", "smoke", *(["--seeds", "2"] * ("--seeds" not in command))] if command[0] == "run" else []
        assert main([*command, *small]) == 0, command
    assert seen == {"run", "suspects", "check", "baseline", "compare", "new", "report"}


@pytest.mark.slow
def test_the_page_on_own_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, on a table and a folder of images of these names."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    words = {"good": ["great", "fine", "lovely", "superb"], "bad": ["awful", "poor", "dull", "weak"]}
    lines = ["review,sentiment"]
    for k in range(200):
        label = ["good", "bad"][k % 2]
        lines.append(f"{' '.join(rng.choice(words[label], 3))} film,{label if k > 8 else 'good'}")
        folder = tmp_path / "photos" / (label if k > 8 else "good")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((rng.integers(0, 99, (16, 16, 3)) + 100 * (k % 2)).astype(np.uint8)).save(folder / f"{k}.png")
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    for command in commands("docs/own-data.md"):
        small = ["--seeds", "1"] if "--compare" in command else []
        assert main([*command, *small]) == 0, command
    assert "data:image/jpeg" in (tmp_path / "errors.html").read_text()
    assert len((tmp_path / "kept.csv").read_text().splitlines()) < len(lines)


def test_the_full_method_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    code = next(block for block in blocks("docs/detectors.md", "python") if "my_method.py" in block)
    path = tmp_path / "my_method.py"
    path.write_text(code)
    frame = harness.run("loss[temperature=2],self_confidence", "moons", 1, preset="smoke", out=tmp_path / "out",
                        plugins=[str(path)])  # fmt: skip
    auroc = frame[frame["metric"] == "auroc"].set_index("method")["value"]
    assert auroc["loss"] == pytest.approx(auroc["self_confidence"])
    assert [result.check.name for result in check_all(harness.method("loss")) if result.bad] == []


def test_the_guides_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS.classes()))
    code = next(block for block in blocks("docs/guide.md", "python") if "my_task.py" in block)
    path = tmp_path / "my_task.py"
    path.write_text(code)
    frame = harness.run("all", "iris", 2, out=tmp_path / "out", plugins=[str(path)])
    skipped = frame[frame["status"] != "ok"]
    assert set(skipped["error"]) == {"iris does not record its training"}
    assert frame[frame["metric"] == "auroc"].set_index("method")["value"]["self_confidence"].mean() > 0.9


def test_the_guides_notebook_example_runs() -> None:
    code = next(block for block in blocks("docs/guide.md", "python") if "from_arrays" in block)
    names = dict(zip(("h", "p", "y", "hr", "pr", "yr"), last_layer(12, 3, 4).values(), strict=True))
    exec(code, names)  # noqa: S102 - our own page
    assert names["scores"].shape == (12,)
    np.testing.assert_allclose(names["pairs"].shape, (9, 12))


def test_the_guides_per_sample_gradients_run() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.block = torch.nn.Conv2d(1, 2, 3), torch.nn.ModuleDict({"lora_A": torch.nn.Linear(32, 4)})
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.block["lora_A"](self.conv1(x).flatten(1)))

    code = next(block for block in blocks("docs/guide.md", "python") if "per_sample" in block)
    with torch.random.fork_rng():
        names = {"harness": harness, "model": Network(), "inputs": torch.randn(20, 1, 6, 6)}
    exec(code, names | {"targets": torch.arange(20) % 3}, found := {})  # noqa: S102 - our own page
    assert list(found["gradients"]) == ["conv1.weight", "conv1.bias"] + [
        f"block.lora_A.{x}" for x in ("weight", "bias")
    ]
    assert found["scores"].shape == (20,)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/guide.md", "docs/protocols.md", "docs/detectors.md", "docs/own-data.md"]
)
def test_selections_in_the_pages_are_valid(page: str) -> None:
    text = (ROOT / page).read_text()
    for option, registry in (("--methods", METHODS), ("--tasks", TASKS)):
        for quoted, plain in re.findall(rf"{option} (?:'([^']+)'|([\w,*\[\]=.-]+))", text):
            selection = re.sub(r"\b(loss|my_detector)\b", "datainf", quoted or plain).replace("iris", "moons")
            registry.select(selection)
    for term in re.findall(r"`(\w+\[[^`]+\])`", text):
        term = term.replace(",...", "").replace("loss[temperature=2]", "datainf[damping=2]")
        if term.startswith("my_detector["):
            continue
        if term.startswith("name["):
            continue
        name = term.partition("[")[0]
        (harness.method if name in METHODS.classes() else harness.task)(term)
