"""The feature model: everything known before a cut, and the RankingFrame it gives for candidates."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from features.behaviour_vectors import behaviour_vectors
from features.candidates import Candidates, retrieve, score_given
from features.errors import ConfigError
from features.facts import Facts
from features.filling import Method
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame
from features.history import History
from features.per_query import normalise, spread
from features.retrievers import BEHAVIOUR, FactorRetriever, Retriever, content_retrievers
from features.sequences import ItemTable, Sequences
from features.similarity import Profiles, similarities
from features.space import ModalityVectors, Space, with_graph
from features.target_statistics import PeerRates, item_statistics

CONTEXT = "context"


@dataclass(frozen=True)
class FeatureSettings:
    """How features and candidates are made; travels with the model.

    Attributes
    ----------
    per_source, new_per_source
        Items that each source retrieves, and of those that nobody has met each source but behaviour.
    depths
        Retriever to the number of items that it retrieves instead.
    last_k
        Last liked items that the `last` similarity looks at, and the half-life in items of the `recent`
        one; 0 for data without times, which have neither.
    contrast
        The data tell dislikes, so that liked minus disliked is a feature.
    exclude
        Names of features that are not made, `*` standing for anything.
    sequence
        Last liked items of a query's user that the frame tells, 0 for none.
    categories
        Modalities whose vectors are one category a row, of which target statistics are features.
    filling
        How missing vectors of items are guessed, see `features.filling`.
    meetings
        Pairs of a user and an item modality in one space, whose cosine is a feature.
    """

    per_source: int = 100
    new_per_source: int = 0
    depths: Mapping[str, int] = field(default_factory=dict)
    last_k: int = 5
    components: int = 4
    exclude_seen: bool = True
    contrast: bool = True
    exclude: tuple[str, ...] = ()
    sequence: int = 0
    categories: tuple[str, ...] = ()
    meetings: tuple[tuple[str, str], ...] = ()
    filling: Method = "none"


@dataclass(frozen=True)
class RowBlock:
    """Ready-made features of given candidates: one modality that comes with the rows."""

    names: tuple[str, ...]
    values: FloatArray
    present: BoolArray


@dataclass(frozen=True)
class FeatureModel:
    """What is known before the cut; every feature is a function of this and of nothing else.

    Attributes
    ----------
    history
        Interactions before the cut, whose code spaces cover every query and item to be scored.
    items, users
        Encoded modalities over item codes and user codes.
    retrievers
        Fitted on `history` or earlier.
    met
        (n_users, n_items) non-zero where an item is not to be retrieved again; what is in the history
        where it is not given.
    """

    history: History
    items: Space
    users: Space
    retrievers: tuple[Retriever, ...]
    settings: FeatureSettings = field(default_factory=FeatureSettings)
    met: sparse.csr_array | None = None

    @property
    def depths(self) -> list[int]:
        """Return how many items each retriever adds to the candidates of a query."""
        settings = self.settings
        return [settings.depths.get(retriever.name, settings.per_source) for retriever in self.retrievers]

    def generated(self, users: IntArray, at_least: int = 0) -> Iterator[Candidates]:
        """Yield retrieved candidates of these users in batches, more of a source where they are few."""
        met = (self.history.seen if self.met is None else self.met) if self.settings.exclude_seen else None
        n_new = self.settings.new_per_source
        return retrieve(self.retrievers, self.history, users, self.depths, met, n_new, at_least)

    def given(self, queries: IntArray, items: IntArray) -> Iterator[Candidates]:
        """Yield given candidates, sorted by (query, item), in batches of whole queries."""
        return score_given(self.retrievers, self.history, queries, items)

    def frame(
        self,
        candidates: Candidates,
        *,
        labels: FloatArray | None = None,
        row_blocks: Mapping[str, RowBlock] | None = None,
    ) -> RankingFrame:
        """Return the features of one batch of candidates.

        Parameters
        ----------
        labels
            (n_rows,) float32 relevance; zeros where not given.
        row_blocks
            Modalities that come with the rows, by name.

        Raises
        ------
        ConfigError
            If a name of `settings.exclude` fits no feature, or one of a retriever.
        """
        row_blocks = row_blocks or {}
        blocks = _Blocks(len(candidates.items))
        normalised = normalise(candidates.scores.astype(np.float64), candidates.offsets)
        for number, retriever in enumerate(self.retrievers):
            blocks.add(retriever.block, f"{retriever.name}.score", candidates.scores[:, number])
            blocks.add(retriever.block, f"{retriever.name}.z", normalised.z[:, number])
            blocks.add(retriever.block, f"{retriever.name}.unit", normalised.unit[:, number])
            blocks.add(retriever.block, f"{retriever.name}.rank", normalised.rank[:, number])
        if self.retrievers:
            blocks.add(CONTEXT, "context.disagreement", spread(normalised.rank))
        self._behaviour_and_context(blocks, candidates)
        for name, modality in self.items.items():
            self._item_modality(blocks, name, modality, candidates)
        for name, modality in self.users.items():
            for other in (item for user, item in self.settings.meetings if user == name):
                blocks.add(name, f"{name}.match", _cosine(modality, self.items[other], candidates))
            if name in self._peers:
                rates = self._peers[name].of(candidates.queries, candidates.items)
                blocks.add(name, f"{name}.peer_rate", rates)
            self._components(blocks, name, modality, candidates.queries)
        for name, block in row_blocks.items():
            for column, values in zip(block.names, block.values.T, strict=True):
                blocks.add(name, f"{name}.{column}", values)
            blocks.add(name, f"{name}.present", block.present)
        blocks.drop(self.settings.exclude, [f"{retriever.name}.score" for retriever in self.retrievers])
        return RankingFrame(
            features=blocks.matrix(),
            feature_names=tuple(blocks.names),
            blocks=blocks.columns(),
            labels=np.zeros(len(candidates.items), np.float32) if labels is None else labels,
            queries=candidates.queries,
            items=candidates.items,
            modalities=self.modalities + tuple(row_blocks),
            present=np.column_stack(
                [
                    self.presence(candidates.queries, candidates.items),
                    *(block.present for block in row_blocks.values()),
                ]
            ),
            sequences=self._sequences(candidates),
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Behaviour where there is a history, then the modalities of items and users."""
        behaviour = (BEHAVIOUR,) if len(self.history.users) else ()
        return (*behaviour, *self.items, *self.users)

    def with_items(self, items: Space, neighbours: int) -> FeatureModel:
        """Return the model with other vectors for its items, of which graphs and retrievers are made anew."""
        known = self.history.popularity > 0
        graphed = {
            name: modality
            if modality.graph is None or modality is self.items[name]
            else with_graph(modality, known, neighbours)
            for name, modality in items.items()
        }
        behaviour = [retriever for retriever in self.retrievers if retriever.block == BEHAVIOUR]
        content = content_retrievers(graphed, behaviour, self.history)
        return replace(self, items=graphed, retrievers=(*behaviour, *content))

    def _sequences(self, candidates: Candidates) -> Sequences | None:
        if not (self.settings.sequence and len(self.history.users)):
            return None
        users = candidates.queries[candidates.offsets[:-1]]
        sources, ordered = np.zeros(len(users), dtype=np.int64), self.history.times is not None
        return Sequences(self._newest[users], sources, (self._item_table,), ordered)

    @cached_property
    def _newest(self) -> IntArray:
        return self.history.newest(self.settings.sequence)

    @cached_property
    def _item_table(self) -> ItemTable:
        spaces = {BEHAVIOUR: behaviour_vectors(self.history), **self.items}
        vectors, present = ([getattr(s, name) for s in spaces.values()] for name in ("vectors", "present"))
        return ItemTable(tuple(spaces), tuple(vectors), tuple(present))

    @cached_property
    def _facts(self) -> Facts:
        return Facts(self.history, self.items)

    @cached_property
    def _profiles(self) -> Profiles:
        history, last_k = self.history, self.settings.last_k
        return Profiles(
            liked=history.liked,
            disliked=history.disliked if self.settings.contrast else None,
            last=history.recent(last_k) if last_k else None,
            recent=history.recency(last_k) if last_k else None,
        )

    @cached_property
    def _behaviour_vectors(self) -> ModalityVectors | None:
        """Behaviour as one more modality: item factors, where there is a factor model."""
        factors = [retriever for retriever in self.retrievers if isinstance(retriever, FactorRetriever)]
        return factors[0].vectors() if factors else None

    @cached_property
    def _smoothed_popularity(self) -> dict[str, FloatArray]:
        graphs = {name: modality.graph for name, modality in self.items.items()}
        popularity = self.history.popularity
        return {
            name: _neighbour_mean(graph, popularity) for name, graph in graphs.items() if graph is not None
        }

    @cached_property
    def _statistics(self) -> dict[str, Mapping[str, FloatArray]]:
        names = set(self.items) & set(self.settings.categories)
        return {name: item_statistics(self.items[name], self.history) for name in names}

    @cached_property
    def _peers(self) -> dict[str, PeerRates]:
        if not len(self.history.users):
            return {}
        names = set(self.users) & set(self.settings.categories)
        return {name: PeerRates(self.users[name], self.history) for name in names}

    def presence(self, queries: IntArray, items: IntArray) -> BoolArray:
        """(n_rows, n_modalities) bool: what is there of each pair, in the order of `modalities`.

        Behaviour is there where somebody before the cut met the item.
        """
        columns = [modality.own[items] for modality in self.items.values()]
        columns += [modality.own[queries] for modality in self.users.values()]
        if len(self.history.users):
            columns.insert(0, (self.history.met_by > 0)[items])
        return np.column_stack([np.zeros((len(items), 0), dtype=bool), *columns])

    def _behaviour_and_context(self, blocks: _Blocks, candidates: Candidates) -> None:
        if not len(self.history.users):
            return
        for name, values in self._facts.of_items.items():
            blocks.add(BEHAVIOUR, f"behaviour.{name}", values[candidates.items])
        if self._behaviour_vectors is not None:
            for kind, values in similarities(self._behaviour_vectors, self._profiles, candidates).items():
                blocks.add(BEHAVIOUR, f"behaviour.{kind}", values)
        for name, values in self._facts.of_users.items():
            blocks.add(CONTEXT, f"context.{name}", values[candidates.queries])
        blocks.add(CONTEXT, "context.opinions", np.isfinite(candidates.scores).sum(axis=1))

    def _item_modality(
        self, blocks: _Blocks, name: str, modality: ModalityVectors, candidates: Candidates
    ) -> None:
        if len(self.history.users):
            for kind, values in similarities(modality, self._profiles, candidates).items():
                blocks.add(name, f"{name}.{kind}", values)
            if name in self._smoothed_popularity:
                smooth = self._smoothed_popularity[name][candidates.items]
                blocks.add(name, f"{name}.smooth_popularity", smooth)
            for fact, values in self._statistics.get(name, {}).items():
                blocks.add(name, f"{name}.{fact}", values[candidates.items])
        self._components(blocks, name, modality, candidates.items)

    def _components(self, blocks: _Blocks, name: str, modality: ModalityVectors, codes: IntArray) -> None:
        present = modality.present[codes]
        for component in range(min(self.settings.components, modality.vectors.shape[1])):
            values = np.where(present, modality.vectors[codes, component], np.nan)
            blocks.add(name, f"{name}.component_{component}", values)
        blocks.add(name, f"{name}.present", modality.own[codes])


