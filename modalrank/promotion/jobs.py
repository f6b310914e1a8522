"""The jobs behind promote, rollback and registry."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from features.errors import DataError, GateError, UsageError
from modalrank.console import show_note
from modalrank.promotion import aliases
from modalrank.promotion.aliases import CHAMPION, PREVIOUS, Entry
from modalrank.promotion.frozen import EvaluationSet
from modalrank.promotion.gates import Gate, Thresholds, Version, all_gates
from modalrank.promotion.lock import SUFFIX, promotion_lock, remove_lock
from modalrank.promotion.page import Decision
from modalrank.promotion.worker import FAILED, LISTS, MEASURED, Job, Measured
from modalrank.store import download, registry, signature_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# A version that takes longer to be measured is taken for broken.
MOST_SECONDS = 4 * 3600

Say = Callable[[str], None]


@dataclass(frozen=True)
class Promotion:
    """What was asked for.

    Attributes
    ----------
    version, alias
        The challenger: a version, or without one the alias that points at it.
    evaluation
        Version whose evaluation set is used; None takes the challenger's.
    items, users
        Tables of items and users that a version may not know; None takes those of the evaluation set where
        they are still the same.
    """

    name: str
    version: str | None = None
    alias: str = "challenger"
    evaluation: str | None = None
    dry_run: bool = False
    force: bool = False
    reason: str = ""
    items: Path | None = None
    users: Path | None = None
    limits: Thresholds = field(default_factory=Thresholds)


def promote(asked: Promotion, uri: str, say: Say) -> tuple[Decision, Entry | None]:
    """Judge a challenger and make it the champion if every gate is open.

    Returns the decision, and the new line of the ledger where the champion moved.

    Raises
    ------
    UsageError
        If a first promotion or a forced one has no reason.
    TryAgainError
        If another promotion came first.
    """
    with registry(uri) as client:
        challenger = _version(client, asked.name, asked.version, asked.alias)
        if not asked.dry_run:
            with promotion_lock(client, uri, asked.name):
                _tell(say, aliases.repair(client, asked.name))
        champion = aliases.aliases_of(client, asked.name).get(CHAMPION)
        if (champion is None or asked.force) and not asked.reason and not asked.dry_run:
            first = "there is no champion yet" if champion is None else "--force"
            raise UsageError(f"{first}: say why with --reason TEXT")
        if champion == challenger:
            raise DataError(
                f"version {challenger} of {asked.name} is the champion already",
                fix="train a challenger, or name another version with --version",
            )
        decision = _judge(client, uri, asked, challenger, champion, say)
        if asked.dry_run:
            return decision, None
        artifact = _keep(client, asked.name, challenger, decision)
        if not decision.passed and not (asked.force and decision.measured):
            return decision, None
        with promotion_lock(client, uri, asked.name):
            _tell(say, aliases.repair(client, asked.name))
            reason = asked.reason or "every gate is open"
            return decision, aliases.move(
                client, asked.name, "promote", champion, challenger, reason, artifact
            )


def rollback(name: str, reason: str, uri: str, say: Say) -> Entry:
    """Make the previous champion the champion again, after a clean process has loaded and tried it.

    Raises
    ------
    DataError
        If there is none.
    GateError
        If it does not repeat its expected scores.
    """
    with registry(uri) as client, promotion_lock(client, uri, name):
        _tell(say, aliases.repair(client, name))
        known = aliases.aliases_of(client, name)
        if PREVIOUS not in known or CHAMPION not in known:
            raise DataError(
                f"{name} has no previous champion to go back to", fix=f"modalrank registry history {name}"
            )
        previous = known[PREVIOUS]
        say(f"try version {previous} in a clean process")
        bundle = download(uri, name, previous)
        tried = _measured(previous, Job(str(bundle), "", _own(bundle), smoke=True))
        if isinstance(tried, Gate):
            raise GateError(f"version {previous} stays where it is: {tried.measured}")
        expected, repeated = tried.measured.repeated
        if repeated != expected:
            raise GateError(f"version {previous} repeats {repeated} of its {expected} expected scores")
        return aliases.move(client, name, "rollback", known[CHAMPION], previous, reason, "")


def list_models(uri: str) -> list[dict[str, Any]]:
    """Return name, number of versions and aliases of every model."""
    with registry(uri) as client:
        names = [m.name for m in _pages(client.search_registered_models) if not m.name.endswith(SUFFIX)]
        return [
            {
                "model": name,
                "versions": len(_versions(client, name)),
                "aliases": aliases.aliases_of(client, name),
                "note": " ".join(_left_over(client, name)),
            }
            for name in names
        ]


def show_model(name: str, uri: str) -> list[dict[str, Any]]:
    """Return every version of a model, newest first, with its aliases and its run."""
    with registry(uri) as client:
        _require_model(client, name)
        known = aliases.aliases_of(client, name)
        versions = _versions(client, name)
        return [
            {
                "version": str(v.version),
                "aliases": [alias for alias, number in known.items() if number == str(v.version)],
                "run": v.run_id,
                "registered": _time(v.creation_timestamp),
            }
            for v in sorted(versions, key=lambda v: -int(v.version))
        ]


def ledger(name: str, uri: str, say: Say) -> list[Entry]:
    """Return what moved the champion, oldest first; tells of a move that was cut off."""
    with registry(uri) as client:
        _require_model(client, name)
        for note in _left_over(client, name):
            _tell(say, note)
        return aliases.history(client, name)


def delete_version(name: str, version: str, uri: str, say: Say) -> None:
    """Delete a version that no alias points at; raises GateError for one that has an alias."""
    with registry(uri) as client, promotion_lock(client, uri, name):
        _version(client, name, version, "")
        _tell(say, aliases.repair(client, name))
        held = [a for a, number in aliases.aliases_of(client, name).items() if number == version]
        if held:
            raise GateError(
                f"version {version} of {name} is {' and '.join(held)} and stays; move the alias first"
            )
        client.delete_model_version(name, version)


def unlock(name: str, uri: str) -> bool:
    """Remove the lock that a dead promotion left on a tracking server; tells whether there was one."""
    with registry(uri) as client:
        return remove_lock(client, name)


def _judge(
    client: MlflowClient, uri: str, asked: Promotion, challenger: str, champion: str | None, say: Say
) -> Decision:
    bundles = {
        number: download(uri, asked.name, number) for number in (challenger, champion) if number is not None
    }
    source = asked.evaluation or challenger
    known = bundles.get(source) or download(uri, asked.name, _version(client, asked.name, source, ""))
    evaluation = EvaluationSet.load(_evaluation_of(known))
    jobs = {
        number: Job(
            bundle=str(bundle),
            evaluation=str(_evaluation_of(known)),
            own=_own(bundle),
            items=_path(asked.items or evaluation.described_by("items")),
            users=_path(asked.users or evaluation.described_by("users")),
        )
        for number, bundle in bundles.items()
    }
    say(f"measure version {' and '.join(jobs)} on {evaluation.queries.height} frozen queries")
    measured = {number: _measured(number, job) for number, job in jobs.items()}
    broken = [found for found in measured.values() if isinstance(found, Gate)]
    versions = {number: found for number, found in measured.items() if isinstance(found, Version)}
    gates = [*broken, _signature(uri, asked.name, challenger)]
    if not broken:
        rival = versions[champion] if champion else None
        gates += all_gates(evaluation, versions[challenger], rival, asked.limits)
    return Decision(
        model=asked.name,
        challenger=challenger,
        champion=champion,
        evaluation=source,
        gates=gates,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=asked.reason,
        forced=asked.force and challenger in versions,
        measured=challenger in versions,
        notes=[*_notes(versions), *_left_over(client, asked.name)],
    )


def _measured(number: str, job: Job) -> Version | Gate:
    """Measure a version in a process of its own; a gate that is shut where it cannot be."""
    title = f"integrity: version {number} in a clean process"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "job.json"
        file.write_text(json.dumps(asdict(job)), encoding="utf-8")
        # -P: a file in the working folder must not take the place of a module.
        command = [sys.executable, "-P", "-m", "modalrank.promotion.worker", str(file)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            return Gate(title, "no error", f"not done after {MOST_SECONDS} s", passed=False)
        if ended.returncode:
            told = folder / FAILED
            lines = [json.loads(told.read_text())["error"]] if told.exists() else ended.stderr.splitlines()
            message = lines[-1] if lines else f"exit code {ended.returncode}"
            return Gate(title, "no error", message, passed=False)
        facts: dict[str, Any] = json.loads((folder / MEASURED).read_text())
        pairs: dict[str, Any] = {name: tuple(facts.pop(name)) for name in ("repeated", "stressed")}
        measured = Measured(**pairs, **facts)
        return Version(number, measured, pl.DataFrame() if job.smoke else pl.read_parquet(folder / LISTS))


def _signature(uri: str, name: str, version: str) -> Gate:
    signature = signature_of(uri, name, version)
    inputs = ", ".join(signature.inputs.input_names()) if signature and signature.inputs else "none"
    return Gate("integrity: signature", "inputs and outputs are declared", inputs, passed=inputs != "none")


def _keep(client: MlflowClient, name: str, version: str, decision: Decision) -> str:
    """Write the decision into the run of the challenger and return where."""
    run = client.get_model_version(name, version).run_id
    folder = f"promotion/{decision.time[:19].replace(':', '')}-version-{version}"
    client.log_text(run, decision.as_json(), f"{folder}/decision.json")
    client.log_text(run, decision.as_page(), f"{folder}/decision.html")
    return f"runs:/{run}/{folder}/decision.json"


def _version(client: MlflowClient, name: str, version: str | None, alias: str) -> str:
    """Resolve to a version number that exists."""
    from mlflow.exceptions import MlflowException

    _require_model(client, name)
    try:
        if version is not None:
            return str(client.get_model_version(name, version).version)
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        what = f"version {version}" if version is not None else f"alias {alias!r}"
        raise DataError(f"{name} has no {what}", fix=f"modalrank registry show {name}") from error


def _require_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise DataError(f"no model {name!r} in the registry", fix="modalrank registry list") from error


def _evaluation_of(bundle: Path) -> Path:
    return bundle.with_name("evaluation")


def _own(bundle: Path) -> str | None:
    folder = _evaluation_of(bundle)
    return str(folder) if folder.is_dir() else None


def _notes(versions: dict[str, Version]) -> list[str]:
    return [
        f"{version.measured.unknown} interactions of the history are on items that version {number} does not "
        "know and no table describes: give --items"
        for number, version in versions.items()
        if version.measured.unknown
    ]


def _left_over(client: MlflowClient, name: str) -> list[str]:
    """Tell of a move that was cut off, which the next promote or rollback finishes or undoes."""
    entry = aliases.pending(client, name)
    if entry is None:
        return []
    return [
        f"A {entry.kind} of {name} to version {entry.after} was cut off at {entry.time}, or is going on; the "
        "next promote or rollback finishes or undoes it."
    ]


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    quote = '"' if "'" in name else "'"
    return _pages(lambda **page: client.search_model_versions(f"name = {quote}{name}{quote}", **page))


def _pages(search: Callable[..., Any]) -> list[Any]:
    """Return what all pages of a search of MLflow hold."""
    found, token = [], None
    while True:
        page = search(page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file.resolve())


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _tell(say: Say, repaired: str | None) -> None:
    if repaired is not None:
        say(repaired)
        show_note(repaired)
