from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders.tags import TagsEncoder
from features.errors import ConfigError, DataError

HERE = Path()


def lists(rows: list[list[str | None] | None]) -> pl.DataFrame:
    return pl.DataFrame({"tags": rows}, schema={"tags": pl.List(pl.String)})


def test_encode_lists_and_separated_strings_are_the_same() -> None:
    as_lists = lists([["Drama", "War"], ["War"], None, ["Comedy"]])
    as_strings = pl.DataFrame({"tags": ["Drama|War", "War", None, "Comedy"]})
    first = TagsEncoder().fit(as_lists, HERE).encode(as_lists, HERE)
    second = TagsEncoder().fit(as_strings, HERE).encode(as_strings, HERE)
    assert first.vectors.tobytes() == second.vectors.tobytes()
    assert first.present.tolist() == second.present.tolist() == [True, True, False, True]


def test_encode_few_tags_stand_for_themselves_with_idf_weights() -> None:
    table = lists([["a", "b"], ["b"], ["b"]])
    vectors = TagsEncoder().fit(table, HERE).encode(table, HERE).vectors
    rare = 1 + np.log(4 / 2)
    np.testing.assert_allclose(vectors[0], np.array([rare, 1]) / np.hypot(rare, 1), rtol=1e-6)
    np.testing.assert_array_equal(vectors[1], [0, 1])


def test_encode_case_space_and_repetition_do_not_matter() -> None:
    table = lists([["War", "Drama"], [" war ", "WAR", "drama", None, ""]])
    vectors = TagsEncoder().fit(table, HERE).encode(table, HERE).vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_encode_unknown_tags_are_ignored_and_alone_absent() -> None:
    encoder = TagsEncoder().fit(lists([["a", "b"], ["b"]]), HERE)
    got = encoder.encode(lists([["b", "new"], ["b"], ["new"], [], [None], None]), HERE)
    assert got.present.tolist() == [True, True, False, False, False, False]
    np.testing.assert_array_equal(got.vectors[0], got.vectors[1])


def test_encode_more_tags_than_dim_matches_tags_that_occur_together() -> None:
    table = lists([["jazz", "sax"], ["jazz", "sax"], ["metal", "riff"], ["metal", "riff"]] * 5)
    encoder = TagsEncoder(dim=2).fit(table, HERE)
    assert encoder.width == 2
    jazz, sax, metal = encoder.encode(lists([["jazz"], ["sax"], ["metal"]]), HERE).vectors
    assert jazz @ sax > 0.99
    assert abs(jazz @ metal) < 0.01


def test_encode_without_separator_the_string_is_one_category() -> None:
    table = pl.DataFrame({"tags": ["a|b", "a", "b"]})
    assert TagsEncoder(separator=None).fit(table, HERE).terms_.terms == ("a", "a|b", "b")
    assert TagsEncoder().fit(table, HERE).terms_.terms == ("a", "b")


def test_encode_same_tag_in_two_columns_is_two_tags() -> None:
    table = pl.DataFrame({"genre": ["war", None], "mood": [None, "war"]})
    first, second = TagsEncoder().fit(table, HERE).encode(table, HERE).vectors
    assert first @ second == 0


def test_fit_rare_and_too_many_tags_are_dropped() -> None:
    table = lists([["a", "b", "c"], ["a", "b"], ["a"]])
    assert TagsEncoder(min_count=2).fit(table, HERE).terms_.terms == ("a", "b")
    assert TagsEncoder(max_tags=1).fit(table, HERE).terms_.terms == ("a",)


@pytest.mark.parametrize("values", [[1.5], [[1, 2]]], ids=["numbers", "lists_of_numbers"])
def test_fit_numbers_names_the_column(values: list[object]) -> None:
    with pytest.raises(DataError, match="expected lists of strings") as caught:
        TagsEncoder().fit(pl.DataFrame({"genre": values}), HERE)
    assert caught.value.column == "genre"


def test_init_empty_separator_is_refused() -> None:
    with pytest.raises(ConfigError, match="separator: got ''"):
        TagsEncoder(separator="")
