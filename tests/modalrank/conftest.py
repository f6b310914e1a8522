"""Each tiny world is written and trained once; tests that spoil tables get a copy of their own."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from modalrank.bundle import Bundle
from modalrank.cli import main
from modalrank.config import Config, load_config
from modalrank.dataset import load_dataset
from modalrank.plots import figures
from modalrank.store import URI_VARIABLE, open_store
from modalrank.tracking import Record, bundle_of, record
from modalrank.training import TrainResult, train
from tests.modalrank.worlds import World, make_judged, make_log

LOGGERS = ("features", "rankers", "ensembles", "tuning", "modalrank")


@dataclass(frozen=True)
class Registered:
    """A trained world in a store of its own."""

    uri: str
    config: Config
    record: Record
    bundle: Bundle

    @property
    def model(self) -> str:
        return f"models:/{self.record.model}@challenger"


@pytest.fixture(autouse=True)
def _unchanged_process():
    """Undo what a run leaves behind in its process: the store's variable and the levels of the loggers."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    store = os.environ.pop(URI_VARIABLE, None)
    yield
    os.environ.pop(URI_VARIABLE, None)
    if store is not None:
        os.environ[URI_VARIABLE] = store
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def log_world(tmp_path_factory) -> World:
    return make_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="session")
def judged_world(tmp_path_factory) -> World:
    return make_judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture
def own_log(log_world, tmp_path) -> World:
    return World(Path(shutil.copytree(log_world.folder, tmp_path / "log")))


@pytest.fixture
def own_judged(judged_world, tmp_path) -> World:
    return World(Path(shutil.copytree(judged_world.folder, tmp_path / "judged")))


@pytest.fixture(scope="session")
def log_result(log_world) -> TrainResult:
    return train(load_dataset(load_config(log_world.config)))


@pytest.fixture(scope="session")
def judged_result(judged_world) -> TrainResult:
    return train(load_dataset(load_config(judged_world.config)))


@pytest.fixture(scope="session")
def log_bundle(log_result) -> Bundle:
    return bundle_of(log_result.dataset.config, log_result)


@pytest.fixture(scope="session")
def judged_bundle(judged_result) -> Bundle:
    return bundle_of(judged_result.dataset.config, judged_result)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> str:
    """The tracking store of all tests that only need one."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def registered(log_result, log_bundle, store) -> Registered:
    return register(log_result, log_bundle, store)


@pytest.fixture(scope="session")
def registered_judged(judged_result, judged_bundle, store) -> Registered:
    return register(judged_result, judged_bundle, store)


def register(result: TrainResult, bundle: Bundle, uri: str) -> Registered:
    config = bundle.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, uri)
        recorded = record(open_store(config), config, result, figures(result))
    return Registered(uri, config, recorded, bundle)


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty working folder: exit code, stdout and stderr."""
    folder = tmp_path / "working_folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in words])
        shown = capsys.readouterr()
        return int(exit_.value.code or 0), shown.out, shown.err

    return run
