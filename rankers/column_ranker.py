"""One feature as a ranker: the score of a retriever, or any column that is a ranking already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.frame import RankingFrame
from rankers.storage import Manifest, read_manifest, write_manifest


@dataclass
class ColumnRanker:
    """Ranks by the column `feature`, higher is better; NaN stays "no opinion" and nothing is learned."""

    family: ClassVar[str] = "column"

    feature: str

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Check that the column is there."""
        self._column(train)
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return the (n_rows,) column."""
        return frame.features[:, self._column(frame)].astype(np.float64)

    def _column(self, frame: RankingFrame) -> int:
        try:
            return frame.feature_names.index(self.feature)
        except ValueError:
            raise DataError(
                f"got no feature {self.feature!r} among {len(frame.feature_names)}",
                fix="score with the model's own features",
                column=self.feature,
            ) from None

    def save(self, folder: Path) -> None:
        """Write `ranker.json`."""
        write_manifest(folder, Manifest(self.family, {"feature": self.feature}, {}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**read_manifest(folder, cls.family).parameters)
