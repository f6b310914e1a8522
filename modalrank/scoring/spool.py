"""The input of a job as one Parquet file on disk: judged, sorted by query, and cut into shards."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import TryAgainError
from features.frame import IntArray
from modalrank.scoring.batches import BUFFER_BYTES, BadRow, Wanted, read_batches
from modalrank.scoring.checks import DUPLICATE, Policy, judged
from modalrank.scoring.sources import SourceFile

GROUP_ROWS = 50_000
PLACE = ("file", "row")


class Shard(NamedTuple):
    """Rows of the spool, by number, that become one output file; all of one bucket and of whole queries."""

    start: int
    stop: int
    bucket: int


@dataclass(frozen=True)
class Spool:
    """The judged rows of an input, sorted by bucket and query.

    Attributes
    ----------
    file
        Parquet with `bucket`, the ids, the features, and `file` and `row` of where each row came from.
    shards
        The plan of the output.
    dropped
        Ascending numbers of rows that are not to be scored.
    n_read
        Rows of the input, good and bad.
    n_queries
        Distinct queries.
    """

    file: Path
    shards: tuple[Shard, ...]
    dropped: IntArray
    n_read: int
    n_queries: int

    @property
    def n_good(self) -> int:
        """Number of rows to be scored."""
        return sum(shard.stop - shard.start for shard in self.shards) - len(self.dropped)

    def distinct(self, column: str) -> list[str]:
        """Return the distinct values of an id column, sorted; nothing if there is no such column."""
        table = pl.scan_parquet(self.file)
        if column not in table.collect_schema().names():
            return []
        return table.select(pl.col(column).unique().sort()).collect(engine="streaming")[column].to_list()

    def chunks(self, shard: Shard, chunk_rows: int) -> Iterator[pl.DataFrame]:
        """Yield the good rows of a shard by query and item, about `chunk_rows` of whole queries at a time."""
        for start, rows in _whole_queries(_rows(self.file, shard.start, shard.stop), shard.start, chunk_rows):
            keep = np.ones(len(rows), dtype=bool)
            low, high = np.searchsorted(self.dropped, [start, start + len(rows)])
            keep[self.dropped[low:high] - start] = False
            good = rows.filter(pl.Series(keep)).drop("bucket", *PLACE)
            if len(good):
                yield good.sort([name for name in ("query", "item") if name in good.columns])


def spool_input(
    sources: Sequence[SourceFile],
    wanted: Wanted,
    policy: Policy,
    folder: Path,
    *,
    shard_rows: int,
    partitions: int = 1,
    memory: int,
    known_items: pl.Series | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Spool:
    """Copy the good rows of an input into a spool in the order of bucket and query.

    Parameters
    ----------
    wanted, known_items
        See `checks.judged`.
    folder
        Existing folder for the spool.
    shard_rows
        Rows of a shard, to the next end of a query.
    partitions
        Number of hash buckets of the queries.
    memory
        Bytes that a sort may use.
    progress
        Told the number of rows read so far.

    Raises
    ------
    DataError
        If the input breaks the contract, as far as the policy does not allow it.
    """
    file = folder / "spool.parquet"
    n_read, in_order = _copy(sources, wanted, policy, file, partitions, known_items, progress)
    if not in_order:
        unsorted = file.rename(folder / "unsorted.parquet")
        _sort(unsorted, file, list(wanted.ids), memory)
        unsorted.unlink()
    shards, dropped, n_queries = _plan(file, sources, wanted, policy, shard_rows)
    return Spool(file, shards, dropped, n_read, n_queries)


def buckets_of(queries: pl.Series, partitions: int) -> pl.Series:
    """(n_rows,) UInt32 hash bucket of each query: CRC-32 of its UTF-8 bytes modulo the number of buckets."""
    if partitions == 1:
        return pl.repeat(0, len(queries), dtype=pl.UInt32, eager=True).alias("bucket")
    distinct = queries.unique()
    codes = [zlib.crc32(query.encode()) % partitions for query in distinct]
    return queries.replace_strict(distinct, codes, return_dtype=pl.UInt32).alias("bucket")


def _copy(
    sources: Sequence[SourceFile],
    wanted: Wanted,
    policy: Policy,
    file: Path,
    partitions: int,
    known_items: pl.Series | None,
    progress: Callable[[int], None],
) -> tuple[int, bool]:
    """Write the good rows in the order of the input; return the rows read and whether queries ascend."""
    n_read, in_order, last = 0, True, (-1, "")
    schema = pa.schema(
        [
            ("bucket", pa.uint32()),
            *((name, pa.large_string()) for name in wanted.ids),
            *((name, pa.float32()) for name in wanted.features),
            ("file", pa.uint32()),
            ("row", pa.int64()),
        ]
    )
    with pq.ParquetWriter(
        file, schema, compression="lz4", use_dictionary=["bucket", "query", "file"]
    ) as writer:
        for number, source in enumerate(sources):
            for batch in read_batches(source, wanted):
                rows, bad = judged(batch.rows, wanted, source.name, known_items)
                policy.take(sorted([*batch.bad, *bad], key=lambda row: row.row))
                n_read += len(batch.rows) + len(batch.bad)
                if len(rows):
                    rows = rows.with_columns(
                        buckets_of(rows["query"], partitions), pl.lit(number, pl.UInt32).alias("file")
                    ).select(schema.names)
                    in_order = in_order and _ascends(rows, last)
                    last = rows["bucket"][-1], rows["query"][-1]
                    writer.write_table(rows.to_arrow().cast(schema), row_group_size=GROUP_ROWS)
                progress(n_read)
            source.require_unchanged()
    return n_read, in_order


def _ascends(rows: pl.DataFrame, before: tuple[int, str]) -> bool:
    if (rows["bucket"][0], rows["query"][0]) < before:
        return False
    bucket, query = rows["bucket"], rows["query"]
    falls = (bucket < bucket.shift(1)) | ((bucket == bucket.shift(1)) & (query < query.shift(1)))
    return not falls.any()


def _sort(source: Path, target: Path, ids: Sequence[str], memory: int) -> None:
    """Sort a spool out of core."""
    import duckdb

    settings = {
        "memory_limit": f"{max(memory, 128 << 20) >> 20}MiB",
        "threads": os.cpu_count() or 1,
        "temp_directory": str(source.parent / "sorting"),
        "preserve_insertion_order": False,
    }
    order = ", ".join(f'"{name}"' for name in ("bucket", *ids, *PLACE))
    try:
        with duckdb.connect(config=settings) as connection:
            connection.execute(
                f"COPY (SELECT * FROM read_parquet(?) ORDER BY {order}) TO ? "
                f"(FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {GROUP_ROWS})",
                [str(source), str(target)],
            )
    except duckdb.OutOfMemoryException as error:
        raise TryAgainError(f"the input cannot be sorted in {memory >> 20} MiB; raise --memory") from error
    except duckdb.IOException as error:
        # DuckDB tells the reason in words only.
        raise OSError(errno.ENOSPC, str(error), str(target)) from error


def _plan(
    file: Path, sources: Sequence[SourceFile], wanted: Wanted, policy: Policy, shard_rows: int
) -> tuple[tuple[Shard, ...], IntArray, int]:
    """Find the borders of the shards and the pairs that come twice."""
    keys = [*wanted.ids, *PLACE]
    names = [source.name for source in sources]
    borders, buckets, n_queries, stop = [0], [0], 0, 0
    dropped = [np.zeros(0, dtype=np.int64)]
    for start, rows in _whole_queries(_rows(file, 0, None, ["bucket", *keys]), 0, GROUP_ROWS):
        heads = rows.select(
            (pl.struct("bucket", "query").ne_missing(pl.struct("bucket", "query").shift(1))).alias("head"),
        )["head"].to_numpy()
        for head in np.flatnonzero(heads):
            bucket = int(rows["bucket"][int(head)])
            if start + head > 0 and (start + head - borders[-1] >= shard_rows or bucket != buckets[-1]):
                borders.append(start + int(head))
                buckets.append(bucket)
            elif start + head == 0:
                buckets[0] = bucket
        n_queries += int(heads.sum())
        stop = start + len(rows)
        again = _again(rows.with_columns(place=pl.int_range(start, stop)), list(wanted.ids))
        policy.take(_twice(row, names, wanted) for row in again.iter_rows(named=True))
        dropped.append(again["place"].to_numpy())
    borders.append(stop)
    shards = [Shard(a, b, bucket) for (a, b), bucket in zip(pairwise(borders), buckets, strict=True) if a < b]
    return tuple(shards), np.sort(np.concatenate(dropped)), n_queries


def _again(rows: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Return the rows whose ids another row before them, in the order of the input, has as well."""
    ordered = rows.sort(*ids, *PLACE)
    return ordered.filter(pl.struct(ids).eq_missing(pl.struct(ids).shift(1)) & (pl.int_range(pl.len()) > 0))


