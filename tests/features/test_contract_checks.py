from __future__ import annotations

import polars as pl
import pytest

from features.contract import (
    Check,
    check_tables,
    contiguous_check,
    entity_checks,
    interaction_checks,
    raise_first_failure,
)
from features.errors import DataError

ITEMS = pl.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "text": ["word", " ", None, "more"],
        "vector": [[1.0], [], None, None],
        "nothing": [None] * 4,
        "row": [1, 2, 3, 4],
    }
)
USERS = pl.DataFrame({"id": ["u", "v"], "row": [1, 2]})
MODALITIES = {"text": ("items", ("text",)), "vector": ("items", ("vector", "text"))}


def log(**columns) -> pl.DataFrame:
    base = {
        "query": ["u", "u", "v", "v"],
        "item": ["a", "b", "a", "c"],
        "label": [5.0, 1.0, 4.0, 0.0],
        "time": [1, 2, 3, 4],
        "split": ["train", "test", "train", "valid"],
        "row": [1, 2, 3, 4],
        "file": ["log.csv"] * 4,
    }
    return pl.DataFrame(base | columns)


def findings(interactions=None, items=ITEMS, users=USERS, modalities=MODALITIES, form="log", **options):
    options = {"positive_from": 4.0} | options
    frame = log() if interactions is None else interactions
    return {c.name: c for c in check_tables(frame, items, users, modalities, form=form, **options)}


def test_sound_tables_pass_every_check():
    checks = findings()
    assert all(check.passed for check in checks.values())
    assert checks["split sizes"].detail == "train 2, valid 1, test 1 rows"
    assert checks["coverage of text"].line() == "PASS  coverage of text  50.0% of items (2 of 4) (e.g. b, c)"


def test_line_of_a_failure_says_so_with_three_examples():
    check = Check("keys", False, "4 rows", ("a", "b", "c", "d"))
    assert check.line() == "FAIL  keys  4 rows (e.g. a, b, c)"
    assert Check("keys", False, "x", level="warn").line() == "WARN  keys  x"


def test_first_failure_is_raised_and_warnings_are_not():
    error = DataError("bad", fix="good")
    raise_first_failure([Check("a", True, ""), Check("b", False, "", level="warn")])
    with pytest.raises(DataError) as caught:
        raise_first_failure([Check("b", False, "", level="warn"), Check.broken("c", error)])
    assert caught.value is error


@pytest.mark.parametrize(
    ("column", "values", "row"),
    [
        ("query", ["u", "u", None, "v"], 3),
        ("item", ["a", "", "a", "c"], 2),
        ("label", [1.0, 2.0, 3.0, -1.0], 4),
        ("label", [1.0, float("nan"), 3.0, float("inf")], 2),
        ("time", [1, 2, None, 4], 3),
        ("time", [1.0, 2.0, float("nan"), 4.0], 3),
        ("split", ["train", "test", "dev", None], 3),
    ],
)
def test_bad_value_fails_its_check_alone_with_the_users_column_name(column, values, row):
    checks = interaction_checks(log(**{column: values}), {column: "mine"})
    broken = [check for check in checks if not check.passed]
    assert [check.name for check in broken] == [f"{column} values"]
    assert broken[0].error is not None
    assert (broken[0].error.file, broken[0].error.column, broken[0].error.row) == ("log.csv", "mine", row)


def test_bad_values_are_counted():
    (broken,) = (c for c in interaction_checks(log(label=[-1.0, 1.0, -2.0, 0.0])) if not c.passed)
    assert broken.detail.startswith("2 rows, the first: log.csv, column 'label', row 1")


def test_negative_weight_and_infinite_feature_fail():
    frame = log(weight=[1.0, 0.0, -1.0, 1.0], f1=[0.0, 1.0, 2.0, 3.0], f2=[0.0, None, float("-inf"), 1.0])
    broken = {c.name: c.error for c in interaction_checks(frame) if not c.passed}
    assert set(broken) == {"weight values", "feature values"}
    assert broken["feature values"].column == "f2"


def test_repeated_pair_fails_unless_the_last_is_kept():
    frame = log(item=["a", "a", "a", "c"])
    (broken,) = (check for check in interaction_checks(frame) if not check.passed)
    assert broken.error is not None and broken.error.row == 2
    assert all(check.passed for check in interaction_checks(frame, duplicates="last"))
    assert "pairs unique" not in findings(frame, duplicates="last")


def test_query_that_starts_again_in_its_file_fails():
    apart = log(query=["u", "v", "u", "v"])
    assert contiguous_check(log(), "user").passed
    assert contiguous_check(apart.with_columns(file=pl.Series(["1", "1", "2", "2"])), "user").passed
    check = contiguous_check(apart, "user")
    assert check.error is not None and (check.error.row, check.error.column) == (3, "user")


def test_entities_with_missing_and_repeated_ids_fail_both_checks():
    frame = pl.DataFrame({"id": ["a", None, "b", "b", None], "row": [1, 2, 3, 4, 5]})
    missing, repeated = entity_checks(frame, "items.csv", "key")
    assert missing.error is not None and (missing.error.row, missing.error.column) == (2, "key")
    assert repeated.error is not None and repeated.error.row == 4
    assert not findings(items=ITEMS.with_columns(id=pl.lit("a")))["items ids unique"].passed


