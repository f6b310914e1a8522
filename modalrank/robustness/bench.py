"""Held-out lists that can be made again without some vectors.

The candidates stay those of the intact catalogue. What is measured is then how the same list is ranked with
less to go by, row by row comparable at every rate; candidates that no source would find any more are no part
of it, because retrieval would lose them for every ranker alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from ensembles.oof import to_score_frame
from ensembles.score_frame import ScoreFrame, concatenate
from features.builder import FeatureModel
from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame
from features.removal import Gone, without_vectors
from modalrank.config import Config
from modalrank.dataset import Dataset, row_blocks
from modalrank.encoding import Encodings
from modalrank.evaluation import Scored
from modalrank.judged_form import JudgedForm
from modalrank.lists import Held, Lists
from modalrank.log_form import LogForm
from modalrank.robustness.parts import Part, parts_of
from modalrank.training import CONTEXT

Frames = Callable[[Gone], Iterator[RankingFrame]]


@dataclass(frozen=True)
class Bench:
    """Lists of a held-out split.

    Attributes
    ----------
    truth
        The lists with all vectors, without the scores of any base.
    parts
        Slices of the positives by name.
    presence
        Content modality to (n_items,) bool: the item has it.
    popularity
        (n_items,) interactions of each item in train.
    frames
        Gives the lists, a batch of queries at a time, without the vectors that are named.
    """

    truth: Scored
    parts: Mapping[str, Part]
    presence: Mapping[str, BoolArray]
    popularity: FloatArray
    frames: Frames


def make_bench(
    form: LogForm | JudgedForm, model: FeatureModel, encodings: Encodings, split: Held, queries: int | None
) -> Bench:
    """Return the lists of a split, of at most `queries` queries drawn at random.

    Raises
    ------
    DataError
        If no item has any content.
    """
    dataset = form.dataset
    presence = _presence(dataset, model)
    if not any(present.any() for present in presence.values()):
        raise DataError(
            "no modality of items has a vector, expected one that can be removed",
            fix="name a modality of the item table, or of judged rows, in the config",
        )
    lists = form.held_out(split, model, queries)
    rows, frames = [], []
    for frame in lists.frames():
        rows.append(_Rows(frame.queries, frame.items, frame.labels))
        frames.append(to_score_frame(frame, np.zeros((frame.n_rows, 0)), (), {}, CONTEXT))
    popularity = dataset.history(dataset.in_split("train")).met_by
    if isinstance(form, JudgedForm):
        made = _judged_frames(dataset, encodings, model, split, queries)
    else:
        made = _log_frames(form.config, model, rows)
    truth = _truth(lists, rows, frames)
    return Bench(truth, parts_of(form, model, truth, split), presence, popularity, made)


class _Rows(NamedTuple):
    """The rows of one batch of whole queries."""

    queries: IntArray
    items: IntArray
    labels: FloatArray


def _truth(lists: Lists, parts: list[_Rows], frames: list[ScoreFrame]) -> Scored:
    frame = concatenate(frames)
    codes = np.concatenate([part.queries for part in parts])[frame.offsets[:-1]]
    totals = lists.total_relevant
    return Scored(
        frame,
        codes,
        np.concatenate([part.items for part in parts]),
        None if totals is None else totals[np.searchsorted(lists.queries, codes)],
        np.setdiff1d(lists.queries, codes),
    )


def _log_frames(config: Config, model: FeatureModel, parts: list[_Rows]) -> Frames:
    def frames(gone: Gone) -> Iterator[RankingFrame]:
        left = without_vectors(model, gone, config.candidates.content_neighbours)
        for part in parts:
            start = 0
            for candidates in left.given(part.queries, part.items):
                stop = start + len(candidates.items)
                yield left.frame(candidates, labels=part.labels[start:stop])
                start = stop

    return frames


def _judged_frames(
    dataset: Dataset, encodings: Encodings, model: FeatureModel, split: Held, queries: int | None
) -> Frames:
    neighbours = dataset.config.candidates.content_neighbours

    def frames(gone: Gone) -> Iterator[RankingFrame]:
        form = JudgedForm(without_cells(dataset, gone), encodings, lambda _: None)
        yield from form.held_out(split, without_vectors(model, gone, neighbours), queries).frames()

    return frames


def without_cells(dataset: Dataset, gone: Gone) -> Dataset:
    """Return the data set with nulls for what is gone of the modalities that come with the rows."""
    rows = dataset.interactions
    for name, modality in dataset.config.modalities.items():
        if modality.table == "interactions" and name in gone:
            lost = pl.Series(gone[name][dataset.item_codes])
            rows = rows.with_columns(
                pl.when(lost).then(None).otherwise(pl.col(column)).alias(column)
                for column in modality.columns
            )
    return replace(dataset, interactions=rows)


def _presence(dataset: Dataset, model: FeatureModel) -> dict[str, BoolArray]:
    """Return what every item has: of modalities that come with the rows, in any of its rows."""
    presence = {name: modality.present for name, modality in model.items.items()}
    for name, block in row_blocks(dataset.config.modalities, dataset.interactions).items():
        having = np.zeros(len(dataset.items), dtype=bool)
        having[dataset.item_codes[block.present]] = True
        presence[name] = having
    return presence
