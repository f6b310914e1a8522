"""PostgreSQL, MLflow with authentication and a bucket, served for the tests on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

PASSWORD = "a long password for tests"
POSTGRES_USER = "postgres"
READY_SECONDS = 240
REGION = "us-east-1"


def postgres_programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, of the newest PostgreSQL that is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return folders[-1] if folders else None


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server that listens on a socket in its own folder; yields the URL of a database."""
    # PostgreSQL refuses to run as root, and its own user cannot enter the folders of the tests.
    user = POSTGRES_USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="modalrank-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        if user:
            data.parent.chmod(0o755)
            shutil.chown(data, user)
        with _started(data, user) as url:
            yield url


@contextmanager
def _started(data: Path, user: str | None) -> Iterator[str]:
    programs = postgres_programs()
    assert programs is not None

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=data)

    run("initdb", "--auth=trust", f"--username={POSTGRES_USER}", "--encoding=UTF8", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off -c max_connections=60"
    run("pg_ctl", "start", "-w", "-l", str(data / "log"), "-o", options)
    try:
        yield f"postgresql+psycopg://{POSTGRES_USER}@/postgres?host={data}"
    finally:
        run("pg_ctl", "stop", "-m", "immediate")


@contextmanager
def mlflow_server(folder: Path, store: str, *, authenticated: bool = True) -> Iterator[str]:
    """Run an MLflow server on loopback; yields its address."""
    port = _free_port()
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {PASSWORD}\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for tests",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    # Clients write to the folder themselves: every request through the server pays for a password.
    command += ["--no-serve-artifacts", "--default-artifact-root", (folder / "artifacts").as_uri()]
    command += ["--app-name", "basic-auth"] if authenticated else []
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = (folder / "server.log").open("wb")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """Run a server that speaks S3's protocol on loopback; yields the variables that lead clients to it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "tests", "aws_secret_access_key": PASSWORD}
    address = f"http://{host}:{port}"
    try:
        boto3.client("s3", endpoint_url=address, region_name=REGION, **keys).create_bucket(Bucket=name)
        known = {key.upper(): value for key, value in keys.items()}
        yield {"MLFLOW_S3_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": REGION, **known}
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it asks for the password
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the MLflow server does not answer: {log.read_text()[-2000:]}")
