"""Files for the anchors of the study: CIFAR-10's images and human labels with the probabilities of fine-tuned networks.

    python docs/results/probe/anchors.py DATA FOLDER

For each file ``DATA/cifar10n_pred_probs/<labels>_<network>.npz`` (five-fold, out-of-sample probabilities, (50000, 10)),
``FOLDER/<labels>_<network>.npz`` is what the task ``arrays`` reads. Then

    arrays[path=FOLDER/worst_resnet18.npz,model=probe,budget=0.05]

scores by the network's probabilities, and trains the probe without the flagged images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tasks._cifar_files import CIFAR10N, read_batches, read_human_labels

KEYS = {"worst": "worse_label", "aggregate": "aggre_label", "random": "random_label1"}


def main(data: Path, folder: Path) -> None:
    images, clean = read_batches(data, CIFAR10N.train, CIFAR10N.label_key)
    test_images, test_labels = read_batches(data, CIFAR10N.test, CIFAR10N.label_key)
    human = read_human_labels(data / CIFAR10N.human)
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted((data / "cifar10n_pred_probs").glob("*.npz")):
        with np.load(source) as stored:
            probs = stored["probs"]
        np.savez(
            folder / source.name,
            images=images.transpose(0, 2, 3, 1),
            labels=human[KEYS[source.stem.partition("_")[0]]],
            true_labels=clean,
            probs=probs,
            test_images=test_images.transpose(0, 2, 3, 1),
            test_labels=test_labels,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
