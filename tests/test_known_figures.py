"""Figures that were computed elsewhere, from probabilities of others' networks on all of CIFAR-10N."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import harness
from tasks._cifar_files import read_human_labels

MARGIN = "normalized_margin"
ENTROPY = "confidence_weighted_entropy"
METHODS = (
    f"self_confidence,{MARGIN},{ENTROPY},argmax_disagrees[probs=in_sample],"
    "confident_learning[probs=in_sample,filter_by=prune_by_noise_rate|confident_learning]"
)
ISSUES, JOINT = (
    f"confident_learning[probs=in_sample{filter_by}]" for filter_by in ("", ",filter_by=confident_learning")
)

FIGURES = {
    "worst_resnet18": ((0.963, 0.967, 0.954), 1.000, (0.874, 0.883), (0.884, 0.774, 0.849)),
    "worst_resnet50d": ((0.976, 0.980, 0.968), 1.000, (0.903, 0.916), None),
    "worst_swin_base": ((0.991, 0.992, 0.987), 1.000, (0.948, 0.954), (0.953, 0.892, 0.924)),
    "aggregate_resnet18": ((0.977, 0.977, 0.974), 0.953, (0.792, 0.790), (0.747, 0.571, 0.673)),
    "aggregate_swin_base": ((0.996, 0.996, 0.995), 0.996, (0.932, 0.934), (0.929, 0.700, 0.763)),
}
"""AUROC of the three scores; precision of self-confidence at 5 %; precision of self-confidence and of the margin at the
number of errors; F1 of argmax ≠ given, of confident learning's joint, and of pruning by noise rate."""

ESTIMATED = {"worst_resnet18": 0.369, "aggregate_resnet18": 0.056}
"""The share of wrong labels that confident learning estimates."""


@pytest.mark.data
@pytest.mark.parametrize("name", FIGURES)
def test_probabilities_of_other_networks(data_dir: Path, tmp_path: Path, name: str) -> None:
    source = data_dir / "cifar10n_pred_probs" / f"{name}.npz"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    human = read_human_labels(data_dir / "CIFAR-10_human.pt")
    labels = human["worse_label" if name.startswith("worst") else "aggre_label"]
    with np.load(source) as arrays:
        np.savez(tmp_path / "data.npz", probs=arrays["probs"], labels=labels, true_labels=human["clean_label"])
    task = f"arrays[path={tmp_path / 'data.npz'},budget=0.05]"

    frame = harness.run(METHODS, task, 1, out=tmp_path / "out")

    values = frame.pivot_table(index="method_spec", columns="metric", values="value")
    auroc, precision, at_errors, f1 = FIGURES[name]
    close = 0.0011  # both sides are rounded
    assert values["auroc"].loc[["self_confidence", MARGIN, ENTROPY]].tolist() == pytest.approx(auroc, abs=close)
    assert values.loc["self_confidence", "precision"] == pytest.approx(precision, abs=close)
    found = values["precision_at_errors"].loc[["self_confidence", MARGIN]].tolist()
    assert found == pytest.approx(at_errors, abs=close)
    if f1:
        own = values["own_f1"].loc[["argmax_disagrees[probs=in_sample]", JOINT, ISSUES]].tolist()
        assert own == pytest.approx(f1, abs=close)
    if name in ESTIMATED:
        assert values.loc[ISSUES, "estimated_errors"] == pytest.approx(ESTIMATED[name], abs=close)
