"""Every peer: how it is fitted, what it needs, and the grid that it is tuned over."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import peer_models as own
import peer_packages as packages
from peer_content import MODALITIES, read_content
from peer_graph import freedom, lightgcn
from peer_models import Scorer
from scipy import sparse

Setting = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a model may learn from.

    Attributes
    ----------
    liked
        (n_users, n_items) ones at the positives of the splits that the model is fitted on.
    latest
        The same of validation alone; None while it still chooses.
    content
        Folder of the content vectors, one file a modality.
    """

    liked: sparse.csr_array
    latest: sparse.csr_array | None = None
    content: Path = Path("content")


@dataclass(frozen=True)
class Peer:
    """A model to stand beside modalrank.

    Attributes
    ----------
    title
        What the table calls it.
    fit
        Lesson, seed and setting to a scorer.
    grid
        The settings, of which validation picks one.
    needs
        Modules that must import.
    seeded
        Another seed gives another model.
    reads_content
        It needs the content vectors.
    """

    title: str
    fit: Callable[..., Scorer]
    grid: Sequence[Setting] = ({},)
    needs: tuple[str, ...] = ()
    seeded: bool = False
    reads_content: bool = False


@dataclass(frozen=True)
class Fusion:
    """The mean z-score of as many of the best members as validation likes."""

    title: str
    members: tuple[str, ...]
    needs: tuple[str, ...] = ()
    seeded: bool = False
    reads_content: bool = False


