from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders import load_encoder, save_encoder
from features.encoders.terms import TermSpace, fewest_documents
from features.encoders.text import TextEncoder
from features.errors import ConfigError, DataError

HERE = Path()
SPACE = "rocket orbit moon crew launch station gravity planet".split()
LOVE = "wedding kiss romance bride heart letter dance couple".split()


def story(words: list[str], seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(words, size=6))


@pytest.fixture(scope="module")
def stories() -> pl.DataFrame:
    texts = [story(SPACE, seed) for seed in range(30)] + [story(LOVE, seed) for seed in range(30)]
    return pl.DataFrame({"plot": texts})


@pytest.mark.parametrize("dim", [2, 5000], ids=["projected", "plain"])
def test_encode_similar_texts_are_nearer_than_others(stories: pl.DataFrame, dim: int) -> None:
    encoder = TextEncoder(dim=dim).fit(stories, HERE)
    unseen = [story(SPACE, seed) for seed in range(100, 110)] + [story(LOVE, seed) for seed in range(10)]
    vectors = encoder.encode(pl.DataFrame({"plot": unseen}), HERE).vectors
    similarity = vectors @ vectors.T
    assert similarity[:10, :10].mean() > similarity[:10, 10:].mean() + 0.2


def test_encode_present_rows_have_unit_length(stories: pl.DataFrame) -> None:
    got = TextEncoder(dim=8).fit(stories, HERE).encode(stories, HERE)
    assert got.vectors.shape == (60, 8)
    np.testing.assert_allclose(np.linalg.norm(got.vectors, axis=1), 1, rtol=1e-6)


def test_encode_text_without_a_known_term_is_absent() -> None:
    encoder = TextEncoder().fit(pl.DataFrame({"plot": ["blue moon", "red moon"]}), HERE)
    table = pl.DataFrame({"plot": ["unknown words", " ", "", None, "?!", "moon and more"]})
    got = encoder.encode(table, HERE)
    assert got.present.tolist() == [False] * 5 + [True]
    assert not got.vectors[:5].any()


def test_encode_several_columns_are_joined_over_gaps() -> None:
    table = pl.DataFrame({"title": ["blue", None, "blue moon"], "plot": ["moon", "blue moon", None]})
    got = TextEncoder().fit(table, HERE).encode(table, HERE)
    assert got.present.all()
    np.testing.assert_array_equal(got.vectors[0], got.vectors[1])
    np.testing.assert_array_equal(got.vectors[0], got.vectors[2])


def test_encode_few_terms_give_the_tf_idf_of_hand() -> None:
    table = pl.DataFrame({"plot": ["sun sun sea", "sea"]})
    encoder = TextEncoder().fit(table, HERE)
    assert encoder.terms_.terms == ("sea", "sun", "sun sea", "sun sun")
    rare, tf = 1 + np.log(3 / 2), 1 + np.log(2)
    expected = np.array([1, tf * rare, rare, rare])
    vectors = encoder.encode(table, HERE).vectors
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), rtol=1e-6)
    np.testing.assert_array_equal(vectors[1], [1, 0, 0, 0])


def test_fit_max_features_keeps_the_terms_of_most_texts() -> None:
    table = pl.DataFrame({"plot": ["cc bb", "bb aa", "cc dd"]})
    encoder = TextEncoder(max_features=2).fit(table, HERE)
    assert encoder.terms_.terms == ("bb", "cc")


def test_fit_stop_words_are_dropped_on_request() -> None:
    table = pl.DataFrame({"plot": ["the moon"]})
    assert TextEncoder().fit(table, HERE).terms_.terms == ("moon", "the", "the moon")
    assert TextEncoder(stop_words="english").fit(table, HERE).terms_.terms == ("moon",)


def test_fit_category_column_is_text() -> None:
    table = pl.DataFrame({"plot": ["blue moon", "red sea"]})
    plain = TextEncoder().fit(table, HERE).encode(table, HERE)
    category = table.cast(pl.Categorical)
    got = TextEncoder().fit(category, HERE).encode(category, HERE)
    np.testing.assert_array_equal(got.vectors, plain.vectors)


def test_fit_numbers_names_column_and_type() -> None:
    with pytest.raises(DataError, match="Int64, expected text") as caught:
        TextEncoder().fit(pl.DataFrame({"title": ["a"], "year": [1999]}), HERE)
    assert caught.value.column == "year"


def test_fit_named_columns_ignores_the_others() -> None:
    table = pl.DataFrame({"year": [1999, 2000], "plot": ["blue moon", "red sea"]})
    assert TextEncoder(columns=["plot"]).fit(table, HERE).encode(table, HERE).present.all()


def test_init_unknown_stop_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="'german'"):
        TextEncoder(stop_words="german")


def test_term_space_term_outside_the_kept_directions_is_absent() -> None:
    documents = [["aa", "bb"]] * 50 + [["aa"]] * 30 + [["bb"]] * 20 + [["zz"]]
    space = TermSpace.fit(documents, dim=1, max_terms=10, min_documents=1)
    assert space.encode([["zz"], ["aa"]]).present.tolist() == [False, True]


