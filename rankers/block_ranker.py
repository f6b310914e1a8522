"""A ranker that sees only some blocks of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.frame import BoolArray, RankingFrame
from rankers.protocol import Ranker
from rankers.storage import Manifest, read_manifest, write_manifest

INNER_FOLDER = "inner"


@dataclass
class BlockRanker:
    """Wraps a ranker so that it is fitted on, and scores, the named blocks only.

    Parameters
    ----------
    ranker
        The ranker that learns.
    blocks
        Names of the blocks that it sees.
    modality
        If given, rows where this modality is absent are left out of the training and score NaN, which
        means "no opinion".
    """

    family: ClassVar[str] = "block"

    ranker: Ranker
    blocks: tuple[str, ...]
    modality: str | None = None

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from the blocks of the rows that have the modality; raises DataError as the inner ranker.

        Raises
        ------
        DataError
            Also if the frame lacks a block or the modality.
        """
        self.ranker.fit(self._visible(train), None if valid is None else self._visible(valid))
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores, NaN where the modality is absent; raises DataError for other features."""
        scores = np.full(frame.n_rows, np.nan)
        scores[self._has_opinion(frame)] = self.ranker.score(self._visible(frame))
        return scores

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and the inner ranker's folder into an existing folder."""
        parameters = {"blocks": list(self.blocks), "modality": self.modality}
        write_manifest(folder, Manifest(self.family, parameters, {}))
        inner = folder / INNER_FOLDER
        inner.mkdir()
        self.ranker.save(inner)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, whatever the family of the inner ranker."""
        # The registry names this class, so its module cannot be imported from the top of this one.
        from rankers.registry import load_ranker

        parameters = read_manifest(folder, cls.family).parameters
        return cls(load_ranker(folder / INNER_FOLDER), tuple(parameters["blocks"]), parameters["modality"])

    def _visible(self, frame: RankingFrame) -> RankingFrame:
        for name in self.blocks:
            if name not in frame.blocks:
                raise DataError(
                    f"got blocks {sorted(frame.blocks)}, expected {name!r} among them",
                    fix="build the frame with the modalities of the training, or name another block",
                )
        rows = self._has_opinion(frame)
        seen = frame if rows.all() else frame.take_rows(rows)
        return seen.select_blocks(self.blocks)

    def _has_opinion(self, frame: RankingFrame) -> BoolArray:
        if self.modality is None:
            return np.ones(frame.n_rows, dtype=bool)
        if self.modality not in frame.modalities:
            raise DataError(
                f"got modalities {sorted(frame.modalities)}, expected {self.modality!r} among them",
                fix="build the frame with the modalities of the training",
            )
        present: BoolArray = frame.present[:, frame.modalities.index(self.modality)]
        return present
