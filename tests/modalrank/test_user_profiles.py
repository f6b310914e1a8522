"""Users' own texts, devices and demographics as modalities, of users without a history too."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError
from modalrank.bundle import Bundle
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.scoring import Fresh, refreshed
from modalrank.tracking import bundle_of
from modalrank.training import train
from tests.modalrank.worlds import TITLE, WORDS, user_ids

WISH = {"table": "users", "columns": ["wish"], "encoder": "text", "space": TITLE}
DEVICE = {"table": "users", "columns": ["device"], "encoder": "category"}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A trained log of users with a wish in the words of the titles, and a device."""
    from tests.modalrank.worlds import make_log

    world = make_log(tmp_path_factory.mktemp("profiles"))
    users = world.table("users.parquet")
    wishes = [WORDS[n % 2 == 0][0] for n in range(len(users))]
    devices = ["phone" if n % 3 else "tv" for n in range(len(users))]
    world.rewrite("users.parquet", users.with_columns(wish=pl.Series(wishes), device=pl.Series(devices)))
    world.configure(modalities={"wish": WISH, "device": DEVICE})
    result = train(load_dataset(load_config(world.config)))
    return world, bundle_of(result.dataset.config, result)


def frame_of(bundle: Bundle, user: str, items: list[str]):
    queries = bundle.queries.codes([user] * len(items))
    codes = np.sort(bundle.items.codes(items))
    [candidates] = bundle.model.given(queries, codes)
    return bundle.model.frame(candidates), [str(bundle.items.ids[code]) for code in codes]


def test_wish_in_the_space_of_titles_matches_those_that_say_so(profiled):
    world, bundle = profiled
    titles = dict(world.table("items.parquet").select("item_id", "title").iter_rows())
    frame, items = frame_of(bundle, "u00", [i for i, title in titles.items() if title is not None])
    match = frame.features[:, frame.feature_names.index("wish.match")]
    says = np.array([WORDS[True][0] in titles[item].split() for item in items])
    other = np.array([set(WORDS[False]) >= set(titles[item].split()) for item in items])
    assert match[says].min() > match[other].max() + 0.3


def test_new_user_has_match_and_peers_from_the_profile_alone(profiled, tmp_path):
    world, bundle = profiled
    new = pl.DataFrame({"user_id": ["new"], "age": [30], "wish": [WORDS[False][0]], "device": ["tv"]})
    new.write_parquet(tmp_path / "users.parquet")
    folder = tmp_path / "bundle"
    folder.mkdir()
    bundle.save(folder)
    grown = refreshed(Bundle.load(folder), Fresh(users=tmp_path / "users.parquet"), ["new"], [])
    titles = dict(world.table("items.parquet").select("item_id", "title").iter_rows())
    frame, items = frame_of(grown, "new", [i for i, title in titles.items() if title is not None])
    match = frame.features[:, frame.feature_names.index("wish.match")]
    assert WORDS[False][0] in titles[items[int(np.nanargmax(match))]].split()
    peers = frame.features[:, frame.feature_names.index("device.peer_rate")]
    assert np.isfinite(peers).all() and len(np.unique(peers)) > 3


def test_profile_vectors_differ_by_device_only_in_its_block(profiled):
    _, bundle = profiled
    rates = []
    for user in (user_ids()[0], user_ids()[3], user_ids()[1]):
        frame, _ = frame_of(bundle, user, ["i01", "i02", "i03"])
        rates.append(frame.features[:, frame.feature_names.index("device.peer_rate")])
    np.testing.assert_array_equal(rates[0], rates[1])
    assert not np.array_equal(rates[0], rates[2])


@pytest.mark.parametrize(
    "change", [{"space": "nothing"}, {"space": "taste"}, {"table": "items", "columns": ["title"]}]
)
def test_space_that_is_no_item_modality_of_the_same_encoder_is_refused(own_log, change):
    own_log.configure(modalities={"wish": {**WISH, **change}})
    with pytest.raises(ConfigError, match="space must name an item modality of the same encoder"):
        load_config(own_log.config)
