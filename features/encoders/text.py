"""Text as latent semantic vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from features.encoders.base import Encoded
from features.encoders.columns import as_text, check_columns, check_number, pick_columns
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json
from features.encoders.terms import TermSpace, take, unique_documents
from features.errors import ConfigError


@dataclass(eq=False)
class TextEncoder:
    """Words and word pairs weighted by tf-idf, reduced by a singular value decomposition.

    The columns are joined with a space. Words are lower-cased runs of two or more letters or digits. A row
    is present if its text holds a term that `fit` knew: unknown words alone are no evidence, so such a row
    is missing like a blank one. Vectors have unit length.

    Parameters
    ----------
    columns
        Names of the columns; None takes every column of the fitted table.
    dim
        Largest width; fewer where the texts or their terms are few.
    max_features
        Largest number of terms, of those in the most texts.
    min_documents
        A term must occur in so many distinct texts; None adapts it to the size of the table.
    stop_words
        "english" drops English function words.
    """

    kind: ClassVar[str] = "text"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    dim: int = 64
    max_features: int = 50_000
    min_documents: int | None = None
    stop_words: str | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    terms_: TermSpace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "dim", self.dim, 1)
        check_number(self.kind, "max_features", self.max_features, 1)
        check_number(self.kind, "min_documents", self.min_documents, 1)
        if self.stop_words not in (None, "english"):
            raise ConfigError(
                f"{self.kind}: stop_words: got {self.stop_words!r}, expected null or 'english'",
                fix="leave stop_words out for texts in other languages",
            )

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.terms_.width

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn terms and directions from the distinct texts; raises DataError for other types."""
        series = pick_columns(table, self.columns)
        self.columns_ = tuple(s.name for s in series)
        distinct, _ = unique_documents(_joined(series))
        analyze = self._analyzer()
        self.terms_ = TermSpace.fit(
            (analyze(text) for text in distinct if text),
            dim=self.dim,
            max_terms=self.max_features,
            min_documents=self.min_documents,
        )
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode each distinct text once."""
        distinct, rows = unique_documents(_joined(pick_columns(table, self.columns_)))
        analyze = self._analyzer()
        return take(self.terms_.encode(analyze(text) for text in distinct), rows)

    def _analyzer(self) -> Callable[[str], list[str]]:
        from sklearn.feature_extraction.text import CountVectorizer

        vectorizer = CountVectorizer(ngram_range=(1, 2), stop_words=self.stop_words)
        analyzer: Callable[[str], list[str]] = vectorizer.build_analyzer()
        return analyzer

    def save(self, folder: Path) -> None:
        """Write parameters, vocabulary and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        self.terms_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.terms_ = TermSpace.load(folder)
        return encoder


def _joined(series: Sequence[pl.Series]) -> list[str]:
    """Return the text of each row, empty where every column is null or blank."""
    columns = pl.DataFrame([as_text(s) for s in series])
    joined = columns.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
    return joined.fill_null("").to_list()