@pytest.mark.parametrize(("n", "expected"), [(0, 1), (99, 1), (100, 2), (9_999, 2), (10_000, 3)])
def test_fewest_documents_grows_with_the_table(n: int, expected: int) -> None:
    assert fewest_documents(n) == expected


def test_encode_chinese_and_japanese_stories_are_near_their_topic() -> None:
    space = ["火箭发射到月球轨道", "飞船从月球轨道返回", "宇航员乘火箭到月球", "月へロケットで飛ぶ"]
    love = ["新娘在婚礼上接吻", "婚礼上的情人跳舞", "情人给新娘写信", "結婚式で花嫁が踊る"]
    encoder = TextEncoder(dim=8).fit(pl.DataFrame({"plot": space + love}), HERE)
    unseen = pl.DataFrame({"plot": ["火箭飞到月球", "新娘和情人的婚礼"]})
    got = encoder.encode(unseen, HERE)
    assert got.present.all()
    similarity = got.vectors @ encoder.encode(pl.DataFrame({"plot": space + love}), HERE).vectors.T
    assert similarity[0, :3].min() > similarity[0, 4:7].max()
    assert similarity[1, 4:7].min() > similarity[1, :3].max()


def test_encode_thai_without_spaces_has_terms() -> None:
    encoder = TextEncoder().fit(pl.DataFrame({"plot": ["จรวดไปดวงจันทร์", "งานแต่งงาน"]}), HERE)
    assert encoder.encode(pl.DataFrame({"plot": ["ดวงจันทร์"]}), HERE).present.all()


def test_fit_characters_auto_leaves_spaced_scripts_as_they_were(stories: pl.DataFrame) -> None:
    words = TextEncoder(characters="none").fit(stories, HERE)
    assert TextEncoder().fit(stories, HERE).terms_.terms == words.terms_.terms


def test_encode_characters_all_joins_inflections() -> None:
    table = pl.DataFrame({"plot": ["the astronauts", "a wedding", "many brides"]})
    query = pl.DataFrame({"plot": ["astronautical"]})
    assert not TextEncoder().fit(table, HERE).encode(query, HERE).present.any()
    encoder = TextEncoder(characters="all").fit(table, HERE)
    similarity = encoder.encode(query, HERE).vectors @ encoder.encode(table, HERE).vectors.T
    assert similarity.argmax() == 0


def test_fit_hash_bits_bounds_the_terms_and_keeps_the_likeness(stories: pl.DataFrame) -> None:
    encoder = TextEncoder(hash_bits=6, dim=4).fit(stories, HERE)
    assert len(encoder.terms_.terms) <= 64
    vectors = encoder.encode(stories, HERE).vectors
    similarity = vectors @ vectors.T
    assert similarity[:30, :30].mean() > similarity[:30, 30:].mean() + 0.2


def test_load_encoder_of_before_characters_reads_words_only(tmp_path: Path) -> None:
    table = pl.DataFrame({"plot": ["火箭 发射", "blue moon"]})
    old = TextEncoder(characters="none").fit(table, HERE)
    save_encoder(old, tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    for name in ("characters", "hash_bits"):
        del state["parameters"][name]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    got = load_encoder(tmp_path / "saved").encode(table, HERE)
    assert got.vectors.tobytes() == old.encode(table, HERE).vectors.tobytes()


def test_encode_terms_are_what_the_vectors_are_a_projection_of(stories: pl.DataFrame) -> None:
    encoder = TextEncoder(dim=3).fit(stories, Path())
    encoded = encoder.encode(stories, Path())
    terms = encoded.terms
    assert terms is not None and terms.dtype == np.float32
    np.testing.assert_allclose(np.square(terms.toarray()).sum(axis=1)[encoded.present], 1, rtol=1e-5)
    projected = terms.toarray() @ encoder.terms_.directions
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoded.vectors[encoded.present], projected[encoded.present], atol=1e-5)


def test_encode_few_terms_are_the_vectors_themselves(stories: pl.DataFrame) -> None:
    assert TextEncoder(dim=10_000).fit(stories, Path()).encode(stories, Path()).terms is None


def test_encode_terms_find_the_sequel_that_a_projection_loses_sight_of() -> None:
    """Texts of four common words each; those of a series share a name that no other text has."""
    rng = np.random.default_rng(0)
    common = [f"word{number}" for number in range(60)]
    texts = [" ".join(rng.choice(common, 4, replace=False)) for _ in range(300)]
    texts = [f"{text} name{number // 2} saga{number // 2}" for number, text in enumerate(texts)]
    table = pl.DataFrame({"text": texts})
    encoded = TextEncoder(dim=8).fit(table, Path()).encode(table, Path())

    def found(cosines: np.ndarray) -> float:
        np.fill_diagonal(cosines, -1)
        return float(np.mean(cosines.argmax(axis=1) == np.arange(300) ^ 1))

    assert found((encoded.terms @ encoded.terms.T).toarray()) > 0.95
    assert found(encoded.vectors @ encoded.vectors.T) < 0.5
