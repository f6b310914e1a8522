"""The commands promote, rollback and registry; heavy modules are imported by those that need them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="registered name, such as shop")]
Store = Annotated[str, typer.Option("--tracking-uri", help="store of the registry")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
DEFAULT_STORE = "sqlite:///mlruns/mlflow.db"

registry_app = typer.Typer(help="Look into the registry, and delete what nothing points at.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(promote)
    app.command()(rollback)
    app.add_typer(registry_app, name="registry", no_args_is_help=True)


def promote(
    name: Model,
    version: Annotated[str | None, typer.Option(help="version to promote")] = None,
    alias: Annotated[str, typer.Option(help="alias of the version, without --version")] = "challenger",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the gates and change nothing")] = False,
    force: Annotated[bool, typer.Option("--force", help="promote whatever the gates say")] = False,
    reason: Annotated[str, typer.Option(help="why; needed for a first promotion and with --force")] = "",
    margin: Annotated[
        float, typer.Option(min=0, help="share of NDCG that a cheaper challenger may lose")
    ] = 0.01,
    max_slower: Annotated[float, typer.Option(min=0, help="most CPU time, times the champion's")] = 2.0,
    max_memory: Annotated[float, typer.Option(min=0, help="most peak memory, times the champion's")] = 1.5,
    max_size: Annotated[float, typer.Option(min=0, help="largest model, times the champion's")] = 2.0,
    evaluation: Annotated[
        str | None,
        typer.Option(help="version whose frozen evaluation set is used; default: the challenger's"),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="item table for a version that lacks items")] = None,
    profiles: Annotated[Path | None, typer.Option(help="user table for a version that lacks users")] = None,
    tracking_uri: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Judge a version against the champion, and make it the champion if every gate is open."""
    from modalrank.console import out, progress, set_up_logging, show_json
    from modalrank.promotion.gates import Thresholds
    from modalrank.promotion.jobs import Promotion
    from modalrank.promotion.jobs import promote as judge
    from modalrank.promotion.page import show_decision
    from modalrank.store import store_of

    set_up_logging(False)
    asked = Promotion(
        name=name,
        version=version,
        alias=alias,
        evaluation=evaluation,
        dry_run=dry_run,
        force=force,
        reason=reason,
        items=items,
        users=profiles,
        limits=Thresholds(margin=margin, slower=max_slower, memory=max_memory, size=max_size),
    )
    with progress(as_json) as say:
        decision, entry = judge(asked, store_of(tracking_uri), say)
    if as_json:
        show_json({**decision.as_dict(), "moved": entry is not None, "dry_run": dry_run})
    else:
        show_decision(decision, out)
        if entry is not None:
            was = f"version {entry.before} is previous" if entry.before else "there was none before"
            out.print(f"Champion of {name}: version {entry.after}; {was}.", markup=False)
    if not decision.passed and not force:
        sys.exit(4)


def rollback(
    name: Model,
    reason: Annotated[str, typer.Option(help="why")],
    tracking_uri: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Make the previous champion the champion again, after trying it in a clean process."""
    from modalrank.console import out, progress, set_up_logging, show_json
    from modalrank.promotion.jobs import rollback as go_back
    from modalrank.store import store_of

    set_up_logging(False)
    with progress(as_json) as say:
        entry = go_back(name, reason, store_of(tracking_uri), say)
    if as_json:
        show_json(vars(entry))
    else:
        out.print(
            f"Champion of {name}: version {entry.after}; version {entry.before} is previous.", markup=False
        )


@registry_app.command("list")
def list_models(tracking_uri: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the models with their aliases."""
    from modalrank.promotion import jobs
    from modalrank.store import store_of

    _show("Models", jobs.list_models(store_of(tracking_uri)), as_json)


@registry_app.command()
def show(name: Model, tracking_uri: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show the versions of a model, newest first."""
    from modalrank.promotion import jobs
    from modalrank.store import store_of

    _show(name, jobs.show_model(name, store_of(tracking_uri)), as_json)


@registry_app.command()
def history(name: Model, tracking_uri: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show every promotion and rollback of a model."""
    from modalrank.promotion import jobs
    from modalrank.store import store_of

    _show(f"Ledger of {name}", [vars(e) for e in jobs.ledger(name, store_of(tracking_uri))], as_json)


@registry_app.command()
def delete(
    name: Model,
    version: Annotated[str, typer.Option(help="version to delete")],
    tracking_uri: Store = DEFAULT_STORE,
) -> None:
    """Delete a version that no alias points at."""
    from modalrank.console import out, progress
    from modalrank.promotion import jobs
    from modalrank.store import store_of

    with progress(False) as say:
        jobs.delete_version(name, version, store_of(tracking_uri), say)
    out.print(f"Deleted version {version} of {name}.", markup=False)


@registry_app.command()
def unlock(name: Model, tracking_uri: Store = DEFAULT_STORE) -> None:
    """Remove the lock that a promotion which died left on a tracking server."""
    from modalrank.console import out
    from modalrank.promotion import jobs
    from modalrank.store import store_of

    found = jobs.unlock(name, store_of(tracking_uri))
    out.print(f"The lock of {name} is removed." if found else f"{name} is not locked.", markup=False)


def _show(title: str, rows: list[dict[str, object]], as_json: bool) -> None:
    from modalrank.console import out, show_json, show_table

    if as_json:
        show_json(rows)
    elif not rows:
        out.print(f"{title}: nothing yet.", markup=False)
    else:
        show_table(title, list(rows[0]), [[_word(value) for value in row.values()] for row in rows])


def _word(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
