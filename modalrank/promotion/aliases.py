"""Moves the champion in steps, of which none leaves a model without one, and keeps the ledger."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from features.errors import TryAgainError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
LEDGER, PENDING = "promotion.", "promotion.pending"
# Tests name a step here, after which the process kills itself.
FAULT_VARIABLE = "MODALRANK_FAULT"
STEPS = ("intent", "previous", "champion", "ledger", "done")
MOST_REASON = 2000


@dataclass(frozen=True)
class Entry:
    """A line of the ledger: what moved, when and why.

    Attributes
    ----------
    kind
        `promote` or `rollback`.
    before, after
        Version of the champion before (None for the first one) and after.
    previous_before
        Version of `previous` before the move.
    decision
        Run artifact that holds the gates, or an empty text.
    """

    number: int
    kind: Literal["promote", "rollback"]
    before: str | None
    after: str
    previous_before: str | None
    time: str
    reason: str
    decision: str


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Return alias to version of a registered model."""
    return {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}


def history(client: MlflowClient, name: str) -> list[Entry]:
    """Return the ledger, oldest first."""
    tags = client.get_registered_model(name).tags
    numbers = sorted(key for key in tags if key.startswith(LEDGER) and key != PENDING)
    return [Entry(**json.loads(tags[key])) for key in numbers]


def move(
    client: MlflowClient,
    name: str,
    kind: Literal["promote", "rollback"],
    expected: str | None,
    after: str,
    reason: str,
    decision: str,
) -> Entry:
    """Make a version the champion, and the champion `previous`; the caller holds the lock.

    The intent is written first, so that whoever comes after a crash can finish or undo it (`repair`).

    Raises
    ------
    TryAgainError
        If the champion is not the version that was compared with.
    """
    known = aliases_of(client, name)
    if known.get(CHAMPION) != expected:
        raise TryAgainError(
            f"the champion of {name} is version {known.get(CHAMPION)} and was {expected} when the gates were "
            "measured; run the command again"
        )
    entry = Entry(
        number=len(history(client, name)) + 1,
        kind=kind,
        before=expected,
        after=after,
        previous_before=known.get(PREVIOUS),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason[:MOST_REASON],
        decision=decision,
    )
    client.set_registered_model_tag(name, PENDING, json.dumps(asdict(entry)))
    _fault("intent")
    _finish(client, name, entry)
    return entry


def repair(client: MlflowClient, name: str) -> str | None:
    """Finish a move that was cut off after the champion had moved, or undo it; the caller holds the lock.

    Returns what was done, or None where nothing was left over.
    """
    pending = client.get_registered_model(name).tags.get(PENDING)
    if pending is None:
        return None
    entry = Entry(**json.loads(pending))
    known = aliases_of(client, name)
    if known.get(CHAMPION) == entry.after:
        _finish(client, name, entry)
        return f"finished a {entry.kind} to version {entry.after} that was cut off"
    _point(client, name, PREVIOUS, entry.previous_before, known)
    client.delete_registered_model_tag(name, PENDING)
    return f"undid a {entry.kind} to version {entry.after} that was cut off before the champion moved"


def _finish(client: MlflowClient, name: str, entry: Entry) -> None:
    """Take every step after the intent; each may have been taken before."""
    if entry.before is not None:
        client.set_registered_model_alias(name, PREVIOUS, entry.before)
    _fault("previous")
    client.set_registered_model_alias(name, CHAMPION, entry.after)
    _fault("champion")
    client.set_registered_model_tag(name, f"{LEDGER}{entry.number:06d}", json.dumps(asdict(entry)))
    _fault("ledger")
    client.delete_registered_model_tag(name, PENDING)
    _fault("done")
    found = aliases_of(client, name)
    if found.get(CHAMPION) != entry.after:
        raise TryAgainError(
            f"the champion of {name} reads back as version {found.get(CHAMPION)}, expected {entry.after}: "
            "something else moves the aliases of this model"
        )


def _point(
    client: MlflowClient, name: str, alias: str, version: str | None, known: Mapping[str, Any]
) -> None:
    if version is not None:
        client.set_registered_model_alias(name, alias, version)
    elif alias in known:
        client.delete_registered_model_alias(name, alias)


def _fault(step: str) -> None:
    if os.environ.get(FAULT_VARIABLE) == step:
        os.kill(os.getpid(), signal.SIGKILL)
