"""What each part of modalrank is worth: the whole config, and the same with one part left out at a time.

usage: python benchmarks/ablation.py [movies tiktok] [--protocol strict|full] [--seed N] [--data DIR]
       [--threads N] [--only NAME ...] [--config FILE] [--list]

Prints a Markdown table a data set. Every row is a training run of its own in a process of its own, with
everything chosen on validation again; the whole config is always run first, and rows that differ from it in
the meta-learners alone climb the ladder again on its bases. Differences are the variant's
value minus the whole's, with the paired bootstrap 95% interval over test users; users without a candidate
count 0. NAME is a row of the table, or what stands before its colon for all rows of that kind. FILE, the
config of a log, takes the place of the example configs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import yaml
from ablation_worker import K, say
from peer_table import markdown
from peers import WorkerError, machine, run_worker

from ensembles.gate import Interval, paired_bootstrap
from features.builder import CONTEXT
from features.errors import ModalrankError
from features.filling import METHODS
from features.retrievers import BEHAVIOUR, CONTENT
from modalrank.config import FUSED, BaseConfig, Config, load_config
from modalrank.feature_settings import retrievers_of

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
EXAMPLES = ("movies", "tiktok")
METRICS = {"ndcg": f"NDCG@{K}", "recall": f"Recall@{K}"}
# Retrievers that say the same of an item to everybody, or to everybody at one time.
POPULARITY = ("popularity", "recent_popularity", "local_popularity")
# What training queries are added, and how much of it; two of them where torch is.
AUGMENTATION: dict[str, float] = {"mixing": 0.5, "removal": 0.5}
if find_spec("torch") and find_spec("safetensors"):
    AUGMENTATION |= {"generated": 0.5, "synthetic_negatives": 200}
WHOLE = "**whole**"
NOTES = f"""Rows:
- `modality`: its features, its retriever and its part in the content graph are left out.
- `retriever`: one behaviour retriever, as candidate source, feature and base. `content_retrieval`: all
  content retrievers and the graphs they walk on; the similarities to the history stay.
- `features`: the learned bases do not see this block; `components` are the leading components of vectors.
- `item_level`: no {", ".join(POPULARITY)} retriever, and no feature that says something of an item by
  itself: popularity, age, idle time, presence, the popularity of its neighbours, components.
- `filling`: missing vectors of items are guessed in this way. `augmentation`: training queries are added
  in this way.
- `family`: all learned bases of the family; for lightgbm those of the single modalities too. `meta`: one
  rung of the ladder. `reserve`: no places kept for new items.

