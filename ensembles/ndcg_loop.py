"""The loop that the fusions spend their time in, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit

# candidates that are counted between two looks at whether the positive is beyond the cutoff
STRIDE = 64


@njit(nogil=True, boundscheck=False, cache=True)
def ndcg_after(total, step, added, offsets, positives, borders, gains, discounts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return (n_queries,) NDCG@k of `total + step * added`; the other arrays are those of `Comparisons`."""
    n_queries, k = len(offsets) - 1, len(discounts)
    values = np.zeros(n_queries)
    moved = np.empty(max(1, np.max(np.diff(offsets))), dtype=np.float64)
    for query in range(n_queries):
        start, size = offsets[query], offsets[query + 1] - offsets[query]
        for place in range(size):
            moved[place] = total[start + place] + step * added[start + place]
        for positive in range(borders[query], borders[query + 1]):
            own = moved[positives[positive] - start]
            above, place = 0, 0
            while place < size and above < k:
                stop = min(place + STRIDE, size)
                for candidate in range(place, stop):
                    above += moved[candidate] > own
                place = stop
            if above < k:
                values[query] += gains[positive] * discounts[above]
    return values
