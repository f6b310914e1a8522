"""The command score; heavy modules are imported when it runs."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from modalrank.scoring import Options, Result
    from modalrank.scoring.job import Say

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class OnError(StrEnum):
    """What to do about bad rows."""

    fail = "fail"
    quarantine = "quarantine"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(score)


def score(
    model: Annotated[str, typer.Option(help="models:/NAME@challenger, models:/NAME/2 or a folder")],
    out: Annotated[Path, typer.Option(help="folder of the output, which appears when it is whole")],
    candidates: Annotated[
        str | None, typer.Option(help="query and item ids to score: a file, folder, glob or URL")
    ] = None,
    users: Annotated[
        str | None, typer.Option(help="user ids to make lists for: a file, folder, glob or URL")
    ] = None,
    top_k: Annotated[int, typer.Option(help="length of the lists made with --users", min=1)] = 100,
    items: Annotated[Path | None, typer.Option(help="item table that describes new items")] = None,
    profiles: Annotated[
        Path | None, typer.Option("--profiles", "--users-table", help="user table that describes new users")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", "--interactions", help="interactions up to now, instead of the model's"),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="end at the first bad row, or put bad rows in skipped/")
    ] = OnError.fail,
    max_errors: Annotated[
        int | None, typer.Option(min=0, help="most bad rows that quarantine takes; any number if not given")
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=10_000, help="hash buckets of the query to divide the output into")
    ] = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="add what each modality contributes to every score")
    ] = False,
    max_drift: Annotated[
        float | None,
        typer.Option(min=0, help="publish nothing if an index of drift from the hold-out is above this"),
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="record counts, coverage and drift as a run of the store")
    ] = False,
    memory: Annotated[str, typer.Option(help="memory to stay within, such as 2GB")] = "2GB",
    max_bad_media: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="share of a column's files that may be unreadable"),
    ] = None,
    tracking_uri: Annotated[str, typer.Option(help="store of the registry")] = "sqlite:///mlruns/mlflow.db",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="log what the libraries decide, too")] = False,
) -> None:
    """Score candidates, or make lists for users; the same command goes on where a stopped one ended."""
    from features.errors import UsageError
    from modalrank.console import progress, set_up_logging, show_json
    from modalrank.scoring import Fresh, Options
    from modalrank.scoring.record import record_job
    from modalrank.store import store_of

    set_up_logging(verbose)
    given = users if candidates is None else candidates
    if given is None or (candidates is not None and users is not None):
        raise UsageError("give either --candidates or --users")
    if track and not model.startswith("models:/"):
        raise UsageError("--track records beside the training run: give models:/NAME@champion, not a folder")
    options = Options(
        kind="users" if candidates is None else "candidates",
        given=given,
        top_k=top_k,
        fresh=Fresh(items, profiles, history),
        on_error=on_error.value,
        max_errors=max_errors,
        partitions=partitions,
        explain=explain,
        max_drift=max_drift,
        memory=bytes_of(memory),
        max_bad_media=max_bad_media,
    )
    with progress(as_json) as say:
        result = score_files(model, options, out, store_of(tracking_uri), say)
        run = record_job(store_of(tracking_uri), result) if track else None
    if as_json:
        show_json(result.as_dict() | {"run": run})
    else:
        show_result(result, run)


def score_files(model: str, options: Options, out: Path, uri: str, say: Say) -> Result:
    """Resolve a model once and run the job."""
    from modalrank.scoring import Model, run_job
    from modalrank.store import fetch_model

    say("fetch the model")
    folder, version = fetch_model(uri, model)
    name = re.split("[@/]", model.removeprefix("models:/"))[0] if model.startswith("models:/") else version
    return run_job(Model(name, version, folder), options, out, say)


def show_result(result: Result, run: str | None = None) -> None:
    """Print what was written, and what should be known of it."""
    from modalrank.console import out as console

    facts, counts = result.manifest, result.manifest["counts"]
    model = facts["model"]
    again = " (all of it was there already)" if result.done_before else ""
    lines = [f"{result.rows} rows by {model['name']} (version {model['version']}) in {result.out}{again}"]
    wanted, lists = facts["options"]["top_k"], counts["queries"]
    if wanted is not None and counts["written"] < wanted * lists:
        lines.append(
            f"lists have {counts['written'] / lists:.1f} items on average, not {wanted}: "
            "the sources know no more of these users"
        )
    if counts["skipped"]:
        reasons = ", ".join(f"{reason} {number}" for reason, number in counts["skipped"].items())
        lines.append(f"{sum(counts['skipped'].values())} bad rows are in skipped/: {reasons}")
    if facts["ignored_columns"]:
        lines.append(f"columns that the model does not read: {', '.join(facts['ignored_columns'])}")
    if facts["drift"] is not None:
        drift = facts["drift"]
        lines.append(
            f"drift from the hold-out: scores PSI {drift['score_psi']:.3f}, KS {drift['score_ks']:.3f}, "
            f"largest PSI {drift['largest']:.3f}"
        )
    if run is not None:
        lines.append(f"recorded as run {run}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def bytes_of(text: str) -> int:
    """Return the number of bytes that a text such as 2GB or 512MiB means."""
    from features.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError(f"--memory: got {text!r}, expected a size such as 2GB")
    return int(float(found[1]) * UNITS[found[2].upper()])
