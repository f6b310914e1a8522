"""Tunes one peer on validation, fits it, and writes its lists; runs in a process of its own.

usage: python benchmarks/peer_worker.py NAME PEER FOLDER --protocol strict|full --seeds 0 1 2 [--known JSON]

FOLDER holds log.parquet (user_id, item_id, split, is_positive: train and valid only), users.parquet (who gets
a list), items.parquet (item_id) and content/; the lists go to FOLDER/lists/PEER-SEED.parquet. The last line
printed is a JSON report. The setting is chosen with the first seed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from peer_list import Fusion, Lesson, Peer, Setting, peers_of
from peer_models import Scorer, mean_z
from scipy import sparse

LIST_LENGTH = 200
K = 20
BATCH = 512
Codes = NDArray[np.int64]


class Log:
    """Interactions before the test, in codes."""

    def __init__(self, folder: Path) -> None:
        rows = pl.read_parquet(folder / "log.parquet")
        listed = pl.read_parquet(folder / "users.parquet")["user_id"]
        self.users = np.unique(np.concatenate([rows["user_id"].to_numpy(), listed.to_numpy()]))
        self.items = np.sort(pl.read_parquet(folder / "items.parquet")["item_id"].to_numpy())
        self.listed = np.searchsorted(self.users, np.sort(listed.to_numpy()))
        self.rows = rows.with_columns(
            user=np.searchsorted(self.users, rows["user_id"].to_numpy()),
            item=np.searchsorted(self.items, rows["item_id"].to_numpy()),
        )
        self.content = folder / "content"

    def matrix(self, *splits: str, positives: bool = True) -> sparse.csr_array:
        """Return ones at the (positive) interactions of these splits."""
        rows = self.rows.filter(pl.col("split").is_in(splits) & (pl.col("is_positive") | (not positives)))
        entries = (np.ones(len(rows), np.float32), (rows["user"].to_numpy(), rows["item"].to_numpy()))
        return sparse.csr_array(entries, shape=(len(self.users), len(self.items)))

    def lesson(self, *splits: str) -> Lesson:
        """Return what a model fitted on these splits may learn from."""
        return Lesson(self.matrix(*splits), self.matrix("valid") if "valid" in splits else None, self.content)


def top_items(
    scorer: Scorer, users: Codes, seen: sparse.csr_array, liked: sparse.csr_array, k: int
) -> Iterator:
    """Yield (users, items, scores) of a batch: the k best unseen items a user, best first.

    Ties are in a random order, the same for everybody. A user whom the scorer knows nothing of gets the
    most popular items.
    """
    order = np.random.default_rng(0).permutation(seen.shape[1])
    counts = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    for start in range(0, len(users), BATCH):
        batch = users[start : start + BATCH]
        scores = np.array(scorer(batch), dtype=np.float64)
        scores[scores.max(axis=1) == scores.min(axis=1)] = counts
        scores[seen[batch].nonzero()] = -np.inf
        scores = scores[:, order]
        size = min(k, scores.shape[1] - 1)
        best = np.argpartition(-scores, size, axis=1)[:, :size]
        ranks = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, ranks, axis=1)
        yield batch, order[best], np.take_along_axis(scores, best, axis=1)


def mean_ndcg(scorer: Scorer, log: Log, liked: sparse.csr_array) -> float:
    """Return NDCG@20 on validation of a scorer fitted on train, over users with a positive there."""
    truth, seen = log.matrix("valid"), log.matrix("train", positives=False)
    users = np.flatnonzero(np.diff(truth.indptr) > 0)
    discount = 1.0 / np.log2(np.arange(2, K + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    values = []
    for batch, items, _ in top_items(scorer, users, seen, liked, K):
        relevant = truth[batch].toarray()
        gained = np.take_along_axis(relevant, items, axis=1) @ discount[: items.shape[1]]
        values.append(gained / ideal[np.minimum(relevant.sum(axis=1).astype(int), K)])
    return float(np.concatenate(values).mean())


def tune(peer: Peer, log: Log, seed: int) -> dict:
    """Return the setting that is best on validation, and its NDCG@20 there, if there is a choice."""
    lesson = log.lesson("train")
    trials = []
    for setting in peer.grid:
        value = mean_ndcg(peer.fit(lesson, seed, **setting), log, lesson.liked)
        trials.append({"setting": setting, "ndcg": value})
        say(f"{peer.title} {setting}: {value:.4f}")
    return max(trials, key=lambda trial: trial["ndcg"])


class Members:
    """Members of a fusion with their settings; fits each once for a lesson and seed."""

    def __init__(self, peers: dict[str, Peer], settings: dict[str, Setting]) -> None:
        self.peers, self.settings = peers, settings
        self.fitted_on: tuple[Lesson | None, int] = (None, 0)
        self.fitted: dict[str, Scorer] = {}

    def fit(self, lesson: Lesson, seed: int, *, best: list[str]) -> Scorer:
        """Return the mean z-score of these members."""
        if self.fitted_on[0] is not lesson or self.fitted_on[1] != seed:
            self.fitted_on, self.fitted = (lesson, seed), {}
        for name in best:
            if name not in self.fitted:
                self.fitted[name] = self.peers[name].fit(lesson, seed, **self.settings[name])
        return mean_z([self.fitted[name] for name in best])


def tuned_fusion(fusion: Fusion, peers: dict[str, Peer], log: Log, seed: int, known: dict[str, dict]) -> Peer:
    """Return a peer whose grid is the number of members averaged, the best on validation first.

    `known` holds reports of members that are tuned already; the others are tuned here.
    """
    chosen = {name: known[name] if name in known else tune(peers[name], log, seed) for name in fusion.members}
    order = sorted(chosen, key=lambda name: -chosen[name]["ndcg"])
    members = Members(peers, {name: report["setting"] for name, report in chosen.items()})
    grid = [{"best": order[:count]} for count in range(2, len(order) + 1)]
    return Peer(fusion.title, members.fit, grid, seeded=fusion.seeded)


def write_lists(scorer: Scorer, log: Log, lesson: Lesson, path: Path) -> None:
    """Write 200 unseen items a listed user."""
    seen = log.matrix("train", "valid", positives=False)
    parts = []
    for batch, items, scores in top_items(scorer, log.listed, seen, lesson.liked, LIST_LENGTH):
        users = np.repeat(log.users[batch], items.shape[1])
        parts.append((users, log.items[items].ravel(), scores.ravel()))
    users, items, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    table = pl.DataFrame({"user_id": users.tolist(), "item_id": items.tolist(), "score": scores})
    table.filter(pl.col("score").is_finite()).write_parquet(path)


def say(text: str) -> None:
    """Show progress on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> dict:
    """Tune and fit the peer, write its lists, and return the report."""
    start = time.perf_counter()
    peers, log = peers_of(args.name, args.protocol), Log(args.folder)
    peer = peers[args.peer]
    if isinstance(peer, Fusion):
        peer = tuned_fusion(peer, peers, log, args.seeds[0], args.known)
    report = tune(peer, log, args.seeds[0])
    tuned = time.perf_counter()
    lesson = log.lesson("train") if args.protocol == "strict" else log.lesson("train", "valid")
    seeds = args.seeds if peer.seeded else args.seeds[:1]
    for seed in seeds:
        scorer = peer.fit(lesson, seed, **report["setting"])
        write_lists(scorer, log, lesson, args.folder / "lists" / f"{args.peer}-{seed}.parquet")
    report["seconds"] = tuned - start + (time.perf_counter() - tuned) / len(seeds)
    report["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report["versions"] = {module: version(module) for module in peer.needs}
    return report


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("peer")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocol", choices=["strict", "full"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--known", type=json.loads, default={})
    args = parser.parse_args()
    # Packages print what they like; the last line of the output is the report's.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(args)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
