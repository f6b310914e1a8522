"""The one family of errors that modalrank raises for a user's mistake."""

from __future__ import annotations

from typing import ClassVar


class ModalrankError(Exception):
    """Root of the family; `exit_code` is what the command line returns for it."""

    exit_code: ClassVar[int] = 1


class UsageError(ModalrankError):
    """The command line was used wrongly."""

    exit_code = 2


class DataError(ModalrankError):
    """A table, a file or a config breaks the contract: says where, what and how to mend it.

    Parameters
    ----------
    problem
        What was got and what was expected, in one sentence without a full stop.
    fix
        What the reader can do about it.
    file, column, row
        Where it is; `row` counts data rows from 1 in the order of the file.
    """

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        fix: str,
        file: str | None = None,
        column: str | None = None,
        row: int | None = None,
    ) -> None:
        self.problem, self.fix = problem, fix
        self.file, self.column, self.row = file, column, row
        place = [file] if file else []
        if column is not None:
            place.append(f"column {column!r}")
        if row is not None:
            place.append(f"row {row}")
        where = ", ".join(place)
        super().__init__(f"{where + ': ' if where else ''}{problem}; fix: {fix}")


class ConfigError(DataError):
    """A config key is unknown or its value is out of range."""


class GateError(ModalrankError):
    """A quality gate refused the step."""

    exit_code = 4


class TryAgainError(ModalrankError):
    """Something outside is busy or away for now; the same command may succeed later."""

    exit_code = 5
