"""The conformance checks of methods."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import harness.gradients.products
from harness.conformance.check import Check, CheckFailure
from harness.conformance.hidden_truth import follows_no_truth
from harness.conformance.problem import Problem, certain, problem, without_a_class
from harness.errors import RequestError, Unsupported, did_you_mean
from harness.interfaces.method import Method
from harness.interfaces.params import build, values_of
from harness.interfaces.uses import VOCABULARY, observed
from harness.randomness import global_seed, left_as_found
from harness.running.measuring import largest_tie

if TYPE_CHECKING:
    from harness.interfaces.view import View

TURNED, UNTOLD = 0.4, 0.6
"""Below an AUROC of `TURNED`, a detector's sign is wrong. From `TURNED` to `UNTOLD`, the sign cannot be judged."""

CLOSE = 1e-4
"""Two sets of scores agree if they differ by at most this share of the scores' range."""


def scored(method: Any, view: View) -> np.ndarray:
    """A method's scores, after checks of their shape and type."""
    returned = method.score(view)
    if returned is None:
        raise CheckFailure("score returned None", f"return an array of {view.n} scores")
    if isinstance(returned, torch.Tensor) and returned.requires_grad:
        raise CheckFailure("the scores are a tensor that requires grad", "return scores.detach().cpu().numpy()")
    try:
        scores = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CheckFailure(f"the scores are no numbers: {error}", "return a NumPy array of floats") from error
    if scores.shape != (view.n,):
        raise CheckFailure(
            f"the scores of {view.n} training samples have the shape {scores.shape}", f"return the shape ({view.n},)"
        )
    return scores


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether scores agree up to rounding."""
    spread = float(np.ptp(theirs)) if len(theirs) > 1 else float(np.abs(theirs).max(initial=0))
    return bool(np.abs(ours - theirs).max(initial=0) <= CLOSE * spread + 1e-12)


def _shape(method: Method) -> None:
    try:
        scored(method, problem().view())
    except Unsupported as reason:
        raise CheckFailure(
            f"the method cannot score the check's problem, so its scores cannot be checked: {reason}",
            "if the method is meant for other views, declare the failure in expected_failures",
        ) from reason


def _finite(method: Method) -> None:
    _all_finite(method, problem(), "an easy problem")


def _all_finite(method: Method, shown: Problem, what: str) -> None:
    scores = scored(method, shown.view())
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise CheckFailure(
            f"{bad} of {len(scores)} scores on {what} are not finite", "avoid logarithms of 0 and quotients 0 / 0"
        )


def _orientation(method: Method) -> None:
    from sklearn.metrics import roc_auc_score

    aurocs = []
    for seed in range(3):
        shown = problem(seed)
        scores = scored(method, shown.view())
        if np.isfinite(scores).all():
            aurocs.append(float(roc_auc_score(shown.noisy, scores)))
    mean = float(np.mean(aurocs)) if aurocs else 0.5
    if mean < TURNED:
        raise CheckFailure(
            f"wrong labels get lower scores than right ones: AUROC {mean:.2f}, of minus the scores {1 - mean:.2f}",
            "turn the sign: higher means more suspicious",
        )
    if mean < UNTOLD:
        raise Unsupported(f"AUROC is {mean:.2f}: the scores do not separate wrong labels from right ones here")


def _constant(method: Method) -> None:
    if not method.trims:
        raise Unsupported("the method flags no samples (trims = False)")
    scores = scored(method, problem().view())
    if np.isfinite(scores).all() and largest_tie(scores) == len(scores):
        raise CheckFailure(
            f"all {len(scores)} scores are {scores[0]:g} up to rounding, so chance decides which samples are flagged",
            "look for a mean over the wrong axis, or for a normalisation that makes every self-influence equal",
        )


def _order(method: Method) -> None:
    shown = problem()
    order = np.random.default_rng(5).permutation(len(shown.noisy))
    plain = [scored(method, shown.view(seed)) for seed in (1, 2, 3)]
    shuffled = []
    for seed in (1, 2, 3):
        back = np.empty(len(order))
        back[order] = scored(method, shown.view(seed, order))
        shuffled.append(back)
    if all(close(ours, theirs) for ours, theirs in zip(shuffled, plain, strict=True)):
        return
    mend = "let a sample's score depend on the samples, never on their positions"
    agreed = [_rank_agreement(ours, theirs) for ours, theirs in zip(shuffled, plain, strict=True)]
    if min(agreed) > 0.999:
        return  # such a small difference comes from rounding in an ill-conditioned fit
    if close(plain[0], plain[1]) and close(plain[1], plain[2]):
        raise CheckFailure("the same samples get different scores in a different order", mend)
    if any(len(set(scores)) == 1 for scores in [*plain, *shuffled]):
        return
    by_seed = np.mean([_rank_agreement(plain[i], plain[i - 1]) for i in range(3)])
    by_order = np.mean(agreed)
    if by_order < by_seed - 0.25:
        raise CheckFailure(
            f"the scores' rank correlation is {by_order:.2f} in another order, {by_seed:.2f} with another seed", mend
        )


def _rank_agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return 0.0
    return float(spearmanr(ours, theirs).statistic)


def _same_seed(method: Method) -> None:
    scores = []
    for k in range(2):
        with global_seed(k):
            scores.append(scored(method, problem().view(seed=1)))
    if not np.array_equal(scores[0], scores[1], equal_nan=True):
        raise CheckFailure(
            "two runs with the same seed give different scores",
            "draw from view.rng, or seed with view.seed (random_state=view.seed); never from a global generator",
        )


def _global_state(method: Method) -> None:
    with left_as_found() as moved:
        scored(method, problem().view())
    if moved:
        raise CheckFailure(
            f"the method changes the global random state of {' and '.join(moved)}, which other methods may use",
            "use view.rng or a generator seeded by view.seed",
        )


def _inputs(method: Method) -> None:
    view = problem().view()

    def parts() -> dict[str, Any]:
        reference = view.reference("validation")
        return {
            "view.labels": view.labels,
            "view.probs": view.probs,
            "view.features": view.features.numpy().copy(),
            "view.gradients": view.gradients.rows(slice(None)).numpy().copy(),
            'view.reference("validation").gradients': reference.gradients.rows(slice(None)).numpy().copy(),
            'view.reference("validation").labels': reference.labels.copy(),
        }

    before = parts()
    scored(method, view)
    for name, values in parts().items():
        if not np.array_equal(before[name], values):
            raise CheckFailure(f"the method changes {name}, an array that all methods share", "work on a copy")


def _uses(method: Method) -> None:
    if not method.uses:
        raise Unsupported("the method declares no uses; reports print the uses that the view observes")
    strange = next((word for word in method.uses if word not in VOCABULARY), None)
    if strange is not None:
        raise CheckFailure(
            f"uses contains {strange!r}, which is not a known word{did_you_mean(strange, VOCABULARY)}",
            f"the known words are {', '.join(VOCABULARY)}",
        )
    view = problem().view()
    scored(method, view)
    hidden = [word for word in observed(view.used) if word not in method.uses]
    if hidden:
        raise CheckFailure(
            f"the method looks at {', '.join(hidden)}, which is not in uses = {tuple(method.uses)}",
            f"uses = {(*method.uses, *hidden)}",
        )


def _working_memory(method: Method) -> None:
    shown, usual = problem(), harness.gradients.products.CHUNK_BYTES
    whole = scored(method, shown.view())
    try:
        for size in (1 << 12, 1 << 15):
            harness.gradients.products.CHUNK_BYTES = size
            if not close(scored(method, shown.view()), whole):
                raise CheckFailure(
                    f"scores change when gradients come in chunks of {size >> 10} KiB",
                    "take sums and means over all chunks; no score may depend on where a chunk ends",
                )
    finally:
        harness.gradients.products.CHUNK_BYTES = usual


def _one_sample(method: Method) -> None:
    scores = scored(method, problem().view(order=np.array([7])))
    if not np.isfinite(scores).all():
        raise CheckFailure(
            "the score of a single training sample is not finite",
            "give a finite score, or raise harness.Unsupported with the reason",
        )


def _parameters(method: Method) -> None:
    cls, values = type(method), values_of(method)
    try:
        if build(cls, json.loads(json.dumps(values))) != method:
            raise CheckFailure("parameters differ after a round trip by JSON", "use int, float, str, bool or None")
        if build(cls, {key: "none" if value is None else str(value) for key, value in values.items()}) != method:
            raise CheckFailure("parameters differ after a round trip by text", "annotate every field with its type")
    except (RequestError, TypeError) as error:
        raise CheckFailure(
            f"parameters do not survive JSON and text: {error}", "use int, float, str, bool, Literal or None"
        ) from error
    if pickle.loads(pickle.dumps(method)) != method:  # noqa: S301 - what was pickled a line above
        raise CheckFailure("the method differs after pickling and unpickling", "keep all state in its parameters")


def _attribution(method: Method) -> None:
    view = problem().view()
    try:
        pairs = np.asarray(method.attribute(view), dtype=np.float64)
    except Unsupported:
        return  # attribute is optional; one score per sample is enough
    sizes = {view.n, *(len(samples) for samples in problem().split.references.values())}
    if pairs.ndim != 2 or pairs.shape[0] not in sizes or pairs.shape[1] != view.n or not np.isfinite(pairs).all():
        raise CheckFailure(
            f"attribute gives the shape {pairs.shape}{'' if np.isfinite(pairs).all() else ', not all finite'}",
            f"one row per reference sample and one column per training sample, (n_reference, {view.n})",
        )


def _devices(method: Method) -> None:
    if not torch.cuda.is_available():
        raise Unsupported("there is no CUDA device here")
    on_cpu, on_cuda = (scored(method, problem().view(device=device)) for device in ("cpu", "cuda:0"))
    if not np.abs(on_cpu - on_cuda).max() <= 10 * CLOSE * np.ptp(on_cpu):
        raise CheckFailure("CPU and CUDA give different scores", "compute in float64 where float32 sums lose digits")


METHOD_CHECKS = (
    Check("parameters", "parameters identify stored results and are sent between processes", _parameters),
    Check("truth", "a detector that sees which labels are wrong detects nothing", follows_no_truth),
    Check("shape", "every training sample needs one score, in the order of the samples", _shape),
    Check("finite", "a score that is not finite is ranked last, whatever caused it", _finite),
    Check("orientation", "a detector with its sign turned removes the best samples", _orientation),
    Check("constant", "with equal scores, chance decides the ranking", _constant),
    Check("sample_order", "samples are shuffled in practice; a score must not depend on a sample's position", _order),
    Check("same_seed", "a result that cannot be repeated cannot be compared", _same_seed),
    Check("global_state", "methods that run later must not depend on this method", _global_state),
    Check("inputs_unchanged", "all methods of a seed read the same view", _inputs),
    Check("uses", "a method that sees clean data or retrains is not comparable with one that does not", _uses),
    Check("working_memory", "scores must not depend on how much memory a machine has", _working_memory),
    Check("missing_class", "a real label set may lack a class",
          lambda method: _all_finite(method, without_a_class(), "labels that lack a class")),
    Check("certain_model", "trained networks give probabilities of 0 and 1",
          lambda method: _all_finite(method, certain(), "a model that is certain of everything")),
    Check("one_sample", "the smallest input shows divisions by n − 1", _one_sample),
    Check("attribution", "rows must be reference samples, columns training samples", _attribution),
    Check("devices", "a GPU must not change the ranking", _devices),
)  # fmt: skip
"""Every check of a method, in running order. ``truth`` runs before the checks that could fill a cache."""
