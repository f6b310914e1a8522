"""What must hold of the repository as a whole."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("features", "rankers", "ensembles", "tuning", "modalrank")


@pytest.mark.parametrize("package", PACKAGES)
def test_package_resolves_inside_the_repository(package):
    # Another distribution may ship a top-level package of the same name.
    assert Path(str(importlib.import_module(package).__file__)).is_relative_to(ROOT)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-peers.txt"])
def test_pins_have_versions_and_hashes_and_no_host(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"^[a-z0-9._-]+==\S+", entry) and "--hash=sha256:" in entry, entry[:80]


def test_runtime_pins_are_part_of_the_development_pins():
    runtime, development = (
        set(re.findall(r"^[a-z0-9._-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-dev.txt")
    )
    assert runtime < development
    assert not any(pin.startswith(("torch==", "nvidia-nccl")) for pin in development)


def test_no_source_file_reads_or_writes_pickle():
    words = re.compile(r"\b(pickle|cloudpickle|joblib)\.(load|loads|dump|dumps)\b|allow_pickle=True")
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 50
    assert [path.name for path in sources if words.search(path.read_text())] == []


def test_no_source_file_is_longer_than_400_lines():
    sources = [
        path for folder in (*PACKAGES, "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 400] == []
