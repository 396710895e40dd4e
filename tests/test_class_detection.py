"""AUC and recall of class detection by hand, and attributions with classes against loops."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import harness
from harness.errors import Unsupported
from harness.interfaces.outputs import Outputs
from harness.interfaces.task import Samples, Split
from harness.interfaces.view import View
from harness.results.class_detection import class_detection
from harness.running.attributing import _with_classes
from reports.figures.heat_maps import Attribution, heat_maps


def test_by_hand() -> None:
    """Three training samples of class 0, two of class 1; a test sample of each. Helpful is negative."""
    classes = np.array([0, 0, 0, 1, 1])
    harm = np.array([[-5.0, -4.0, 1.0, -4.5, 2.0], [-1.0, 3.0, 2.0, -2.0, 0.5]])
    found = class_detection(harm, classes, np.array([0, 1]))
    # test 0: pairs won by class 0: 5 > 4.5 > −2; 4 > −2; −1 > −2: 4 of 6; top three are 5, 4.5, 4: two of three
    # test 1: pairs won by class 1: 2 > all three, −0.5 > −2, −3: 5 of 6; top two are 2 and 1: one of two
    assert found["class_detection_auc"] == pytest.approx((4 / 6 + 5 / 6) / 2)
    assert found["class_detection_auc_std"] == pytest.approx(1 / 12)
    assert found["class_detection_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["class_detection_recall_std"] == pytest.approx(1 / 12)


def test_recall_by_absolute_influence_is_named_apart() -> None:
    """As published: the largest absolute values, harmful or helpful."""
    classes = np.array([0, 0, 0, 1, 1])
    harm = np.array([[-5.0, -4.0, 1.0, -4.5, 6.0]])

    found = class_detection(harm, classes, np.array([0]))

    assert found["class_detection_recall"] == pytest.approx(2 / 3)  # 5, 4.5 and 4
    assert found["class_detection_recall_absolute"] == pytest.approx(1 / 3)  # 6, 5 and 4.5


def test_one_value_a_class() -> None:
    """All samples of a class tie: recall is 0 or 1 a test sample, unless two classes tie at the edge."""
    classes = np.repeat([0, 1, 2], 4)
    harm = np.repeat([[-3.0, 1.0, 2.0], [-3.0, 1.0, 2.0], [-3.0, -3.0, 2.0]], 4, axis=1)
    for row, asked, auc, recall in ((0, 0, 1.0, 1.0), (1, 1, 0.5, 0.0), (2, 1, 0.75, 0.5), (2, 2, 0.0, 0.0)):
        found = class_detection(harm[[row]], classes, np.array([asked]))
        assert (found["class_detection_auc"], found["class_detection_recall"]) == (auc, recall)


def test_ties_count_as_orders_by_chance() -> None:
    rng = np.random.default_rng(0)
    classes = np.array([0, 0, 0, 1, 1, 2])
    for _ in range(20):
        harm = rng.integers(0, 3, 6).astype(float)
        orders = [np.array(order) for order in permutations(range(6))]
        hits = [(classes[order[np.argsort(harm[order], kind="stable")]][:3] == 0).mean() for order in orders]
        found = class_detection(harm[None], classes, np.array([0]))
        assert found["class_detection_recall"] == pytest.approx(np.mean(hits))
        assert found["class_detection_auc"] == pytest.approx(roc_auc_score(classes == 0, -harm))


def test_what_does_not_count() -> None:
    classes = np.array([0, 0, 1])
    harm = np.array([[-1.0, np.nan, 0.0], [0.0, 0.0, 0.0]])
    found = class_detection(harm, classes, np.array([0, 7]))
    assert (found["class_detection_auc"], found["class_detection_recall"]) == (0.5, 0.5)
    assert class_detection(harm[:1], classes, np.array([7])) == {}
    assert class_detection(harm[:1], np.zeros(3), np.array([0])) == {}


def view(reference: int = 6) -> tuple[View, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Gradients of 40 samples of 4 classes and of some test samples, in two blocks."""
    rng = np.random.default_rng(1)
    train = {"a": rng.normal(size=(40, 5)), "b": 0.1 * rng.normal(size=(40, 7))}
    test = {"a": rng.normal(size=(reference, 5)), "b": 0.1 * rng.normal(size=(reference, 7))}

    def outputs(blocks: dict[str, np.ndarray], n: int) -> Outputs:
        return Outputs(torch.zeros(n, dtype=torch.int64), blocks={k: torch.from_numpy(v) for k, v in blocks.items()})

    sets = {"test": lambda: outputs(test, reference)}
    made = View(np.zeros(40, dtype=np.int64), lambda: outputs(train, 40), sets, classes=np.arange(40) % 4, seed=3)
    return made, train, test


