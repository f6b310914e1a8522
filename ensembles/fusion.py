"""Rank fusion: every base votes with its ranks, nothing is learned."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import check_trainable, place_unknown_last, read_state, scores_of, write_state
from ensembles.meta_features import list_ranks
from ensembles.score_frame import ScoreFrame
from features.per_query import weighted_sum


class RankFusion:
    """Reciprocal rank fusion (Cormack et al., SIGIR 2009): the mean over bases of 1 / (constant + rank).

    Ties have their average rank. The mean is over the bases that have an opinion on the candidate, and a
    base that ranked only part of the list has its ranks stretched over the whole of it (see
    `ensembles.meta_features.list_ranks`): an absent modality is then neither a penalty, as with a plain sum,
    nor a reward, as first of two would be. Where every base ranks every candidate the order is Cormack's.

    Attributes
    ----------
    bases_
        The bases that vote: all of `fit`.
    """

    name: ClassVar[str] = "rank_fusion"
    settings_only: ClassVar[bool] = True

    def __init__(self, *, constant: float = 60.0) -> None:
        self.constant = constant

    def fit(self, oof: ScoreFrame) -> Self:
        """Remember the bases."""
        check_trainable(oof)
        self.bases_ = oof.bases
        return self

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) mean reciprocal ranks."""
        votes = 1.0 / (self.constant + list_ranks(scores_of(frame, self.bases_), frame.offsets))
        opinions = (~np.isnan(votes)).sum(axis=1)
        total = weighted_sum([(1.0, column) for column in votes.T], len(votes))
        mean = np.where(opinions > 0, total / np.maximum(opinions, 1), np.nan)
        return place_unknown_last(mean, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.bases_

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        write_state(folder, self.name, {"constant": self.constant, "bases": self.bases_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(constant=state["constant"])
        meta.bases_ = tuple(state["bases"])
        return meta
