from __future__ import annotations

import json

import polars as pl
import pytest
from PIL import Image

from features.language.words import picture_in_words
from modalrank.config import load_config
from tests.features.language.server import Fault, judged, serve
from tests.modalrank.worlds import user_ids


def likes_the_sea(body):
    described = body["messages"][0]["content"].partition('"item"')[2]
    return judged({"yes": 0.8, "no": 0.2} if "sailor" in described else {"no": 0.7, "yes": 0.3})


@pytest.fixture
def server():
    with serve(likes_the_sea) as served:
        yield served


@pytest.fixture
def scored(own_log, server, tmp_path):
    """A log whose config names a judge, and a score file of two users with three candidates each."""
    judge = {"model": "tiny", "endpoint": server.url, "item_columns": ["title"], "user_columns": ["age"]}
    judge |= {"top": 2, "liked": 3, "retries": 0}
    own_log.configure(judge=judge, media={"cache": str(tmp_path / "cache")})
    items = ["i01", "i02", "i03"] * 2
    scores = tmp_path / "scores.parquet"
    columns = {"item": items, "score": [3.0, 2.0, 1.0] * 2, "rank": [1, 2, 3] * 2}
    pl.DataFrame({"query": [u for u in user_ids()[:2] for _ in range(3)], **columns}).write_parquet(scores)
    return own_log, scores


def test_judge_asks_about_the_best_and_writes_their_relevance(scored, server, cli, tmp_path):
    world, scores = scored
    code, out, err = cli("judge", world.config, "--scores", scores, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(out)["asked"] == 4
    judged_rows = pl.read_parquet(tmp_path / "out" / "judged.parquet")
    assert judged_rows["rank"].to_list() == [1, 2, 1, 2]
    titles = dict(world.table("items.parquet").select("item_id", "title").iter_rows())
    expected = [0.8 if "sailor" in titles[item] else 0.3 for item in judged_rows["item"]]
    assert judged_rows["relevance"].to_list() == pytest.approx(expected)
    profile = server.calls[0]["messages"][0]["content"]
    person = json.loads(profile[profile.index("{") : profile.rindex("}") + 1])["person"]
    assert set(person) == {"age", "liked, the last one first"}
    log = world.table("interactions.parquet").filter(pl.col("user_id") == "u00", pl.col("rating") >= 4)
    newest = log.sort("time", descending=True)["item_id"].head(3).to_list()
    assert person["liked, the last one first"] == [titles[i] for i in newest if titles[i] is not None]


def test_judge_again_costs_nothing_and_a_spent_budget_goes_on(scored, server, cli, tmp_path):
    world, scores = scored
    given = ["judge", world.config, "--scores", scores, "--out", tmp_path / "out", "--json"]
    code, out, _ = cli(*given, "--set", "judge.calls=3")
    first = json.loads(out)
    assert (code, first["asked"], first["unjudged"]) == (0, 3, 1)
    assert "3 calls" in first["spent"]
    second = json.loads(cli(*given)[1])
    assert (second["asked"], second["known"], second["unjudged"]) == (1, 3, 0)
    assert json.loads(cli(*given)[1])["asked"] == 0
    assert len(server.calls) == 4


def test_judge_endpoint_that_fails_ends_with_5_and_leaves_the_old_file(scored, server, cli, tmp_path):
    world, scores = scored
    old = tmp_path / "out" / "judged.parquet"
    old.parent.mkdir()
    old.write_bytes(b"old")
    server.faults[:] = [Fault(), Fault(500, b"")]
    code, _, err = cli("judge", world.config, "--scores", scores, "--out", tmp_path / "out")
    assert code == 5
    assert "does not answer properly" in err
    assert old.read_bytes() == b"old"
    assert [path.name for path in old.parent.iterdir()] == ["judged.parquet"]
    assert (
        json.loads(cli("judge", world.config, "--scores", scores, "--out", old.parent, "--json")[1])["known"]
        == 1
    )


def test_judge_without_a_section_says_so(own_log, cli, tmp_path):
    pl.DataFrame({"query": ["u00"], "item": ["i01"], "score": [1.0], "rank": [1]}).write_csv(
        tmp_path / "s.csv"
    )
    code, _, err = cli("judge", own_log.config, "--scores", tmp_path / "s.csv", "--out", tmp_path / "out")
    assert code == 3
    assert "no section judge" in err
    assert load_config(own_log.config).judge is None


def test_judge_tells_pictures_in_words_and_passes_over_broken_ones(scored, server, cli, tmp_path):
    world, scores = scored
    Image.new("RGB", (20, 20), (10, 20, 250)).save(world.folder / "blue.png")
    (world.folder / "broken.png").write_bytes(b"no image")
    items = world.table("items.parquet")
    photos = ["blue.png" if n == 1 else "broken.png" for n in range(len(items))]
    world.rewrite("items.parquet", items.with_columns(pl.Series("photo", photos)))
    given = ["--set", "judge.picture=photo", "--set", "judge.top=2"]
    code, _, err = cli("judge", world.config, "--scores", scores, "--out", tmp_path / "out", *given)
    assert code == 0, err
    first, second = (call["messages"][0]["content"] for call in server.calls[:2])
    assert "mostly blue" in first
    assert "in words" not in second


@pytest.mark.parametrize(
    ("colour", "words"),
    [
        ((250, 10, 10), "of medium light, colourful, mostly red"),
        ((245, 245, 245), "bright, black and white"),
        ((5, 5, 5), "dark, black and white"),
        ((20, 200, 40), "of medium light, colourful, mostly green"),
    ],
)
def test_picture_in_words_tells_light_and_colour(tmp_path, colour, words):
    Image.new("RGB", (30, 20), colour).save(tmp_path / "a.png")
    got = picture_in_words(tmp_path, "a.png")
    assert got.split(", ")[1:] == words.split(", ")[1:]
    assert ("dark" in got, "black and white" in got) == ("dark" in words, "black and white" in words)
