"""A conditional generator of vectors: what an item's other modalities let expect of a missing one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from features.errors import DataError
from features.frame import BoolArray, FloatArray
from features.space import Space

FEWEST = 20


@dataclass(frozen=True)
class Conditions:
    """What is known of items beside one modality.

    Attributes
    ----------
    rows
        (n_items, width) float32: the unit vectors of the other modalities, zeros where one is missing, and
        their presence.
    known
        (n_items,) bool: the item has another modality.
    """

    rows: FloatArray
    known: BoolArray

    @classmethod
    def of(cls, items: Space, name: str) -> Conditions:
        """Return the conditions for a modality."""
        others = [modality for other, modality in items.items() if other != name]
        n = len(items[name].present)
        own = np.array([other.own for other in others]).reshape(len(others), n)
        told = [np.where(other.own[:, None], other.unit, 0) for other in others]
        rows = np.column_stack([np.zeros((n, 0), np.float32), *told, own.T]).astype(np.float32)
        known: BoolArray = np.asarray(own.any(axis=0))
        return cls(rows, known)


@dataclass(frozen=True)
class VectorGenerator:
    """A fitted WGAN-GP (Gulrajani et al., NeurIPS 2017) of which both networks see the conditions.

    Attributes
    ----------
    network
        A torch module of (noise, condition) to a standardised vector.
    centre, scale
        (d,) of the vectors that it learned from.
    """

    network: Any
    centre: FloatArray
    scale: FloatArray

    @classmethod
    def fit(
        cls, vectors: FloatArray, conditions: Conditions, rows: BoolArray, *, seed: int, steps: int = 400
    ) -> VectorGenerator:
        """Learn from the vectors of some rows; the same seed and threads give the same generator.

        Raises
        ------
        DataError
            If there are fewer than FEWEST rows.
        """
        # torch takes seconds to import, and only a config that asks for it needs it.
        from features.generator_network import trained

        if rows.sum() < FEWEST:
            raise DataError(
                f"a generator: got {rows.sum()} vectors to learn from, expected at least {FEWEST}",
                fix="set labels.generated and labels.synthetic_negatives to 0, or describe more items",
            )
        learned = vectors[rows]
        centre, scale = learned.mean(axis=0), learned.std(axis=0)
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        network = trained((learned - centre) / scale, conditions.rows[rows], seed=seed, steps=steps)
        return cls(network, centre, scale)

    def sample(self, conditions: FloatArray, seed: int) -> FloatArray:
        """Return (n, d) float32 vectors for (n, width) conditions."""
        from features.generator_network import sampled

        vectors: FloatArray = sampled(self.network, conditions, seed) * self.scale + self.centre
        return vectors.astype(np.float32)
