"""What every ranker is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.frame import RankingFrame

# Is told the number of every boosting round, from 1, and NDCG@k on `valid`; what it raises ends `fit`.
OnRound = Callable[[int, float], None]


class Ranker(Protocol):
    """Scores candidates so that a higher score means a better rank within the query.

    Constructors store parameters, `fit` learns, and what is learned ends in an underscore. A ranker is
    row-order invariant: any order of the rows within a query gives the same score to the same candidate.
    """

    family: ClassVar[str]

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries; `valid` is for early stopping only and is never scored out of fold.

        Raises
        ------
        DataError
            If the labels or features break the contract of `rankers.checks.check_trainable`.
        """
        ...

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if the features are not those of `fit`."""
        ...

    def save(self, folder: Path) -> None:
        """Write native files, arrays and JSON, no pickle, into an existing empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the loaded ranker scores bit for bit as the saved one."""
        ...