def _twice(row: dict[str, Any], names: Sequence[str], wanted: Wanted) -> BadRow:
    pair = " with ".join(f"{name} {row[name]!r}" for name in wanted.ids)
    given = {column: row[name] for name, column in wanted.ids.items()}
    return BadRow(names[row["file"]], row["row"], None, DUPLICATE, f"{pair} a second time", json.dumps(given))


def _rows(
    file: Path, start: int, stop: int | None, columns: list[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Yield the rows from `start` to `stop` of a Parquet file, a batch at a time."""
    with pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False) as source:
        sizes = [source.metadata.row_group(g).num_rows for g in range(source.num_row_groups)]
        ends = np.cumsum(sizes) if sizes else np.zeros(0, dtype=np.int64)
        stop = int(ends[-1]) if stop is None and len(ends) else stop or 0
        first, last = np.searchsorted(ends, [start, max(stop - 1, start)], side="right")
        position = int(ends[first - 1]) if first else 0
        groups = list(range(int(first), min(int(last) + 1, len(sizes))))
        if not groups:
            return
        for batch in source.iter_batches(GROUP_ROWS, row_groups=groups, columns=columns):
            rows = cast(pl.DataFrame, pl.from_arrow(batch))
            part = rows[max(start - position, 0) : max(stop - position, 0)]
            position += len(rows)
            if len(part):
                yield part


def _whole_queries(
    parts: Iterator[pl.DataFrame], start: int, chunk_rows: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield row number and rows of chunks of about `chunk_rows` rows that never split a query."""
    waiting: list[pl.DataFrame] = []
    n_waiting = 0
    for part in parts:
        waiting.append(part)
        n_waiting += len(part)
        if n_waiting < chunk_rows:
            continue
        rows = pl.concat(waiting)
        heads = _heads(rows)
        begin = 0
        # The last query may go on in the next part.
        while (end := _border(heads, begin + chunk_rows)) is not None:
            yield start + begin, rows[begin:end]
            begin = end
        start += begin
        waiting, n_waiting = [rows[begin:]], len(rows) - begin
    if n_waiting:
        yield start, pl.concat(waiting)


def _heads(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Return the numbers of the rows that begin a query, ascending."""
    ids: IntArray = rows.select(pl.struct("bucket", "query").rle_id())["bucket"].to_numpy().astype(np.int64)
    return np.flatnonzero(np.diff(ids, prepend=-1))


def _border(heads: NDArray[np.int64], least: int) -> int | None:
    """Return the first head from `least` on."""
    place = int(np.searchsorted(heads, least))
    return int(heads[place]) if place < len(heads) else None
