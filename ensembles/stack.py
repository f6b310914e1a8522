"""The stack: fitted bases under a fitted meta-learner, as one thing that scores, saves and loads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensembles import load_meta
from ensembles.meta import MetaLearner
from ensembles.oof import to_score_frame
from ensembles.score_frame import ScoreFrame
from features.frame import RankingFrame
from rankers.protocol import Ranker
from rankers.registry import load_ranker

FILE_NAME = "stack.json"


@dataclass(frozen=True)
class Stack:
    """Bases and the meta-learner on top of them.

    Attributes
    ----------
    bases
        Name to fitted ranker.
    base_modality
        Base name to the modality that it cannot do without.
    context
        Features that the meta-learner may see beside the scores.
    """

    bases: Mapping[str, Ranker]
    base_modality: Mapping[str, str]
    context: tuple[str, ...]
    meta: MetaLearner

    def base_scores(self, frame: RankingFrame) -> ScoreFrame:
        """Return what every base says of the candidates; NaN where a base has no opinion."""
        scores = np.column_stack([base.score(frame) for base in self.bases.values()])
        return to_score_frame(
            frame, scores, tuple(self.bases), self.base_modality, self.context, self._reads(frame.modalities)
        )

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) finite scores, higher is better within a query."""
        return self.meta.score(self.base_scores(frame))

    def _reads(self, modalities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Return the modalities that each of the learned bases reads."""
        blocks = {name: getattr(base, "blocks", ()) for name, base in self.bases.items()}
        return {name: tuple(m for m in modalities if m in own) for name, own in blocks.items() if own}

    def pruned(self) -> Stack:
        """Return the stack without the bases that its meta-learner does not read."""
        return self.keeping(self.meta.bases_used())

    def keeping(self, names: Iterable[str]) -> Stack:
        """Return the stack with these of its bases."""
        kept = set(names)
        return replace(
            self,
            bases={name: base for name, base in self.bases.items() if name in kept},
            base_modality={name: modality for name, modality in self.base_modality.items() if name in kept},
        )

    def uses_family(self, family: str) -> bool:
        """Tell whether a base is of this family of rankers."""
        return any(getattr(base, "ranker", base).family == family for base in self.bases.values())

    def save(self, folder: Path) -> None:
        """Write everything into an existing empty folder, without pickle."""
        description = {
            "bases": list(self.bases),
            "base_modality": dict(self.base_modality),
            "context": list(self.context),
        }
        (folder / FILE_NAME).write_text(json.dumps(description, indent=1))
        for name, base in self.bases.items():
            base.save(_made(folder / "bases" / name))
        self.meta.save(_made(folder / "meta"))

    @classmethod
    def load(cls, folder: Path) -> Stack:
        """Read what `save` wrote."""
        description = json.loads((folder / FILE_NAME).read_text())
        return cls(
            bases={name: load_ranker(folder / "bases" / name) for name in description["bases"]},
            base_modality=description["base_modality"],
            context=tuple(description["context"]),
            meta=load_meta(folder / "meta"),
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
