"""A linear ranker: logistic regression on differences of feature vectors within a query."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.frame import FloatArray, IntArray, RankingFrame
from rankers.checks import check_scorable, fitted
from rankers.device import DeviceName, resolve_device
from rankers.storage import Manifest, constructor_parameters, read_manifest, write_manifest
from rankers.training import prepare

MODEL_FILE = "model.npz"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standardiser:
    """Fills missing values and standardises, over d features of which m were missing somewhere in training.

    Attributes
    ----------
    medians, means, deviations
        (d,) float64; a missing value becomes the median, and a constant feature has deviation 1.
    indicators
        (m,) int64 columns that have a missing indicator.
    """

    medians: NDArray[np.float64]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    indicators: IntArray

    @classmethod
    def of(cls, features: FloatArray) -> Self:
        """Learn from (n_rows, d) features; one that is missing everywhere has median 0."""
        missing = np.isnan(features)
        values = np.where(missing.all(axis=0), 0.0, features.astype(np.float64))
        medians = np.nanmedian(values, axis=0)
        filled = np.where(np.isnan(values), medians, values)
        deviations = filled.std(axis=0)
        return cls(
            medians=medians,
            means=filled.mean(axis=0),
            deviations=np.where(deviations > 0, deviations, 1.0),
            indicators=np.flatnonzero(missing.any(axis=0)),
        )

    def transform(self, features: FloatArray) -> NDArray[np.float64]:
        """Return the (n_rows, d + m) standardised features, then the indicators."""
        missing = np.isnan(features)
        n_features = features.shape[1]
        design = np.empty((len(features), n_features + len(self.indicators)))
        standard = design[:, :n_features]
        standard[:] = np.where(missing, self.medians, features)
        standard -= self.means
        standard /= self.deviations
        design[:, n_features:] = missing[:, self.indicators]
        return design


@dataclass
class LinearRanker:
    """Pairwise logistic regression (RankNet's loss on a linear score, Burges et al., ICML 2005).

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty, as in scikit-learn.
    pairs_per_query
        At most so many pairs of a query are drawn, so that long lists do not drown short ones.
    max_iterations
        Limit of the solver.
    device, threads
        Taken for the sake of one constructor; the linear ranker runs on the CPU with what BLAS has.
    """

    family: ClassVar[str] = "linear"
    objectives: ClassVar[tuple[str, ...]] = ("pairwise_logistic",)

    objective: Literal["pairwise_logistic"] = "pairwise_logistic"
    C: float = 0.1
    pairs_per_query: int = 100
    max_iterations: int = 1000
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    feature_names_: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    standardiser_: Standardiser | None = field(default=None, init=False, repr=False, compare=False)
    weights_: NDArray[np.float64] | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries; `valid` is checked but not needed; raises DataError."""
        resolve_device(self.device, "linear")
        train, _ = prepare(train, valid)
        better, worse, queries = sample_pairs(train, self.pairs_per_query, self.seed)
        standardiser = Standardiser.of(train.features)
        design = standardiser.transform(train.features)
        pair_weights = (
            None if train.query_weights is None else train.query_weights[queries].astype(np.float64)
        )
        self.weights_ = self._solve(design[better] - design[worse], pair_weights)
        self.standardiser_ = standardiser
        self.feature_names_ = train.feature_names
        logger.info("linear %s: %d pairs of %d queries", self.objective, len(better), train.n_queries)
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if the features are not those of `fit`."""
        check_scorable(frame, fitted(self.feature_names_, self.family))
        design = fitted(self.standardiser_, self.family).transform(frame.features)
        design *= fitted(self.weights_, self.family)
        # Not a matrix product: BLAS rounds a row differently with the number of rows around it.
        scores: NDArray[np.float64] = design.sum(axis=1)
        return scores

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and the arrays into an existing folder."""
        names = fitted(self.feature_names_, self.family)
        learned = {"feature_names": list(names)}
        write_manifest(folder, Manifest(self.family, constructor_parameters(self), learned))
        arrays = vars(fitted(self.standardiser_, self.family)) | {
            "weights": fitted(self.weights_, self.family)
        }
        np.savez(folder / MODEL_FILE, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        manifest = read_manifest(folder, cls.family)
        ranker = cls(**manifest.parameters)
        ranker.feature_names_ = tuple(manifest.learned["feature_names"])
        with np.load(folder / MODEL_FILE, allow_pickle=False) as arrays:
            learned = dict(arrays)
        ranker.weights_ = learned.pop("weights")
        ranker.standardiser_ = Standardiser(**learned)
        return ranker

    def _solve(
        self, differences: NDArray[np.float64], weights: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        from sklearn.linear_model import LogisticRegression

        # Every difference is "better minus worse"; flipping every other one gives the two classes.
        signs = np.where(np.arange(len(differences)) % 2 == 0, 1.0, -1.0)
        solver = LogisticRegression(C=self.C, fit_intercept=False, max_iter=self.max_iterations)
        # Sums over all pairs are rounded otherwise with other threads.
        with threadpool_limits(1, user_api="blas"):
            solver.fit(differences * signs[:, None], signs, sample_weight=weights)
        return np.asarray(solver.coef_[0], dtype=np.float64)


def sample_pairs(frame: RankingFrame, per_query: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
    """Draw pairs of rows of one query with different labels.

    All pairs where a query has at most `per_query` of them, else so many, spread evenly over its better rows.

    Returns
    -------
    better, worse, queries
        (n_pairs,) int64 row numbers of the higher and the lower label, and the position of the query.
    """
    starts, sizes = frame.offsets[:-1], frame.group_sizes
    query_of_row = np.repeat(np.arange(frame.n_queries), sizes)
    rows = np.lexsort((frame.labels, query_of_row))
    labels = frame.labels[rows]
    # With labels ascending, a row is better than the rows from the start of its query to the start of its
    # run of equal labels. Numbering these pairs row after row makes drawing pairs a drawing of numbers.
    run_begins = np.concatenate([[True], (np.diff(labels) != 0) | (np.diff(query_of_row) != 0)])
    run_start = np.maximum.accumulate(np.where(run_begins, np.arange(len(rows)), 0))
    n_worse = run_start - starts[query_of_row]
    pair_ends = np.cumsum(n_worse)
    first_pairs = np.concatenate([[0], pair_ends])[frame.offsets]
    n_pairs = np.diff(first_pairs)
    n_drawn = np.minimum(n_pairs, per_query)
    queries = np.repeat(np.arange(frame.n_queries), n_drawn)
    nth = np.arange(len(queries)) - np.repeat(np.cumsum(n_drawn) - n_drawn, n_drawn)
    within = (nth + np.random.default_rng(seed).random(len(queries))) * (n_pairs[queries] / n_drawn[queries])
    numbers = first_pairs[queries] + np.minimum(within.astype(np.int64), n_pairs[queries] - 1)
    better = np.searchsorted(pair_ends, numbers, side="right")
    worse = starts[queries] + numbers - (pair_ends - n_worse)[better]
    return rows[better], rows[worse], queries
