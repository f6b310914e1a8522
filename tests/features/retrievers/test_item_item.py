from __future__ import annotations

import numpy as np
import pytest

from features.retrievers import content_retriever
from features.space import ModalityVectors
from tests.features.planted import history_of
from tests.features.retrievers.world import N_ITEMS, N_WARM, modality


def test_content_retriever_knows_the_items_with_the_modality():
    retriever = content_retriever("text", modality())
    assert (retriever.name, retriever.block) == ("text_knn", "text")
    np.testing.assert_array_equal(retriever.known, modality().present)
    first = history_of([(0, 0, 1.0, 0)], 1, N_ITEMS)
    scores = retriever.scores(first, np.array([0]))
    np.testing.assert_allclose(scores[0, :N_WARM], modality().graph.toarray()[0, :N_WARM], rtol=1e-6)


def test_content_retriever_without_graph_raises():
    bare = ModalityVectors(modality().vectors, modality().present)
    with pytest.raises(ValueError, match="'text' has no graph"):
        content_retriever("text", bare)
