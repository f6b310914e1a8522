from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from features.errors import ConfigError, DataError
from features.frame import RankingFrame, concatenate
from features.sequences import ItemTable
from rankers import BlockRanker, load_ranker, make_ranker, mean_of, ndcg
from rankers.device import cuda_device_count
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.protocol import Ranker
from rankers.registry import FAMILIES
from rankers.transformer_ranker import TransformerRanker
from tests.rankers.planted import planted_frame, quick_ranker, reorder
from tests.rankers.sequence_world import N_ITEMS, sequence_frame

TRAIN, VALID, TEST = sequence_frame(300, 1), sequence_frame(60, 2), sequence_frame(40, 3)


def quality(ranker: Ranker, frame: RankingFrame = TEST) -> float:
    return mean_of(ndcg(ranker.score(frame), frame.labels, frame.offsets, 5)).mean


def quick(device: str = "cpu", **params: float) -> TransformerRanker:
    pytest.importorskip("torch", reason="the transformer needs torch: pip install torch==2.13.0")
    settings = {"rounds": 10, "learning_rate": 0.005, "batch": 32, "dropout": 0.1, **params}
    return TransformerRanker(device=device, **settings)


@pytest.fixture(scope="module")
def trained() -> TransformerRanker:
    return quick().fit(TRAIN, VALID)


def with_table(frame: RankingFrame, table: ItemTable, recent: np.ndarray | None = None) -> RankingFrame:
    assert frame.sequences is not None
    told = replace(frame.sequences, tables=(table,))
    return replace(frame, sequences=told if recent is None else replace(told, recent=recent))


def test_fit_rule_on_the_last_item_is_found_where_trees_on_features_miss_it(trained):
    trees = LightGBMRanker(rounds=60, learning_rate=0.1, threads=1).fit(TRAIN, VALID)
    assert quality(trees) < 0.45
    assert quality(trained) > 0.75


def test_fit_without_sequences_learns_from_the_features_alone():
    blind = quick(rounds=3).fit(replace(TRAIN, sequences=None), replace(VALID, sequences=None))
    assert quality(blind, replace(TEST, sequences=None)) < 0.45


def test_score_follows_the_newest_item_and_hardly_the_others(trained):
    sequences = TEST.sequences
    turned = replace(TEST, sequences=replace(sequences, recent=sequences.recent[:, ::-1]))
    assert quality(trained, turned) < quality(trained) - 0.3
    others = np.column_stack([sequences.recent[:, :1], sequences.recent[:, :0:-1]])
    swapped = replace(TEST, sequences=replace(sequences, recent=others))
    assert quality(trained, swapped) > 0.7


def test_score_items_under_other_codes_same_scores(trained):
    codes = np.random.default_rng(0).permutation(N_ITEMS)
    table, sequences = TEST.sequences.tables[0], TEST.sequences
    vectors = np.empty_like(table.vectors[0])
    vectors[codes] = table.vectors[0]
    renamed = with_table(
        replace(TEST, items=codes[TEST.items]),
        ItemTable(table.modalities, (vectors,), table.present),
        codes[sequences.recent],
    )
    np.testing.assert_array_equal(trained.score(renamed), trained.score(TEST))


def test_score_rows_and_queries_in_another_order_same_scores(trained):
    rng = np.random.default_rng(0)
    order = rng.permutation(TEST.n_queries)
    shuffled = TEST.take_queries(order)
    rows = np.concatenate(
        [
            start + rng.permutation(stop - start)
            for start, stop in zip(shuffled.offsets, shuffled.offsets[1:], strict=False)
        ]
    )
    shuffled = reorder(shuffled, rows)
    scores = {(q, i): s for q, i, s in zip(TEST.queries, TEST.items, trained.score(TEST), strict=True)}
    expected = [scores[q, i] for q, i in zip(shuffled.queries, shuffled.items, strict=True)]
    np.testing.assert_array_equal(trained.score(shuffled), expected)


@pytest.mark.parametrize("part", [1, 7, 23])
def test_score_in_parts_same_bits(trained, part):
    scores = [
        trained.score(TEST.take_queries(np.arange(start, min(start + part, TEST.n_queries))))
        for start in range(0, TEST.n_queries, part)
    ]
    np.testing.assert_array_equal(np.concatenate(scores), trained.score(TEST))


def test_score_without_an_order_any_order_of_the_history_same_scores():
    train = sequence_frame(60, 1, ordered=False)
    ranker = quick(rounds=2).fit(train)
    test = sequence_frame(10, 3, ordered=False)
    turned = replace(test, sequences=replace(test.sequences, recent=test.sequences.recent[:, ::-1]))
    np.testing.assert_allclose(ranker.score(turned), ranker.score(test), rtol=1e-5)


