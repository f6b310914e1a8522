"""Feature-weighted linear stacking: weights that depend on what is known, readable by a person."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import (
    check_trainable,
    place_unknown_last,
    query_weights,
    read_state,
    write_state,
    z_of,
)
from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from features.frame import IntArray

# a context far outside what was seen in training must not turn a weight around
LARGEST_CONTEXT = 3.0
CONSTANT = "1"


class LinearStack:
    """Feature-weighted linear stacking (Sill et al., arXiv 0911.0460) for ranking.

    A candidate's score is the sum over bases m and functions j of v_mj f_j z_m, where z_m is the per-query
    z-score of the base (0 where it has no opinion) and the functions are 1, the presence of each modality
    and each context column, standardised. v is fitted on pairs of candidates of one query with different
    labels by logistic loss and an L2 penalty. Functions that did not vary out of fold are left out, and so
    is the product of a base with the presence of its own modality, which says nothing new.

    Parameters
    ----------
    l2
        Strength of the penalty; a query's pairs together weigh as much as its query weight.
    pairs_per_positive, max_pairs
        Opponents drawn for every positive, and the most pairs to learn from.

    Attributes
    ----------
    weights_
        (n_bases, n_functions) float64 v, 0 for products that are left out.
    bases_, functions_
        Their names; functions are `1`, `present:<modality>` and `context:<name>`.
    centres_, scales_
        (n_functions,) what standardises each function.
    """

    name: ClassVar[str] = "linear_stack"
    settings_only: ClassVar[bool] = False

    def __init__(
        self, *, l2: float = 3.0, pairs_per_positive: int = 20, max_pairs: int = 100_000, seed: int = 0
    ) -> None:
        self.l2 = l2
        self.pairs_per_positive = pairs_per_positive
        self.max_pairs = max_pairs
        self.seed = seed

    def fit(self, oof: ScoreFrame) -> Self:
        """Draw pairs and minimise the penalised logistic loss."""
        check_trainable(oof)
        self.bases_ = oof.bases
        self._choose_functions(oof)
        pairs = _draw_pairs(oof, self.pairs_per_positive, self.max_pairs, np.random.default_rng(self.seed))
        z = np.nan_to_num(oof.views.z)
        functions = self._functions_of(oof)
        allowed = self._allowed_products(oof)
        products = [z[rows][:, :, None] * functions[rows][:, None, :] for rows in (pairs.better, pairs.worse)]
        margins = (products[0] - products[1])[:, allowed]
        self.weights_: NDArray[np.float64] = np.zeros(allowed.shape)
        self.weights_[allowed] = _fit_logistic(margins, pairs.weights, self.l2)
        return self

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError also if a modality or context column is absent."""
        z = z_of(frame, self.bases_)
        functions = self._functions_of(frame)
        # explicit sums instead of a matrix product, whose order of adding depends on the number of rows
        total = np.zeros(len(z))
        for base, weights in enumerate(self.weights_):
            weight = np.zeros(len(z))
            for function in np.flatnonzero(weights):
                weight += weights[function] * functions[:, function]
            total += weight * np.nan_to_num(z[:, base])
        total[np.isnan(z).all(axis=1)] = np.nan
        return place_unknown_last(total, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.bases_

    def weights(self) -> dict[str, float]:
        """Return the weights of all products: `base` alone, or `base*function`.

        `base*present:image` is what the presence of an image adds to the weight of the base, and
        `base*context:activity` what one standard deviation of that column above its mean adds.
        """
        return {
            base if function == CONSTANT else f"{base}*{function}": float(self.weights_[i, j])
            for i, base in enumerate(self.bases_)
            for j, function in enumerate(self.functions_)
            if self.weights_[i, j] != 0
        }

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        params = {
            "l2": self.l2,
            "pairs_per_positive": self.pairs_per_positive,
            "max_pairs": self.max_pairs,
            "seed": self.seed,
        }
        learned = {
            "bases": self.bases_,
            "functions": self.functions_,
            "centres": self.centres_.tolist(),
            "scales": self.scales_.tolist(),
            "weights": self.weights_.tolist(),
        }
        write_state(folder, self.name, {"params": params, **learned})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(**state["params"])
        meta.bases_, meta.functions_ = tuple(state["bases"]), tuple(state["functions"])
        meta.centres_, meta.scales_ = np.array(state["centres"]), np.array(state["scales"])
        meta.weights_ = np.array(state["weights"]).reshape(len(meta.bases_), len(meta.functions_))
        return meta

    def _choose_functions(self, oof: ScoreFrame) -> None:
        names, centres, scales = [CONSTANT], [0.0], [1.0]
        for i, modality in enumerate(oof.modalities):
            if 0 < np.count_nonzero(oof.present[:, i]) < len(oof.labels):
                names.append(f"present:{modality}")
                centres.append(0.0)
                scales.append(1.0)
        for i, context in enumerate(oof.context_names):
            column = oof.context[:, i].astype(np.float64)
            if column.min() < column.max():
                names.append(f"context:{context}")
                centres.append(float(column.mean()))
                scales.append(float(column.std()))
        self.functions_ = tuple(names)
        self.centres_, self.scales_ = np.array(centres), np.array(scales)

    def _functions_of(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return the (n_rows, n_functions) standardised values."""
        known: dict[str, NDArray[np.generic]] = {CONSTANT: np.ones(len(frame.labels))}
        known |= {f"present:{name}": frame.present[:, i] for i, name in enumerate(frame.modalities)}
        known |= {f"context:{name}": frame.context[:, i] for i, name in enumerate(frame.context_names)}
        absent = [name for name in self.functions_ if name not in known]
        if absent:
            raise DataError(
                f"got {', '.join(known)}, expected also {', '.join(absent)}",
                fix="score with the modalities and context columns that the meta-learner was trained on",
            )
        raw = np.stack([known[name].astype(np.float64) for name in self.functions_], axis=1)
        standard = (raw - self.centres_) / self.scales_
        clipped: NDArray[np.float64] = np.clip(standard, -LARGEST_CONTEXT, LARGEST_CONTEXT)
        return clipped

    def _allowed_products(self, oof: ScoreFrame) -> NDArray[np.bool_]:
        own = [
            f"present:{oof.base_modality[base]}" if base in oof.base_modality else "" for base in oof.bases
        ]
        return np.array([[function != mine for function in self.functions_] for mine in own])


class _Pairs(NamedTuple):
    better: IntArray
    worse: IntArray
    weights: NDArray[np.float64]


def _draw_pairs(oof: ScoreFrame, per_positive: int, limit: int, generator: np.random.Generator) -> _Pairs:
    """Draw row pairs of one query and different labels; a query's pairs share its weight evenly."""
    query = np.repeat(np.arange(oof.n_queries), oof.group_sizes)
    one = np.repeat(np.flatnonzero(oof.labels > 0), per_positive)
    size = oof.group_sizes[query[one]]
    other = oof.offsets[:-1][query[one]] + (generator.random(len(one)) * size).astype(np.int64)
    differ = np.flatnonzero(oof.labels[one] != oof.labels[other])
    if len(differ) > limit:
        differ = np.sort(generator.choice(differ, limit, replace=False))
    one, other = one[differ], other[differ]
    wins = oof.labels[one] > oof.labels[other]
    n_pairs = np.bincount(query[one], minlength=oof.n_queries)
    weights = query_weights(oof)
    return _Pairs(
        better=np.where(wins, one, other),
        worse=np.where(wins, other, one),
        weights=weights[query[one]] / n_pairs[query[one]],
    )


def _fit_logistic(
    margins: NDArray[np.float64], weights: NDArray[np.float64], l2: float
) -> NDArray[np.float64]:
    """Minimise sum_i weights_i log(1 + exp(-margins_i v)) + l2 |v|^2 / 2 by L-BFGS; convex."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(v: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        ahead = margins @ v
        value = weights @ np.logaddexp(0.0, -ahead) + l2 * (v @ v) / 2.0
        return float(value), l2 * v - margins.T @ (weights * expit(-ahead))

    solution = minimize(
        loss, np.zeros(margins.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    return np.asarray(solution.x, dtype=np.float64)
