"""Per-sample gradients of inputs and outputs of any form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from harness.errors import RequestError
from tests.any_model import C, D, N, X, drawn, linear, network, seeded


def test_inputs_as_arrays_lists_and_mappings() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, C)

        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, flip: bool = False) -> Tensor:
            x = -x if flip else x
            return self.head(x * scale if mask is None else x * mask * scale)

    model, x, y = seeded(Two), drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(model, x, y)
    same: dict[str, Any] = {
        "NumPy": x.numpy(),
        "float64 NumPy, big-endian": x.numpy().astype(">f8"),
        "a list of rows": x.tolist(),
        "a tuple of arguments": (x, None, 1.0, False),
        "a mapping": {"x": x, "mask": None, "scale": 1, "flip": False},
        "a mask for all samples": {"x": x, "mask": torch.ones(1, D)},
        "NumPy by name": {"x": x.numpy(), "mask": np.ones((N, D))},
    }

    for name, inputs in same.items():
        for targets in (y, y.numpy().astype(np.int32), y.tolist()):
            found = harness.per_sample_gradients(model, inputs, targets)
            torch.testing.assert_close(found["head.weight"], expected["head.weight"], msg=name)
    flipped = harness.per_sample_gradients(model, {"x": x, "flip": True}, y)
    torch.testing.assert_close(flipped, harness.per_sample_gradients(model, -x, y))


class Wrapped(nn.Module):
    """A model whose output comes in some form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.head, self.form = nn.Linear(D, C), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.head(x))


def test_outputs_as_tuples_mappings_and_objects() -> None:
    from transformers.modeling_outputs import SequenceClassifierOutput

    x, y = drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(seeded(lambda: Wrapped(lambda o: o)), x, y)
    forms: dict[str, Callable[[Tensor], Any]] = {
        "tuple": lambda o: (o, None),
        "list": lambda o: [o],
        "mapping": lambda o: {"hidden": o * 2, "logits": o},
        "one in a mapping": lambda o: {"scores": o},
        "Hugging Face": lambda o: SequenceClassifierOutput(logits=o),
    }
    for name, form in forms.items():
        model = seeded(lambda form=form: Wrapped(form))
        torch.testing.assert_close(harness.per_sample_gradients(model, x, y), expected, msg=name)

    def mean(output: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets)

    torch.testing.assert_close(harness.per_sample_gradients(model, x, y, loss=mean), expected)


def test_wrapped_models_and_inference_mode() -> None:
    model, x, y = network(), drawn(N, D), torch.arange(N) % C
    expected = harness.per_sample_gradients(model, x, y)

    wrapped = harness.per_sample_gradients(nn.DataParallel(model), x, y, layers="module.0")
    with torch.inference_mode():
        inside = harness.per_sample_gradients(model, x + 0, y + 0)

    assert list(wrapped) == ["module.0.weight", "module.0.bias"]
    torch.testing.assert_close(wrapped["module.0.weight"], expected["0.weight"])
    torch.testing.assert_close(inside, expected)


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        (drawn(5, D), torch.zeros(3, dtype=torch.long), "targets has 3 rows, inputs has 5"),
        (drawn(3, D), torch.zeros(5, dtype=torch.long), "targets has 5 rows, inputs has 3"),
        (drawn(1, D), torch.zeros(5, dtype=torch.long), "targets has 5 rows, inputs has 1"),
        ({"x": drawn(5, D), "mask": drawn(4, D)}, torch.zeros(5, dtype=torch.long), r"inputs\['mask'\] has 4"),
        ({"scale": 1.0}, torch.zeros(5, dtype=torch.long), "they hold no tensor"),
        (drawn(5, D), torch.tensor(3), "single value"),
        (drawn(5, D), ["cat"] * 5, "targets must be an array of numbers"),
        (drawn(5, D + 1), torch.zeros(5, dtype=torch.long), "cannot run on one sample: RuntimeError"),
        (drawn(5, D), torch.zeros(5, 3, 2), "cross-entropy needs logits"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(inputs: Any, targets: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        harness.per_sample_gradients(linear(), inputs, targets)


def test_models_that_have_no_gradient_are_refused_in_a_sentence() -> None:
    x, y = drawn(5, D), torch.zeros(5, dtype=torch.long)
    with torch.inference_mode():
        made_inside = linear()
    with pytest.raises(RequestError, match="inference_mode"):
        harness.per_sample_gradients(made_inside, x, y)
    with pytest.raises(RequestError, match="no parameter"):
        harness.per_sample_gradients(nn.Flatten(), x, y)
    with pytest.raises(RequestError, match="without logits"):
        harness.per_sample_gradients(seeded(lambda: Wrapped(lambda o: {"a": o, "b": o})), x, y)
    with pytest.raises(RequestError, match="must give a tensor of losses"):
        harness.per_sample_gradients(linear(), x, y, loss=lambda o, t: 1.0)


def test_what_arrays_are_taken_for() -> None:
    """Targets take the precision of the model, scalars go to every sample, rows may be tensors."""
    model = seeded(lambda: nn.Linear(D, 1))
    wanted = np.random.default_rng(0).random((60, 1))
    loss = nn.HuberLoss(reduction="none")
    expected = harness.per_sample_gradients(model, X[:60], torch.tensor(wanted).float(), loss=loss)

    rows = [row.clone().requires_grad_() for row in X[:60]]
    torch.testing.assert_close(harness.per_sample_gradients(model, rows, wanted, loss=loss), expected)
    torch.testing.assert_close(
        harness.per_sample_gradients(model, {"input": X[:60].to_sparse()}, wanted, loss=loss), expected
    )
    nothing = harness.per_sample_gradients(model, np.zeros((0, D)), np.zeros((0, 1)), loss=loss)
    assert nothing["weight"].shape == (0, 1, D)
    view = harness.View.from_blocks({"w": torch.ones(5, 3), "temperature": torch.ones(5)})
    np.testing.assert_allclose(harness.method("outlier_l1").score(view), 4)
