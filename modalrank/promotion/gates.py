"""The gates of a promotion: what is measured, what is asked for, and the verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import ttest_1samp

from ensembles.gate import Interval, paired_bootstrap
from modalrank.evaluation import Values
from modalrank.promotion.frozen import EvaluationSet
from modalrank.promotion.worker import Measured
from rankers.metrics import ndcg

# What costs no more than this is never too much.
SMALL_MS, SMALL_GIB, SMALL_MIB = 1.0, 1.0, 100.0
COLDNESS, PATTERN, ACTIVITY = "coldness", "pattern", "activity"


@dataclass(frozen=True)
class Thresholds:
    """What a challenger must keep.

    Attributes
    ----------
    margin
        Share of NDCG that a cheaper challenger may lose to the champion, and any challenger to rank fusion.
    cheaper
        A cheaper challenger needs at most this share of the champion's CPU time.
    slower, memory, size
        Most CPU time a query, peak memory and size as a multiple of the champion's.
    alpha
        Chance that some slice is called worse although none is (family-wise).
    fewest
        Users that a slice, and the comparison as a whole, must have to be judged.
    """

    margin: float = 0.01
    cheaper: float = 0.9
    slower: float = 2.0
    memory: float = 1.5
    size: float = 2.0
    alpha: float = 0.05
    fewest: int = 30


@dataclass(frozen=True)
class Gate:
    """One line of the table."""

    name: str
    threshold: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Version:
    """A version with what was measured of it.

    Attributes
    ----------
    number
        Version in the registry.
    lists
        `query`, `item`, `score` and `rank` of the frozen queries.
    """

    number: str
    measured: Measured
    lists: pl.DataFrame


def all_gates(
    evaluation: EvaluationSet, challenger: Version, champion: Version | None, limits: Thresholds
) -> list[Gate]:
    """Return every gate; without a champion those that need no other version."""
    gates = [
        *integrity(challenger, champion),
        *references(evaluation, challenger, limits),
        stress(challenger),
    ]
    if champion is None:
        return gates
    return [
        *gates,
        quality(evaluation, challenger, champion, limits),
        *slices(evaluation, challenger, champion, limits),
        *costs(challenger.measured, champion.measured, limits),
    ]


def integrity(challenger: Version, champion: Version | None) -> Iterator[Gate]:
    """Yield whether a clean process repeats the expected scores, and nobody has met the answers."""
    expected, repeated = challenger.measured.repeated
    yield Gate(
        "integrity: scores in a clean process",
        "all bit-equal to those of training",
        f"{repeated} of {expected}",
        passed=expected > 0 and repeated == expected,
    )
    for role, version in (("challenger", challenger), ("champion", champion)):
        if version is not None:
            yield Gate(
                f"integrity: {role} has not met the answers",
                "0 evaluation positives in its history",
                str(version.measured.met),
                passed=version.measured.met == 0,
            )


def stress(challenger: Version) -> Gate:
    """Return whether a stranger and items of which nothing is known get scores."""
    asked, finite = challenger.measured.stressed
    return Gate("no modality at all", "every score finite", f"{finite} of {asked}", passed=finite == asked)


def references(evaluation: EvaluationSet, challenger: Version, limits: Thresholds) -> Iterator[Gate]:
    """Yield whether the challenger beats popularity, and is not behind the rank fusion of its own bases.

    A rank fusion can be the challenger itself, so that it must not lose by the margin instead of win.
    """
    values = query_values(evaluation, challenger.lists)
    margin = limits.margin * float(np.nanmean(values))
    for name, least in (("popularity", 0.0), ("rank_fusion", -margin)):
        reference = evaluation.queries[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if np.isnan(reference).all():
            continue
        gain = paired_bootstrap(values, reference)
        yield Gate(
            f"NDCG@{evaluation.k} against {name.replace('_', ' ')}",
            f"lower bound above {least:.4f}",
            show(gain),
            passed=gain.low > least,
        )


def quality(evaluation: EvaluationSet, challenger: Version, champion: Version, limits: Thresholds) -> Gate:
    """Return whether the challenger is superior, or not inferior and cheaper.

    The bootstrap draws users (of judged lists, queries), because what is observed of one user is not
    independent.
    """
    ours, theirs = (query_values(evaluation, version.lists) for version in (challenger, champion))
    gain = paired_bootstrap(ours, theirs)
    margin = limits.margin * float(np.nanmean(theirs))
    ratio = challenger.measured.cpu_ms / max(champion.measured.cpu_ms, 1e-9)
    enough = gain.n >= limits.fewest
    superior = enough and gain.low > 0
    cheaper = enough and gain.low > -margin and ratio <= limits.cheaper
    return Gate(
        f"NDCG@{evaluation.k} against the champion",
        f"lower bound above 0; or above {-margin:+.4f} at {limits.cheaper:g} of its CPU time; "
        f"{limits.fewest} users",
        f"{show(gain)}, {ratio:.2f} of its CPU time",
        passed=superior or cheaper,
    )


def slices(
    evaluation: EvaluationSet, challenger: Version, champion: Version, limits: Thresholds
) -> list[Gate]:
    """Return a gate for every slice of enough users: none may be significantly worse.

    One-sided paired t-tests over users with Holm's correction (Scandinavian Journal of Statistics, 1979).
    """
    found = [
        (name, gap)
        for name, gap in slice_gaps(evaluation, challenger.lists, champion.lists)
        if len(gap) >= limits.fewest
    ]
    p_values = [_p_worse(gap) for _, gap in found]
    worse = holm(p_values, limits.alpha)
    return [
        Gate(
            f"slice {name}",
            f"not worse at the {limits.alpha:.0%} level (Holm, {len(found)} slices)",
            f"{gap.mean():+.4f}, p {p:.3g}, {len(gap)} users",
            passed=not rejected,
        )
        for (name, gap), p, rejected in zip(found, p_values, worse, strict=True)
    ]


def costs(ours: Measured, theirs: Measured, limits: Thresholds) -> Iterator[Gate]:
    """Yield whether CPU time, memory and size stay within a multiple of the champion's, or are small."""
    for name, unit, small, most, mine, other in (
        ("CPU time a query", "ms", SMALL_MS, limits.slower, ours.cpu_ms, theirs.cpu_ms),
        ("peak memory", "GiB", SMALL_GIB, limits.memory, ours.gib, theirs.gib),
        ("size", "MiB", SMALL_MIB, limits.size, ours.mib, theirs.mib),
    ):
        yield Gate(
            name,
            f"at most {most:g} times the champion's {other:.3g} {unit}, or {small:g} {unit}",
            f"{mine:.3g} {unit}",
            passed=mine <= max(small, most * other),
        )


