"""Nearest neighbours by cosine: exact, or approximate where there are too many for that."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from features.frame import FloatArray, IntArray

BLOCK = 512
# As many comparisons as this many items with each other take a minute or two; more are not made.
EXACT_ITEMS = 50_000
MIN_PROBES, MAX_PROBES = 8, 128
CLUSTER_SEED = 1


def nearest(
    unit: FloatArray | sparse.csr_array, sources: IntArray, goals: IntArray, size: int
) -> tuple[IntArray, FloatArray]:
    """Return the `size` sources nearest to every goal, never the goal itself, and the cosines to them.

    Parameters
    ----------
    unit
        (n, d) float32 rows of length 1, sparse where they are terms.
    sources, goals
        (n_sources,) and (n_goals,) int64 rows, ascending.

    Returns
    -------
    tuple
        (n_goals, size) int64 rows in no order and float32 cosines, -inf where there is no further source.
    """
    if sparse.issparse(unit):
        return nearest_by_terms(unit, sources, goals, size)
    if len(sources) * len(goals) > EXACT_ITEMS**2:
        return approximately_nearest(unit, sources, goals, size)
    return exactly_nearest(unit, sources, goals, size)


def exactly_nearest(
    unit: FloatArray, sources: IntArray, goals: IntArray, size: int
) -> tuple[IntArray, FloatArray]:
    """Compare every goal with every source."""
    candidates = unit[sources]
    found = np.zeros((len(goals), size), dtype=np.int64)
    cosines = np.full((len(goals), size), -np.inf, dtype=np.float32)
    for start in range(0, len(goals), BLOCK):
        block = slice(start, start + BLOCK)
        similarity = unit[goals[block]] @ candidates.T
        similarity[goals[block][:, None] == sources[None, :]] = -np.inf
        best = np.argpartition(-similarity, size - 1, axis=1)[:, :size]
        found[block] = sources[best]
        cosines[block] = np.take_along_axis(similarity, best, axis=1)
    return found, cosines


def nearest_by_terms(
    unit: sparse.csr_array, sources: IntArray, goals: IntArray, size: int
) -> tuple[IntArray, FloatArray]:
    """Compare sparse rows by the terms that they share.

    The terms that the most sources share, which tell the least, are left out of the cosines where the sources
    share more than EXACT_ITEMS^2 pairs of them.
    """
    from sparse_dot_topn import sp_matmul_topn

    known = unit[sources]
    pairs = np.bincount(known.indices, minlength=unit.shape[1]).astype(np.float64) ** 2
    rarest = np.argsort(pairs, kind="stable")
    kept = np.zeros(len(pairs), dtype=np.float32)
    kept[rarest[np.cumsum(pairs[rarest]) <= EXACT_ITEMS**2]] = 1
    weighed = sparse.csr_array(known @ sparse.diags_array(kept))
    weighed.eliminate_zeros()
    # One more, since a goal that is a source finds itself.
    strongest = sp_matmul_topn(sparse.csr_matrix(unit[goals]), sparse.csr_matrix(weighed.T), top_n=size + 1)
    shape, counts = (len(goals), size + 1), np.diff(strongest.indptr)
    filled = np.arange(size + 1) < counts[:, None]
    places = np.zeros(shape, dtype=np.int64)
    cosines = np.full(shape, -np.inf, dtype=np.float32)
    places[filled], cosines[filled] = strongest.indices, strongest.data
    return _without_goals(sources[places], cosines, goals, size)


def approximately_nearest(
    unit: FloatArray, sources: IntArray, goals: IntArray, size: int
) -> tuple[IntArray, FloatArray]:
    """Compare every goal with the sources in the nearest of 4 sqrt(n_sources) clusters.

    That is the inverted file of faiss, with one thread, so that the same vectors give the same neighbours.
    """
    import faiss

    clusters = min(len(sources), int(4 * np.sqrt(len(sources))))
    width = unit.shape[1]
    with threadpool_limits(1):
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = CLUSTER_SEED
        index.cp.min_points_per_centroid = 1
        index.nprobe = min(MAX_PROBES, max(MIN_PROBES, clusters // 8))
        candidates = np.ascontiguousarray(unit[sources])
        index.train(candidates)
        index.add(candidates)
        # One more, since a goal that is a source finds itself.
        cosines, places = index.search(np.ascontiguousarray(unit[goals]), size + 1)
    cosines = np.where(places >= 0, cosines, np.float32(-np.inf))
    return _without_goals(sources[np.maximum(places, 0)], cosines, goals, size)


def _without_goals(
    found: IntArray, cosines: FloatArray, goals: IntArray, size: int
) -> tuple[IntArray, FloatArray]:
    """Keep `size` of the (n_goals, size + 1) found rows, of which a goal itself is none."""
    values = np.where(found == goals[:, None], np.float32(-np.inf), cosines)
    best = np.argsort(-values, axis=1, kind="stable")[:, :size]
    return np.take_along_axis(found, best, axis=1), np.take_along_axis(values, best, axis=1)
