"""TRAK by its authors' library, traker."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.selection.registry import register_method
from methods._libraries import Handed, LibraryMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.interfaces.view import View


@register_method
@dataclass(frozen=True)
class Traker(LibraryMethod):
    """TRAK by the authors' library traker, with one model.

    Args:
        projected: the dimension that gradients are projected to.
        damping: λ, which traker adds to the diagonal of ΦᵀΦ.
        batch_size: samples that the library takes at a time.
    """

    name: ClassVar[str] = "traker"
    title: ClassVar[str] = "traker"
    source: ClassVar[str] = "traker (github.com/MadryLab/trak); Park et al., ICML 2023"
    requires: ClassVar[tuple[str, ...]] = ("trak",)
    needs: ClassVar[str] = "pip install 'influence-harness[traker]'"

    projected: int = 512
    damping: float = 0.0
    batch_size: int = 256

    def harm(self, view: View) -> np.ndarray:
        from torch.utils.data import DataLoader
        from trak import TRAKer
        from trak.projectors import NoOpProjector

        handed = Handed.of(view, self.layers, self.reference)
        chosen = [
            name
            for name, values in handed.model.named_parameters()
            if name.rpartition(".")[0] in handed.layers and values.requires_grad
        ]
        total = sum(values.numel() for name, values in handed.model.named_parameters() if name in chosen)
        device = str(handed.train.tensors[0].device)  # traker compares it with the word "cpu"
        with tempfile.TemporaryDirectory() as folder:
            traker = TRAKer(
                handed.model,
                _margin(),
                len(handed.train),
                save_dir=folder,
                device=device,
                projector=NoOpProjector(total, total, 0, "rademacher", device) if total <= self.projected else None,
                proj_dim=min(total, self.projected),
                use_half_precision=False,
                projector_seed=view.seed % 2**31,
                grad_wrt=chosen,
                lambda_reg=self.damping,
                logging_level=logging.ERROR,
            )
            traker.load_checkpoint(handed.model.state_dict(), model_id=0)
            for batch in DataLoader(handed.train, batch_size=self.batch_size):
                traker.featurize(batch, num_samples=len(batch[-1]))
            traker.finalize_features()
            traker.start_scoring_checkpoint("harness", handed.model.state_dict(), 0, num_targets=len(handed.held))
            for batch in DataLoader(handed.held, batch_size=self.batch_size):
                traker.score(batch, num_samples=len(batch[-1]))
            return -np.asarray(traker.finalize_scores("harness"), dtype=np.float64).T


def _margin() -> Any:
    """traker's model output log(p/(1 − p)), for models of any number of positional inputs."""
    import torch
    from torch.func import functional_call
    from trak.modelout_functions import AbstractModelOutput

    from methods._network import margins

    class Margin(AbstractModelOutput):  # type: ignore[misc]  # traker is not installed where types are checked
        def __init__(self) -> None:
            pass

        @staticmethod
        def get_output(model: nn.Module, weights: Any, buffers: Any, *sample: Tensor) -> Tensor:
            *inputs, label = (values.unsqueeze(0) for values in sample)
            return margins(functional_call(model, (weights, buffers), tuple(inputs)), label).sum()

        def get_out_to_loss_grad(self, model: nn.Module, weights: Any, buffers: Any, batch: Any) -> Tensor:
            *inputs, labels = batch
            logits = functional_call(model, (weights, buffers), tuple(inputs))
            doubts: Tensor = 1 - logits.softmax(1)[torch.arange(len(labels)), labels]
            return doubts.detach().unsqueeze(1)

    return Margin()
