"""LightGBM's trees walked by compiled code that gives the same bits several times faster.

LightGBM walks one row down one tree at a time, and waits for memory at every node. Here the rows of a small
block go down a tree together, eight at a time, so that the processor waits for eight nodes at once. Sums are
added in the order of the trees in float64, as LightGBM does, so that the scores have the same bits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FEWEST_ROWS_A_THREAD = 1_000
PROBES = 512
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_SHIFT, _MISSING_NONE, _MISSING_NAN = 2, 0, 2


class NotCovered(Exception):
    """The model has something that the compiled code does not know."""


@dataclass(frozen=True)
class CompiledTrees:
    """The nodes of all trees, one after the other, in each the inner ones first; a leaf leads to itself.

    A node asks whether a value is at most its limit, which no missing value is. Where a missing value is to
    go left, it asks the opposite of the negative value, so that no node has to look whether one is missing.

    Attributes
    ----------
    look
        (n_nodes,) uint64 column that a node looks at; from `n_features` on the negative of one.
    limit
        (n_nodes,) float32.
    children
        (2 n_nodes,) uint64 nodes where the value is above the limit or missing, and where it is not.
    value
        (n_nodes,) float64 of the leaves.
    roots, leaves
        (n_trees,) uint64 first node and first leaf of each tree.
    depths
        (n_trees,) int64 steps to the furthest leaf.
    n_features
        Columns that the model was trained on.
    """

    look: NDArray[np.uint64]
    limit: NDArray[np.float32]
    children: NDArray[np.uint64]
    value: NDArray[np.float64]
    roots: NDArray[np.uint64]
    leaves: NDArray[np.uint64]
    depths: NDArray[np.int64]
    n_features: int

    @classmethod
    def of(cls, model: str) -> CompiledTrees:
        """Read LightGBM's text model.

        Raises
        ------
        NotCovered
            If it has categorical splits, linear leaves, zeros that count as missing, several outputs, or a
            mean over trees.
        """
        header, *texts = model.split("\nTree=")
        facts = _facts(header)
        if facts.get("num_tree_per_iteration", "1") != "1" or "average_output" in header.splitlines():
            raise NotCovered("it has several outputs or averages its trees")
        n_features = int(facts["max_feature_idx"]) + 1
        trees = [_Tree.of(_facts(text.split("\nend of trees")[0]), n_features) for text in texts]
        starts = np.cumsum([0, *(len(tree.look) for tree in trees)])
        children = [tree.children.ravel() + start for tree, start in zip(trees, starts, strict=False)]
        return cls(
            look=np.concatenate([np.zeros(0), *(tree.look for tree in trees)]).astype(np.uint64),
            limit=np.concatenate([np.zeros(0, np.float32), *(tree.limit for tree in trees)]),
            children=np.concatenate([np.zeros(0), *children]).astype(np.uint64),
            value=np.concatenate([np.zeros(0), *(tree.value for tree in trees)]),
            roots=starts[:-1].astype(np.uint64),
            leaves=(starts[:-1] + [tree.n_inner for tree in trees]).astype(np.uint64),
            depths=np.array([tree.depth() for tree in trees], dtype=np.int64),
            n_features=n_features,
        )

    def score(self, features: NDArray[np.float32], threads: int = 1) -> NDArray[np.float64]:
        """Return the (n_rows,) raw scores of (n_rows, n_features) float32 features; NaN is missing.

        Parameters
        ----------
        threads
            0 means all; the scores do not depend on it.
        """
        rows = np.ascontiguousarray(features, dtype=np.float32)
        scores = np.zeros(len(rows))
        walk = _walk()
        trees = self.look, self.limit, self.children, self.value, self.roots, self.leaves, self.depths
        threads = min(threads or os.cpu_count() or 1, max(1, len(rows) // FEWEST_ROWS_A_THREAD))
        if threads == 1:
            walk(rows, *trees, scores)
            return scores
        borders = np.linspace(0, len(rows), threads + 1).astype(np.int64)
        parts = list(pairwise(borders))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: walk(rows[slice(*part)], *trees, scores[slice(*part)]), parts))
        return scores

    def probes(self, n_rows: int = PROBES) -> NDArray[np.float32]:
        """(n_rows, n_features) float32 values on, just above and far from the thresholds, some missing."""
        rng = np.random.default_rng(0)
        probes = rng.standard_normal((n_rows, self.n_features)).astype(np.float32)
        inner = np.flatnonzero(self.children[::2] != np.arange(len(self.look)))
        if len(inner):
            drawn = rng.choice(inner, size=4 * n_rows)
            negative = self.look[drawn] >= self.n_features
            near = np.where(negative, -self.limit[drawn], self.limit[drawn])
            toward = rng.choice(np.array([-np.inf, 0, np.inf], np.float32), size=len(drawn))
            near = np.where(toward == 0, near, np.nextafter(near, toward))
            columns = (self.look[drawn] % np.uint64(self.n_features)).astype(np.int64)
            probes[rng.integers(0, n_rows, len(drawn)), columns] = near
        probes[rng.random(probes.shape) < 0.1] = np.nan
        probes[rng.random(probes.shape) < 0.05] = 0.0
        return probes


def compiled(booster: Any) -> CompiledTrees | None:  # noqa: ANN401 - lightgbm is untyped
    """Return the compiled trees of a booster if they give its bits, None with a line in the log otherwise."""
    try:
        trees = CompiledTrees.of(booster.model_to_string())
        _walk()
    except NotCovered as reason:
        logger.info("lightgbm scores by itself: %s", reason)
        return None
    except RuntimeError as reason:
        # numba finds no folder where it may keep what it compiled.
        logger.warning("lightgbm scores by itself: %s", reason)
        return None
    probes = trees.probes()
    expected = np.asarray(booster.predict(probes, num_threads=1, raw_score=True), dtype=np.float64)
    if not np.array_equal(trees.score(probes).view(np.int64), expected.view(np.int64)):
        logger.warning("lightgbm scores by itself: the compiled trees gave other bits")
        return None
    return trees


@dataclass(frozen=True)
class _Tree:
    """One tree, its inner nodes before its leaves; children are (n_nodes, 2)."""

    look: NDArray[np.int64]
    limit: NDArray[np.float32]
    children: NDArray[np.int64]
    value: NDArray[np.float64]
    n_inner: int

    @classmethod
    def of(cls, facts: Mapping[str, str], n_features: int) -> _Tree:
        if facts.get("num_cat", "0") != "0":
            raise NotCovered("it has categorical splits")
        if facts.get("is_linear", "0") != "0":
            raise NotCovered("it has linear leaves")
        n_leaves = int(facts["num_leaves"])
        n_inner = n_leaves - 1
        kind, feature, left, right = (
            _numbers(facts.get(name, "") if n_inner else "").astype(np.int64)
            for name in ("decision_type", "split_feature", "left_child", "right_child")
        )
        missing = kind >> _MISSING_SHIFT & 3
        if (kind & _CATEGORICAL).any() or not np.isin(missing, (_MISSING_NONE, _MISSING_NAN)).all():
            raise NotCovered("it has categorical splits, or zeros that count as missing")
        exact = _numbers(facts["threshold"] if n_inner else "")
        limit = _rounded_down(exact)
        # Where a feature was never missing in training, LightGBM takes a missing value for 0.
        nan_left = np.where(missing == _MISSING_NAN, (kind & _DEFAULT_LEFT) > 0, exact >= 0)
        # x > limit is -x <= -(the next number above the limit).
        opposite = -np.nextafter(limit, np.float32(np.inf))
        no, yes = np.where(nan_left, left, right), np.where(nan_left, right, left)
        inner = np.stack([no, yes], axis=1)
        leaves = np.arange(n_inner, n_inner + n_leaves)
        return cls(
            look=np.concatenate([np.where(nan_left, feature + n_features, feature), np.zeros_like(leaves)]),
            limit=np.concatenate([np.where(nan_left, opposite, limit), np.zeros(n_leaves, np.float32)]),
            children=np.concatenate(
                [np.where(inner < 0, n_inner + ~inner, inner), np.stack([leaves, leaves], axis=1)]
            ),
            value=np.concatenate([np.zeros(n_inner), _numbers(facts["leaf_value"])]),
            n_inner=n_inner,
        )

    def depth(self) -> int:
        """Return the number of steps to the furthest leaf."""
        level, depth = np.zeros(1, np.int64), 0
        while len(inner := level[level < self.n_inner]):
            level, depth = self.children[inner].ravel(), depth + 1
        return depth


def _facts(text: str) -> dict[str, str]:
    """Return the `key=value` lines of a part of a text model."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _numbers(text: str) -> NDArray[np.float64]:
    return np.array([float(word) for word in text.split()])


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above: a float32 is at most the threshold if it is at most this."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


@cache
def _walk() -> Callable[..., None]:
    """Compile the walk at its first use: numba takes a second to import and more to compile."""
    from rankers.tree_walk import walk

    compiled_walk: Callable[..., None] = walk
    return compiled_walk