def test_score_user_without_history_and_item_without_vector_have_scores(trained):
    table = TEST.sequences.tables[0]
    nothing = ItemTable(table.modalities, table.vectors, (np.zeros(N_ITEMS, dtype=bool),))
    blank = with_table(TEST, nothing)
    empty = with_table(TEST, table, np.full_like(TEST.sequences.recent, -1))
    for frame in (blank, empty):
        assert np.isfinite(trained.score(frame)).all()


def test_score_of_absent_items_reads_no_vector(trained):
    table = TEST.sequences.tables[0]
    present = np.random.default_rng(0).random(N_ITEMS) < 0.5
    spoiled = np.where(present[:, None], table.vectors[0], np.float32(np.nan))
    here = with_table(TEST, ItemTable(table.modalities, table.vectors, (present,)))
    there = with_table(TEST, ItemTable(table.modalities, (spoiled,), (present,)))
    np.testing.assert_array_equal(trained.score(there), trained.score(here))


def test_score_appended_items_change_nothing_for_the_others(trained):
    table = TEST.sequences.tables[0]
    more = np.concatenate([table.vectors[0], np.ones((5, 8), np.float32)])
    grown = with_table(TEST, ItemTable(table.modalities, (more,), (np.ones(N_ITEMS + 5, dtype=bool),)))
    np.testing.assert_array_equal(trained.score(grown), trained.score(TEST))


def test_score_tables_of_two_cuts_are_told_apart(trained):
    table, half = TEST.sequences.tables[0], np.arange(20)
    other = ItemTable(table.modalities, (table.vectors[0][::-1].copy(),), table.present)
    first, second = TEST.take_queries(half), with_table(TEST.take_queries(half + 20), other)
    both = concatenate([first, second])
    assert len(both.sequences.tables) == 2
    expected = np.concatenate([trained.score(first), trained.score(second)])
    np.testing.assert_array_equal(trained.score(both), expected)


def test_fit_same_seed_same_bits_in_any_order_of_queries():
    one = quick(rounds=2).fit(TRAIN, VALID)
    turned = TRAIN.take_queries(np.arange(TRAIN.n_queries)[::-1])
    other = quick(rounds=2).fit(turned, VALID)
    np.testing.assert_array_equal(one.score(TEST), other.score(TEST))
    assert not np.array_equal(quick(rounds=2, seed=1).fit(TRAIN, VALID).score(TEST), one.score(TEST))


def test_fit_leaves_the_random_state_and_threads_of_torch_alone():
    torch = pytest.importorskip("torch", reason="the transformer needs torch")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    quick(rounds=1).fit(TRAIN.take_queries(np.arange(10)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_load_scores_bit_for_bit_as_saved(trained, tmp_path):
    trained.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ranker.json", "model.safetensors"}
    loaded = load_ranker(tmp_path)
    assert loaded == trained
    np.testing.assert_array_equal(loaded.score(TEST), trained.score(TEST))


def test_score_other_sequences_raises(trained):
    with pytest.raises(
        DataError, match=r"got sequences .* \(\(\), \(\), 0\), expected \(\('taste',\), \(8,\), 5"
    ):
        trained.score(replace(TEST, sequences=None))
    short = replace(TEST, sequences=replace(TEST.sequences, recent=TEST.sequences.recent[:, :2]))
    with pytest.raises(DataError, match=r"\(8,\), 2\), expected"):
        trained.score(short)


def test_block_ranker_shows_the_transformer_its_own_modalities_only():
    columns = {"taste": (0, 1), "context": (2, 3)}
    blind = BlockRanker(quick(rounds=2), ("context",)).fit(replace(TRAIN, blocks=columns))
    assert blind.ranker.axes_.modalities == ()
    seeing = BlockRanker(quick(rounds=2), ("taste", "context")).fit(replace(TRAIN, blocks=columns))
    assert seeing.ranker.axes_.modalities == ("taste",)


def test_width_that_the_heads_do_not_divide_raises():
    with pytest.raises(ConfigError, match=r"transformer\.width: got 33, expected a multiple of the 2 heads"):
        make_ranker("transformer", params={"width": 33})


def test_without_torch_fit_and_load_say_what_to_install(monkeypatch, tmp_path):
    ranker = TransformerRanker(device="cpu")
    manifest = '{"layout": 1, "family": "transformer", "parameters": {}, "learned": {}}'
    (tmp_path / "ranker.json").write_text(manifest)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"'transformer' needs torch.*pip install torch==2\.13\.0"):
        ranker.fit(planted_frame(6))
    with pytest.raises(ConfigError, match=r"this model holds a transformer, which needs torch"):
        load_ranker(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(cuda_device_count() == 0, reason="no CUDA device was found")
def test_fit_on_cuda_finds_the_rule_too():
    assert quality(quick(device="cuda").fit(TRAIN, VALID)) > 0.75


def test_family_is_known_by_its_name():
    assert FAMILIES["transformer"] is TransformerRanker
    assert quick_ranker("transformer").family == "transformer"
