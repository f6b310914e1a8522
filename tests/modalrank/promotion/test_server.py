"""The same on a tracking server with authentication over PostgreSQL, and on PostgreSQL itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import mlflow
import pytest

from modalrank.promotion.aliases import CHAMPION, PENDING, PREVIOUS, aliases_of, history, move
from modalrank.promotion.lock import promotion_lock, remove_lock
from modalrank.store import URI_VARIABLE
from tests.modalrank.promotion.conftest import MODEL, whole_round
from tests.modalrank.promotion.servers import PASSWORD, mlflow_server, postgres, postgres_programs
from tests.modalrank.promotion.test_aliases import PROMOTERS, run

pytestmark = pytest.mark.skipif(
    postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql"
)
FEW = 4


@dataclass(frozen=True)
class Servers:
    """Where the database and the tracking server over it are."""

    database: str
    tracking: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    with postgres() as database, mlflow_server(folder, database) as server:
        yield Servers(database, server)


@pytest.fixture(autouse=True)
def known_user(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def shelf(uri: str, name: str, versions: int) -> mlflow.MlflowClient:
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model(name)
    for _ in range(versions):
        client.create_model_version(name, "s3://nowhere/model")
    move(client, name, "promote", None, "1", "", "")
    return client


@pytest.mark.parametrize(("where", "promoters"), [("database", PROMOTERS), ("tracking", FEW)])
def test_of_many_promoters_at_once_one_wins(servers, where, promoters):
    uri, name = getattr(servers, where), f"{MODEL}-{where}"
    client = shelf(uri, name, promoters + 1)
    codes = run(*((uri, "1", str(number + 2), "", name) for number in range(promoters)))
    assert Counter(codes) == {0: 1, 5: promoters - 1}
    known = aliases_of(client, name)
    assert (int(known[CHAMPION]), known[PREVIOUS]) == (codes.index(0) + 2, "1")
    assert len(history(client, name)) == 2
    assert PENDING not in client.get_registered_model(name).tags


def test_a_lock_that_outlives_its_holder_is_told_and_removed(servers, cli, monkeypatch):
    name = "locked"
    client = shelf(servers.tracking, name, 2)
    client.create_registered_model(f"{name}.lock", {"owner": "process 1 on a machine that died"})
    with (
        pytest.raises(Exception, match=r"a machine that died \(if that has died: modalrank registry unlock"),
        promotion_lock(client, servers.tracking, name, wait=0),
    ):
        pass
    monkeypatch.setenv(URI_VARIABLE, servers.tracking)
    assert cli("registry", "unlock", name)[0] == 0
    with promotion_lock(client, servers.tracking, name, wait=0):
        pass
    assert "locked.lock" not in cli("registry", "list")[1]


def test_a_lock_that_was_removed_under_its_holder_ends_quietly(servers):
    client = mlflow.MlflowClient(servers.tracking, servers.tracking)
    with promotion_lock(client, servers.tracking, "removed", wait=0):
        assert remove_lock(client, "removed")
    assert not remove_lock(client, "removed")


class Overtaken(mlflow.MlflowClient):
    """Meets a lock that its holder lets go of while the server looks it up."""

    met = False

    def create_registered_model(self, *args, **kwargs):
        if not self.met:
            self.met = True
            return self.get_registered_model("let go of")
        return super().create_registered_model(*args, **kwargs)


def test_a_lock_that_is_let_go_of_while_it_is_looked_up_is_waited_for(servers):
    client = Overtaken(servers.tracking, servers.tracking)
    with promotion_lock(client, servers.tracking, "overtaken", wait=5):
        assert client.met and client.get_registered_model("overtaken.lock")


def test_train_promote_score_and_roll_back_on_a_server(servers, log_result, cli, tmp_path):
    whole_round(log_result, cli, servers.tracking, log_result.dataset.config, tmp_path)


def test_nobody_without_the_password_is_let_in(servers, cli, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    monkeypatch.setenv(URI_VARIABLE, servers.tracking)
    code, _, told = cli("registry", "list")
    assert code == 5 and "does not answer" in told
