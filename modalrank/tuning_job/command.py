"""The command tune; heavy modules are imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from modalrank.tuning_job.job import TuneResult

Part = Literal["encoders", "candidates", "bases", "ensemble"]
PARTS: tuple[Part, ...] = ("encoders", "candidates", "bases", "ensemble")
OBJECTIVES = ("ndcg", "latency")
Name = TypeVar("Name", bound=str)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(tune)


def tune(
    config: Annotated[Path, typer.Argument(help="YAML config, such as examples/movies.yaml")],
    trials: Annotated[int, typer.Option(min=1, help="trials of each study, earlier ones included")] = 50,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="seconds after which no trial begins, over all studies")
    ] = None,
    base: Annotated[
        list[str] | None, typer.Option(help="learned base to tune, may be repeated; all if left out")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help=f"some of {','.join(PARTS)}; bases,ensemble, and all with --joint")
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="one study of whole runs, not one a stage")] = False,
    objectives: Annotated[str, typer.Option(help="ndcg or ndcg,latency (a Pareto front)")] = "ndcg",
    workers: Annotated[int, typer.Option(min=1, help="processes on one study")] = 1,
    storage: Annotated[str, typer.Option(help="Optuna URL of the studies")] = "sqlite:///mlruns/optuna.db",
    study: Annotated[str | None, typer.Option(help="name of the search; default: the config's name")] = None,
    out: Annotated[
        Path | None, typer.Option(help="tuned config; default: CONFIG with .tuned.yaml at its end")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="override a key: --set data.root=/data")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="log what the libraries decide, too")] = False,
) -> None:
    """Search settings, write the best as a config for train, and tell what they gain on validation.

    The same command goes on where a stopped one ended, and joins in where it runs on another machine.
    """
    from modalrank.console import progress, set_up_logging, show_json
    from modalrank.tuning_job.job import Request
    from modalrank.tuning_job.job import tune as search

    set_up_logging(verbose)
    request = Request(
        source=config,
        overrides=tuple(overrides or []),
        out=out or config.with_suffix(".tuned.yaml"),
        parts=_listed("--parts", parts or (",".join(PARTS) if joint else "bases,ensemble"), PARTS),
        joint=joint,
        bases=tuple(base or []),
        trials=trials,
        timeout=timeout,
        objectives=_objectives(objectives),
        workers=workers,
        storage=storage,
        study=study,
    )
    with progress(as_json) as say:
        result = search(request, say)
    if as_json:
        show_json(result.as_dict())
    else:
        show(result)


def show(result: TuneResult) -> None:
    """Print a row a study, the gains, and what to type next."""
    from modalrank.console import command, out, show_table

    rows = [
        [s.name, f"{s.complete} + {s.pruned} + {s.failed}", f"{s.default_ndcg:.4f}", f"{s.best_ndcg:.4f}"]
        for s in result.studies
    ]
    title = "Studies: trials (complete + pruned + failed) and NDCG out of fold"
    show_table(title, ["study", "trials", "default", "best"], rows)
    gains = [
        [g.name, f"{g.default.mean:.4f}", f"{g.tuned.mean:.4f}", g.sentence(), str(g.difference.n)]
        for g in result.gains
    ]
    title = "Gain on validation, which the search did not read, with 95% intervals"
    show_table(title, ["name", "default", "tuned", "difference", "queries"], gains)
    ensemble = result.gains[0]
    if not ensemble.shown:
        out.print("The gain of the ensemble is not above 0 with its interval: the defaults may be as good.")
    out.print(f"Run {result.run_id}; tuned config in {result.config_file}", markup=False, soft_wrap=True)
    out.print(f"Next: {command('modalrank')} train {result.config_file}", markup=False, soft_wrap=True)


def _listed(option: str, text: str, known: tuple[Name, ...]) -> tuple[Name, ...]:
    """Return the names of a comma-separated list in the order of `known`; raises UsageError."""
    from features.errors import UsageError

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"{option}: got {text!r}, expected some of {','.join(known)}")
    return tuple(name for name in known if name in names)


def _objectives(text: str) -> tuple[str, ...]:
    from features.errors import UsageError

    names = _listed("--objectives", text, OBJECTIVES)
    if "ndcg" not in names:
        raise UsageError("--objectives: ndcg is always one of them")
    return names
