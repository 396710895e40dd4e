"""The layouts of the paper's tables: columns, rows, and the commands that fill the tables."""

from __future__ import annotations

from dataclasses import dataclass

from reports.published import GLUE, PROMPTS

CIFAR = (
    ("cifar10n", "aggregate", "CIFAR-10N aggregate"),
    ("cifar10n", "random", "CIFAR-10N random"),
    ("cifar10n", "worst", "CIFAR-10N worst"),
    ("cifar100n", "noisy100", "CIFAR-100N"),
)
METHODS = (
    "none",
    "normalized_margin",
    "self_confidence",
    "confidence_weighted_entropy",
    "gradient_tracing",
    "lissa",
    "datainf",
    "self_lissa",
    "self_datainf",
    "outlier_l1",
    "outlier_l2",
    "outlier_iforest",
)
TITLES = dict(zip(PROMPTS, ("Sentences", "Math", "Math, reasoning"), strict=True))
TREES = tuple(range(25, 201, 25))


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables, or the numbers behind a figure.

    Args:
        number: ``"4"``, or ``"figure3"`` for a figure, which has no printed numbers.
        columns: (task, setting, heading).
        methods: rows, by the method's spec.
        metrics: what each column shows, ``accuracy``, ``detection_accuracy``, ``score_seconds`` or ``total_seconds``.
        published: the published setup in words.
        command: the command that fills the table.
        model: only results of this model; None takes all but ResNet-18 where the task has a model.
        open: whether methods that are not in the paper's table are shown below its rows.
        swept: whether the rows are values of one parameter of a method. Values that the paper lacks are shown, too.
    """

    number: str
    title: str
    columns: tuple[tuple[str, str, str], ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    published: str
    command: str
    model: str | None = None
    open: bool = False
    swept: bool = False

    @property
    def called(self) -> str:
        """The name in a text, such as Table 4 or Figure 3."""
        return f"Figure {self.number[6:]}" if self.is_figure else f"Table {self.number}"

    @property
    def is_figure(self) -> bool:
        return self.number.startswith("figure")

    @property
    def timed(self) -> bool:
        """Whether the table shows seconds, which are never compared across machines."""
        return "score_seconds" in self.metrics


ALL_CIFAR = "run --tasks 'cifar10n[noise=aggregate|random|worst],cifar100n'"
TABLES = {
    table.number: table
    for table in (
        PaperTable(
            "1",
            "Detection and accuracy on the moons",
            (("moons", "", "Moons"),),
            ("none", *METHODS[1:4], "exact_hessian", *METHODS[4:]),
            ("detection_accuracy", "accuracy"),
            "one run, seed 42",
            "run --tasks moons",
            open=True,
        ),
        *(
            PaperTable(
                number,
                "Accuracy after trimming 5 % of CIFAR-10N and CIFAR-100N, %",
                CIFAR,
                METHODS,
                ("accuracy",),
                "ResNet-34, 100 epochs, 5 runs",
                ALL_CIFAR,
                open=True,
            )
            for number in ("2", "4")
        ),
        PaperTable(
            "3",
            "Class detection by influential prompts",
            tuple((task, "", title) for task, title in TITLES.items()),
            (
                "random",
                *("gradient_tracing", "gradient_tracing[similarity=cosine]", "gradient_tracing[class_mean=yes]"),
                *("datainf", "datainf[class_mean=yes]", "lissa", "lissa[class_mean=yes]"),
                *("exact_hessian", "exact_hessian[class_mean=yes]", "outlier_iforest"),
            ),
            ("class_detection_auc", "class_detection_recall", "class_detection_recall_absolute"),
            "Llama-2-13B-chat; ± over test prompts",
            "run --tasks 'prompts_*' --preset full --methods 'all,gradient_tracing[similarity=cosine],"
            "gradient_tracing[class_mean=yes],datainf[class_mean=yes],lissa[class_mean=yes],"
            "exact_hessian[class_mean=yes]'",
        ),
        PaperTable(
            "5",
            "Seconds of scoring",
            CIFAR,
            ("datainf", "lissa", "self_datainf", "self_lissa", "outlier_l1", "outlier_l2", "outlier_iforest"),
            ("score_seconds", "extract_seconds", "total_seconds"),
            "ResNet-34, a V100",
            ALL_CIFAR,
        ),
        PaperTable(
            "7",
            "Accuracy by the number of trees, %",
            (("cifar10n", "worst", "CIFAR-10N worst"),),
            tuple(f"outlier_iforest[n_estimators={trees}]" for trees in TREES),
            ("accuracy",),
            "ResNet-34, 100 epochs",
            "run --methods 'none,outlier_iforest[n_estimators=" + "|".join(map(str, TREES)) + "]' "
            "--tasks 'cifar10n[noise=worst]'",
            swept=True,
        ),
        PaperTable(
            "8",
            "The ImageNet subset",
            (("imagenet_subset", "flip40", "ImageNet subset"),),
            ("none", "gradient_tracing", "datainf", "outlier_iforest", "outlier_l1", "outlier_l2"),
            ("accuracy", "score_seconds", "total_seconds"),
            "ResNet-18, 10 epochs",
            "run --tasks imagenet_subset",
            "resnet18",
        ),
        PaperTable(
            "9",
            "Accuracy after trimming 5 % with a ResNet-18, %",
            CIFAR,
            ("none", "outlier_iforest"),
            ("accuracy",),
            "ResNet-18, 100 epochs, 5 runs",
            "run --methods none,outlier_iforest --tasks "
            "'cifar10n[noise=aggregate|random|worst,model=resnet18],cifar100n[model=resnet18]'",
            "resnet18",
        ),
        PaperTable(
            "figure3",
            "Accuracy after the last epoch, fine-tuned on the 70 % that a method keeps, %",
            tuple((task, "", title) for task, title in GLUE.items()),
            ("none", "random", *METHODS[1:4], "exact_hessian", *METHODS[4:9], "self_influence", *METHODS[9:]),
            ("accuracy",),
            "RoBERTa-large, 10 epochs, 3 runs; the figure has curves, not numbers",
            "run --tasks 'glue_*'",
        ),
    )
}