def test_item_without_features_fails_with_its_first_row():
    check = findings(items=ITEMS.filter(pl.col("id") != "c"), names={"item": "movie"})["items known"]
    assert (check.passed, check.level, check.examples) == (False, "fail", ("c",))
    assert check.error is not None
    assert (check.error.file, check.error.column, check.error.row) == ("log.csv", "movie", 4)


def test_few_users_without_a_profile_warn_and_most_fail():
    few = findings(log(query=["u", "u", "v", "w"]), users=USERS)["users known"]
    assert (few.passed, few.level, few.examples) == (False, "warn", ("w",))
    most = findings(users=USERS.with_columns(id="x" + pl.col("id")))["users known"]
    assert (most.passed, most.level) == (False, "fail")


@pytest.mark.parametrize(
    ("values", "row", "got"),
    [
        (["1", "2", "x", "y"], 3, "'x'"),
        (["1", None, "3", "4"], 1, "'1'"),
        ([None, [0.5], None, []], 2, "0.5"),
    ],
)
def test_ready_made_feature_that_is_no_number_fails_with_its_row(values, row, got):
    check = findings(log(f1=values), modalities={"m": ("interactions", ("f1",))}, form="judged")[
        "feature types"
    ]
    assert check.error is not None and got in check.detail
    assert (check.error.column, check.error.row) == ("f1", row)


def test_ready_made_features_may_be_numbers_flags_or_nothing():
    frame = log(f1=[1, 2, None, 4], f2=[True, False, None, True], f3=[None] * 4)
    assert findings(frame, modalities={"m": ("interactions", ("f1", "f2", "f3"))})["feature types"].passed


def test_coverage_counts_empty_values_as_missing_and_warns_where_low():
    vector = findings(modalities={"vector": ("items", ("vector",))})["coverage of vector"]
    assert vector.passed and vector.detail == "25.0% of items (1 of 4)"
    empty = findings(modalities={"empty": ("items", ("nothing",))})["coverage of empty"]
    assert (empty.passed, empty.level, empty.examples) == (False, "warn", ("a", "b", "c"))


def test_coverage_of_an_absent_column_or_table_fails():
    assert not findings(modalities={"m": ("items", ("sound",))})["coverage of m"].passed
    assert not findings(users=None, modalities={"m": ("users", ("age",))})["coverage of m"].passed


def test_coverage_of_feature_columns_of_judged_rows_is_by_row():
    frame = log(f1=[1.0, float("nan"), None, 0.0])
    check = findings(frame, modalities={"m": ("interactions", ("f1",))}, form="judged")["coverage of m"]
    assert check.detail == "50.0% of interactions (2 of 4)"


def test_queries_without_a_positive_warn_and_none_at_all_fails():
    check = findings(positive_from=5.0)["queries with a positive"]
    assert (check.passed, check.level, check.examples) == (False, "warn", ("v",))
    assert findings(positive_from=6.0)["queries with a positive"].level == "fail"
    assert findings(positive_from=None)["queries with a positive"].passed


def test_one_query_fails():
    assert not findings(log(query=["u"] * 4, item=list("abcd")))["two queries"].passed


def test_equal_labels_fail_where_judged_and_pass_in_a_log():
    equal = log(label=[1.0] * 4)
    assert not findings(equal, form="judged")["labels differ"].passed
    assert "labels differ" not in findings(equal, positive_from=None)


def test_labels_beyond_the_gain_table_of_boosters_warn():
    check = findings(log(label=[31.0, 0.0, 5.0, 0.0]))["label range"]
    assert (check.passed, check.level, check.detail) == (False, "warn", "0 to 31, 3 distinct")


def test_empty_split_warns_for_valid_and_fails_for_test():
    without_valid = findings(log(split=["train", "test", "train", "test"]))["split sizes"]
    assert (without_valid.passed, without_valid.level) == (False, "warn")
    without_test = findings(log(split=["train", "valid", "train", "valid"]))["split sizes"]
    assert (without_test.passed, without_test.level) == (False, "fail")
    assert "split sizes" not in findings(log().drop("split"))


def test_test_rows_before_train_rows_of_a_user_warn():
    check = findings(log(time=[2, 1, 3, 4]))["time order of splits"]
    assert (check.passed, check.level, check.examples) == (False, "warn", ("u",))
    assert findings(log(time=[2, 2, 3, 4]))["time order of splits"].passed


def test_time_order_of_a_query_without_valid_rows_is_judged():
    frame = log(
        query=["u"] * 4, item=list("abcd"), split=["train", "train", "test", "test"], time=[1, 5, 3, 9]
    )
    assert not findings(frame)["time order of splits"].passed


def test_several_problems_are_all_listed():
    frame = log(label=[-1.0, None, 3.0, 2.0], item=["a", None, "z", "z"])
    broken = {name for name, check in findings(frame).items() if not check.passed}
    assert {"label values", "item values", "pairs unique", "items known"} <= broken


def test_empty_interactions_do_not_break_the_checks():
    checks = findings(log().clear())
    assert not checks["two queries"].passed
    assert not checks["split sizes"].passed
