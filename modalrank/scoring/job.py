"""A scoring job: any input that is read in batches, to an output folder that is published whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from features.errors import DataError, GateError
from features.tables import read_entities
from modalrank.bundle import LIBRARIES, Bundle
from modalrank.config import Config, parse_config
from modalrank.dataset import row_columns
from modalrank.scoring.batches import Wanted, column_names
from modalrank.scoring.checks import Policy
from modalrank.scoring.fresh import refreshed
from modalrank.scoring.options import Model, Options
from modalrank.scoring.scorer import Scored, needs_ids, score_chunk, score_lists_of
from modalrank.scoring.sources import SourceFile, find_files
from modalrank.scoring.spool import Shard, Spool, spool_input
from modalrank.scoring.staging import (
    FORMAT,
    SUCCESS,
    Staging,
    digest_of,
    facts_of,
    is_whole,
    only_writer,
    read_manifest,
    require_replaceable,
)
from modalrank.scoring.strangers import SEATS, seated
from modalrank.scoring.summary import ShardFacts, ignored, require_little_drift, totals

LEAST_CHUNK, MOST_CHUNK = 1_000, 50_000
# Copies of a chunk's features that are in memory at once: rows, blocks, the frame and a base's part of it.
COPIES = 12
# The sort runs beside the libraries and the batch that is read; with less it is not slower.
SORT_SHARE = 6
Say = Callable[[str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """A finished job.

    Attributes
    ----------
    done_before
        The output was there already and nothing was written.
    """

    out: Path
    manifest: Mapping[str, Any]
    done_before: bool

    @property
    def rows(self) -> int:
        """Number of rows written."""
        rows: int = self.manifest["counts"]["written"]
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, without what is told of every shard."""
        told = {key: value for key, value in self.manifest.items() if key not in ("shards", "versions")}
        return {"out": str(self.out), "rows": self.rows, "done_before": self.done_before, **told}


def run_job(model: Model, options: Options, out: Path, say: Say) -> Result:
    """Score an input into a folder, going on where an earlier run of the same job ended.

    Raises
    ------
    DataError
        If the input breaks the contract; nothing is published.
    GateError
        If the drift is too large; nothing is published.
    TryAgainError
        If another process writes this output, or the disk is full; what is done is kept.
    """
    require_replaceable(out)
    with only_writer(out):
        staging = Staging(out)
        staging.mend()
        try:
            return _Job(model, options, staging, say).run()
        except (DataError, GateError):
            # What another job left is kept: this one may only have been mistyped.
            staging.discard(everything=staging.is_open)
            raise


