"""Resampling by Shapley values: queries are repeated for the modalities that add least to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensembles.gate import paired_bootstrap
from ensembles.linear_stack import LinearStack
from ensembles.meta import teaching_queries
from ensembles.samplers.draw import (
    Draw,
    Sampler,
    best_positives,
    check_range,
    drawn_rows,
    spare_last_sources,
    systematic,
    trainable,
)
from ensembles.score_frame import ScoreFrame
from features.frame import BoolArray, IntArray
from features.retrievers import BEHAVIOUR
from rankers.metrics import ndcg

# modalities up to which all 2^m coalitions are scored, and the permutations that are drawn beyond
EXACT = 4
PERMUTATIONS = 8
MOST_COPIES = 3
# random orders that a modality's own ranking is compared with
ORDERS = 5

Values = NDArray[np.float64]
Game = Callable[[frozenset[str]], Values]


def shapley(kappa: float = 1.0, k: int = 20, most: int = 2000, strength: float = 1.0) -> Sampler:
    """Return the sampler that repeats queries for the modalities that add least to them.

    After the sample-level modality valuation of Wei et al. (CVPR 2024). The value v_q(S) of a set of
    content modalities is the NDCG@k of query q when only they and behaviour can be seen, by a linear stack
    of the bases that read one modality, fitted to the frame. phi_qm is the Shapley value of modality m: all
    2^M sets up to 4 modalities, beyond that the mean over random permutations (Castro et al., Computers &
    Operations Research 2009). To every query are added min(3, round(kappa max(0, mean phi of the dominant
    modality - phi_qm) / sigma)) copies in which the other content modalities are hidden, sigma being the
    standard deviation of all phi; none where the positive lacks m, and none of a modality that ranks the
    queries whose positive has it no better than chance. Of all these versions as many rows are drawn as in
    all queries once.

    Parameters
    ----------
    kappa
        Copies for a lag of one standard deviation.
    k
        Cutoff of the NDCG.
    most
        Queries that are valued, drawn at random where there are more; the others get no copy.
    strength
        Weight of a copy beside that of an original.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_range("shapley", "kappa", kappa, 0.0, 100.0)
    check_range("shapley", "k", k, 1, 1000)
    check_range("shapley", "most", most, 1, np.inf)
    check_range("shapley", "strength", strength, 0.0, 10.0)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = trainable(frame)
        content = content_modalities(frame)
        copies = np.zeros((len(queries), len(content)), dtype=np.int64)
        if len(content) > 1 and len(teaching_queries(frame)):
            valued = np.sort(generator.permutation(len(queries))[: int(most)])
            copies[valued] = _copies(frame.take_queries(queries[valued]), content, kappa, int(k), generator)
        version = np.concatenate([np.arange(len(queries)), np.repeat(np.arange(len(queries)), copies.sum(1))])
        alone = np.concatenate([np.full(len(queries), -1), _repeated_columns(copies)])
        sizes = frame.group_sizes[queries][version]
        budget = float(frame.group_sizes[queries].sum())
        wanted = np.where(alone < 0, 1.0, strength)
        drawn = systematic(wanted, alone, sizes, budget, generator)
        positions = queries[version[drawn]]
        hidden = _all_but(frame, positions, alone[drawn], content)
        seen = frame.take_queries(positions)
        return Draw.unweighted(
            positions, n_dropped=n_dropped, hidden=spare_last_sources(seen, hidden, generator)
        )

    return draw


def content_modalities(frame: ScoreFrame) -> tuple[str, ...]:
    """Return the modalities other than behaviour that some base needs."""
    needed = set(frame.base_modality.values())
    return tuple(name for name in frame.modalities if name in needed and name != BEHAVIOUR)


def shapley_values(
    game: Game, players: tuple[str, ...], generator: np.random.Generator, n_permutations: int = PERMUTATIONS
) -> Values:
    """Return the (n_queries, n_players) Shapley values of a game.

    phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)) (Shapley, 1953), exact up to
    EXACT players, and the mean marginal contribution over random permutations beyond.
    """
    if len(players) > EXACT:
        orders = [tuple(generator.permutation(players)) for _ in range(n_permutations)]
        mean: Values = np.mean([_marginal(game, players, order) for order in orders], axis=0)
        return mean
    total = math.factorial(len(players))
    values = []
    for player in players:
        others = [other for other in players if other != player]
        value = np.zeros_like(game(frozenset()))
        for size in range(len(players)):
            share = math.factorial(size) * math.factorial(len(players) - size - 1) / total
            for chosen in itertools.combinations(others, size):
                value = value + share * (game(frozenset(chosen) | {player}) - game(frozenset(chosen)))
        values.append(value)
    return np.stack(values, axis=1)