def test_a_forest_a_class() -> None:
    made, train, test = view()
    found = harness.method("outlier_iforest").attribute(made)
    points, asked = (np.hstack(list(part.values())).astype(np.float32) for part in (train, test))
    for each in range(4):
        forest = IsolationForest(n_estimators=100, random_state=3).fit(points[np.arange(40) % 4 == each])
        expected = -forest.score_samples(asked)
        for i in np.flatnonzero(np.arange(40) % 4 == each):
            np.testing.assert_allclose(found[:, i], expected, rtol=1e-6)
    assert made.used >= {"classes", "gradients", "reference:test"}


def test_class_means_of_influence() -> None:
    made, _, _ = view()
    plain = harness.method("datainf", reference="test").attribute(made)
    found = harness.method("datainf", reference="test", class_mean=True).attribute(made)
    for i in range(40):
        np.testing.assert_allclose(found[:, i], plain[:, np.arange(40) % 4 == i % 4].mean(1))


def test_cosine() -> None:
    made, train, test = view()
    g, r = (np.hstack(list(part.values())) for part in (train, test))
    expected = -(r @ g.T) / np.outer(np.linalg.norm(r, axis=1), np.linalg.norm(g, axis=1))
    method = harness.method("gradient_tracing", reference="test", similarity="cosine")
    np.testing.assert_allclose(method.attribute(made), expected, rtol=1e-6, atol=1e-9)
    mean = r.mean(0)
    expected = -(g @ mean) / np.linalg.norm(g, axis=1) / np.linalg.norm(mean)
    np.testing.assert_allclose(method.score(made), expected, rtol=1e-6, atol=1e-9)
    zero = View.from_blocks({"a": np.zeros((3, 2))}, {"a": np.ones((2, 2))})
    assert not harness.method("gradient_tracing", similarity="cosine").attribute(zero).any()


def test_classes_are_only_there_where_samples_have_them() -> None:
    with pytest.raises(Unsupported, match="of no classes apart from their labels"):
        harness.method("outlier_iforest").attribute(View.from_blocks({"a": np.ones((3, 2))}, {"a": np.ones((2, 2))}))
    for name in ("self_influence", "outlier_l1", "self_confidence"):
        with pytest.raises(Unsupported, match="one score per training sample and attributes nothing"):
            harness.method(name).attribute(view()[0])


def test_class_means_are_no_scores() -> None:
    with pytest.raises(Unsupported, match="class_mean=yes is for attributions"):
        harness.method("datainf", reference="test", class_mean=True).score(view()[0])


def test_what_diverged_keeps_its_order_when_stored() -> None:
    samples = Samples(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), classes=np.array([0, 1]))
    split = Split(samples, samples, {}, 2)
    usual = _with_classes(np.array([[1.0, 2.0], [np.nan, 0.0]]), split)["attribution"]
    assert usual.dtype == np.float32
    large = _with_classes(np.array([[1e39, 2e39], [0.0, 1.0]]), split)["attribution"]
    assert large[0, 0] < large[0, 1] < np.inf


def test_heat_maps_say_what_they_are_of() -> None:
    def attribution(label: str, names: list[str]) -> Attribution:
        about = {
            "seed": 3, "task": "prompts_math", "task_spec": label, "task_title": "Math",
            "protocol": "fair", "preset": "fast",
            "method_spec": "datainf[class_mean=yes]", "method_title": "DataInf",
        }  # fmt: skip
        classes = np.array([1, 0, 1])
        return Attribution(about, np.arange(9.0).reshape(3, 3), classes, classes, names)

    found = [attribution("prompts_math[model=A]", ["trains", "pizza"]), attribution("prompts_math[model=B]", [])]
    figure = heat_maps(found)
    first, second = (axes for axes in figure.axes if axes.images)
    assert figure.get_suptitle().endswith("dark is helpful, light is harmful (seed 3)")
    assert "Math [model=A]" in first.get_ylabel()
    assert "Math [model=B]" in second.get_ylabel()
    assert first.get_title() == "DataInf\n[class_mean=yes]"
    assert [label.get_text() for label in first.get_yticklabels()] == ["trains", "pizza"]
    assert first.get_yticks().tolist() == [0.0, 1.5]  # one test sample of class 0, two of class 1
    assert list(second.get_yticks()) == []
