"""MLflow's own pages show the runs and the decision of a promotion, in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.modalrank.promotion.conftest import NAME
from tests.modalrank.promotion.servers import mlflow_server

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


def page(address: str, profile: Path) -> str:
    """Return what a browser shows once the page has fetched what it wants to show."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_mlflow_shows_the_run_and_the_page_of_the_promotion(versions, cli, tmp_path):
    code, _, _ = cli("promote", NAME, "--version", 2, "--reason", "a start")
    assert code == 0
    version = versions.get_model_version(NAME, "2")
    run = versions.get_run(version.run_id)
    # Other tests may have asked about this version before.
    *_, folder = sorted(file.path for file in versions.list_artifacts(version.run_id, "promotion"))
    server = tmp_path / "server"
    server.mkdir()
    with mlflow_server(server, versions.tracking_uri, authenticated=False) as address:
        runs = page(f"{address}/#/experiments/{run.info.experiment_id}/runs", tmp_path / "profile")
        assert run.info.run_name in runs
        artifacts = f"/#/experiments/{run.info.experiment_id}/runs/{version.run_id}/artifacts"
        assert "promotion" in page(address + artifacts, tmp_path / "profile")
        models = page(f"{address}/#/models/{NAME}/versions/2", tmp_path / "profile")
        assert NAME in models and "champion" in models
    # The server hands the file out as a download, which a page without a user does not wait for.
    (tmp_path / "kept").mkdir()
    kept = versions.download_artifacts(version.run_id, f"{folder}/decision.html", str(tmp_path / "kept"))
    shown = page(Path(kept).as_uri(), tmp_path / "profile")
    assert f"Promotion of {NAME} version 2" in shown and "passes every gate" in shown
