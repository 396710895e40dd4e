"""The documentation's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.registry import METHODS, TASKS
from tests.conftest import last_layer

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_guides_plugin_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS.classes()))
    code = next(block for block in blocks("docs/guide.md", "python") if "my_detector.py" in block)
    path = tmp_path / "my_detector.py"
    path.write_text(code)
    frame = harness.run("loss[temperature=2],self_confidence", "moons", 1, preset="smoke", out=tmp_path / "out",
                        plugins=[str(path)])  # fmt: skip
    auroc = frame[frame["metric"] == "auroc"].set_index("method")["value"]
    assert auroc["loss"] == pytest.approx(auroc["self_confidence"])


def test_the_guides_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS.classes()))
    code = next(block for block in blocks("docs/guide.md", "python") if "my_task.py" in block)
    path = tmp_path / "my_task.py"
    path.write_text(code)
    frame = harness.run("all", "iris", 2, out=tmp_path / "out", plugins=[str(path)])
    assert set(frame["status"]) == {"ok"}
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


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/protocols.md"])
def test_selections_in_the_pages_are_valid(page: str) -> None:
    text = (ROOT / page).read_text()
    for option, registry in (("--methods", METHODS), ("--tasks", TASKS)):
        for quoted, plain in re.findall(rf"{option} (?:'([^']+)'|([\w,*\[\]=.-]+))", text):
            selection = (quoted or plain).replace("loss,", "").replace("iris", "moons")
            registry.select(selection)
    for term in re.findall(r"`(\w+\[[^`]+\])`", text):
        term = term.replace(",...", "").replace("loss[temperature=2]", "datainf[damping=2]")
        if term.startswith("name["):
            continue
        name = term.partition("[")[0]
        (harness.method if name in METHODS.classes() else harness.task)(term)