One run a row: the intervals are over users, and hold no noise of drawing and training again. Of intervals at
95% one in 20 excludes 0 by chance."""


@dataclass(frozen=True)
class Variant:
    """What is left out, and the overrides of the config that leave it out."""

    name: str
    overrides: tuple[str, ...]

    @property
    def of_ladder(self) -> bool:
        """Tell whether the bases are those of the whole."""
        return all(text.startswith("ensemble.") for text in self.overrides)


def variants(config: Config, learned: Sequence[BaseConfig]) -> list[Variant]:
    """Return all variants of a config whose run of the whole has these learned bases."""
    return [
        *modality_variants(config),
        *retriever_variants(config),
        *feature_variants(config, learned),
        *family_variants(learned),
        *meta_variants(config),
        *(Variant(f"filling:{method}", (f"filling={method}",)) for method in METHODS[1:]),
        *(Variant(f"augmentation:{name}", (f"labels.{name}={much}",)) for name, much in AUGMENTATION.items()),
    ]


def modality_variants(config: Config) -> Iterator[Variant]:
    """Yield the config without each of its modalities."""
    for name in config.modalities:
        rest = {other: m.model_dump() for other, m in config.modalities.items() if other != name}
        has_items = any(modality["table"] == "items" for modality in rest.values())
        if not (has_items and config.candidates.content) and not retrievers_of(config):
            continue
        gone = {name} if has_items else {name, CONTENT}
        yield Variant(f"modality:{name}", (override("modalities", rest), *narrowed(config, gone)))


def retriever_variants(config: Config) -> Iterator[Variant]:
    """Yield the config without each behaviour retriever, and without content retrieval."""
    given = retrievers_of(config)
    content = config.candidates.content and any(m.table == "items" for m in config.modalities.values())
    if len(given) > 1 or content:
        for retriever in given:
            yield Variant(f"retriever:{retriever.kind}", (without_kinds(config, [retriever.kind]),))
    if content and given:
        overrides = ("candidates.content=false", *narrowed(config, {CONTENT}))
        yield Variant("content_retrieval", overrides)


def feature_variants(config: Config, learned: Sequence[BaseConfig]) -> Iterator[Variant]:
    """Yield the config without each feature family that can be left out."""
    for block in (BEHAVIOUR, CONTENT, CONTEXT):
        if any(spec.blocks == "all" or block in spec.blocks for spec in learned):
            bases = [spec.model_dump() for spec in without_blocks(learned, {block})]
            yield Variant(f"features:{block}", (override("bases", bases),))
    if config.components:
        yield Variant("features:components", ("components=0",))
    if any(retriever.kind not in POPULARITY for retriever in retrievers_of(config)):
        excluded = override("exclude_features", [*config.exclude_features, *item_level(config)])
        yield Variant("item_level", (without_kinds(config, POPULARITY), excluded))


def item_level(config: Config) -> Iterator[str]:
    """Yield the features of a config that say something of an item by itself."""
    yield f"{BEHAVIOUR}.log_popularity"
    if config.data.columns.time is not None:
        yield from (f"{BEHAVIOUR}.{name}" for name in ("age", "idle"))
    if any(modality.table == "items" for modality in config.modalities.values()):
        yield "*.present"
        if config.candidates.content:
            yield "*.smooth_popularity"
        if config.components:
            yield "*.component_*"


def family_variants(learned: Sequence[BaseConfig]) -> Iterator[Variant]:
    """Yield the config without the learned bases of each family."""
    for family in dict.fromkeys(spec.family for spec in learned):
        rest = [spec.model_dump() for spec in learned if spec.family != family]
        yield Variant(f"family:{family}", (override("bases", rest),))


def meta_variants(config: Config) -> Iterator[Variant]:
    """Yield the config without each rung of the ladder but the first, and without the reserve."""
    ladder = config.ensemble.ladder
    for name in ladder[1:]:
        yield Variant(
            f"meta:{name}", (override("ensemble.ladder", [rung for rung in ladder if rung != name]),)
        )
    if config.ensemble.reserve:
        yield Variant("reserve", ("ensemble.reserve=0",))


def without_kinds(config: Config, kinds: Container[str]) -> str:
    """Return the override that leaves behaviour retrievers out."""
    rest = [retriever.model_dump() for retriever in retrievers_of(config) if retriever.kind not in kinds]
    return override("candidates.retrievers", rest)


def narrowed(config: Config, gone: set[str]) -> tuple[str, ...]:
    """Return the override of bases that name a block which is not there any more; `auto` needs none."""
    if config.bases == "auto":
        return ()
    return (override("bases", [spec.model_dump() for spec in without_blocks(config.bases, gone)]),)


def without_blocks(specs: Sequence[BaseConfig], gone: set[str]) -> list[BaseConfig]:
    """Return the bases without these blocks; one that is of such a block, or has none left, goes too."""
    rest = []
    for spec in specs:
        if spec.blocks == "all":
            rest.append(spec)
            continue
        blocks = [block for block in spec.blocks if block not in gone]
        if spec.name not in gone and set(blocks) - {CONTEXT}:
            rest.append(spec.model_copy(update={"blocks": blocks}))
    return rest


def expected_bases(config: Config) -> Sequence[BaseConfig]:
    """Return what tells the names of the variants before a run: the config's bases, or the fused ones."""
    if config.bases != "auto":
        return config.bases
    blocks = [*config.modalities, BEHAVIOUR, CONTEXT]
    if config.candidates.content and any(m.table == "items" for m in config.modalities.values()):
        blocks.append(CONTENT)
    return [BaseConfig(name=n, family=f, objective=o, blocks=blocks) for n, (f, o) in FUSED.items()]


def override(key: str, value: list | dict) -> str:
    """Return the `a.b=c` that sets a key to a list or a section."""
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).strip()}"


def difference(variant: pl.DataFrame, whole: pl.DataFrame, metric: str) -> Interval:
    """Return the paired difference of a metric over test users; raises ValueError for other users."""
    both = whole.join(variant, on="query", how="inner", suffix="_variant", validate="1:1")
    if not both.height == whole.height == variant.height:
        raise ValueError(f"got {variant.height} users, expected the {whole.height} of the whole")
    return paired_bootstrap(both[f"{metric}_variant"].to_numpy(), both[metric].to_numpy())


def show_difference(found: Interval) -> str:
    """Show a difference with its interval, and where 0 is not in it which way it points."""
    mark = " **worse**" if found.high < 0 else " **better**" if found.low > 0 else ""
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{mark}"