def query_values(evaluation: EvaluationSet, lists: pl.DataFrame) -> Values:
    """(n_queries,) NDCG@k in the order of the frozen queries; 0 without a list, NaN without a positive."""
    positives = evaluation.truth.select("query", "item", pl.col("label").cast(pl.Float64))
    if evaluation.form == "log":
        positives = positives.with_columns(label=pl.lit(1.0))
    order = evaluation.queries.select("query").with_row_index("place")
    rows = (
        lists.join(positives, on=["query", "item"], how="left")
        .join(order, on="query", how="inner")
        .sort("place", "rank")
    )
    listed = rows["place"].unique(maintain_order=True).to_numpy()
    sizes = rows.group_by("place", maintain_order=True).len()["len"].to_numpy()
    counts = order.join(positives.filter(pl.col("label") > 0).group_by("query").len(), on="query", how="left")
    total = counts.sort("place")["len"].fill_null(0).to_numpy().astype(np.int64)
    values = np.where(total > 0, 0.0, np.nan)
    values[listed] = ndcg(
        -rows["rank"].to_numpy().astype(np.float64),
        rows["label"].fill_null(0.0).to_numpy(),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        evaluation.k,
        total_relevant=total[listed] if evaluation.form == "log" else None,
    )
    return values


def slice_gaps(
    evaluation: EvaluationSet, ours: pl.DataFrame, theirs: pl.DataFrame
) -> Iterator[tuple[str, Values]]:
    """Yield the name of every slice, and the differences of its users.

    Of a kind of item it is the share of the user's positives of this kind among the first k; of a kind of
    user NDCG@k.
    """
    found = evaluation.truth.filter(pl.col("label") > 0)
    for side, lists in (("ours", ours), ("theirs", theirs)):
        first = lists.filter(pl.col("rank") <= evaluation.k).select("query", "item", pl.lit(1.0).alias(side))
        found = found.join(first, on=["query", "item"], how="left").with_columns(pl.col(side).fill_null(0.0))
    found = found.with_columns(gap=pl.col("ours") - pl.col("theirs"))
    for kind in (COLDNESS, PATTERN):
        by_user = found.group_by(kind, "query").agg(pl.col("gap").mean()).sort(kind, "query")
        for (name,), part in by_user.group_by(kind, maintain_order=True):
            yield f"{kind}: {name}", part["gap"].to_numpy()
    gaps = query_values(evaluation, ours) - query_values(evaluation, theirs)
    bands = evaluation.queries[ACTIVITY].to_numpy()
    for name in np.unique(bands):
        part = gaps[bands == name]
        yield f"{ACTIVITY}: {name}", part[~np.isnan(part)]


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses Holm's step-down procedure rejects at the family-wise level alpha."""
    rejected = [False] * len(p_values)
    for step, place in enumerate(np.argsort(p_values)):
        if p_values[place] > alpha / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected


def show(interval: Interval) -> str:
    """Show a mean with its interval."""
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}], n={interval.n}"


def _p_worse(gap: Values) -> float:
    """Return the p-value against "no worse"; 1 where all users agree."""
    if np.ptp(gap) == 0:
        return 1.0 if gap[0] >= 0 else 0.0
    return float(ttest_1samp(gap, 0.0, alternative="less").pvalue)
