"""kronfluence's attributions: influence and self-influence with factored curvatures."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from harness.selection.registry import register_method
from methods._libraries import Handed, LibraryMethod, numbers
from methods.influence import check_damping

if TYPE_CHECKING:
    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class Kronfluence(LibraryMethod):
    """Attributions by the library kronfluence.

    Args:
        strategy: the curvature: ``ekfac``, ``kfac``, its ``diagonal``, or the ``identity``.
        fisher: labels ``sampled`` from the model's probabilities, or the given labels (``empirical``).
        damping: λ, or ``auto`` for a tenth of each layer's mean eigenvalue.
        batch_size: samples that the library takes at a time.
    """

    name: ClassVar[str] = "kronfluence"
    title: ClassVar[str] = "kronfluence"
    source: ClassVar[str] = "kronfluence (github.com/pomonam/kronfluence); Grosse et al. 2023"
    requires: ClassVar[tuple[str, ...]] = ("kronfluence",)
    needs: ClassVar[str] = "pip install 'influence-harness[kronfluence]'"

    strategy: Literal["ekfac", "kfac", "diagonal", "identity"] = "ekfac"
    fisher: Literal["sampled", "empirical"] = "sampled"
    damping: float | Literal["auto"] = "auto"
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_damping(self.damping)

    @property
    def full_title(self) -> str:
        return f"kronfluence, {self.strategy}{' on itself' if self.of == 'self' else ''}"

    def harm(self, view: View) -> np.ndarray:
        return -self._scores(Handed.of(view, self.layers, self.reference), itself=False)

    def on_itself(self, view: View) -> np.ndarray:
        return self._scores(Handed.of(view, self.layers, None), itself=True)

    def _scores(self, handed: Handed, itself: bool) -> np.ndarray:
        from kronfluence import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments, ScoreArguments

        task = _task(handed.layers)
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer(
                "harness",
                prepare_model(handed.model, task),
                task,
                cpu=handed.train.tensors[0].device.type == "cpu",
                output_dir=folder,
                disable_tqdm=True,
                disable_model_save=True,
                log_level=40,
            )
            analyzer.fit_all_factors(
                "factors",
                handed.train,
                per_device_batch_size=self.batch_size,
                factor_args=FactorArguments(self.strategy, use_empirical_fisher=self.fisher == "empirical"),
            )
            arguments = ScoreArguments(damping_factor=None if self.damping == "auto" else float(self.damping))
            if itself:
                analyzer.compute_self_scores(
                    "scores",
                    "factors",
                    handed.train,
                    per_device_train_batch_size=self.batch_size,
                    score_args=arguments,
                )
                return numbers(analyzer.load_self_scores("scores")["all_modules"]).ravel()
            analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                query_dataset=handed.held,
                train_dataset=handed.train,
                per_device_query_batch_size=self.batch_size,
                per_device_train_batch_size=self.batch_size,
                score_args=arguments,
            )
            return numbers(analyzer.load_pairwise_scores("scores")["all_modules"])


def _task(layers: list[str]) -> Any:
    """kronfluence's description of a classification: losses of a batch, and the layers."""
    import torch
    from kronfluence.task import Task
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy

    class Classification(Task):  # type: ignore[misc]  # kronfluence is not installed where types are checked
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            *inputs, labels = batch
            logits = model(*inputs)
            if sample:
                labels = torch.multinomial(logits.detach().softmax(1), 1).flatten()
            return cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return layers

    return Classification()
