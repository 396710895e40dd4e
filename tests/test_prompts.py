"""The tasks on prompts from their texts to Table 3, on a small Llama made here, and on prompt files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.records.store import Store
from harness.results.folder import Results
from harness.results.influential import attributions
from harness.seeds import derive
from harness.testing import task_checks
from tasks import _prompt_sets as prompt_sets
from tasks import _prompt_task as module
from tests.prompt_sets import SIZES, SMALL, small


@pytest.mark.parametrize("check", task_checks(f"prompts_math[{SIZES}]"))
def test_it_conforms(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("name", ["prompts_sentences", "prompts_math", "prompts_math_reasoning"])
def test_the_split(name: str) -> None:
    task = small(name)
    split, truth = task.load(3)
    assert truth is None
    assert (len(split.train), len(split.test), split.n_classes) == (50, 20, 10)
    assert np.bincount(split.train.classes).tolist() == [5] * 10
    assert np.bincount(split.test.classes).tolist() == [2] * 10
    train, test = task.texts(3)["train"], task.texts(3)["test"]
    assert not set(train) & set(test)
    assert len(set(train)) == 50
    own = split.train.inputs.text.adapted.tokenizer
    ids, mask = (split.train.inputs.text.parts[name][7] for name in ("input_ids", "attention_mask"))
    assert own.decode(ids[mask.bool()], skip_special_tokens=True) == train[7]
    assert int(ids[mask.bool()][-1]) == own.eos_token_id


def test_the_published_recipe() -> None:
    paper = harness.task("prompts_math", preset="full", protocol="paper")
    assert (paper.model, paper.weights, paper.per_class, paper.test_per_class) == (
        "meta-llama/Llama-2-13b-chat-hf",
        "int8",
        90,
        10,
    )
    assert (paper.rank, paper.alpha, paper.dropout, paper.lr, paper.batch_size, paper.epochs) == (
        8,
        32.0,
        0.05,
        3e-4,
        32,
        25,
    )
    assert paper.gradient_text == "prompt"
    with pytest.raises(RequestError, match=r"weights=int8 needs a CUDA device|needs bitsandbytes"):
        paper.check()


def test_fine_tuning_learns_and_says_so() -> None:
    task = small(epochs=6, pretraining=4, lr=3e-3)
    split, _ = task.load(0)
    model = task.train(split, None, 0)
    found = task.evaluate(model, split)
    assert set(found) == {"loss", "accuracy", "loss_before", "accuracy_before"}
    assert found["loss"] < found["loss_before"]
    assert task.curves(model, split)["loss_by_epoch"][-1] == found["loss"]
    assert len(task.curves(model, split)["loss_by_epoch"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["fair", "paper"])
def test_from_the_command_line_to_table_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    out = str(tmp_path / "out")
    methods = "all,gradient_tracing[similarity=cosine],datainf[class_mean=yes]"
    sizes = SIZES.replace("pretraining=1", "pretraining=3").replace("per_class=8", "per_class=20")
    run = ["run", "--preset", "smoke", "--out", out, "--protocol", protocol, "--seeds", "2"]
    assert main([*run, "--methods", methods, "--tasks", f"prompts_math_reasoning[{sizes}]"]) == 0
    frame = harness.load_results(out)
    skipped = frame[frame["status"] == "skipped"]
    assert set(skipped["error"]) == {
        "it gives one score per training sample and attributes nothing to reference samples",
        "EK-FAC needs a layer's inputs and output gradients, which dense blocks of gradients do not have",
        "TRAK needs class probabilities and the inputs of the last layer",
        "the reference samples have no last-layer features here",
        "prompts_math_reasoning allows 0 retrainings for one method's scores; 51 were asked for",
        "prompts_math_reasoning allows 0 retrainings for one method's scores; 200 were asked for",
    }
    ok = frame[frame["status"] == "ok"]
    assert set(ok["method"]) == {
        "datainf", "exact_hessian", "gradient_tracing", "lissa", "outlier_iforest", "random", "relat_if", "tracin_cp",
    }  # fmt: skip
    uses = ok.drop_duplicates("method_spec").set_index("method_spec")["uses"]
    assert uses["outlier_iforest"] == uses["datainf[class_mean=yes]"] == "class labels;gradients"
    assert uses["gradient_tracing"] == "gradients"
    params = {json.loads(text).get("reference", "test") for text in ok["method_params"]}
    signs = {json.loads(text).get("sign", 1) for text in ok["method_params"]}
    assert (params, signs) == ({"test"}, {1})
    auc = ok[ok["metric"] == "class_detection_auc"].groupby("method_spec")["value"].mean()
    assert auc["gradient_tracing"] > 0.7
    assert abs(auc["random"] - 0.5) < 0.1
    capsys.readouterr()
    assert main(["report", out, "--table", "3"]) == 0
    table = capsys.readouterr().out
    assert "| Outlier Gradient (iForest)" in table
    assert f"{auc['outlier_iforest']:.3f} ± " in table
    assert "class_mean=yes" in table
    assert main(["report", out]) == 0
    text = capsys.readouterr().out
    assert "fine-tuning takes the loss of test answers from" in text
    assert "DataInf `[class_mean=yes]`" in text
    assert "| skipped" not in text  # named below the table, with the reason
    assert re.search(r"`self_lissa`.*: skipped in 2 of 2 seeds: it gives one score per training sample", text)
    assert "| Printed: class detection AUC |" in text
    picture = tmp_path / "figure4.png"
    assert main(["report", out, "--figure", "4", "--output", str(picture)]) == 0
    assert picture.stat().st_size > 20_000
    keys = ok.drop_duplicates("method_spec").set_index("method_spec")["key"]
    monkeypatch.setattr("harness.results.folder.stale_keys", lambda records: set(ok["key"]) - {keys["datainf"]})
    shown = {attribution.about["method_spec"] for attribution in attributions(Results.read(out))}
    assert shown == {"datainf"}  # what other code made is in no figure
    monkeypatch.setattr("harness.results.folder.stale_keys", lambda records: set(ok["key"]))
    with pytest.raises(RequestError, match="holds no attributions"):
        attributions(Results.read(out))
    monkeypatch.undo()
    capsys.readouterr()
    assert main(["influential", out, "--method", "gradient_tracing", "--test", "0,7", "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Test sample") == 2
    assert shown.count("influence ") == 8
    assert re.findall(r"Test sample (.*):\n", shown) == ["0, class pizza", "7, class game"]
    assert main(["influential", out, "--method", "datainf", "--test", "0", "--top", "1"]) == 0
    assert "\nThe least influential training sample:\n" in capsys.readouterr().out
    assert main(["influential", out, "--method", "outlier_iforest", "--test", "0", "--top", "25"]) == 0
    most = capsys.readouterr().out.partition("least influential")[0]
    assert most.count("(the same as ") == 25
    if protocol == "fair":  # in `paper`, padding makes forests of two classes give the same score
        assert most.count("(the same as 4 others)") == 25
        listed = [int(number) for number in re.findall(r"^(\d+), class", most, re.MULTILINE)]
        classes = [listed[start : start + 5] for start in range(0, 25, 5)]
        assert all(len({number // 5 for number in each}) == 1 for each in classes)
        assert any(each != sorted(each) for each in classes)  # equal values are in no order
    assert "slices of pizza" in shown
    for arguments, sentence in (
        (["--method", "gradient_tracing", "--test", "20"], "--test 20 is not there; test samples are numbered 0 to 19"),
        (["--method", "gradient_tracing", "--test", "a"], "--test a is not valid"),
        (["--method", "outlier_l1"], "outlier_l1 has no scores in"),
    ):
        assert main(["influential", out, *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["suspects", out, "--method", "datainf"]) == 2
    assert "holds no scores yet" in capsys.readouterr().err


def test_what_gradients_are_of_is_swept_with_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives the scores of runs of each value alone."""
    trained: list[int] = []
    train = module.PromptTask.train

    def counted(self: Any, split: Any, keep: Any, seed: int) -> Any:
        trained.append(seed)
        return train(self, split, keep, seed)

    monkeypatch.setattr(module.PromptTask, "train", counted)

    def scores(values: str, folder: str) -> dict[str, np.ndarray]:
        task = f"prompts_math[{SIZES},{values}]"
        harness.run("gradient_tracing", task, 1, preset="smoke", out=tmp_path / folder)
        return {
            f"{record.task_params['gradient_text']} {record.task_params.get('padding', False)}": arrays["attribution"]
            for record, arrays in Store(tmp_path / folder).records()
        }

    together = scores("gradient_text=prompt|text,padding=no|yes", "together")
    assert len(trained) == 1
    assert len(together) == 4
    assert not np.allclose(together["prompt False"], together["prompt True"])
    for values, name in (("gradient_text=text", "text False"), ("padding=yes", "prompt True")):
        np.testing.assert_array_equal(scores(values, name)[name], together[name])


