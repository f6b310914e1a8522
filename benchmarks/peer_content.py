"""Content vectors of a data set's items, one modality a file, for the peers that read content.

usage: python benchmarks/peer_content.py NAME ITEMS FOLDER

Rows follow the item table sorted by id; a row without entries is an item without this content. Texts are
TF-IDF of scikit-learn, tags indicators, ready-made vectors scaled to mean 0 and deviation 1 a column. Posters
are described by modalrank's image encoder, the one thing that peers take from modalrank.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse

Reader = Callable[[pl.DataFrame, Path], sparse.csr_array]


def vectors_of(column: str) -> Reader:
    """Return a reader of a column of equally long lists of numbers."""

    def read(items: pl.DataFrame, folder: Path) -> sparse.csr_array:
        present = items[column].is_not_null().to_numpy()
        rows = np.array(items[column].drop_nulls().to_list(), dtype=np.float64)
        return _placed((rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-9), present)

    return read


def texts_of(*columns: str) -> Reader:
    """Return a reader of text columns."""

    def read(items: pl.DataFrame, folder: Path) -> sparse.csr_array:
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = items.select(pl.concat_str(columns, separator=" ", ignore_nulls=True)).to_series()
        words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
        return sparse.csr_array(words.fit_transform(texts.fill_null("")))

    return read


def tags_of(column: str) -> Reader:
    """Return a reader of a column of lists of tags."""

    def read(items: pl.DataFrame, folder: Path) -> sparse.csr_array:
        rows = items.with_row_index("row").explode(column).drop_nulls(column)
        codes = rows[column].rank("dense").to_numpy().astype(np.int64) - 1
        shape = (len(items), codes.max() + 1)
        return sparse.csr_array((np.ones(len(codes)), (rows["row"].to_numpy(), codes)), shape=shape)

    return read


def images_of(column: str) -> Reader:
    """Return a reader of a column of file names."""

    def read(items: pl.DataFrame, folder: Path) -> sparse.csr_array:
        from features.encoders import ImageEncoder

        table = items.select(column)
        encoded = ImageEncoder().fit(table, folder).encode(table, folder)
        return _placed(encoded.vectors[encoded.present].astype(np.float64), encoded.present)

    return read


MODALITIES: dict[str, dict[str, Reader]] = {
    "tiktok": {"image": vectors_of("image"), "audio": vectors_of("audio")},
    "movies": {
        "text": texts_of("title", "overview"),
        "genres": tags_of("genres"),
        "poster": images_of("poster"),
        "audio": vectors_of("audio"),
        "aesthetic": vectors_of("video_aesthetic"),
        "style": vectors_of("video_style"),
    },
}


def read_content(folder: Path, modality: str) -> sparse.csr_array:
    """Return the (n_items, d) vectors of a modality that `main` wrote."""
    return sparse.csr_array(sparse.load_npz(folder / f"{modality}.npz"))


def _placed(rows: np.ndarray, present: np.ndarray) -> sparse.csr_array:
    placed = np.zeros((len(present), rows.shape[1]))
    placed[present] = rows
    return sparse.csr_array(placed)


def main() -> None:
    """Write a file a modality."""
    name, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    start = time.perf_counter()
    items = pl.read_parquet(path).sort("item_id")
    folder.mkdir(parents=True, exist_ok=True)
    for modality, read in MODALITIES[name].items():
        sparse.save_npz(folder / f"{modality}.npz", sparse.csr_matrix(read(items, path.parent)))
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
