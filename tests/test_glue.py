"""GLUE's tasks from their files to Figure 3, on small folders in the original layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import harness
from harness.cli import main
from harness.errors import RequestError, Unsupported
from harness.running.services import training
from harness.seeds import derive
from harness.testing import task_checks
from tests.glue_files import HEADERS, encoder_folders, glue, glue_folder, offline, write_glue  # noqa: F401 - fixtures

TASKS = {"QNLI": "glue_qnli", "SST-2": "glue_sst2", "QQP": "glue_qqp", "MRPC": "glue_mrpc"}
SMALL = {"n_train": 120, "n_dev": 60, "n_validation": 40}


def small(name: str = "glue_sst2", **params: Any) -> harness.Task:
    return harness.task(name, preset="smoke", **{**SMALL, **params})


@pytest.mark.parametrize("check", task_checks("glue_sst2[n_train=60,n_dev=40,n_validation=20,epochs=2]"))
def test_it_conforms(glue: Path, check: Callable[[], None]) -> None:  # noqa: F811
    check()


@pytest.mark.slow
@pytest.mark.parametrize("folder", TASKS)
def test_the_split(glue: Path, folder: str) -> None:  # noqa: F811
    split, truth = small(TASKS[folder]).load(4)
    assert (len(split.train), len(split.test), split.n_classes) == (120, 60, 2)
    assert truth is not None
    wrong = split.train.labels.numpy() != truth
    assert wrong.sum() == 24
    clean, noisy = split.references["validation"], split.references["noisy_validation"]
    assert len(clean) == len(noisy) == 40
    assert 0 < int((clean.labels != noisy.labels).sum()) < 20
    assert torch.equal(clean.inputs.parts["input_ids"], noisy.inputs.parts["input_ids"])
    words = split.train.inputs.adapted.tokenizer
    texts = [words.decode(ids, skip_special_tokens=True) for ids in split.train.inputs.parts["input_ids"]]
    held = [words.decode(ids, skip_special_tokens=True) for ids in clean.inputs.parts["input_ids"]]
    assert not set(texts) & set(held)
    pair = split.train.inputs.parts["token_type_ids"]
    assert bool(pair.any()) == (folder != "SST-2")
    again, _ = small(TASKS[folder]).load(4)
    assert torch.equal(split.train.inputs.parts["input_ids"], again.train.inputs.parts["input_ids"])
    assert torch.equal(split.train.labels, again.train.labels)


def test_all_rows_where_fewer_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:  # noqa: F811
    write_glue(tmp_path, 50, 10, ["MRPC"])
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    split, _ = small("glue_mrpc", n_train=4500, n_dev=500).load(0)
    assert (len(split.train), len(split.test), len(split.references["validation"])) == (10, 10, 40)
    with pytest.raises(RequestError, match="glue_mrpc has 50 training rows here; n_validation=45 leaves too few"):
        small("glue_mrpc", n_validation=45).check()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [({"n_train": 2}, "n_train=2 must be at least 10"), ({"flip": 1.0}, r"flip=1.0 must be a share in \[0, 1\)")],
)
def test_parameters_that_make_no_sense(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        small(**params)


def test_presets() -> None:
    paper = harness.task("glue_qqp", preset="full", protocol="paper")
    assert (paper.model, paper.n_train, paper.n_dev, paper.epochs) == ("roberta-large", 4500, 500, 10)
    assert (paper.rank, paper.alpha, paper.dropout, paper.lr, paper.warmup) == (4, 4.0, 0.05, 3e-4, 0.06)
    assert (paper.budget, paper.flip, paper.max_tokens, paper.n_validation) == (0.3, 0.2, 128, 0)
    fast = harness.task("glue_qqp", preset="fast")
    assert (fast.model, fast.n_train) == ("sentence-transformers/all-MiniLM-L6-v2", 2000)


@pytest.mark.parametrize("name", TASKS.values())
def test_wrong_labels_are_found(glue: Path, name: str) -> None:  # noqa: F811
    task = small(name)
    split, truth = task.load(0)
    model = task.train(split, None, 0)
    assert model.history[-1] > 0.9
    view, wrong = task.view(model, split), split.train.labels.numpy() != truth
    for method in ("self_confidence", "outlier_l2", "datainf"):
        assert roc_auc_score(wrong, harness.method(method).score(view)) > 0.9


def test_a_local_model_is_trained_and_its_base_left_alone(glue: Path, encoder_folders: dict[str, Path]) -> None:  # noqa: F811
    task = small(model=str(encoder_folders["Roberta"]), epochs=3, lr=0.03, max_tokens=32)
    split, _ = task.load(0)
    made = split.train.inputs.adapted
    base = {name: p.clone() for name, p in made.model.named_parameters() if name not in made._trained}
    model = task.train(split, None, 0)
    for name, values in made.model.named_parameters():
        assert name not in base or torch.equal(base[name], values)
    assert len(model.history) == 3
    assert set(model.state) == set(made._trained)
    view = task.view(model, split)
    task.train(split, np.arange(120) < 100, 1)  # the encoder is shared: a view's later parts come from its own model
    assert np.array_equal(task.view(model, split).probs, view.probs)
    gradients = view.gradients
    assert list(gradients)[-1] == "head"
    assert len(gradients) == 5
    assert view.gradients["head"].dimension == 2 * 16
    assert float(gradients.norm(2).min()) > 0


def test_batches_hold_every_sample_once_and_alike_lengths() -> None:
    from tasks._text_training import batches

    lengths = torch.randint(5, 128, (1000,), generator=torch.Generator().manual_seed(0))
    found = list(batches(lengths, 32, torch.Generator().manual_seed(1)))
    assert torch.equal(torch.cat(found).sort().values, torch.arange(1000))
    assert {len(rows) for rows in found} <= {32, 1000 % 512 % 32}
    padded = sum(int(lengths[rows].max()) * len(rows) for rows in found)
    assert padded < 1.1 * int(lengths.sum())
    assert not torch.equal(torch.cat(found), torch.cat(list(batches(lengths, 32, torch.Generator().manual_seed(2)))))


def test_the_rate_rises_and_falls() -> None:
    from tasks._text_training import Recipe

    recipe = Recipe(10, 32, 3e-4, 0.1, 0.01)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([3e-5 * (step + 1) for step in range(10)])
    assert rates[10] == 3e-4
    assert np.diff(rates[10:]) == pytest.approx(-3e-4 / 90)
    assert rates[-1] == pytest.approx(3e-4 / 90)


def test_bfloat16_trains_and_what_methods_see_is_float32(glue: Path, encoder_folders: dict[str, Path]) -> None:  # noqa: F811
    found = {}
    for precision in ("float32", "bfloat16"):
        task = small(model=str(encoder_folders["Bert"]), epochs=3, lr=0.03, max_tokens=32, precision=precision)
        split, _ = task.load(0)
        model = task.train(split, None, 0)
        view = task.view(model, split)
        assert view.features.dtype == torch.float32
        assert view.gradients.rows(slice(None)).dtype == torch.float32
        found[precision] = view.probs
    assert np.abs(found["float32"] - found["bfloat16"]).max() > 0
    assert np.corrcoef(found["float32"][:, 1], found["bfloat16"][:, 1])[0, 1] > 0.9


def test_the_module_is_the_encoder_as_it_was_trained(glue: Path) -> None:  # noqa: F811
    """It gives the probabilities that methods see, even after another training, and its layers have EK-FAC scores."""
    task = small(epochs=3)
    split, _ = task.load(0)
    view = task.view(task.train(split, None, 0), split)
    model = view.model

    task.train(split, None, 1)

    logits = model(**view.inputs)
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), view.probs, rtol=1e-4, atol=1e-6)
    scores = harness.method("ekfac_self_influence", layers="all").score(view)
    assert np.isfinite(scores).all()
    head = harness.method("trak", layers="*classifier*").score(view)
    assert np.corrcoef(head, harness.method("trak").score(view))[0, 1] > 0.99


def test_retraining_as_often_as_there_are_samples_is_declined(glue: Path) -> None:  # noqa: F811
    task = small()
    split, _ = task.load(0)
    view = task.view(task.train(split, None, 0), split).fresh(0, training(task, split, 0, 0))
    with pytest.raises(Unsupported, match="glue_sst2 allows 10 retrainings for one method's scores; 121 were asked"):
        harness.method("leave_one_out").score(view)


@pytest.mark.slow
def test_from_the_command_line_to_figure_3(
    glue: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    sizes = "n_train=100,n_dev=60,n_validation=40,epochs=2"
    run = ["run", "--methods", "all,-leave_one_out", "--preset", "smoke", "--out", str(out)]
    assert main([*run, "--tasks", f"glue_mrpc[{sizes}]", "--seeds", "2"]) == 0
    paper = f"glue_mrpc[{sizes.replace('n_validation=40', 'n_validation=0')}]"
    assert main([*run, "--tasks", paper, "--seeds", "1", "--protocol", "paper"]) == 0
    frame = harness.load_results(out)
    skipped = frame[frame["status"] != "ok"]
    assert set(skipped["method"]) == {"data_oob", "datamodels", "clean_probe", "knn_shapley", "tracin_cp", "trak"}
    assert skipped["error"].str.contains("allows 10 retrainings|no reference set 'validation'").all()
    curves = frame[frame["metric"] == "accuracy_by_epoch"].set_index(["protocol", "method", "seed", "step"])["value"]
    last = frame[frame["metric"] == "accuracy"].set_index(["protocol", "method", "seed"])["value"]
    assert set(curves.index.get_level_values("step")) == {1, 2}
    assert len(curves) == 2 * len(last)
    for key, value in last.items():
        assert curves[(*key, 2)] == value
    assert frame.loc[frame["metric"] == "accuracy", "step"].isna().all()
    capsys.readouterr()
    picture = tmp_path / "figure3.png"
    assert main(["report", str(out), "--figure", "3", "--output", str(picture)]) == 0
    assert picture.stat().st_size > 20_000
    assert main(["report", str(out), "--table", "figure3"]) == 0
    text = capsys.readouterr().out
    assert "# Figure 3: Accuracy after the last epoch" in text
    assert "| printed" not in text.lower()  # the paper prints no numbers of this figure
    assert text.count("## Protocol") == 2
    assert main(["compare", str(out), str(out)]) == 0


def test_scores_on_several_layers(glue: Path) -> None:  # noqa: F811
    task = small(epochs=3)
    split, _ = task.load(derive("data", task.name, 0))
    view = task.view(task.train(split, None, 0), split)
    found = {layers: harness.method("outlier_l2", layers=layers).score(view) for layers in ("last", "all", "*lora_B")}
    np.testing.assert_allclose(found["last"], view.gradients["head"].norm(2), rtol=1e-6)
    parts = [block.norm(2) ** 2 for name, block in view.gradients.items() if name != "head"]
    np.testing.assert_allclose(found["all"] ** 2, found["last"] ** 2 + sum(parts).numpy(), rtol=1e-5)
    assert np.all(found["*lora_B"] < found["all"])


@pytest.mark.slow
@pytest.mark.data
def test_smoke_on_the_real_sentences_tells_wrong_labels_from_right(offline: None) -> None:  # noqa: F811
    task = harness.task("glue_sst2", preset="smoke")
    try:
        task.check()
    except RequestError as error:
        pytest.skip(str(error))
    split, truth = task.load(1)
    model = task.train(split, None, 1)
    assert model.history[-1] > 0.6
    scores = harness.method("self_confidence").score(task.view(model, split))
    assert roc_auc_score(split.train.labels.numpy() != truth, scores) > 0.65
