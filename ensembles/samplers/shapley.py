"""Resampling by Shapley values: queries are repeated for what a modality that lags behind adds to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ensembles.comparisons import compare, draw_jitter
from ensembles.gate import paired_bootstrap
from ensembles.linear_stack import LinearStack
from ensembles.meta import teaching_queries
from ensembles.samplers.draw import (
    Draw,
    Sampler,
    check_range,
    systematic,
    trainable,
)
from ensembles.score_frame import ScoreFrame
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


def shapley(kappa: float = 1.0, k: int = 20, most: int = 2000) -> Sampler:
    """Return the sampler that repeats the queries to which a lagging modality adds most.

    After the sample-level modality valuation of Wei et al. (CVPR 2024). The value v_q(S) of a set of
    content modalities is the NDCG@k of query q when only they and behaviour can be seen: by a weighted sum
    of the bases that read one modality, with weights of a linear stack fitted to the frame. phi_qm is the
    Shapley value of modality m: all 2^M sets up to 4 modalities, beyond that the mean over random
    permutations (Castro et al., Computers & Operations Research 2009). A modality lags by the share
    1 - mean phi_m / mean phi of the best one, and every query gets
    min(3, round(kappa * lag_m * max(0, phi_qm) / sigma)) more copies for it, sigma being the standard
    deviation of all phi; none of a modality that ranks the queries whose positive has it no better than
    chance, which noise does not. Of all copies as many rows are drawn as in all queries once.

    Wei et al. train encoders and repeat the samples to which a modality adds least. Here the encoders are
    trained and weights are learned: such copies are the queries that the modality gets wrong.

    Parameters
    ----------
    kappa
        Copies for a modality that adds nothing on average, of a query to which it adds one sigma.
    k
        Cutoff of the NDCG.
    most
        Queries that are valued, drawn at random where there are more; the others get no copy.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_range("shapley", "kappa", kappa, 0.0, 100.0)
    check_range("shapley", "k", k, 1, 1000)
    check_range("shapley", "most", most, 1, np.inf)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = trainable(frame)
        content = frame.content
        copies = np.ones(len(queries))
        if len(content) > 1 and len(teaching_queries(frame)):
            valued = np.sort(generator.permutation(len(queries))[: int(most)])
            copies[valued] += _copies(frame.take_queries(queries[valued]), content, kappa, int(k), generator)
        sizes = frame.group_sizes[queries]
        drawn = systematic(copies, np.rint(copies).astype(np.int64), sizes, float(sizes.sum()), generator)
        return Draw.unweighted(queries[drawn], n_dropped=n_dropped)

    return draw


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
) -> Values:
    """Return the (n_queries,) further copies of each query."""
    phi = shapley_values(_game(frame, content, k, generator), content, generator)
    mean = phi.mean(axis=0)
    lag = np.clip(1.0 - mean / max(float(mean.max()), 1e-12), 0.0, 1.0)
    each = np.rint(kappa * lag * np.maximum(0.0, phi) / max(float(phi.std()), 1e-12))
    copies = np.minimum(MOST_COPIES, each)
    for column, name in enumerate(content):
        if copies[:, column].any() and not _beats_chance(frame, name, k, generator):
            copies[:, column] = 0
    total: Values = copies.sum(axis=1)
    return total


def _game(frame: ScoreFrame, content: tuple[str, ...], k: int, generator: np.random.Generator) -> Game:
    """Return the value of sets of content modalities: (n_queries,) NDCG@k with the others unseen."""
    read = [set(frame.reads(base)) - {BEHAVIOUR} for base in frame.bases]
    single = [column for column, names in enumerate(read) if len(names) <= 1]
    z = np.nan_to_num(frame.views.z[:, single])
    alone = replace(frame, scores=z, bases=tuple(frame.bases[column] for column in single))
    weights = _plain_weights(alone)
    jitter = draw_jitter(len(alone.labels), generator)
    bag = compare(alone, k, jitter)

    def said_by(names: set[str]) -> Values:
        own = np.array([read[column] == names for column in single])
        said: Values = z[:, own] @ weights[own]
        return said

    by_modality = {name: said_by({name}) for name in content}
    always = jitter + said_by(set())

    @cache
    def value(seen: frozenset[str]) -> Values:
        return bag.per_query(sum((by_modality[name] for name in sorted(seen)), start=always))

    return value


def _plain_weights(frame: ScoreFrame) -> Values:
    """Return the (n_bases,) weights of a linear stack that knows nothing but the scores."""
    everywhere = np.ones_like(frame.present)
    unknown = np.zeros((len(frame.labels), 0), dtype=np.float32)
    stack = LinearStack().fit(replace(frame, present=everywhere, context=unknown, context_names=()))
    weights: Values = stack.weights_[:, 0]
    return weights


def _beats_chance(frame: ScoreFrame, modality: str, k: int, generator: np.random.Generator) -> bool:
    """Tell whether the modality's best base ranks the candidates that have it better than chance does.

    Only candidates that have the modality are ranked, and so only queries with a positive that has it count:
    that they have it may be worth something, but it is not what the modality says.
    """
    part = frame.take_rows(frame.present[:, frame.modalities.index(modality)])
    own = [number for number, base in enumerate(frame.bases) if frame.base_modality.get(base) == modality]
    chance = np.mean(
        [ndcg(generator.random(len(part.labels)), part.labels, part.offsets, k) for _ in range(ORDERS)],
        axis=0,
    )
    values = [ndcg(part.scores[:, number], part.labels, part.offsets, k) for number in own]
    best = max(values, key=lambda each: float(np.nansum(each)))
    return paired_bootstrap(best, chance, n_draws=500).low > 0
