"""Leak checks on real data: what must not matter is changed, and what cannot be predicted is asked for.

usage: python benchmarks/leaks.py [movies tiktok] [--protocol strict|full] [--seed N] [--data DIR]
       [--repeats N] [--set a.b=c ...]

Prints a Markdown table a data set. Every row is a training run of its own on a changed copy of the tables:

- `renamed`: ids of users and items drawn anew, rows of both tables shuffled. The difference to the whole must
  be within that of other seeds, because what is drawn at random is drawn of other rows. With --repeats both
  are run so many times.
- `other seed`: the tables as they are; what drawing and training again changes.
- `test drawn`: the item of every test row is drawn at random of those that its user has not met. Nobody can
  know these, so that the lists must be as good as random ones; more is a leak of the test into training.
- `train shuffled`: items of the rows before the test change places within their split, so that popularity
  stays and taste is gone; the lists must be no better than the popular ones.

The last two columns show what random lists and the popular items reach on the same rows.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from ablation import EXAMPLES, METRICS, ROOT, K, difference, run, say, show_difference
from log_command import add_run_arguments, log_parser, parsed, show_rows
from peers import MIN_RATING

Tables = tuple[pl.DataFrame, pl.DataFrame]
Change = Callable[[pl.DataFrame, pl.DataFrame, np.random.Generator], Tables]


def renamed(events: pl.DataFrame, items: pl.DataFrame, rng: np.random.Generator) -> Tables:
    """Draw new ids and shuffle the rows of both tables."""

    def names(ids: pl.Series) -> pl.DataFrame:
        known = ids.unique().sort()
        return pl.DataFrame(
            {ids.name: known, "new": [f"n{code:07d}" for code in rng.permutation(len(known))]}
        )

    for column in ("user_id", "item_id"):
        new = names(pl.concat([events[column], *([items[column]] if column in items.columns else [])]))
        events = events.join(new, on=column).drop(column).rename({"new": column})
        if column in items.columns:
            items = items.join(new, on=column).drop(column).rename({"new": column})
    return tuple(table[rng.permutation(table.height)] for table in (events, items))


def test_drawn(events: pl.DataFrame, items: pl.DataFrame, rng: np.random.Generator) -> Tables:
    """Draw the items of all test rows among those that their users have not met."""
    known = items["item_id"].to_numpy()
    met = {user[0]: set(part["item_id"]) for user, part in events.group_by("user_id")}
    drawn = []
    for user, split, item in events.select("user_id", "split", "item_id").iter_rows():
        while split == "test" and item in met[user]:
            item = known[rng.integers(len(known))]
        met[user].add(item)
        drawn.append(item)
    return events.with_columns(item_id=pl.Series(drawn)), items


def train_shuffled(events: pl.DataFrame, items: pl.DataFrame, rng: np.random.Generator) -> Tables:
    """Let the items of rows before the test change places within their split; repetitions are dropped."""
    moved = events["item_id"].to_numpy().copy()
    for split in ("train", "valid"):
        (rows,) = np.nonzero((events["split"] == split).to_numpy())
        moved[rows] = moved[rng.permutation(rows)]
    changed = events.with_columns(item_id=pl.Series(moved), is_test=pl.col("split") == "test")
    once = changed.sort("is_test", descending=True, maintain_order=True)
    return once.unique(["user_id", "item_id"], keep="first", maintain_order=True).drop("is_test"), items


UNKNOWABLE: dict[str, Change] = {"test drawn": test_drawn, "train shuffled": train_shuffled}


def write_changed(source: Path, target: Path, change: Change, seed: int) -> None:
    """Write a changed copy of the tables, with the media, which may not lie outside the folder."""
    target.mkdir()
    tables = [pl.read_parquet(source / f"{name}.parquet") for name in ("interactions", "items")]
    for name, table in zip(
        ("interactions", "items"), change(*tables, np.random.default_rng(seed)), strict=True
    ):
        table.write_parquet(target / f"{name}.parquet")
    for folder in source.iterdir():
        if folder.is_dir():
            shutil.copytree(folder, target / folder.name)


def references(folder: Path, min_rating: str | None) -> list[str]:
    """Return the Recall@K of random lists and of the items most liked before the test."""
    events, items = (pl.read_parquet(folder / f"{name}.parquet") for name in ("interactions", "items"))
    liked = events.filter(pl.col("rating") >= float(min_rating)) if min_rating else events
    before = liked.filter(pl.col("split") != "test")
    truth = liked.filter(pl.col("split") == "test").group_by("user_id").agg("item_id")
    popular = before.group_by("item_id").len().sort("len", "item_id", descending=True)["item_id"].to_list()
    met = dict(events.filter(pl.col("split") != "test").group_by("user_id").agg("item_id").iter_rows())
    recalls = []
    for user, positives in truth.iter_rows():
        seen = set(met.get(user, ()))
        best = [item for item in popular[: K + len(seen)] if item not in seen][:K]
        recalls.append(len(set(best) & set(positives)) / len(positives))
    return [f"{K / items.height:.4f}", f"{np.mean(recalls):.4f}"]


def check(name: str, args: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the rows of the table of one data set."""
    source, file = args.data / name, ROOT / "examples" / f"{name}.yaml"
    common = [f"protocol={args.protocol}", *args.set]
    with tempfile.TemporaryDirectory() as scratch:

        def measured(title: str, data: Path, seed: int) -> pl.DataFrame:
            say(f"{name}: {title}")
            values = Path(scratch) / "values.parquet"
            run(file, [*common, f"seed={seed}", f"data.root={data}"], values)
            return pl.read_parquet(values)

        def row(title: str, values: pl.DataFrame, gaps: list[str], data: Path) -> list[str]:
            means = [f"{values[metric].mean():.4f}" for metric in METRICS]
            return [title, *means, *gaps, *references(data, MIN_RATING.get(name))]

        whole = measured("whole", source, args.seed)
        yield row("**whole**", whole, ["", ""], source)
        for seed in range(args.seed + 1, args.seed + 1 + args.repeats):
            other = measured(f"seed {seed}", source, seed)
            gaps = [show_difference(difference(other, whole, m)) for m in METRICS]
            yield row(f"seed {seed}", other, gaps, source)
        renamings = {f"renamed, draw {number}": renamed for number in range(args.repeats)}
        for number, (title, change) in enumerate({**renamings, **UNKNOWABLE}.items()):
            data = Path(scratch) / title.replace(" ", "_")
            write_changed(source, data, change, args.seed + number)
            values = measured(title, data, args.seed)
            # Renamed users cannot be paired.
            gaps = [f"{values[m].mean() - whole[m].mean():+.4f}" for m in METRICS]
            yield row(title, values, gaps if change is renamed else ["", ""], data)


def main() -> None:
    """Check every data set and print the tables."""
    parser = log_parser(__doc__, EXAMPLES)
    add_run_arguments(parser)
    parser.add_argument("--repeats", type=int, default=1, help="other seeds, and renamings (1)")
    args = parsed(parser)
    columns = ["tables", *METRICS.values(), *(f"{m} minus the whole's" for m in METRICS.values())]
    columns += [f"Recall@{K} of random lists", "of popular items"]
    for name in args.names:
        show_rows(f"{name}, {args.protocol}", columns, check(name, args))


if __name__ == "__main__":
    main()
