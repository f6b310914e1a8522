"""Labelled queries of a data set, and what the training run needs of a form of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from features.builder import FeatureModel
from features.frame import IntArray, RankingFrame
from features.history import History

Progress = Callable[[str], None]
Held = Literal["valid", "test"]
# The fold of training queries that are in no out-of-fold part.
ALWAYS_LEARNED = -1


@dataclass(frozen=True)
class Lists:
    """Labelled queries with all their candidates, made a batch at a time when they are asked for.

    Attributes
    ----------
    frames
        Gives the batches; queries for which no source found a candidate are in none.
    queries
        (n,) codes of the queries, ascending.
    total_relevant
        (n,) positives of each, retrieved or not; None where all are rows.
    """

    frames: Callable[[], Iterator[RankingFrame]]
    queries: IntArray
    total_relevant: IntArray | None


@dataclass(frozen=True)
class Training:
    """Labelled queries to train on.

    Attributes
    ----------
    frame, folds
        The queries with some of their negatives, and (n_queries,) the fold of each; those of fold
        ALWAYS_LEARNED are never scored out of fold.
    lists
        Fold to the full lists that are scored out of fold.
    scheme
        `cross` or `forward`, see `ensembles.oof`.
    """

    frame: RankingFrame
    folds: IntArray
    lists: Mapping[int, Lists]
    scheme: Literal["cross", "forward"]


@dataclass(frozen=True)
class Window:
    """Interactions as labels, and what may be known of their users without them."""

    fold: int
    model: FeatureModel
    truth: History
    users: IntArray


class Form(Protocol):
    """What the training run needs of a data set."""

    def training(self) -> Training:
        """Return the training queries."""
        ...

    def held_out(self, split: Held, model: FeatureModel, most: int | None = None) -> Lists:
        """Return the labelled queries of a held-out split, `most` drawn at random where there are more."""
        ...

    def model_before(self, split: Held) -> FeatureModel:
        """Return the feature model that may be used to score a held-out split."""
        ...


def whole(frame: RankingFrame) -> Lists:
    """Return the lists that a frame holds in full."""
    return Lists(lambda: iter([frame]), frame.queries[frame.offsets[:-1]], None)
