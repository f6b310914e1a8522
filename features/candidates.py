"""Candidates of queries: retrieved by several sources, or given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.retrievers import BEHAVIOUR, PropagatedRetriever, Retriever

# Dense scores of one batch of users hold at most this many cells a source.
BATCH_CELLS = 2_000_000
TIE_SEED = 0


@dataclass(frozen=True)
class Candidates:
    """Candidate rows sorted by (query, item), with what every retriever says of them.

    Attributes
    ----------
    queries, items
        (n_rows,) int64 codes; a query is a user of the history.
    scores
        (n_rows, n_sources) float32, NaN where the source has no opinion.
    """

    queries: IntArray
    items: IntArray
    scores: FloatArray

    @property
    def offsets(self) -> IntArray:
        """(n_queries + 1,) row borders of the queries."""
        starts = np.flatnonzero(np.diff(self.queries)) + 1
        return (
            np.concatenate([[0], starts, [len(self.queries)]]) if len(self.queries) else np.zeros(1, np.int64)
        )


def retrieve(
    retrievers: Sequence[Retriever],
    history: History,
    users: IntArray,
    depths: Sequence[int],
    met: sparse.csr_array | None,
    new_per_source: int = 0,
    at_least: int = 0,
) -> Iterator[Candidates]:
    """Yield, a batch of users at a time, the union of the best items of every source, as many as its depth.

    Sources that know items by what they are like add their best `new_per_source` of those that nobody has
    met, which would drown among the others. Items where `met` (n_users, n_items) is not zero are left out.
    Only items with a positive score are retrieved, so a user of whom no source knows anything gets the
    popular ones. For a user with fewer than `at_least` candidates every source adds twice as many, and
    twice as many again, until there are enough or no source knows any more. Memory grows with the batch,
    not with the number of users.
    """
    new = np.flatnonzero(history.met_by == 0)
    for batch in user_batches(users, history.n_items):
        dense = _dense_scores(retrievers, history, batch)
        hidden = np.zeros(dense.shape[1:], dtype=bool) if met is None else met[batch].toarray() != 0
        chosen = _best_of_any(dense, hidden, depths)
        if new_per_source and len(new):
            by_content = [
                scores[:, new]
                for retriever, scores in zip(retrievers, dense, strict=True)
                if retriever.block != BEHAVIOUR
            ]
            chosen[:, new] |= _best_of_any(by_content, hidden[:, new], [new_per_source] * len(by_content))
        short, wanted = _shorter(chosen, np.arange(len(batch)), at_least), depths
        while len(short) and min(wanted, default=0) < history.n_items:
            wanted = [2 * depth for depth in wanted]
            chosen[short] |= _best_of_any(dense[:, short], hidden[short], wanted)
            short = _shorter(chosen, short, at_least)
        rows, items = np.nonzero(chosen)
        yield Candidates(batch[rows], items.astype(np.int64), dense[:, rows, items].T)


def score_given(
    retrievers: Sequence[Retriever], history: History, queries: IntArray, items: IntArray
) -> Iterator[Candidates]:
    """Yield given candidates, which come sorted by (query, item), a batch of whole queries at a time.

    The batches are consecutive rows, so that what belongs to the rows can be cut the same way.
    """
    users = np.unique(queries)
    if not retrievers:
        yield Candidates(queries, items, np.zeros((len(queries), 0), dtype=np.float32))
        return
    for batch in user_batches(users, history.n_items):
        start, stop = np.searchsorted(queries, [batch[0], batch[-1] + 1])
        rows = np.searchsorted(batch, queries[start:stop])
        dense = _dense_scores(retrievers, history, batch)
        yield Candidates(queries[start:stop], items[start:stop], dense[:, rows, items[start:stop]].T)


def top_items(scores: FloatArray, n: int) -> BoolArray:
    """(n_users, n_items) bool: the up to `n` items with the highest positive score of each user.

    Which of equal items is cut off is drawn at random (the same for everybody), because the order of the
    items may tell something: in some data sets low item numbers are the old ones.
    """
    n = min(n, scores.shape[1])
    drawn = np.random.default_rng(TIE_SEED).permutation(scores.shape[1])
    shuffled = scores[:, drawn]
    usable = np.where(shuffled > 0, shuffled, -np.inf)
    best = np.argpartition(-usable, n - 1, axis=1)[:, :n]
    found = np.take_along_axis(usable, best, axis=1) > -np.inf
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, drawn[best], found, axis=1)
    return chosen


def _best_of_any(dense: Iterable[FloatArray], hidden: BoolArray, depths: Sequence[int]) -> BoolArray:
    """(n_users, n_items) bool: not hidden, and among the best of a source, as many as its depth."""
    chosen = np.zeros(hidden.shape, dtype=bool)
    for scores, depth in zip(dense, depths, strict=True):
        chosen |= top_items(np.where(hidden, np.nan, scores), depth)
    return chosen


def _shorter(chosen: BoolArray, rows: IntArray, least: int) -> IntArray:
    """Return those of the rows in which fewer are chosen."""
    few: IntArray = rows[chosen[rows].sum(axis=1) < least]
    return few


def recall_ceilings(
    retrievers: Sequence[Retriever],
    history: History,
    positives: History,
    depths: Sequence[int],
    *,
    exclude_seen: bool = True,
) -> dict[str, float]:
    """Share of the held-out liked pairs that each source, and the union, retrieves at its depth."""
    users = np.unique(positives.users[positives.is_positive])
    found = {retriever.name: 0 for retriever in retrievers} | {"union": 0}
    total = 0
    for batch in user_batches(users, history.n_items):
        truth = positives.liked[batch].toarray() > 0
        seen = history.seen[batch].toarray() > 0 if exclude_seen else np.zeros_like(truth)
        union = np.zeros_like(truth)
        total += int(truth.sum())
        for retriever, depth in zip(retrievers, depths, strict=True):
            scores = np.where(seen, np.nan, retriever.scores(history, batch))
            chosen = top_items(scores, depth)
            found[retriever.name] += int((chosen & truth).sum())
            union |= chosen
        found["union"] += int((union & truth).sum())
    return {name: hits / max(total, 1) for name, hits in found.items()}


def user_batches(users: IntArray, n_items: int) -> Iterator[IntArray]:
    """Split users so that a dense row of items for each stays within BATCH_CELLS."""
    size = max(1, min(512, BATCH_CELLS // max(n_items, 1)))
    for start in range(0, len(users), size):
        yield users[start : start + size]


def _dense_scores(retrievers: Sequence[Retriever], history: History, batch: IntArray) -> FloatArray:
    """(n_sources, n_batch, n_items) scores; those that follow from another source's are not made twice."""
    made: list[FloatArray] = []
    for retriever in retrievers:
        inner = retriever.inner if isinstance(retriever, PropagatedRetriever) else None
        place = next((i for i, other in enumerate(retrievers[: len(made)]) if other is inner), None)
        if isinstance(retriever, PropagatedRetriever) and place is not None:
            made.append(retriever.mixed(made[place]))
        else:
            made.append(retriever.scores(history, batch))
    return np.stack(made)
