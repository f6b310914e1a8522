from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from features.encoders import Source, VectorCache, make_encoder
from features.encoders.describe import CHUNK, Describer

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
KEYS = ["a", "b", "c", "d"]


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    cache = VectorCache(tmp_path / "cache")
    cache.write("one", KEYS[:2], ROWS[:2])
    cache.write("one", KEYS[2:], ROWS[2:])
    return cache


def counting(calls: list[str], width: int = 2) -> Describer[str]:
    def load(text: str) -> str:
        calls.append(text)
        return text

    def describe(texts: list[str]) -> np.ndarray:
        return np.array([[len(text)] * width for text in texts], dtype=np.float32)

    return Describer("text", width, load, describe=describe, files=False)


def test_read_gives_what_was_written_and_nothing_else(cache: VectorCache) -> None:
    found = cache.read("one", ["d", "b", "x"])
    assert set(found) == {"b", "d"}
    np.testing.assert_array_equal(found["d"], ROWS[3])
    assert cache.read("two", KEYS) == {}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_read_after_write_is_bit_for_bit(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    rows = data.draw(arrays.arrays(np.float32, shape))
    cache = VectorCache(tmp_path / "law")
    keys = [f"{np.random.default_rng().integers(1 << 60)}{i}" for i in range(len(rows))]
    cache.write("d", keys, rows)
    found = cache.read("d", keys)
    assert np.stack([found[key] for key in keys]).tobytes() == rows.tobytes()


def test_read_file_of_other_bytes_is_dropped(cache: VectorCache, caplog: pytest.LogCaptureFixture) -> None:
    first = min((cache.folder / "one").iterdir())
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    found = cache.read("one", KEYS)
    assert len(found) == 2
    assert not first.exists()
    assert "not what was written" in caplog.text


def test_write_leaves_no_temporary_file(cache: VectorCache) -> None:
    assert all(path.suffix == ".arrow" for path in (cache.folder / "one").iterdir())
    assert len(list((cache.folder / "one").iterdir())) == 2


def test_describer_second_run_describes_only_what_is_new(tmp_path: Path) -> None:
    source, calls = Source(tmp_path, VectorCache(tmp_path / "cache")), list[str]()
    first = counting(calls).rows(pl.Series("t", ["aa", "b", None, "aa"]), source)
    second = counting(calls).rows(pl.Series("t", ["b", "ccc", "aa"]), source)
    assert sorted(calls) == ["aa", "b", "ccc"]
    np.testing.assert_array_equal(first[0][:, 0], [2, 1, 2])
    np.testing.assert_array_equal(second[0][:, 0], [1, 3, 2])


def test_describer_of_other_parameters_has_a_cache_of_its_own(tmp_path: Path) -> None:
    source, calls = Source(tmp_path, VectorCache(tmp_path / "cache")), list[str]()
    counting(calls).rows(pl.Series("t", ["aa"]), source)
    counting(calls, width=3).rows(pl.Series("t", ["aa"]), source)
    assert calls == ["aa", "aa"]


def test_describer_interrupted_run_keeps_the_chunks_it_finished(tmp_path: Path) -> None:
    source, calls = Source(tmp_path, VectorCache(tmp_path / "cache")), list[str]()
    texts = pl.Series("t", [f"{i:04d}" for i in range(CHUNK + 1)])
    describer = counting(calls)
    n_chunks = 0

    def stop_at_the_second(contents: list[str]) -> np.ndarray:
        nonlocal n_chunks
        n_chunks += 1
        if n_chunks == 2:
            raise KeyboardInterrupt
        return describer.describe(contents)

    stopped = Describer("text", 2, describer.load, describe=stop_at_the_second, files=False)
    with pytest.raises(KeyboardInterrupt):
        stopped.rows(texts, source)
    calls.clear()
    describer.rows(texts, source)
    assert len(calls) == 1


def test_progress_ends_at_all_of_what_is_new(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    source = Source(tmp_path, VectorCache(tmp_path / "cache"), lambda *what: said.append(what))
    counting([]).rows(pl.Series("t", ["a", "b"]), source)
    counting([]).rows(pl.Series("t", ["a", "b"]), source)
    assert said == [("text", 0, 2), ("text", 2, 2)]


def test_encoder_changed_file_of_the_same_name_is_described_again(tmp_path: Path) -> None:
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    table = pl.DataFrame({"poster": ["a.png", "b.png"]})
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (20, 20), colour).save(tmp_path / name)
    encoder = make_encoder("image", {"dim": None}).fit(table, source)
    before = encoder.encode(table, source).vectors
    Image.new("RGB", (20, 20), "blue").save(tmp_path / "a.png")
    after = encoder.encode(table, source).vectors
    np.testing.assert_array_equal(after[0], before[1])
    np.testing.assert_array_equal(after, encoder.encode(table, tmp_path).vectors)
