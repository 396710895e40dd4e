"""Attribution tasks that are checked against retraining: attributions say what models without some samples would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import RequestError, Unsupported
from harness.interfaces.params import at_least
from harness.interfaces.split import Samples, Split
from harness.interfaces.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from harness.interfaces.outputs import Outputs


@dataclass(frozen=True)
class LdsTask(Task):
    """A mixin that makes an attribution task of a task with labels.

        @harness.register_task
        @dataclass(frozen=True)
        class LdsMine(LdsTask, Mine):
            name: ClassVar[str] = "lds_mine"

    Models are trained on random parts of the training samples. A part's predicted loss on a test sample is the sum of
    the attributions of the part's samples to the test sample. The linear datamodelling score (LDS) is Spearman's
    correlation of predicted and actual losses over the parts, as a mean over the test samples (Park et al., ICML 2023,
    definition 2.3).

    Then, for single test samples, the training samples that a method calls most helpful are removed, and a model is
    trained without them (Ilyas et al., ICML 2022, section 4.1). Both kinds of models start from the weights of the
    seed's base model, or, in repetition, from other weights.

    Methods see the gradients of every layer, ``layers=all``, where the task gives a torch module.

    Args:
        budget: share of the training samples that is removed for one test sample.
        retrain: train models without the most helpful samples. With ``no``, only the LDS is measured.
        asked: number of test samples that methods attribute to: the first ones of the test set.
        subsets: number of random parts of the training samples.
        kept: share of the training samples in a part.
        repeats: models per part, each from its own initial weights. The actual loss is their mean.
        probed: for so many of the asked test samples, the first ones that the base model classifies rightly, the
            most helpful training samples are removed.

    Raises:
        ValueError: a parameter is out of its range.
    """

    source: ClassVar[str] = "Park et al., ICML 2023 (LDS); Ilyas et al., ICML 2022 (counterfactuals)"
    attributes: ClassVar[bool] = True
    method_params: ClassVar[Mapping[str, Any]] = {"reference": "test", "sign": 1}

    budget: float = 0.1
    asked: int = 50
    subsets: int = 100
    kept: float = 0.5
    repeats: int = 4
    probed: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, asked=1, subsets=3, repeats=1, probed=0)
        if not 0 < self.kept < 1:
            raise ValueError(f"kept={self.kept} must be a share between 0 and 1")
        if self.repair != "remove":
            raise ValueError(f"repair={self.repair} has no meaning here: helpful samples are removed, not relabelled")

    def load(self, seed: int) -> tuple[Split, Any]:
        """The data of the other base class, with labels as classes and the asked test samples as a reference set."""
        split, truth = super().load(seed)  # type: ignore[safe-super]  # the other base class loads
        if len(split.test) < self.asked:
            raise RequestError(
                f"{self.name}[asked={self.asked}] needs so many test samples; there are {len(split.test)}"
            )
        train, test = (
            replace(samples, classes=samples.labels.cpu().numpy().astype(np.int64))
            for samples in (split.train, split.test.first(self.asked))
        )
        return replace(split, train=train, references={**split.references, "test": test}), truth

    def seen(self, model: Any, split: Split, samples: Samples) -> Outputs:
        """As of the other base class, with gradients in the layers below the last one."""
        made = super().seen(model, split, samples)
        if made.blocks is not None or made.probs is None or made.probs.shape[1] == 1:
            return made
        try:
            module = self.module(model, split)
        except Unsupported:
            return made
        below = _below_the_head(module)
        if not below:
            return made
        return replace(
            made, blocks=partial(_gradients, module, self.module_inputs(samples), samples.labels, below), with_head=True
        )


def _below_the_head(module: Any) -> list[str]:
    """The names of the parameters that do not belong to the last linear layer; empty if there is no such layer."""
    from torch import nn

    if not isinstance(module, nn.Module):
        return []
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        return []
    head = f"{linear[-1]}." if linear[-1] else ""
    return [name for name, _ in module.named_parameters() if not name.startswith(head)]


def _gradients(module: Any, inputs: Any, labels: Tensor, parameters: Sequence[str]) -> dict[str, Tensor]:
    from harness.gradients.per_sample import per_sample_gradients

    return per_sample_gradients(module, inputs, labels, parameters)
