"""The loop that `rankers.compiled_trees` spends its time in, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK, LANES = 128, 8
# LightGBM's kZeroThreshold: it reads smaller values as 0.
ZERO = np.float32(1e-35)


@njit(nogil=True, boundscheck=False, cache=True)
def walk(rows, look, limit, children, value, roots, leaves, depths, scores):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, C901
    """Add what each tree says of (n_rows, n_features) float32 rows to their (n_rows,) float64 scores.

    The other arguments are those of `CompiledTrees`; all indices are unsigned, because numba looks whether
    a signed one counts from the end.
    """
    n_rows, n_features = rows.shape
    width = np.uint64(2 * n_features)
    # The values of a block, each followed in the second half by its negative.
    block = np.empty(BLOCK * 2 * n_features, dtype=np.float32)
    for begin in range(0, n_rows, BLOCK):
        size = min(BLOCK, n_rows - begin)
        for row in range(size):
            for column in range(n_features):
                x = rows[begin + row, column]
                if abs(x) <= ZERO:
                    x = np.float32(0.0)
                block[row * 2 * n_features + column] = x
                block[row * 2 * n_features + n_features + column] = -x
        for tree in range(roots.shape[0]):
            root, leaf, depth = roots[tree], leaves[tree], depths[tree]
            row = 0
            while row + LANES <= size:
                # Eight chains of steps that do not wait for each other.
                p = np.uint64(row) * width
                q, r, s, t = (
                    p + width,
                    p + np.uint64(2) * width,
                    p + np.uint64(3) * width,
                    p + np.uint64(4) * width,
                )
                u, v, w = t + width, t + np.uint64(2) * width, t + np.uint64(3) * width
                a = b = c = d = e = f = g = h = root
                for _ in range(depth):
                    a = children[np.uint64(2) * a + np.uint64(block[p + look[a]] <= limit[a])]
                    b = children[np.uint64(2) * b + np.uint64(block[q + look[b]] <= limit[b])]
                    c = children[np.uint64(2) * c + np.uint64(block[r + look[c]] <= limit[c])]
                    d = children[np.uint64(2) * d + np.uint64(block[s + look[d]] <= limit[d])]
                    e = children[np.uint64(2) * e + np.uint64(block[t + look[e]] <= limit[e])]
                    f = children[np.uint64(2) * f + np.uint64(block[u + look[f]] <= limit[f])]
                    g = children[np.uint64(2) * g + np.uint64(block[v + look[g]] <= limit[g])]
                    h = children[np.uint64(2) * h + np.uint64(block[w + look[h]] <= limit[h])]
                    if min(min(min(a, b), min(c, d)), min(min(e, f), min(g, h))) >= leaf:
                        break
                place = begin + row
                scores[place] += value[a]
                scores[place + 1] += value[b]
                scores[place + 2] += value[c]
                scores[place + 3] += value[d]
                scores[place + 4] += value[e]
                scores[place + 5] += value[f]
                scores[place + 6] += value[g]
                scores[place + 7] += value[h]
                row += LANES
            while row < size:
                a, p = root, np.uint64(row) * width
                while a < leaf:
                    a = children[np.uint64(2) * a + np.uint64(block[p + look[a]] <= limit[a])]
                scores[begin + row] += value[a]
                row += 1
