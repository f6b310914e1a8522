"""The peers that come from packages; each function needs its package where it runs."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from peer_models import Scorer, Values, item_item
from scipy import sparse


def factors(users: Values, items: Values, bias: Values | float = 0.0) -> Scorer:
    """Score by dot products of user and item factors, plus a bias an item."""
    return lambda codes: np.asarray(users[codes] @ items.T + bias, dtype=np.float64)


def implicit_als(liked: sparse.csr_array, seed: int, **setting: float) -> Scorer:
    """Weighted matrix factorisation by alternating least squares (Hu et al., 2008)."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    # implicit brings its own threads, which those of BLAS would slow down.
    with threadpool_limits(1, user_api="blas"):
        model = AlternatingLeastSquares(random_state=seed, use_gpu=False, **setting)
        model.fit(sparse.csr_matrix(liked), show_progress=False)
    return factors(model.user_factors, model.item_factors)


def implicit_bpr(liked: sparse.csr_array, seed: int, **setting: float) -> Scorer:
    """Matrix factorisation with the BPR loss (Rendle et al., 2009), on one thread as that is repeatable."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(random_state=seed, use_gpu=False, num_threads=1, **setting)
    model.fit(sparse.csr_matrix(liked), show_progress=False)
    return factors(model.user_factors, model.item_factors)


def implicit_knn(liked: sparse.csr_array, seed: int, *, similarity: str, neighbours: int) -> Scorer:
    """Item neighbourhoods by cosine, TF-IDF or BM25 similarity."""
    from implicit import nearest_neighbours

    model = getattr(nearest_neighbours, f"{similarity}Recommender")(K=neighbours)
    with warnings.catch_warnings():
        # It complains of the layout of a matrix that it made itself.
        warnings.simplefilter("ignore")
        model.fit(sparse.csr_matrix(liked), show_progress=False)
    return item_item(liked, sparse.csr_array(model.similarity))


def rectools_ease(liked: sparse.csr_array, seed: int, **setting: float) -> Scorer:
    """RecTools' EASE over the items that have a user."""
    from rectools.models import EASEModel

    model, _, items = _fit_rectools(EASEModel(**setting), liked)
    weights = np.zeros((liked.shape[1], liked.shape[1]), dtype=np.float32)
    weights[np.ix_(items, items)] = model.weight
    return item_item(liked, weights)


def rectools_puresvd(liked: sparse.csr_array, seed: int, **setting: float) -> Scorer:
    """RecTools' truncated singular value decomposition."""
    from rectools.models import PureSVDModel

    model, users, items = _fit_rectools(PureSVDModel(random_state=seed, **setting), liked)
    of_users, of_items = model.get_vectors()
    return factors(_placed(of_users, users, liked.shape[0]), _placed(of_items, items, liked.shape[1]))


def cornac_bpr(liked: sparse.csr_array, seed: int, **setting: float) -> Scorer:
    """Cornac's BPR with item biases."""
    from cornac.models import BPR

    model = BPR(seed=seed, num_threads=1, **setting)
    model.fit(_cornac_data(liked, seed))
    return factors(model.u_factors, model.i_factors, model.i_biases)


def cornac_vbpr(
    liked: sparse.csr_array, seed: int, contents: Sequence[sparse.csr_array], **setting: float
) -> Scorer:
    """Cornac's VBPR (He and McAuley, 2016) on all item modalities, each reduced to 64 components at most."""
    from cornac.data import ImageModality
    from cornac.models import VBPR

    features = np.hstack([_components(vectors, 64) for vectors in contents])
    data = _cornac_data(liked, seed)
    data.add_modalities(item_image=ImageModality(features=features))
    model = VBPR(seed=seed, verbose=False, **setting)
    model.fit(data)
    users = np.hstack([model.gamma_user, model.theta_user])
    items = np.hstack([model.gamma_item, model.theta_item])
    return factors(users, items, model.beta_item + model.visual_bias)


def _fit_rectools(model, liked: sparse.csr_array):  # noqa: ANN001, ANN202 - types of an absent package
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    users, items = liked.nonzero()
    table = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0})
    dataset = Dataset.construct(table.assign(**{Columns.Datetime: "2000-01-01"}))
    model.fit(dataset)
    return model, dataset.user_id_map.external_ids, dataset.item_id_map.external_ids


def _cornac_data(liked: sparse.csr_array, seed: int):  # noqa: ANN202
    from cornac.data import Dataset

    users, items = liked.nonzero()
    maps = [OrderedDict((code, code) for code in range(size)) for size in liked.shape]
    triples = (users.astype(int), items.astype(int), np.ones(len(users)))
    return Dataset(*liked.shape, *maps, triples, seed=seed)


def _placed(rows: Values, codes: NDArray[np.int64], size: int) -> Values:
    placed = np.zeros((size, rows.shape[1]))
    placed[codes] = rows
    return placed


def _components(vectors: sparse.csr_array, count: int) -> Values:
    """Return the leading components, each row of the whole scaled to a mean square length of 1."""
    if vectors.shape[1] <= count:
        reduced = vectors.toarray()
    else:
        left, values, _ = sparse.linalg.svds(vectors, k=count, v0=np.ones(min(vectors.shape)))
        reduced = left * values
    return np.asarray(reduced / np.sqrt(np.mean(np.sum(reduced**2, axis=1))))