def product(**values: Sequence[Any]) -> list[Setting]:
    """Return every combination of the values."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def on_liked(model: Callable[..., Scorer]) -> Callable[..., Scorer]:
    """Return a fit that reads the positives and the seed."""
    return lambda lesson, seed, **setting: model(lesson.liked, seed, **setting)


def item_item(weights: Callable[..., Any]) -> Callable[..., Scorer]:
    """Return a fit of an item-item model."""
    return lambda lesson, seed, **setting: own.item_item(lesson.liked, weights(lesson.liked, **setting))


def content_knn(modality: str) -> Callable[..., Scorer]:
    """Return a fit of the nearest neighbours in one modality."""
    return lambda lesson, seed, **setting: own.item_item(
        lesson.liked, own.content_neighbours(lesson.liked, read_content(lesson.content, modality), **setting)
    )


@lru_cache(maxsize=1)
def spectrum_of(lesson: Lesson, user_power: float) -> own.Spectrum:
    """Return a spectrum, kept for the settings that share it."""
    return own.Spectrum(lesson.liked, user_power)


def spectral(lesson: Lesson, seed: int, *, user_power: float, **setting: float) -> Scorer:
    """Fit a graph filter."""
    return own.spectral(lesson.liked, spectrum_of(lesson, user_power), **setting)


def on_content(model: Callable[..., Scorer]) -> Callable[..., Scorer]:
    """Return a fit that reads the positives, the seed and all modalities."""

    def fit(lesson: Lesson, seed: int, **setting: float) -> Scorer:
        names = sorted(path.stem for path in lesson.content.glob("*.npz"))
        return model(lesson.liked, seed, [read_content(lesson.content, name) for name in names], **setting)

    return fit


def in_torch(name: str) -> Callable[..., Scorer]:
    """Return a model of peer_multimodal, which is imported where it runs, as it needs torch."""
    return lambda *given, **setting: getattr(import_module("peer_multimodal"), name)(*given, **setting)


ALS = [
    {"factors": factors, "regularization": regularization, "alpha": alpha, "iterations": 15}
    for factors in (64, 128, 256)
    for regularization, alpha in (
        *((5, 1), (10, 3), (30, 10), (100, 40)),
        *((200, 80), (400, 80), (800, 320), (1600, 640)),
    )
]
FIXED_ALS = [{"factors": 128, "regularization": 800, "alpha": 320, "iterations": 15}]
BPR = product(factors=[64], learning_rate=[0.02, 0.05], regularization=[0.003, 0.03], iterations=[100, 300])
LIGHTGCN = product(layers=[2, 4], epochs=[60], rate=[0.005], l2=[0.001, 0.03])
FREEDOM = product(
    layers=[2], epochs=[60], rate=[0.005], l2=[0.001, 0.03], dropout=[0.0, 0.8], neighbours=[10]
)
BM3 = product(layers=[1, 4], epochs=[20], rate=[0.01], l2=[0.1], dropout=[0.3, 0.5])
# The published code stops early on validation; here the number of epochs is a part of the grid.
MGCN = [
    {"layers": layers, "epochs": epochs, "rate": 0.003, "l2": 0.01, "contrast": contrast, "neighbours": 10}
    for layers, epochs, contrast in ((2, 10, 0.001), (2, 10, 0.01), (4, 3, 0.001), (4, 10, 0.01))
]
KNN = product(neighbours=[3, 10, 30, 100, 1000])
CONTENT = {name: tuple(readers) for name, readers in MODALITIES.items()}
BEHAVIOUR = (
    "popularity",
    "ease",
    "rp3beta",
    "spectral",
    "lightgcn",
    "implicit_als",
    "implicit_knn",
    "implicit_bpr",
)
LATEST = "popularity_valid"

PEERS = {
    "popularity": Peer("popularity in train", lambda lesson, seed: own.popularity(lesson.liked)),
    # It has no setting for validation to choose, so popularity in train stands for it until the final fit.
    LATEST: Peer(
        "popularity in valid",
        lambda lesson, seed: own.popularity(lesson.liked if lesson.latest is None else lesson.latest),
    ),
    "ease": Peer("EASE", item_item(own.ease), product(l2=[10, 30, 100, 300, 1000])),
    "rp3beta": Peer(
        "RP3beta", item_item(own.rp3beta), product(alpha=[0.4, 0.6, 0.8, 1.0], beta=[0.0, 0.2, 0.4, 0.6])
    ),
    "spectral": Peer(
        "spectral filter",
        spectral,
        product(user_power=[0.1, 0.3, 0.5], factors=[32, 64, 128, 256, 384, 512], linear=[0.0, 0.3]),
    ),
    "lightgcn": Peer("LightGCN", on_liked(lightgcn), LIGHTGCN, (), True),
    "freedom": Peer("FREEDOM", on_content(freedom), FREEDOM, (), True, True),
    "bm3": Peer("BM3 in torch", on_content(in_torch("bm3")), BM3, ("torch",), True, True),
    "mgcn": Peer("MGCN in torch", on_content(in_torch("mgcn")), MGCN, ("torch",), True, True),
    "implicit_als": Peer("implicit ALS", on_liked(packages.implicit_als), ALS, ("implicit",), True),
    "implicit_als_fixed": Peer(
        "implicit ALS, one setting", on_liked(packages.implicit_als), FIXED_ALS, ("implicit",), True
    ),
    "implicit_knn": Peer(
        "implicit item kNN",
        on_liked(packages.implicit_knn),
        product(similarity=["Cosine", "TFIDF", "BM25"], neighbours=[50, 200, 1000]),
        ("implicit",),
    ),
    "implicit_bpr": Peer("implicit BPR", on_liked(packages.implicit_bpr), BPR, ("implicit",), True),
    "rectools_ease": Peer(
        "RecTools EASE",
        on_liked(packages.rectools_ease),
        product(regularization=[30.0, 100.0, 300.0, 1000.0]),
        ("rectools",),
    ),
    "rectools_puresvd": Peer(
        "RecTools PureSVD",
        on_liked(packages.rectools_puresvd),
        product(factors=[16, 32, 64, 128, 256]),
        ("rectools",),
    ),
    "cornac_bpr": Peer(
        "Cornac BPR",
        on_liked(packages.cornac_bpr),
        product(k=[64], max_iter=[300], learning_rate=[0.02, 0.05, 0.1], lambda_reg=[0.003, 0.03, 0.1]),
        ("cornac",),
        True,
    ),
    "cornac_vbpr": Peer(
        "Cornac VBPR",
        on_content(packages.cornac_vbpr),
        product(
            k=[32], k2=[32], n_epochs=[20], batch_size=[256], learning_rate=[0.005], lambda_w=[0.01, 0.1]
        ),
        ("cornac", "torch"),
        True,
        True,
    ),
}


def peers_of(name: str, protocol: str) -> dict[str, Peer | Fusion]:
    """Return the peers of a data set and protocol; a fusion comes after its members."""
    content = {
        f"content_{m}": Peer(f"content kNN, {m}", content_knn(m), KNN, reads_content=True)
        for m in CONTENT[name]
    }
    peers: dict[str, Peer | Fusion] = {**PEERS, **content}
    peers["fusion"] = Fusion("mean z of behaviour peers", BEHAVIOUR, seeded=True)
    peers["content_fusion"] = Fusion("mean z of content kNN", tuple(content), reads_content=True)
    return {key: peer for key, peer in peers.items() if key != LATEST or protocol == "full"}