def test_pretraining_holds_no_answer_that_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_sets, "sentences", lambda: [f"Say number {i}." for i in range(12)])
    task = harness.task("prompts_sentences", preset="smoke", **{**SMALL, "pretraining_per_class": 12})
    train, test = task._sets(0)
    others = task._others(0, {task.essence(each) for each in (*train, *test)})
    assert len(others) == 10 * (12 - 7)
    assert not {(p.kind, p.answer) for p in others} & {(p.kind, p.answer) for p in (*train, *test)}


def test_the_tiny_model_never_saw_what_it_is_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "_tiny", lambda prompts, *rest: seen.extend(prompts))
    task = small(per_class=400, test_per_class=50, pretraining_per_class=400)
    with pytest.raises(AttributeError):  # there is no model
        task.load(derive("data", "x", 0))
    train, test = task._sets(derive("data", "x", 0))
    assert len(seen) < 4000  # pairs of two numbers do repeat
    assert not {p.prompt for p in seen} & {p.prompt for p in (*train, *test)}


def test_fine_tuning_leaves_checkpoints_and_no_class_logits() -> None:
    from harness.running.services import training

    task = small("prompts_math", epochs=3)
    split, _ = task.load(0)
    base = task.train(split, None, 1)
    view = task.view(base, split).fresh(0, training(task, split, 1, 2))

    first, *_, last = view.checkpoints

    rows = view.gradients.rows(slice(None))
    np.testing.assert_array_equal(last.view.gradients.rows(slice(None)), rows)
    assert not np.allclose(first.view.gradients.rows(slice(None)), rows)
    with pytest.raises(harness.Unsupported, match="no class logits"):
        _ = view.dynamics
    attributed = harness.method("tracin_cp", reference="test").attribute(view)
    assert attributed.shape == (len(split.test), view.n)
