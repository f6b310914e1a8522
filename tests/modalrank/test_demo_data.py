from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
import soundfile
from PIL import Image

from features.contract import check_tables
from features.encoders import make_encoder
from features.errors import UsageError
from features.splits import assign_split
from features.tables import Columns, read_entities, read_interactions
from modalrank.demo_data import FEWEST_ITEMS, MISSING_SHARE, NOISE_MODALITY, PLANTED_MODALITY, make_demo

MODALITY_COLUMNS = {
    "image": ("image",),
    "audio": ("audio",),
    "text": ("title", "description"),
    "tags": ("tags",),
    "noise": ("noise",),
    "facts": ("price", "year"),
}
POSITIVE_FROM = 4.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


@pytest.fixture(scope="module")
def items(demo):
    columns = [column for columns in MODALITY_COLUMNS.values() for column in columns]
    return read_entities(demo / "items.parquet", "item_id", columns)


@pytest.fixture(scope="module")
def interactions(demo):
    columns = Columns("user_id", "item_id", "rating", "timestamp")
    log = read_interactions({None: [demo / "interactions.parquet"]}, columns)
    return assign_split(log, "user_time", 0.1, 0.2)


@pytest.fixture(scope="module")
def matrices(items, interactions):
    """(n_users, n_items) bool: seen before the test, liked before the test, liked in the test."""
    columns = {item: number for number, item in enumerate(items["id"])}
    rows = {user: number for number, user in enumerate(interactions["query"].unique().sort())}
    seen, liked, held_out = np.zeros((3, len(rows), len(columns)), dtype=bool)
    for query, item, label, split in interactions.select("query", "item", "label", "split").rows():
        cell = rows[query], columns[item]
        seen[cell] |= split != "test"
        (held_out if split == "test" else liked)[cell] |= label >= POSITIVE_FROM
    return seen, liked, held_out


def image_vector(picture: np.ndarray) -> np.ndarray:
    """Mean colour and, from the structure tensor, the direction of the stripes, both of length 1."""
    colour = picture.mean(axis=(0, 1)) - picture.mean()
    down, right = np.gradient(picture.mean(axis=2))
    direction = np.array([(right**2 - down**2).mean(), 2 * (right * down).mean()])
    return np.concatenate([colour / np.linalg.norm(colour), direction / np.linalg.norm(direction)])


def sound_vector(samples: np.ndarray) -> np.ndarray:
    """Log energy in 30 bands from 100 Hz to 6 kHz."""
    energy = np.abs(np.fft.rfft(samples))[50:3000]
    edges = np.unique(np.geomspace(1, len(energy) - 1, 30).astype(int))
    return np.log(np.add.reduceat(energy, edges) + 1e-6)


def standardised(vectors: list[np.ndarray | None], width: int) -> np.ndarray:
    present = np.stack([vector for vector in vectors if vector is not None])
    mean, spread = present.mean(axis=0), present.std(axis=0) + 1e-9
    return np.stack([np.zeros(width) if v is None else (v - mean) / spread for v in vectors])


def bag_of_words(lists: pl.Series) -> np.ndarray:
    words = sorted(set(lists.explode().drop_nulls()))
    bags = [None if row is None else np.isin(words, list(row)).astype(float) for row in lists]
    return standardised(bags, len(words))


@pytest.fixture(scope="module")
def spaces(demo, items):
    """One (n_items, d) array a modality, zeros where it is missing."""
    pictures = [
        name and image_vector(np.asarray(Image.open(demo / name).convert("RGB"), float))
        for name in items["image"]
    ]
    sounds = [name and sound_vector(soundfile.read(demo / name)[0]) for name in items["audio"]]
    texts = items.select(
        pl.concat_str("title", "description", separator=" ").str.to_lowercase().str.split(" ")
    )
    return {
        "image": standardised(pictures, 5),
        "audio": standardised(sounds, max(len(sound) for sound in sounds if sound is not None)),
        "text": bag_of_words(texts.to_series()),
        "tags": bag_of_words(items["tags"]),
        "noise": np.array(items["noise"].to_list()),
    }


