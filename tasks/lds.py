"""Attribution tasks that are checked against retraining, on the data and models of other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.interfaces.lds_task import LdsTask
from harness.selection.registry import register_task
from tasks.cifar import Cifar10N
from tasks.digits import Digits
from tasks.glue import Sst2
from tasks.synthetic import Blobs, Moons

PROBE: Mapping[str, Any] = {"model": "probe", "repeats": 2}


@register_task
@dataclass(frozen=True)
class LdsMoons(LdsTask, Moons):
    """The task ``moons`` as an attribution task: do attributions predict the losses of retrained networks?"""

    name: ClassVar[str] = "lds_moons"
    title: ClassVar[str] = "Half moons, attribution"


@register_task
@dataclass(frozen=True)
class LdsBlobs(LdsTask, Blobs):
    """The task ``blobs`` as an attribution task. The model is convex, so retraining gives the same model every time."""

    name: ClassVar[str] = "lds_blobs"
    title: ClassVar[str] = "Blobs, attribution"


@register_task
@dataclass(frozen=True)
class LdsDigits(LdsTask, Digits):
    """The task ``digits`` as an attribution task: do attributions predict the losses of retrained networks?"""

    name: ClassVar[str] = "lds_digits"
    title: ClassVar[str] = "Digits, attribution"


@register_task
@dataclass(frozen=True)
class LdsCifar(LdsTask, Cifar10N):
    """The task ``cifar10n`` as an attribution task, by default on 2,000 images with their original labels.

    The preset ``fast`` trains heads on a frozen encoder, which are convex. ``smoke`` and ``lds_cifar[model=small_cnn]``
    train small networks.
    """

    name: ClassVar[str] = "lds_cifar"
    title: ClassVar[str] = "CIFAR-10, attribution"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            **Cifar10N.presets["smoke"],
            "n_train": 200,
            "n_test": 300,
            "n_validation": 100,
            "asked": 10,
            "subsets": 10,
            "repeats": 2,
            "probed": 2,
        },
        "fast": PROBE,
        "probe": PROBE,
    }

    noise: Literal["clean", "aggregate", "random", "worst"] = "clean"
    n_train: int | None = 2000
    n_test: int | None = 2000
    retrainings: int = 1000


@register_task
@dataclass(frozen=True)
class LdsGlue(LdsTask, Sst2):
    """The task ``glue_sst2`` as an attribution task, on 400 sentences (2,000 with the preset ``fast``)."""

    name: ClassVar[str] = "lds_glue"
    title: ClassVar[str] = "SST-2, attribution"
    most_retrainings: ClassVar[int] = 100

    n_train: int = 400
    subsets: int = 50
    repeats: int = 2
    probed: int = 5
