"""Writes a small real data set whose answer is planted: which modality decides what users like."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import UsageError

PLANTED_MODALITY = "image"
NOISE_MODALITY = "noise"

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SOUND_RATE = 16_000
SOUND_SECONDS = 0.5
NEW_SHARE = 0.6
NEW_FROM = (0.1, 0.9)
MISSING_SHARE = {"image": 0.08, "audio": 0.5, "text": 0.2, "tags": 0.1}
STRENGTH = {"image": 4.0, "audio": 1.2, "text": 1.2, "tags": 1.2, "popularity": 0.5}
CHOICE_SHARPNESS = 1.0
TASTE_NARROWNESS = 3.0
TOPIC_WORDS = (
    ("harbour", "island", "sailor", "tide", "lighthouse", "anchor", "coast", "storm"),
    ("engine", "racer", "circuit", "wheel", "garage", "speed", "pilot", "track"),
    ("castle", "knight", "dragon", "crown", "sword", "legend", "forest", "wizard"),
    ("kitchen", "recipe", "baker", "spice", "orchard", "bread", "feast", "chef"),
    ("planet", "orbit", "signal", "colony", "comet", "robot", "star", "shuttle"),
    ("detective", "clue", "alibi", "witness", "shadow", "letter", "vault", "trial"),
)
FILLER_WORDS = ("a", "the", "of", "new", "old", "story", "about", "with", "and", "day", "night", "friend")
TAGS = ("slow", "loud", "funny", "dark", "short", "classic", "family", "strange")
COUNTRIES = ("BR", "DE", "IN", "JP", "KE", "US")
START = datetime(2023, 1, 1)
DAYS = 365
INTERACTIONS_EACH = (12, 15)
FEWEST_ITEMS = 2 * INTERACTIONS_EACH[1]  # so that nobody ever runs out of items that exist


@dataclass(frozen=True)
class Truth:
    """The planted latents: what items are and how much each user likes each of them.

    Attributes
    ----------
    hue, stripes
        (n_items,) angles in [0, 2 pi) of the colour and (twice) of the stripes of an item's image.
    pitch, timbre
        (n_items,) in [-1, 1] of an item's sound.
    topic
        (n_items,) code of the topic of an item's text.
    tags
        (n_items, n_tags) bool.
    appeal
        (n_items,) how popular an item is in itself, standard normal.
    released
        (n_items,) share of the period after which the item exists.
    affinity
        (n_users, n_items) how much a user likes an item, appeal left out.
    """

    hue: Array
    stripes: Array
    pitch: Array
    timbre: Array
    topic: IntArray
    tags: NDArray[np.bool_]
    appeal: Array
    released: Array
    affinity: Array


def make_demo(folder: Path, seed: int = 0, n_users: int = 400, n_items: int = 700) -> None:
    """Write `items`, `users` and `interactions` as Parquet, and the items' images and sounds, into `folder`.

    What a user likes is decided by the style of the image most of all, less by sound, text topic, tags and
    popularity, and not at all by the `noise` vector, the price or the year. Some images, sounds, texts and
    tags are missing, a little more often for unpopular items. Most of the items come out over time, so that
    validation and test hold items that nobody met before. The same seed gives the same files.

    Raises
    ------
    UsageError
        If there are fewer than `FEWEST_ITEMS` items or no user.
    """
    if n_users < 1 or n_items < FEWEST_ITEMS:
        raise UsageError(f"got {n_users} users and {n_items} items, expected at least 1 and {FEWEST_ITEMS}")
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    truth = _draw_truth(rng, n_users, n_items)
    item_ids = np.array([f"i{number:04d}" for number in rng.permutation(n_items)])
    user_ids = np.array([f"u{number:04d}" for number in rng.permutation(n_users)])
    missing = {name: _draw_missing(rng, truth.appeal, share) for name, share in MISSING_SHARE.items()}
    _write_images(rng, folder, item_ids, truth, missing["image"])
    _write_sounds(rng, folder, item_ids, truth, missing["audio"])
    _items_table(rng, item_ids, truth, missing).sort("item_id").write_parquet(folder / "items.parquet")
    _users_table(rng, user_ids).sort("user_id").write_parquet(folder / "users.parquet")
    interactions = _interactions_table(rng, user_ids, item_ids, truth)
    interactions.sort("timestamp", "user_id", "item_id").write_parquet(folder / "interactions.parquet")


def _draw_truth(rng: np.random.Generator, n_users: int, n_items: int) -> Truth:
    hue, stripes = rng.uniform(0, 2 * np.pi, (2, n_items))
    pitch, timbre = rng.uniform(-1, 1, (2, n_items))
    topic = rng.integers(len(TOPIC_WORDS), size=n_items)
    n_tags = rng.integers(1, 4, size=(n_items, 1))
    tags = rng.random((n_items, len(TAGS))).argsort(axis=1) < n_tags
    released = np.zeros(n_items)
    late_comers = rng.permutation(n_items)[: int(NEW_SHARE * n_items)]
    released[late_comers] = rng.uniform(*NEW_FROM, len(late_comers))
    likes_hue, likes_stripes = rng.uniform(0, 2 * np.pi, (2, n_users, 1))
    effects = {
        "image": np.exp(TASTE_NARROWNESS * (np.cos(hue - likes_hue) + np.cos(stripes - likes_stripes) - 2)),
        "audio": rng.normal(size=(n_users, 2)) @ np.stack([pitch, timbre]),
        "text": rng.normal(size=(n_users, len(TOPIC_WORDS)))[:, topic],
        "tags": rng.normal(size=(n_users, len(TAGS))) @ tags.T,
    }
    affinity = sum(
        (STRENGTH[name] * (effect - effect.mean()) / effect.std() for name, effect in effects.items()),
        np.zeros((n_users, n_items)),
    )
    appeal = rng.normal(size=n_items)
    return Truth(hue, stripes, pitch, timbre, topic, tags, appeal, released, affinity)


def _draw_missing(rng: np.random.Generator, appeal: Array, share: float) -> NDArray[np.bool_]:
    """Return the (n_items,) mask of exactly `share` of the items, unpopular ones somewhat more often."""
    ease = 0.5 * appeal + rng.normal(size=len(appeal))
    return np.argsort(np.argsort(ease)) < round(share * len(appeal))


def _interactions_table(
    rng: np.random.Generator, user_ids: NDArray[np.str_], item_ids: NDArray[np.str_], truth: Truth
) -> pl.DataFrame:
    counts = rng.integers(*INTERACTIONS_EACH, size=(len(user_ids), 1), endpoint=True)
    slots = np.arange(counts.max())
    drawn = rng.uniform(0, 1, (len(user_ids), len(slots)))
    times = np.sort(np.where(slots < counts, drawn, np.inf), axis=1)
    chosen = _choose_items(rng, truth, times)
    users, columns = np.nonzero(np.isfinite(times))
    items = chosen[users, columns]
    liking = truth.affinity + STRENGTH["popularity"] * truth.appeal
    liked = liking[users, items] + 0.7 * rng.normal(size=len(users))
    liked = (liked - liked.mean()) / liked.std()
    since_start = (times[users, columns] * DAYS * 86_400).astype(np.int64) * 1_000_000
    return pl.DataFrame(
        {
            "user_id": user_ids[users],
            "item_id": item_ids[items],
            "rating": np.clip(np.floor(4.5 + 1.1 * liked), 1, 5).astype(np.float32),
            "timestamp": pl.Series(since_start, dtype=pl.Duration("us")) + START,
        }
    )


def _choose_items(rng: np.random.Generator, truth: Truth, times: Array) -> IntArray:
    """Return (n_users, n_slots) items, each once for a user, drawn by softmax of taste and popularity."""
    pull = CHOICE_SHARPNESS * truth.affinity + STRENGTH["popularity"] * truth.appeal
    chosen = np.zeros(times.shape, dtype=np.int64)
    rows = np.arange(len(times))
    for slot in range(times.shape[1]):
        existing = truth.released < times[:, slot, None]
        # The maximum of Gumbel-perturbed values is a draw from their softmax (Gumbel, 1954).
        chosen[:, slot] = np.argmax(np.where(existing, pull + rng.gumbel(size=pull.shape), -np.inf), axis=1)
        pull[rows, chosen[:, slot]] = -np.inf
    return chosen


def _items_table(
    rng: np.random.Generator, ids: NDArray[np.str_], truth: Truth, missing: dict[str, NDArray[np.bool_]]
) -> pl.DataFrame:
    n_items = len(ids)
    tags = [[tag for tag, has in zip(TAGS, row, strict=True) if has] for row in truth.tags]
    return pl.DataFrame(
        {
            "item_id": ids,
            "title": _unless(missing["text"], [_words(rng, topic, 3).title() for topic in truth.topic]),
            "description": _unless(missing["text"], [_words(rng, topic, 20) for topic in truth.topic]),
            "tags": _unless(missing["tags"], tags),
            "price": rng.lognormal(2.5, 0.6, n_items).round(2),
            "year": rng.integers(1980, 2024, n_items),
            "image": _unless(missing["image"], [_image_name(name) for name in ids]),
            "audio": _unless(missing["audio"], [_sound_name(name) for name in ids]),
            "noise": pl.Series(rng.normal(size=(n_items, 16)).tolist(), dtype=pl.List(pl.Float32)),
        }
    )


def _users_table(rng: np.random.Generator, ids: NDArray[np.str_]) -> pl.DataFrame:
    ages, countries = rng.integers(16, 80, len(ids)), rng.choice(COUNTRIES, len(ids))
    return pl.DataFrame({"user_id": ids, "age": ages, "country": countries})


def _unless(missing: NDArray[np.bool_], values: Sequence[object]) -> list[object]:
    return [None if gone else value for gone, value in zip(missing, values, strict=True)]


def _words(rng: np.random.Generator, topic: int, n_words: int) -> str:
    from_topic = rng.random(n_words) < 0.5
    own, filler = rng.choice(TOPIC_WORDS[topic], n_words), rng.choice(FILLER_WORDS, n_words)
    return " ".join(np.where(from_topic, own, filler).tolist())


def _image_name(item_id: str) -> str:
    return f"images/{item_id}.png"


def _sound_name(item_id: str) -> str:
    return f"sounds/{item_id}.wav"


def _write_images(
    rng: np.random.Generator,
    folder: Path,
    ids: NDArray[np.str_],
    truth: Truth,
    missing: NDArray[np.bool_],
    side: int = 48,
) -> None:
    """Write square pictures: the hue is the colour, and half the stripes' angle the direction."""
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    y, x = np.mgrid[0:side, 0:side] / side
    for item in np.flatnonzero(~missing):
        direction = truth.stripes[item] / 2
        across = x * np.cos(direction) + y * np.sin(direction)
        wave_form = 0.5 + 0.5 * np.sin(2 * np.pi * (6 * across + rng.random()))
        light = 0.35 + 0.55 * wave_form + rng.normal(0, 0.03, (side, side)) + rng.normal(0, 0.05)
        channels = np.cos(truth.hue[item] - np.array([0, 2, 4]) * np.pi / 3) * 0.4 + 0.6
        pixels = np.clip(255 * light[:, :, None] * channels, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / _image_name(ids[item]))


def _write_sounds(
    rng: np.random.Generator, folder: Path, ids: NDArray[np.str_], truth: Truth, missing: NDArray[np.bool_]
) -> None:
    """Write tones: the pitch sets the base frequency (octave up or down of 440 Hz), timbre the overtones."""
    (folder / "sounds").mkdir(exist_ok=True)
    seconds = np.arange(int(SOUND_RATE * SOUND_SECONDS)) / SOUND_RATE
    overtones = np.arange(1, 7)
    for item in np.flatnonzero(~missing):
        frequency = 440 * 2 ** truth.pitch[item]
        loudness = np.exp(-(1.2 - truth.timbre[item]) * (overtones - 1))
        phases = 2 * np.pi * (frequency * np.outer(overtones, seconds) + rng.random((len(overtones), 1)))
        sound = loudness @ np.sin(phases) + rng.normal(0, 0.02, len(seconds))
        samples = np.clip(20_000 * sound / np.abs(sound).max(), -32_768, 32_767).astype("<i2")
        with wave.open(str(folder / _sound_name(ids[item])), "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(SOUND_RATE)
            target.writeframes(samples.tobytes())
