"""Text as latent semantic vectors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from features.encoders.base import Encoded
from features.encoders.columns import as_text, check_choice, check_columns, check_number, pick_columns
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json
from features.encoders.terms import TermSpace, take, unique_documents
from features.errors import ConfigError

CHARACTERS = ("auto", "all", "none")
MOST_HASH_BITS = 24
# Thai, Lao, Burmese, Khmer, kana, and the blocks of Han ideographs.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)


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
    characters
        What is a term besides words: "auto" takes single characters and pairs where a script has no spaces
        between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), in place of words there; "all" takes
        runs of 3 to 5 characters of every word besides, which joins inflections and misspellings; "none"
        leaves it at words.
    hash_bits
        Terms share 2^hash_bits buckets, so that memory does not grow with the vocabulary; None keeps them
        apart.
    """

    kind: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    former: ClassVar[Mapping[str, object]] = {"characters": "none"}

    columns: Sequence[str] | None = None
    dim: int = 64
    max_features: int = 50_000
    min_documents: int | None = None
    stop_words: str | None = None
    characters: str = "auto"
    hash_bits: int | None = None
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
        check_choice(self.kind, "characters", self.characters, CHARACTERS)
        check_number(self.kind, "hash_bits", self.hash_bits, 1)
        if self.hash_bits is not None and self.hash_bits > MOST_HASH_BITS:
            raise ConfigError(
                f"{self.kind}: hash_bits: got {self.hash_bits}, expected at most {MOST_HASH_BITS}",
                fix="set hash_bits to 18 or so",
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

        words: Callable[[str], list[str]] = CountVectorizer(
            ngram_range=(1, 2), stop_words=self.stop_words
        ).build_analyzer()
        pieces: Callable[[str], list[str]] = CountVectorizer(
            analyzer="char_wb", ngram_range=(3, 5)
        ).build_analyzer()

        def analyze(text: str) -> list[str]:
            if self.characters == "none":
                return words(text)
            terms = words(UNSPACED.sub(" ", text)) + _character_terms(text)
            # The mark keeps a piece of a word apart from a word that is written the same.
            return terms + [f"~{piece}" for piece in pieces(text)] if self.characters == "all" else terms

        return analyze if self.hash_bits is None else _hashed(analyze, 2**self.hash_bits)

    def save(self, folder: Path) -> None:
        """Write parameters, vocabulary and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        self.terms_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**{**cls.former, **state["parameters"]})
        encoder.columns_ = tuple(state["columns"])
        encoder.terms_ = TermSpace.load(folder)
        return encoder


def _character_terms(text: str) -> list[str]:
    """Return the characters, and the pairs of neighbours, in every run of a script without spaces."""
    runs = UNSPACED.findall(unicodedata.normalize("NFKC", text))
    return [term for run in runs for term in (*run, *(a + b for a, b in pairwise(run)))]


def _hashed(analyze: Callable[[str], list[str]], buckets: int) -> Callable[[str], list[str]]:
    from sklearn.utils import murmurhash3_32

    return lambda text: [str(murmurhash3_32(term, positive=True) % buckets) for term in analyze(text)]


def _joined(series: Sequence[pl.Series]) -> list[str]:
    """Return the text of each row, empty where every column is null or blank."""
    columns = pl.DataFrame([as_text(s) for s in series])
    joined = columns.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
    return joined.fill_null("").to_list()