class _Blocks:
    """Collects named columns by block."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self.names: list[str] = []
        self._block_of: list[str] = []
        self._values: list[FloatArray] = []

    def add(self, block: str, name: str, values: np.ndarray) -> None:
        self.names.append(name)
        self._block_of.append(block)
        self._values.append(values.astype(np.float32))

    def drop(self, patterns: Sequence[str], needed: Sequence[str]) -> None:
        """Leave out the columns whose name fits a pattern; bases are made of the `needed` ones."""
        gone: set[str] = set()
        for pattern in patterns:
            fitting = set(fnmatch.filter(self.names, pattern))
            if not fitting:
                raise ConfigError(
                    f"exclude_features: no feature is called {pattern!r}",
                    fix=f"take it out, or name some of: {', '.join(self.names)}",
                )
            if not fitting.isdisjoint(needed):
                raise ConfigError(
                    f"exclude_features: {pattern!r} is what a retriever says",
                    fix="leave the retriever out of candidates.retrievers",
                )
            gone |= fitting
        kept = [place for place, name in enumerate(self.names) if name not in gone]
        self.names = [self.names[place] for place in kept]
        self._block_of = [self._block_of[place] for place in kept]
        self._values = [self._values[place] for place in kept]

    def columns(self) -> dict[str, tuple[int, ...]]:
        """Return block to the places of its columns; one that has none left is none."""
        found: dict[str, list[int]] = {}
        for place, block in enumerate(self._block_of):
            found.setdefault(block, []).append(place)
        return {block: tuple(places) for block, places in found.items()}

    def matrix(self) -> FloatArray:
        matrix = np.empty((self.n_rows, len(self.names)), dtype=np.float32)
        for column, values in enumerate(self._values):
            matrix[:, column] = values
        return matrix


def _cosine(user: ModalityVectors, item: ModalityVectors, candidates: Candidates) -> FloatArray:
    """(n_rows,) float32 cosine of the user's vector and the item's, NaN where one is missing."""
    queries, items = candidates.queries, candidates.items
    cosine = np.einsum("nd,nd->n", user.unit[queries], item.unit[items])
    return np.where(user.present[queries] & item.present[items], cosine, np.nan).astype(np.float32)


def _neighbour_mean(graph: sparse.csr_array, popularity: FloatArray) -> FloatArray:
    """(n_items,) log1p of the similarity-weighted mean popularity of the neighbours, NaN without any."""
    weight = np.asarray(graph.sum(axis=0)).ravel()
    total = popularity @ graph
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log1p(np.where(weight > 0, total / weight, np.nan)).astype(np.float32)