def selected(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """Return the names of variants that were asked for, by name or kind."""
    if only is None:
        return list(names)
    return [name for name in names if name in only or name.partition(":")[0] in only]


def run(file: Path, overrides: Sequence[str], values: Path) -> dict:
    """Train in a process of its own and return its report."""
    return run_beside(file, overrides, values, [])[0]


def run_beside(
    file: Path, overrides: Sequence[str], values: Path, of_ladder: Sequence[Variant]
) -> list[dict]:
    """Train in a process of its own, climb again for each of these variants, and return all reports."""
    settings = [argument for text in overrides for argument in ("--set", text)]
    beside = json.dumps({variant.name: variant.overrides for variant in of_ladder})
    command = [str(file), str(values), *settings, "--beside", beside]
    return run_worker(sys.executable, "ablation_worker.py", *command)


def row_of(title: str, whole: pl.DataFrame, report: dict) -> list[str]:
    """Return a row of the table."""
    values = pl.read_parquet(report["values"])
    means = [f"{values[metric].mean():.4f}" for metric in METRICS]
    gaps = ["" if title == WHOLE else show_difference(difference(values, whole, m)) for m in METRICS]
    return [title, *means, *gaps, report["rung"], f"{report['seconds']:.0f}", f"{report['gib']:.1f}"]


def ablate(file: Path, common: Sequence[str], only: Sequence[str] | None) -> None:
    """Run the whole and its variants, and print each row when it is there."""
    config = load_config(file, common)
    title = config.name
    of_ladder = [variant for variant in meta_variants(config) if selected([variant.name], only)]
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.parquet"
        say(f"{title}: whole")
        report, *climbed = run_beside(file, common, values, of_ladder)
        whole = pl.read_parquet(values)
        print(f"**{title}** ({config.protocol} protocol, seed {config.seed}, {whole.height} test users)\n")
        columns = ["left out", *METRICS.values(), *(f"{m} minus the whole's" for m in METRICS.values())]
        rows = [row_of(WHOLE, whole, report), *(row_of(each["name"], whole, each) for each in climbed)]
        print("\n".join(markdown([*columns, "rung", "seconds", "GiB"], rows)), flush=True)
        learned = [BaseConfig.model_validate(spec) for spec in report["learned"]]
        for variant in variants(config, learned):
            if variant.of_ladder or not selected([variant.name], only):
                continue
            say(f"{title}: without {variant.name}")
            try:
                cells = row_of(variant.name, whole, run(file, [*common, *variant.overrides], values))
            except WorkerError as error:
                cells = [variant.name, f"failed: {error}", *[""] * 6]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(flush=True)


def example(name: str) -> str:
    """Return the name of an example of a log, for argparse."""
    if name not in EXAMPLES:
        raise argparse.ArgumentTypeError(f"unknown data set {name!r}, known are {', '.join(EXAMPLES)}")
    return name


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("MODALRANK_DATA", SHARED / "data"))
    parser.add_argument("names", nargs="*", type=example, metavar="name", help="movies, tiktok; default all")
    parser.add_argument("--protocol", choices=["strict", "full"], default="strict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--threads", type=int, help="default: what the config says, which is all cores")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants or kinds of them")
    parser.add_argument("--config", type=Path, help="instead of the example configs")
    parser.add_argument("--list", action="store_true", help="show the variants and end")
    args = parser.parse_args()
    if args.config and args.names:
        parser.error("give names or --config, not both")
    return args


def names_by_file(args: argparse.Namespace, common: Sequence[str]) -> dict[Path, list[str]]:
    """Return config file to the names of its variants that were asked for; ends where there are none."""
    files = [ROOT / "examples" / f"{name}.yaml" for name in args.names or EXAMPLES]
    known: dict[Path, list[str]] = {}
    for file in [args.config.resolve()] if args.config else files:
        config = load_config(file, common)
        if config.data.form != "log":
            sys.exit(f"{file.name} is a config of judged lists, expected one of a log")
        known[file] = [variant.name for variant in variants(config, expected_bases(config))]
    everything = {name for names in known.values() for name in names}
    for asked in args.only or ():
        if not selected(sorted(everything), [asked]):
            sys.exit(f"nothing to leave out is called {asked!r}, known are {', '.join(sorted(everything))}")
    return {file: selected(names, args.only) for file, names in known.items()}


def main() -> None:
    """Run every data set and print the tables."""
    args = arguments()
    os.environ |= {"MODALRANK_DATA": str(args.data.resolve()), "OMP_WAIT_POLICY": "passive"}
    common = [f"protocol={args.protocol}", f"seed={args.seed}"]
    if args.threads:
        common.append(f"threads={args.threads}")
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    known = names_by_file(args, common)
    if args.list:
        for file, names in known.items():
            print(f"{file.stem}: {' '.join(names)}")
        return
    if not args.config and not args.data.is_dir():
        sys.exit(f"needs the data sets in {args.data}: see --data")
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    for file in known:
        ablate(file, common, args.only)
    print(NOTES)


if __name__ == "__main__":
    try:
        main()
    except (ModalrankError, WorkerError) as error:
        sys.exit(str(error))
