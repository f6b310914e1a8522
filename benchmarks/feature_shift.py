"""Whether features mean the same where rankers learn and where the final model is tested (full protocol).

usage: python benchmarks/feature_shift.py [movies tiktok] [--queries N] [--data DIR]

Prints a Markdown table a data set: the Kolmogorov-Smirnov distance of every feature between full candidate
lists of test users, made by the models refitted on train and validation, and those of

- `newest windows`: the out-of-fold lists that the full protocol chooses on;
- `hidden in train`: what a ranker of the strict protocol learns from;
- `test again`: other test users, which is how far two samples of one distribution are apart.

Every row counts alike within its query and every query alike; missing values are compared by their share.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
from ablation import EXAMPLES, ROOT, say
from log_command import log_parser, parsed
from peer_table import markdown
from scipy.stats import ks_2samp

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.lists import Lists
from modalrank.log_form import LogForm

QUANTILES = {"median feature": 0.5, "9th of 10": 0.9, "farthest": 1.0}
WORST = 8
# Candidates drawn of each query, so that every query counts alike.
ROWS = 30


def drawn(parts: Iterable[Lists], rng: np.random.Generator) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and (n_queries, ROWS, n_features) values of candidates drawn with replacement."""
    names: tuple[str, ...] = ()
    values = []
    for lists in parts:
        for frame in lists.frames():
            places = rng.random((frame.n_queries, ROWS)) * frame.group_sizes[:, None]
            values.append(frame.features[frame.offsets[:-1, None] + places.astype(np.int64)])
            names = frame.feature_names
    return names, np.concatenate(values)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the larger of the distances of what is there and of the shares of what is missing."""
    gone = abs(np.isnan(one).mean() - np.isnan(other).mean())
    here = [values[~np.isnan(values)] for values in (one, other)]
    return float(max(gone, ks_2samp(*here).statistic if min(map(len, here)) else 0.0))


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the (n_features,) distances of two samples of queries."""
    columns = range(one.shape[-1])
    return np.array([distance(one[..., c].ravel(), other[..., c].ravel()) for c in columns])


def form_of(name: str, protocol: str, args: argparse.Namespace) -> LogForm:
    """Return the form of an example that judges on few queries."""
    few = [f"ensemble.queries={args.queries}", f"ensemble.judges={args.queries}"]
    config = load_config(
        ROOT / "examples" / f"{name}.yaml",
        [f"protocol={protocol}", f"data.root={args.data / name}", *few],
    )
    dataset = load_dataset(config)
    return LogForm(dataset, fit_encoders(dataset, say), say)


def compare(name: str, args: argparse.Namespace) -> list[str]:
    """Return the lines of one data set."""
    rng = np.random.default_rng(0)
    full = form_of(name, "full", args)
    names, newest = drawn(full.training().lists.values(), rng)
    _, test = drawn([full.held_out("test", full.model_before("test"), 2 * args.queries)], rng)
    hidden_names, hidden = drawn(form_of(name, "strict", args).training().lists.values(), rng)
    half = rng.permutation(len(test))
    test, again = test[half[::2]], test[half[1::2]]
    shared = [hidden_names.index(feature) for feature in names if feature in hidden_names]
    kept = [names.index(feature) for feature in names if feature in hidden_names]
    found = {
        "newest windows": distances(newest, test),
        "hidden in train": distances(hidden[..., shared], test[..., kept]),
        "test again": distances(again, test),
    }
    rows = [[title, *(f"{np.quantile(d, q):.3f}" for q in QUANTILES.values())] for title, d in found.items()]
    worst = np.argsort(-found["newest windows"])[:WORST]
    told = ", ".join(f"{names[column]} {found['newest windows'][column]:.3f}" for column in worst)
    return [
        *markdown(["distance to test", *QUANTILES], rows),
        "",
        f"{len(names)} features, {len(test)} test queries. Farthest in the newest windows: {told}.",
    ]


def main() -> None:
    """Compare on every data set and print the tables."""
    parser = log_parser(__doc__, EXAMPLES)
    parser.add_argument("--queries", type=int, default=500, help="of each sample")
    args = parsed(parser)
    for name in args.names:
        print(f"**{name}**\n", *compare(name, args), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
