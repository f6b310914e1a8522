"""The measure of finding new items, on histories whose answer is known."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
from scipy import sparse

from features.history import History
from features.retrievers import ItemItemRetriever
from features.space import ModalityVectors
from tests.features.planted import block_history

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
new_items = importlib.import_module("new_items")
N_ITEMS = 42


def history() -> History:
    return block_history(30, 2, 20, n_cold=2)


def test_hidden_items_are_in_one_part_each_and_in_no_history():
    hidden_from = np.zeros(N_ITEMS, dtype=int)
    for hidden in new_items.hidden_parts(history()):
        assert not np.isin(hidden.known.items, hidden.new).any()
        assert hidden.liked.any(axis=1).all() and hidden.liked.shape == (len(hidden.users), len(hidden.new))
        truth = history().liked[hidden.users].toarray()[:, hidden.new] > 0
        np.testing.assert_array_equal(hidden.liked, truth)
        hidden_from[hidden.new] += 1
    assert (hidden_from[:40] == 1).all(), "every item that is liked is hidden once"
    assert (hidden_from[40:] == new_items.PARTS).all(), "what nobody met is new to everybody"


def test_ndcg_is_1_for_who_knows_the_block_and_low_for_who_does_not():
    block = np.repeat([0, 1, 2], [20, 20, 2])
    known = np.ones(N_ITEMS, dtype=bool)
    same = ItemItemRetriever(
        "block", "content", sparse.csr_array((block[:, None] == block).astype(np.float32)), known
    )
    nothing = ItemItemRetriever(
        "nothing", "content", sparse.csr_array((N_ITEMS, N_ITEMS), dtype=np.float32), known
    )
    hidden = next(new_items.hidden_parts(history()))
    told, untold = (new_items.ndcg_of(retriever, hidden).mean() for retriever in (same, nothing))
    assert told > 0.85 and untold < 0.7


def test_retrievers_with_terms_and_without_are_told_apart():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N_ITEMS, 3)).astype(np.float32)
    terms = sparse.csr_array(np.eye(N_ITEMS, 50, dtype=np.float32))
    text = ModalityVectors(vectors, np.ones(N_ITEMS, dtype=bool), terms=terms)
    found = dict(new_items.retrievers_of({"text": text}, history(), 5))
    assert new_items.FIRST in found
    assert (
        found["text, neighbours by vectors"].weights.nnz
        and not found["text, neighbours by terms"].weights.nnz
    )
