"""An isolation forest that scores gradients without building the data matrix.

Each tree is a scikit-learn tree, fitted on the 256 points that `sklearn.ensemble.IsolationForest` draws for that tree
from the same seed. So the forest equals scikit-learn's forest, tree by tree. A path through a tree tests at most
eight coordinates of a point, and no other coordinate is computed. So scoring never builds a whole gradient of, for
example, 5,120 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.tree import ExtraTreeRegressor
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement
from torch import Tensor

from harness.gradients.blocks import Block

MAX_SAMPLES = 256
"""Number of points drawn for each tree, at most (Liu et al., ICDM 2008, section 4.1)."""


@dataclass(frozen=True)
class Forest:
    """The nodes of all trees, numbered consecutively. Both children of a leaf are the leaf itself.

    Args:
        columns: the coordinate that each node splits, (nodes,).
        thresholds: a point goes left if its coordinate is at most this, (nodes,) float32.
        children: left and right child, (2 · nodes,).
        lengths: path length of a point that ends in the node, (nodes,) float64.
        roots: the number of each tree's root node, (trees,).
        depth: depth of the deepest leaf.
        normal: average path length of an unsuccessful search among the drawn points; it normalises the score.
    """

    columns: Tensor
    thresholds: Tensor
    children: Tensor
    lengths: Tensor
    roots: Tensor
    depth: int
    normal: float

    def to(self, device: torch.device) -> Forest:
        """The same forest on a device."""
        return replace(
            self,
            columns=self.columns.to(device),
            thresholds=self.thresholds.to(device),
            children=self.children.to(device),
            lengths=self.lengths.to(device),
            roots=self.roots.to(device),
        )

    def score(self, points: Block) -> np.ndarray:
        """Anomaly score of each point, (n,) float64 in (0, 1], higher = more anomalous."""
        nodes = self.roots.expand(points.n, -1)
        for _ in range(self.depth):
            values = points.entries(self.columns, nodes).float()
            nodes = self.children[2 * nodes + (values > self.thresholds[nodes])]
        lengths = self.lengths[nodes].T.cpu().numpy()
        total = np.zeros(points.n)
        for length in lengths:  # in the trees' order, as scikit-learn adds them
            total += length
        normal = len(lengths) * self.normal
        return np.asarray(2 ** -(total / normal if normal else np.ones_like(total)))


def fit(
    rows: Callable[[np.ndarray], np.ndarray],
    n: int,
    dimension: int,
    n_estimators: int,
    seed: int,
    whole: np.ndarray | None = None,
) -> Forest:
    """The forest of ``IsolationForest(n_estimators, random_state=seed)`` on n points.

    Args:
        rows: gives points by their positions, as a float32 (r, dimension) array.
        whole: all points, float32 (n, dimension), where they are in memory. Trees then give weight 0 to points that
            they did not draw, which copies nothing.
    """
    drawn = min(MAX_SAMPLES, n)
    max_depth = int(np.ceil(np.log2(max(drawn, 2))))
    targets = check_random_state(seed).uniform(size=n)
    most = np.iinfo(np.int32).max
    trees = []
    for tree_seed in check_random_state(seed).randint(most, size=n_estimators):
        draws = check_random_state(tree_seed)
        sample_without_replacement(
            dimension, dimension, random_state=draws
        )  # the order of coordinates, which is unused
        picked = np.sort(sample_without_replacement(n, drawn, random_state=draws))
        tree = ExtraTreeRegressor(
            max_features=1, max_depth=max_depth, random_state=check_random_state(tree_seed).randint(most)
        )
        if whole is None:
            fitted = tree.fit(rows(picked), targets[picked], check_input=False)
        else:
            weights = np.zeros(n)
            weights[picked] = 1
            fitted = tree.fit(whole, targets, sample_weight=weights, check_input=False)
        trees.append(fitted.tree_)
    return _joined(trees, drawn)


def _joined(trees: list, drawn: int) -> Forest:
    nodes: tuple[list[np.ndarray], ...] = ([], [], [], [])
    roots, deepest = [0], 0
    for tree in trees:
        leaf = tree.children_left < 0
        own = np.arange(tree.node_count)
        pairs = np.stack([np.where(leaf, own, tree.children_left), np.where(leaf, own, tree.children_right)], axis=1)
        depth = np.zeros(tree.node_count)
        for node in np.flatnonzero(~leaf):  # parents come before their children
            depth[pairs[node]] = depth[node] + 1
        nodes[0].append(np.where(leaf, 0, tree.feature))
        nodes[1].append(_down_to_float32(np.where(leaf, np.inf, tree.threshold)))
        nodes[2].append((pairs + roots[-1]).ravel())
        nodes[3].append(depth + 1 + average_path_length(tree.n_node_samples) - 1)  # rounds as scikit-learn's sum does
        roots.append(roots[-1] + tree.node_count)
        deepest = max(deepest, int(depth.max()))
    columns, thresholds, children, lengths = (torch.from_numpy(np.concatenate(arrays)) for arrays in nodes)
    normal = float(average_path_length(np.array([drawn]))[0])
    return Forest(columns, thresholds, children, lengths, torch.tensor(roots[:-1]), deepest, normal)


def _down_to_float32(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 that is at most the threshold, for each threshold.

    So a float32 coordinate goes to the same child as with the float64 threshold.
    """
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def average_path_length(counts: np.ndarray) -> np.ndarray:
    """Average path length of an unsuccessful search in a binary search tree of m points (Liu et al., Eq. 1).

    Args:
        counts: m, one number for each tree node.
    """
    m = np.maximum(counts, 3).astype(np.float64)
    long = 2.0 * (np.log(m - 1.0) + np.euler_gamma) - 2.0 * (m - 1.0) / m
    return np.where(counts <= 1, 0.0, np.where(counts == 2, 1.0, long))