def _marginal(game: Game, players: tuple[str, ...], order: tuple[str, ...]) -> Values:
    gains = {
        player: game(frozenset(order[: place + 1])) - game(frozenset(order[:place]))
        for place, player in enumerate(order)
    }
    return np.stack([gains[player] for player in players], axis=1)


def _copies(
    frame: ScoreFrame, content: tuple[str, ...], kappa: float, k: int, generator: np.random.Generator
) -> IntArray:
    """Return the (n_queries, n_content) copies of each query in which a modality is alone."""
    phi = shapley_values(_game(frame, content, k), content, generator)
    dominant = int(phi.mean(axis=0).argmax())
    lag = np.maximum(0.0, phi[:, dominant].mean() - phi) / max(float(phi.std()), 1e-12)
    copies = np.minimum(MOST_COPIES, np.rint(kappa * lag)).astype(np.int64)
    positives = best_positives(frame, np.arange(frame.n_queries), generator)
    has = frame.present[positives][:, [frame.modalities.index(name) for name in content]]
    for column, name in enumerate(content):
        if column == dominant or not _beats_chance(frame, name, has[:, column], k, generator):
            copies[:, column] = 0
    wanted: IntArray = copies * has
    return wanted


def _game(frame: ScoreFrame, content: tuple[str, ...], k: int) -> Game:
    """Return the value of sets of content modalities: (n_queries,) NDCG@k with the others hidden."""
    single = [base for base in frame.bases if len(set(frame.reads(base)) - {BEHAVIOUR}) <= 1]
    columns = [frame.bases.index(base) for base in single]
    readable = replace(frame, scores=frame.scores[:, columns], bases=tuple(single))
    stack = LinearStack().fit(readable)

    @cache
    def value(seen: frozenset[str]) -> Values:
        mask = np.array([name in content and name not in seen for name in frame.modalities])
        masked = readable.hide(np.broadcast_to(mask, readable.present.shape) & readable.present)
        return np.nan_to_num(ndcg(stack.score(masked), frame.labels, frame.offsets, k))

    return value


def _beats_chance(
    frame: ScoreFrame, modality: str, has: BoolArray, k: int, generator: np.random.Generator
) -> bool:
    """Tell whether the modality's best base ranks the candidates that have it better than chance does.

    Only queries whose positive has the modality count, and only candidates that have it: that they have it
    may be worth something, but it is not what the modality says.
    """
    column = frame.modalities.index(modality)
    part = frame.take_rows(frame.present[:, column]).take_queries(np.flatnonzero(has))
    own = [number for number, base in enumerate(frame.bases) if frame.base_modality.get(base) == modality]
    chance = np.mean(
        [ndcg(generator.random(len(part.labels)), part.labels, part.offsets, k) for _ in range(ORDERS)],
        axis=0,
    )
    values = [ndcg(part.scores[:, number], part.labels, part.offsets, k) for number in own]
    best = max(values, key=lambda each: float(np.nansum(each)))
    return paired_bootstrap(best, chance, n_draws=500).low > 0


def _repeated_columns(copies: IntArray) -> IntArray:
    """Return the column of every copy, query by query."""
    columns = np.tile(np.arange(copies.shape[1]), len(copies))
    return np.repeat(columns, copies.ravel())


def _all_but(frame: ScoreFrame, positions: IntArray, alone: IntArray, content: tuple[str, ...]) -> BoolArray:
    """Return the (n_drawn_rows, n_modalities) mask that leaves content modality `alone` of each query."""
    names = np.array(frame.modalities)
    is_content = np.isin(names, content)
    masks = np.stack([is_content & (names != name) for name in content] + [np.zeros(len(names), dtype=bool)])
    sizes = frame.group_sizes[positions]
    mask: BoolArray = np.repeat(masks[alone], sizes, axis=0)
    return mask & frame.present[drawn_rows(frame, positions)]
