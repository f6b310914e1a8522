"""What the command line shows."""

from __future__ import annotations

import sys

from modalrank.console import command


def test_command_on_the_path_is_its_name(tmp_path, monkeypatch):
    program = tmp_path / "modalrank"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("modalrank") == "modalrank"


def test_command_off_the_path_is_its_place_in_the_environment(tmp_path, monkeypatch):
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "modalrank").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.chdir(tmp_path)
    assert command("modalrank") == ".venv/bin/modalrank"
    assert command("mlflow") == "mlflow"
