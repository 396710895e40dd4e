"""``outlier``: any detector of scikit-learn's or PyOD's interface on the gradients."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor

import harness
from harness.cli import main
from harness.errors import RequestError
from harness.selection.plan import make_plan
from harness.selection.registry import METHODS
from tests.conftest import last_layer, view_of


def points(view: harness.View) -> np.ndarray:
    return view.gradients.rows(slice(None)).float().numpy()


@pytest.fixture
def view() -> harness.View:
    return view_of(last_layer(60, 3, 4), bias=True, seed=11)


def test_the_detectors_own_scores_with_higher_more_outlying(view: harness.View) -> None:
    x = points(view)
    factor = LocalOutlierFactor(n_neighbors=7).fit(x).negative_outlier_factor_
    np.testing.assert_array_equal(
        harness.method("outlier[detector=LocalOutlierFactor(n_neighbors=7)]").score(view), -factor
    )
    forest = IsolationForest(n_estimators=9, random_state=11).fit(x)  # the view's seed
    np.testing.assert_array_equal(
        harness.method("outlier", detector="IsolationForest(n_estimators=9)").score(view), -forest.score_samples(x)
    )
    mixture = GaussianMixture(2, random_state=3).fit(x)
    np.testing.assert_array_equal(
        harness.method("outlier[detector=sklearn.mixture:GaussianMixture(n_components=2,random_state=3)]").score(view),
        -mixture.score_samples(x),
    )


@pytest.mark.parametrize("name", ["ECOD", "COPOD", "HBOS", "pyod.models.knn:KNN(n_neighbors=3)"])
def test_pyod(view: harness.View, name: str) -> None:
    pytest.importorskip("pyod", reason="PyOD is not installed")
    import importlib

    cls = name.split(":")[-1].split("(")[0]
    params: dict[str, Any] = {"n_neighbors": 3} if cls == "KNN" else {}
    theirs = getattr(importlib.import_module(f"pyod.models.{cls.lower()}"), cls)(**params).fit(points(view))
    np.testing.assert_array_equal(harness.method("outlier", detector=name).score(view), theirs.decision_scores_)


def test_large_gradients_are_projected() -> None:
    view = view_of(last_layer(50, 5, 300), seed=2)
    scores = harness.method("outlier").score(view)
    assert view.health["dimension"] == 256
    exact = harness.method("outlier[projection=none]").score(view)
    assert view.health["dimension"] == 1500
    assert np.corrcoef(scores, exact)[0, 1] > 0.8
    harness.method("outlier[projection=10]").score(view)
    assert view.health["dimension"] == 10
    # the distances are kept to about a tenth
    from methods._projection import projection

    x, z = points(view), view.gradients.project(projection(view.gradients, 256, 2)).numpy()
    ours, theirs = (np.linalg.norm(a[:25] - a[25:], axis=1) for a in (z, x))
    assert np.abs(ours / theirs - 1).max() < 0.25


@pytest.mark.parametrize(
    ("detector", "sentence"),
    [
        ("ECOD(", "unbalanced brackets"),
        ("ECOD(3)", r"write Class, module:Class or module:Class\(parameter=value,...\)"),
        ("a b", "write Class, module:Class"),
        ("ECOD(x=open('f'))", "write Class, module:Class"),
        ("LocalOutlierFactr", r"did you mean 'LocalOutlierFactor'..; give module:Class"),
        ("LocalOutlierFactor(k=3)", "has no parameter 'k'; its parameters: n_neighbors"),
        ("sklearn.neighbors:LocalOutlier", r"LocalOutlier is not there .did you mean 'LocalOutlierFactor'"),
        ("no_such_module:X", "no_such_module cannot be imported"),
        ("..:X", "write Class, module:Class"),
        ("LOF(a=1) or LOF(b=2)", "write Class, module:Class"),
        ("LOF(a=1)(b=2)", "write Class, module:Class"),
        ("math:pi", "is no class with fit"),
    ],
)
def test_what_is_not_there_is_said_before_anything_runs(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], detector: str, sentence: str
) -> None:
    import re

    out = tmp_path / "r"
    assert main(["run", "--methods", f"outlier[detector={detector}]", "--out", str(out)]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not out.exists()


def test_a_stored_name_imports_nothing() -> None:
    """Parameters come from results folders too, and those may come from anyone."""
    before = set(sys.modules)
    harness.method("outlier[detector=antigravity:X]")
    assert "antigravity" not in set(sys.modules) - before
    with pytest.raises(RequestError, match="no_antigravity cannot be imported"):
        harness.method("outlier[detector=no_antigravity:X]").check()


def test_detectors_that_draw_from_a_global_generator(view: harness.View, tmp_path: Any, monkeypatch: Any) -> None:
    """The same scores for the same seed, other ones for another, and the generator is left alone (see conftest)."""
    (tmp_path / "careless.py").write_text(
        "import numpy as np\n\nclass Careless:\n    def fit(self, x):\n"
        "        self.decision_scores_ = np.linalg.norm(x, axis=1) + np.random.rand(len(x))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    method = harness.method("outlier[detector=careless:Careless]")
    first = method.score(view)
    np.testing.assert_array_equal(method.score(view), first)
    assert not np.array_equal(method.score(view.fresh(12)), first)


def test_a_changed_detector_makes_results_stale(tmp_path: Any, monkeypatch: Any) -> None:
    """Its own file is part of the key; installed ones are not, nor is anything imported to find out."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_package").mkdir()
    method = harness.method("outlier[detector=own_package.deep:Own]")
    versions = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "own_package" / "deep.py").write_text(text)
        (tmp_path / "own_package" / "__init__.py").write_text("raise RuntimeError('imported')")
        importlib.invalidate_caches()
        versions.append(method.parts_version())
    assert versions[0] != versions[1]
    assert "" not in versions
    for installed in (
        "ECOD",
        "LocalOutlierFactor",
        "sklearn.neighbors:LocalOutlierFactor",
        "json:X",
        "absent.module:X",
    ):
        assert harness.method("outlier", detector=installed).parts_version() == ""
    (cell,) = make_plan("outlier[detector=own_package.deep:Own]", "moons", [0], "fair", "smoke")
    assert cell.versions["method_parts"] == versions[1]


def test_classes_without_scores_are_refused(view: harness.View) -> None:
    method = harness.method("outlier[detector=sklearn.cluster:KMeans(n_clusters=2)]")
    with pytest.raises(RequestError, match="KMeans is no detector of outliers: it has no score_samples"):
        method.score(view)
    with pytest.raises(ValueError, match="projection=0 must be at least 1"):
        METHODS.get("outlier")(projection=0)
    with pytest.raises(harness.Unsupported, match="one sample has none"):
        harness.method("outlier").score(view_of(last_layer(1, 3, 4)))


@pytest.mark.parametrize(
    ("name", "module"), [("AutoEncoder", "auto_encoder"), ("FeatureBagging", "feature_bagging"), ("ECOD", "ecod")]
)
def test_pyods_classes_are_found_where_they_are(name: str, module: str) -> None:
    pytest.importorskip("pyod")
    from methods._detectors import _pyod_module

    assert _pyod_module(name) == f"pyod.models.{module}"


def test_reports_name_the_detector() -> None:
    method = harness.method("outlier[detector=LocalOutlierFactor(n_neighbors=5)]")
    assert method.full_title == "Outlier Gradient (LocalOutlierFactor)"
    assert harness.method("outlier_l2").full_title == "Outlier Gradient (L2)"