class _Job:
    def __init__(self, model: Model, options: Options, staging: Staging, say: Say) -> None:
        self.model, self.options, self.staging, self.say = model, options, staging, say
        self.config = _config_of(model, options)

    def run(self) -> Result:
        staging = self.staging
        self.say("look at the input")
        sources = find_files(self.options.given, staging.downloads)
        identity = self._identity(sources)
        job = digest_of(identity)
        earlier = read_manifest(staging.out)
        same = earlier if earlier is not None and earlier["job"] == job else None
        if same is not None and self._is_finished(same):
            staging.discard()
            return Result(staging.out, same, True)
        wanted = self._wanted(sources[0])
        left_out = ignored(sources, wanted.columns)
        staging.open(job)
        self.say("load the model")
        bundle = replace(Bundle.load(self.model.folder), config=self.config)
        if left_out:
            logger.info("columns that the model does not read: %s", ", ".join(left_out))
        spool, policy = self._spooled(bundle, sources, wanted)
        if not spool.n_good:
            raise DataError(
                "nothing to score: the table has no rows, or no good one",
                fix="fill the table, or look why its rows are bad",
                file=self.options.given,
            )
        shards = self._shards(self._grown(bundle, spool), spool, same)
        sums = totals(shards, bundle.reference)
        require_little_drift(sums["drift"], self.options.max_drift)
        manifest = {
            "job": job,
            **identity,
            "files": [{"name": source.name, "bytes": source.size} for source in sources],
            "ignored_columns": left_out,
            "counts": {
                "read": spool.n_read,
                "queries": spool.n_queries,
                **{name: sums.pop(name) for name in ("scored", "written", "fallback")},
                "skipped": dict(sorted(policy.counts.items())),
            },
            **sums,
            "skipped_files": policy.files,
            "shards": shards,
        }
        staging.publish(manifest)
        return Result(staging.out, manifest, False)

    def _identity(self, sources: Sequence[SourceFile]) -> dict[str, Any]:
        """Return everything that the bytes of the output depend on."""
        return {
            "format": FORMAT,
            "model": self.model.identity(),
            "input": [[source.key, source.sha256] for source in sources],
            "options": self.options.identity(),
            "versions": {name: version(name) for name in ("modalrank", *LIBRARIES)},
        }

    def _is_finished(self, manifest: Mapping[str, Any]) -> bool:
        parts = [*manifest["shards"], *manifest["skipped_files"]]
        out = self.staging.out
        return (out / SUCCESS).is_file() and all(is_whole(out, part) for part in parts)

    def _wanted(self, source: SourceFile) -> Wanted:
        data = self.config.data
        if self.options.kind == "candidates":
            ids = {"query": data.columns.query, "item": data.columns.item}
            return Wanted(ids, row_columns(self.config.modalities))
        # A file of users may be the user table.
        there = column_names(source)
        renamed = data.columns.query not in there and data.user_id in there
        return Wanted({"query": data.user_id if renamed else data.columns.query})

    def _spooled(self, bundle: Bundle, sources: Sequence[SourceFile], wanted: Wanted) -> tuple[Spool, Policy]:
        """Return the spool, made now or by an earlier run."""
        options, staging = self.options, self.staging
        policy = Policy(options.on_error, options.max_errors, staging.write_table)
        file, drops = staging.work / "spool.parquet", staging.work / "dropped.npy"
        noted = staging.note("spool")
        if noted is not None and all(is_whole(staging.root, part) for part in noted["files"]):
            policy.counts.update(noted["bad"])
            policy.files += noted["skipped"]
            shards = tuple(Shard(*shard) for shard in noted["shards"])
            return Spool(file, shards, np.load(drops), noted["n_read"], noted["n_queries"]), policy
        is_list = options.kind == "users"
        spool = spool_input(
            sources,
            wanted,
            policy,
            staging.work,
            # The row of a user becomes a whole list.
            shard_rows=max(1, options.shard_rows // options.top_k) if is_list else options.shard_rows,
            partitions=options.partitions,
            memory=options.memory // SORT_SHARE,
            known_items=self._known_items(bundle),
            progress=lambda rows: self.say(f"read and check {rows:,} rows"),
        )
        policy.flush()
        np.save(drops, spool.dropped)
        made = [file, drops, *(staging.ready / part["file"] for part in policy.files)]
        files = [{"file": str(path.relative_to(staging.root)), **facts_of(path)} for path in made]
        bad = {"bad": policy.counts, "skipped": policy.files}
        rest = {"shards": spool.shards, "n_read": spool.n_read, "n_queries": spool.n_queries}
        staging.write_note("spool", {"files": files, **bad, **rest})
        return spool, policy

    def _known_items(self, bundle: Bundle) -> pl.Series | None:
        """Return the items that may be scored, None where the model reads nothing of what items are like."""
        if self.options.kind == "users" or not bundle.model.items:
            return None
        known = pl.Series(bundle.items.ids.tolist(), dtype=pl.String)
        if self.options.fresh.items is None:
            return known
        table = read_entities(self.options.fresh.items, self.config.data.item_id, [])
        return pl.concat([known, table["id"]])

    def _grown(self, bundle: Bundle, spool: Spool) -> Bundle:
        """Return the bundle with what is newer, every item of the input and seats for unknown queries."""
        if not needs_ids(bundle):
            return bundle
        self.say("describe what is new")
        return refreshed(bundle, self.options.fresh, SEATS, spool.distinct("item"))

    def _shards(self, bundle: Bundle, spool: Spool, same: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return what is known of every shard, scoring those that are not there or not whole."""
        found = []
        published = {} if same is None else {part["file"]: part for part in same["shards"]}
        since, started = 0, time.monotonic()
        for number, shard in enumerate(spool.shards):
            name = _file_of(number, shard, self.options.partitions)
            part = self._kept(number, name, published)
            if part is None:
                facts = ShardFacts(bundle.reference)
                rows = pl.concat([facts.add(chunk) for chunk in self._chunks(bundle, spool, shard)])
                if self.options.kind == "users":
                    # Lists come in the order of the model's codes.
                    rows = rows.sort("query", "rank")
                table = rows.with_columns(model_version=pl.lit(self.model.version)).rechunk()
                part = self.staging.write_table(name, table) | facts.as_dict()
                self.staging.write_note(f"shards/{number:05d}", part)
                since += shard.stop - shard.start
            self.say(_progress(shard.stop, spool.shards[-1].stop, since, time.monotonic() - started))
            found.append(part)
        return found

    def _kept(self, number: int, name: str, published: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is known of a shard that an earlier run of this job finished."""
        noted = self.staging.note(f"shards/{number:05d}")
        if noted is not None and is_whole(self.staging.ready, noted):
            return noted
        if name in published and is_whole(self.staging.out, published[name]):
            self.staging.take_over(published[name])
            return dict(published[name])
        return None

    def _chunks(self, bundle: Bundle, spool: Spool, shard: Shard) -> Iterator[Scored]:
        for rows in spool.chunks(shard, self._chunk_rows()):
            if needs_ids(bundle):
                yield from seated(bundle, rows, partial(self._scored, bundle))
            else:
                yield from self._scored(bundle, rows)

    def _scored(self, bundle: Bundle, rows: pl.DataFrame) -> Iterator[Scored]:
        if self.options.kind == "candidates":
            yield score_chunk(bundle, rows, explain=self.options.explain)
        else:
            users, top_k = rows["query"].to_list(), self.options.top_k
            yield from score_lists_of(bundle, users, top_k, explain=self.options.explain)

    def _chunk_rows(self) -> int:
        if self.options.chunk_rows is not None:
            return self.options.chunk_rows
        width = 4 * COPIES * (len(row_columns(self.config.modalities)) + 16)
        return int(np.clip(self.options.memory // 4 // width, LEAST_CHUNK, MOST_CHUNK))


def _config_of(model: Model, options: Options) -> Config:
    file = model.folder / "config.yaml"
    if not file.is_file():
        raise DataError("this is no model", fix="check its name", file=str(model.folder))
    config = parse_config(yaml.safe_load(file.read_text(encoding="utf-8")), str(file))
    if options.max_bad_media is None:
        return config
    media = config.media.model_copy(update={"max_bad": options.max_bad_media})
    return config.model_copy(update={"media": media})


def _file_of(number: int, shard: Shard, partitions: int) -> str:
    name = f"part-{number:05d}.parquet"
    return name if partitions == 1 else f"bucket={shard.bucket}/{name}"


def _progress(done: int, total: int, since: int, seconds: float) -> str:
    speed = since / max(seconds, 1e-9)
    left = f", {(total - done) / speed:.0f} s left" if speed else ""
    return f"score {done:,} of {total:,} rows, {speed:,.0f} rows/s{left}"
