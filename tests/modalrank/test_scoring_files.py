"""The files that scoring reads, and the one that it publishes by rename."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from features.errors import DataError
from modalrank.scoring import read_candidates, read_users, score_candidates, write_scores
from tests.modalrank.worlds import item_ids, user_ids


@pytest.fixture(scope="module")
def log_rows() -> pl.DataFrame:
    """Some users with all items, in no order."""
    pairs = [(user, item) for user in user_ids()[::5] for item in item_ids()]
    frame = pl.DataFrame(pairs, schema=["query", "item"], orient="row")
    return frame.sample(fraction=1, shuffle=True, seed=3)


def test_read_candidates_keeps_features_and_drops_labels(judged_bundle, judged_world):
    rows = read_candidates(judged_bundle, judged_world.folder / "judged.parquet")
    assert {"query", "item", "w1", "c3"} <= set(rows.columns) and "grade" not in rows.columns


def test_read_users_takes_either_name_of_the_column(log_bundle, tmp_path):
    renamed = log_bundle.config.model_copy(
        update={"data": log_bundle.config.data.model_copy(update={"user_id": "person"})}
    )
    file = tmp_path / "users.csv"
    for column in ("user_id", "person"):
        file.write_text(f"{column}\nu02\nu01\n")
        assert read_users(replace(log_bundle, config=renamed), file)["id"].to_list() == ["u01", "u02"]
    file.write_text("nobody\nu02\n")
    with pytest.raises(DataError, match="column 'user_id': no such column"):
        read_users(log_bundle, file)


def parts_of(bundle, rows):
    return list(score_candidates(bundle, rows, chunk_rows=50))


def test_written_file_holds_every_part_and_the_version(log_bundle, log_rows, tmp_path):
    parts = parts_of(log_bundle, log_rows)
    assert len(parts) > 1
    file, n_rows = write_scores(parts, tmp_path / "new" / "folder", "7")
    written = pl.read_parquet(file)
    assert n_rows == len(written) == len(log_rows)
    assert written.drop("model_version").equals(pl.concat(parts))
    assert set(written["model_version"]) == {"7"}
    assert [path.name for path in file.parent.iterdir()] == ["scores.parquet"]


def test_error_in_the_middle_leaves_the_old_file_and_nothing_else(log_bundle, log_rows, tmp_path):
    parts = parts_of(log_bundle, log_rows)
    file, _ = write_scores(parts, tmp_path, "1")
    before = file.read_bytes()
    held: list[list[str]] = []

    def failing():
        yield from parts[:2]
        held.append(sorted(path.name for path in tmp_path.iterdir()))
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="the power is out"):
        write_scores(failing(), tmp_path, "2")
    assert len(held[0]) == 2, "the new file is under another name until it is whole"
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_to_score_is_a_data_error_and_no_file(tmp_path):
    with pytest.raises(DataError, match="nothing to score"):
        write_scores([], tmp_path / "out", "1")
    assert list((tmp_path / "out").iterdir()) == []
