"""Outlier detectors of scikit-learn or PyOD, or with their interface: ``ECOD``, ``module:Class(parameter=value)``."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import RequestError, Unsupported, did_you_mean
from harness.randomness import global_seed
from harness.selection.versions import own_file

SKLEARN = {
    "LocalOutlierFactor": "sklearn.neighbors",
    "IsolationForest": "sklearn.ensemble",
    "OneClassSVM": "sklearn.svm",
    "SGDOneClassSVM": "sklearn.linear_model",
    "EllipticEnvelope": "sklearn.covariance",
    "KernelDensity": "sklearn.neighbors",
    "GaussianMixture": "sklearn.mixture",
}


@dataclass(frozen=True)
class Detector:
    """A detector class, given by name, with the keyword arguments to construct the class with.

    Args:
        module: the module of the class. Empty for scikit-learn and PyOD, whose classes are found by name.
        name: the name of the class.
        params: keyword arguments of the class.
    """

    module: str
    name: str
    params: dict[str, Any]

    def load(self) -> Any:
        """The class.

        Raises:
            RequestError: the class is not found, is no detector, or does not take the given parameters.
        """
        module = self.module or SKLEARN.get(self.name) or _pyod_module(self.name)
        try:
            cls = getattr(importlib.import_module(module), self.name, None)
        except ImportError as error:
            if self.module or self.name in SKLEARN:
                raise RequestError(
                    f"detector={self.module}:{self.name}: {module} cannot be imported: {error}"
                ) from None
            raise RequestError(
                f"detector={self.name} is not there{did_you_mean(self.name, SKLEARN)}; give module:Class, one of "
                f"{', '.join(SKLEARN)}, or with PyOD (pip install pyod) one of its detectors, such as ECOD"
            ) from None
        except Exception as error:  # a module may raise anything when it is imported
            raise RequestError(f"detector={self.module}:{self.name}: {module} cannot be imported: {error}") from error
        if cls is None:
            public = [key for key in vars(importlib.import_module(module)) if key[:1].isupper()]
            upper = next((key for key in public if key.lower() == self.name.lower()), None)
            near = f" (did you mean {upper!r}?)" if upper else did_you_mean(self.name, public)
            raise RequestError(f"detector={module}:{self.name} is not there{near}")
        if not inspect.isclass(cls) or not hasattr(cls, "fit"):
            raise RequestError(f"detector={self.module}:{self.name} is no class with fit")
        asked = list(inspect.signature(cls).parameters.values())
        needed = [p.name for p in asked if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        lacking = [name for name in needed if name not in self.params]
        if lacking:
            raise RequestError(f"detector={self.name} needs {', '.join(lacking)}: write {self.name}({lacking[0]}=…)")
        if cls.__module__.startswith("sklearn.") and not hasattr(cls, "score_samples"):
            raise RequestError(f"detector={self.name} is no detector of outliers: it has no score_samples")
        unknown = next((key for key in self.params if key not in inspect.signature(cls).parameters), None)
        if unknown is not None:
            known = list(inspect.signature(cls).parameters)
            raise RequestError(
                f"detector={self.name} has no parameter {unknown!r}{did_you_mean(unknown, known)}; its parameters: "
                f"{', '.join(known)}"
            )
        return cls

    def file_version(self) -> str:
        """A hash of the module's file, for a user's own module; empty for an installed one. Nothing is imported."""
        file = own_file(self.module) if self.module else None
        return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()[:10]

    def scores(self, points: np.ndarray, seed: int) -> np.ndarray:
        """The outlier score of each point, (n,), higher = more outlying.

        Args:
            points: (n, p). The detector is fitted to these points.
            seed: seeds the global random generators during the fit; their state is restored afterwards. If the
                detector takes a ``random_state`` and ``params`` gives none, the seed is its ``random_state``.
        """
        cls = self.load()
        params = dict(self.params)
        if "random_state" in inspect.signature(cls).parameters:
            params.setdefault("random_state", seed)
        with global_seed(seed):  # some detectors draw from NumPy's or torch's
            fitted = cls(**params)
            try:
                fitted.fit(points)
            except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                raise Unsupported(f"{self.name} cannot be fitted to these gradients: {error}") from error
            if hasattr(fitted, "decision_scores_"):  # PyOD: of the samples fitted to
                return np.asarray(fitted.decision_scores_, dtype=np.float64)
            if hasattr(fitted, "negative_outlier_factor_"):
                return -np.asarray(fitted.negative_outlier_factor_, dtype=np.float64)
            if hasattr(fitted, "score_samples"):  # scikit-learn: higher = more normal
                try:
                    return -np.asarray(fitted.score_samples(points), dtype=np.float64)
                except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                    raise Unsupported(f"{self.name} cannot score these gradients: {error}") from error
        raise TypeError(f"{self.name} has no decision_scores_, negative_outlier_factor_ or score_samples after fit")


def _pyod_module(name: str) -> str:
    """The PyOD module of a class: the class name in small letters, in some modules with underscores."""
    guess = f"pyod.models.{name.lower()}"
    if importlib.util.find_spec("pyod") is None:
        return guess
    folder = importlib.util.find_spec("pyod.models")
    places = folder.submodule_search_locations if folder is not None else None
    names = [module.name for module in pkgutil.iter_modules(places)]
    return next((f"pyod.models.{m}" for m in names if m.replace("_", "") == name.lower().replace("_", "")), guess)


def parse(text: str) -> Detector:
    """Read ``Class``, ``module:Class`` or either with ``(parameter=value,...)``; nothing is imported.

    Raises:
        ValueError: the text has another form.
    """
    match = re.fullmatch(r"(?:([^\W\d]\w*(?:\.\w+)*):)?(\w+)(?:\((.*)\))?", text.strip(), re.DOTALL)
    wrong = f"detector={text} is not valid; write Class, module:Class or module:Class(parameter=value,...)"
    if match is None:
        raise ValueError(wrong)
    module, name, inside = match.groups()
    try:
        call = ast.parse(f"f({inside or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(wrong)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError(wrong)
        params = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise ValueError(wrong) from None
    return Detector(module or "", name, params)