def mean_auc(scores: np.ndarray, seen: np.ndarray, held_out: np.ndarray) -> float:
    """Mean over users of P(score of a held-out positive > score of another unseen item), ties half."""
    values = []
    for user_scores, user_seen, positive in zip(scores, seen, held_out, strict=True):
        if positive.any():
            gaps = user_scores[positive][:, None] - user_scores[~positive & ~user_seen][None, :]
            values.append(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    return float(np.mean(values))


def similarity_auc(space: np.ndarray, matrices) -> float:
    seen, liked, held_out = matrices
    unit = space / np.maximum(np.linalg.norm(space, axis=1, keepdims=True), 1e-9)
    return mean_auc(liked @ unit @ unit.T, seen, held_out)


def test_planted_modality_predicts_held_out_positives_best(spaces, matrices):
    seen, liked, held_out = matrices
    auc = {name: similarity_auc(space, matrices) for name, space in spaces.items()}
    auc["popularity"] = mean_auc(np.tile(liked.sum(axis=0), (len(liked), 1)), seen, held_out)
    planted = auc.pop(PLANTED_MODALITY)
    assert planted > 0.75
    assert planted > max(auc.values()) + 0.1


def loudest_octave(file) -> float:
    """Log2 of the loudest frequency of a sound: the planted pitch."""
    samples, rate = soundfile.read(file)
    return float(np.log2(np.abs(np.fft.rfft(samples))[1:].argmax() * rate / len(samples)))


def redness(file) -> float:
    """Red minus blue of the mean colour of a picture: what the planted hue makes of it."""
    colour = image_vector(np.asarray(Image.open(file).convert("RGB"), float))
    return float(colour[0] - colour[2])


@pytest.mark.parametrize(("modality", "planted"), [("image", redness), ("audio", loudest_octave)])
def test_default_encoder_tells_what_is_planted_in_the_files(demo, items, modality, planted):
    names = items.select(modality).drop_nulls()[:90]
    vectors = make_encoder(modality, {"dim": 12}).fit(names, demo).encode(names, demo).vectors
    truth = np.array([planted(demo / name) for name in names.to_series()])
    known, told = np.column_stack([vectors, np.ones(len(vectors))]), np.arange(90) < 60
    weights, *_ = np.linalg.lstsq(known[told], truth[told], rcond=None)
    assert np.corrcoef(known[~told] @ weights, truth[~told])[0, 1] > 0.8


def test_noise_is_at_chance(spaces, matrices):
    assert abs(similarity_auc(spaces[NOISE_MODALITY], matrices) - 0.5) < 0.04


def test_behaviour_is_informative_but_weaker_than_the_planted_modality(spaces, matrices):
    seen, liked, held_out = matrices
    # EASE (Steck, 2019): a linear item-item model in closed form.
    precision = np.linalg.inv(liked.T.astype(float) @ liked + 50 * np.eye(liked.shape[1]))
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0)
    behaviour = mean_auc(liked @ weights, seen, held_out)
    assert 0.6 < behaviour < similarity_auc(spaces[PLANTED_MODALITY], matrices) - 0.03


def test_files_of_all_names_are_real_and_missing_shares_are_as_planned(demo, items):
    for name in ("image", "audio"):
        assert items[name].null_count() == round(MISSING_SHARE[name] * len(items))
    assert items["description"].null_count() == round(MISSING_SHARE["text"] * len(items))
    assert items["title"].is_null().equals(items["description"].is_null())
    assert items["tags"].null_count() == round(MISSING_SHARE["tags"] * len(items))
    assert items["noise"].null_count() == 0
    for name in items["image"].drop_nulls():
        with Image.open(demo / name) as picture:
            assert picture.size == (48, 48) and picture.mode == "RGB"
    for name in items["audio"].drop_nulls():
        samples, rate = soundfile.read(demo / name)
        assert rate == 16_000 and len(samples) == 8_000 and np.abs(samples).max() > 0.3
    written = {f"{p.parent.name}/{p.name}" for p in demo.glob("*/*")}
    assert written == set(items["image"].drop_nulls()) | set(items["audio"].drop_nulls())


def test_missing_modalities_are_somewhat_rarer_for_popular_items(items, matrices):
    popularity = matrices[1].sum(axis=0)
    without = np.array([items[name].is_null().to_numpy() for name in ("image", "audio", "title")]).sum(axis=0)
    assert -0.6 < np.corrcoef(popularity, without)[0, 1] < -0.02


def test_demo_passes_the_contract(demo, items, interactions):
    users = read_entities(demo / "users.parquet", "user_id", ["age", "country"])
    modalities = {name: ("items", columns) for name, columns in MODALITY_COLUMNS.items()}
    modalities["profile"] = ("users", ("age", "country"))
    checks = check_tables(interactions, items, users, modalities, form="log", positive_from=POSITIVE_FROM)
    assert [check.line() for check in checks if not check.passed] == []


def test_users_have_enough_interactions_of_all_ratings(interactions, matrices):
    sizes = interactions.group_by("query").len()["len"]
    assert sizes.min() >= 12 and sizes.max() <= 15 and len(sizes) == 400
    assert sorted(interactions["label"].unique()) == [1, 2, 3, 4, 5]
    assert 0.5 < (interactions["label"] >= POSITIVE_FROM).mean() < 0.8
    assert (matrices[2].sum(axis=1) >= 1).mean() > 0.65


def test_new_items_are_cold_at_test(matrices):
    seen, _, held_out = matrices
    cold = ~seen.any(axis=0)
    assert 0.01 < cold.mean() < 0.2
    assert 0.1 < held_out[:, cold].sum() / held_out.sum() < 0.5


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


def test_same_seed_gives_the_same_files_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_demo(tmp_path / name, seed, n_users=20, n_items=60)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_smallest_demo_gives_each_pair_once_and_a_smaller_one_is_refused(tmp_path):
    make_demo(tmp_path, n_users=30, n_items=FEWEST_ITEMS)
    log = pl.read_parquet(tmp_path / "interactions.parquet")
    assert not log.select("user_id", "item_id").is_duplicated().any()
    with pytest.raises(UsageError, match="items"):
        make_demo(tmp_path, n_items=FEWEST_ITEMS - 1)


def test_item_ids_tell_nothing_of_popularity_or_release(matrices):
    seen = matrices[0]
    places = np.arange(seen.shape[1])
    assert abs(np.corrcoef(places, seen.sum(axis=0))[0, 1]) < 0.2
