"""Label errors in a user's own data: folds, classes, duplicates, the page, and the task in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.errors import RequestError
from harness.finding.ask import find_errors
from harness.finding.duplicates import duplicates
from harness.interfaces.view import View
from reports.found_page import found_page
from reports.found_text import found_text
from tasks._own_folds import folds_of
from tests.command_line import call
from tests.own_data import cancer, f1, in_order


def test_folds_are_stratified_and_keep_groups_together() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 203, p=[0.5, 0.3, 0.18, 0.02])
    fold = folds_of(labels, None, 5, 1)
    for label in range(4):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    groups = rng.integers(0, 40, 203).astype(str)
    fold = folds_of(labels, groups, 5, 1)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    with pytest.raises(RequestError, match="folds=5 needs 5 groups, and there are 2"):
        folds_of(labels, np.where(labels > 1, "a", "b"), 5, 0)


def test_groups_are_not_judged_by_their_own_twins() -> None:
    """With every row there twice, a wrong label is found only if the twin is in the same fold."""
    table, wrong = cancer(0.15)
    twice = pd.concat([table, table], ignore_index=True).assign(patient=np.tile(np.arange(len(table)), 2))
    both = np.tile(wrong, 2)
    alone = f1(in_order(harness.find(twice, "diagnosis", groups="patient", model="boosting"), "probably_wrong"), both)
    leaky = f1(in_order(harness.find(twice, "diagnosis", ignore=["patient"], model="boosting"), "probably_wrong"), both)
    assert alone > 0.8
    assert alone > leaky


def test_rare_classes_are_not_judged() -> None:
    table, _ = cancer(0)
    table.loc[[0, 1], "diagnosis"] = "unclear"
    frame = harness.find(table, "diagnosis")
    assert not frame.loc[[0, 1], "probably_wrong"].any()
    assert list(frame.index[-2:]) == [0, 1]
    assert "Not judged are 2 samples, because their classes have samples in fewer than 3 folds: unclear." in " ".join(
        frame.attrs["notes"]
    )


def test_many_classes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, 16)) * 4
    labels = np.repeat(np.arange(200), 10)
    given = labels.copy()
    given[:40] = rng.permutation(given)[:40]
    frame = harness.find(centres[labels] + rng.normal(size=(2000, 16)), given)
    assert f1(in_order(frame, "probably_wrong"), given != labels) > 0.85


def test_duplicates() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5))
    features[10] = features[0]
    features[20] = features[1] * 1.0000001
    contents = [row.tobytes() for row in features]
    probs = np.full((60, 2), 0.5)
    given = np.array(["a", "b"])[np.arange(60) % 2]

    frame = duplicates(View.from_arrays(features, probs, np.arange(60) % 2), contents, np.arange(60) + 100, given)

    assert frame[["row", "kind", "labels_differ"]].values.tolist() == [
        [101, "near", True],
        [120, "near", True],
        [100, "exact", False],
        [110, "exact", False],
    ]
    assert frame["set"].tolist() == [1, 1, 2, 2]


def test_the_page_and_the_text_show_untrusted_values_as_they_are(tmp_path: Path) -> None:
    table, _ = cancer()
    table["note"] = "<script>alert(1)</script> \x1b[31mred and some more words here"
    table["diagnosis"] = table["diagnosis"].replace("benign", '"><b>benign')
    found = find_errors(table, "diagnosis", compare="self_confidence", seeds=1)
    page, text = found_page(found), found_text(found)
    assert "<script>alert" not in page
    assert "<b>benign" not in page
    assert "\x1b" not in text
    assert "http" not in page.split("<body>")[0]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_task_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`own` is a task as others are: methods are crossed with it, and results are stored and listed."""
    table, _ = cancer()
    path = tmp_path / "my data, [v2] | 3.csv"
    table.to_csv(path, index=False)
    task = f'own[path="{path}",labels=diagnosis]'
    frame = harness.run("self_confidence,outlier_l2,random", task, 2, out=tmp_path / "o")
    assert set(frame["status"]) == {"ok"}
    code, out, err = call(
        capsys, "suspects", str(tmp_path / "o"), "--method", "self_confidence", "--top", "3", "--format", "csv"
    )
    assert code == 0, err
    assert out.startswith("rank,index,suspicion")
