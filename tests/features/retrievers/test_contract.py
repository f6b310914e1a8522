"""One suite that every retriever passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.history import History
from features.retrievers import BEHAVIOUR_KINDS, load_retriever
from tests.features.planted import history_of
from tests.features.retrievers.world import (
    BOTH,
    EVERYBODY,
    IMPERSONAL,
    KINDS,
    N_BLOCKS,
    N_ITEMS,
    N_USERS,
    N_WARM,
    NOBODY,
    ONLY_COLD,
    PER_BLOCK,
    PERSONAL,
    fit,
    fitted,
    history,
    joined,
    world,
)

every_kind = pytest.mark.parametrize("kind", KINDS)
every_personal_kind = pytest.mark.parametrize("kind", PERSONAL)
every_behaviour_kind = pytest.mark.parametrize("kind", BEHAVIOUR_KINDS)

# Their fits start from random numbers, which are drawn in the order of the codes.
DRAWN = ("als", "lightgcn")


def scores_of(kind: str) -> np.ndarray:
    return fitted(kind).scores(world(), EVERYBODY)


@every_kind
def test_scores_are_one_float32_a_user_and_item(kind):
    scores = scores_of(kind)
    assert scores.shape == (N_USERS + 3, N_ITEMS)
    assert scores.dtype == np.float32
    assert fitted(kind).scores(world(), EVERYBODY[:0]).shape == (0, N_ITEMS)


@every_kind
def test_scores_row_is_the_same_bits_in_any_batch(kind):
    whole = scores_of(kind)
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 31):
        users = rng.permutation(N_USERS + 3)[:size]
        np.testing.assert_array_equal(fitted(kind).scores(world(), users), whole[users])


@every_kind
def test_scores_do_not_depend_on_what_others_like(kind):
    shift = np.roll(EVERYBODY[EVERYBODY != 7], 1)
    moved = np.insert(shift, 7, 7)
    others = replace(world(), users=moved[world().users])
    np.testing.assert_array_equal(fitted(kind).scores(others, np.array([7]))[0], scores_of(kind)[7])


@every_kind
def test_known_items_are_those_with_an_opinion(kind):
    known = fitted(kind).known
    np.testing.assert_array_equal(known, np.isfinite(scores_of(kind)[:N_USERS]).any(axis=0))
    np.testing.assert_array_equal(fitted(kind).resized(N_ITEMS + 2).known[:N_ITEMS], known)


@every_personal_kind
def test_scores_cold_items_get_no_opinion(kind):
    scores = scores_of(kind)
    assert np.isnan(scores[:, N_WARM:]).all()
    assert np.isfinite(scores[:N_USERS, :N_WARM]).all()


@every_personal_kind
def test_scores_user_without_known_likes_gets_no_opinion(kind):
    scores = scores_of(kind)
    assert np.isnan(scores[[NOBODY, ONLY_COLD]]).all()
    assert np.isfinite(scores[BOTH, :N_WARM]).all()


@pytest.mark.parametrize("kind", IMPERSONAL)
def test_scores_user_without_likes_gets_the_popular_items(kind):
    scores = scores_of(kind)
    assert np.isfinite(scores).all()
    assert (scores[NOBODY, :N_WARM] > 0).all()
    assert (scores[:, N_WARM:] == 0).all()


@every_kind
@pytest.mark.parametrize("more", [0, 1, 3, 700])
def test_resized_old_scores_are_the_same_bits_and_new_items_unknown(kind, more):
    grown = fitted(kind).resized(N_ITEMS + more)
    scores = grown.scores(world(more), EVERYBODY)
    np.testing.assert_array_equal(scores[:, :N_ITEMS], scores_of(kind))
    nothing = 0.0 if kind in IMPERSONAL else np.nan
    np.testing.assert_array_equal(scores[:, N_ITEMS:], np.full((N_USERS + 3, more), nothing))


@every_kind
def test_resized_liking_a_new_item_changes_nothing(kind):
    # At time 0, so that it is nobody's last item; but for one without a history it tells a time.
    users = EVERYBODY[EVERYBODY != NOBODY] if kind == "local_popularity" else EVERYBODY
    everybody_likes = history_of([(u, N_ITEMS, 1.0, 0) for u in users], N_USERS + 3, N_ITEMS + 1)
    grown = fitted(kind).resized(N_ITEMS + 1)
    scores = grown.scores(joined(world(), everybody_likes), EVERYBODY)
    np.testing.assert_array_equal(scores[:, :N_ITEMS], scores_of(kind))


@every_kind
@pytest.mark.parametrize("more", [0, 5])
def test_load_scores_the_same_bits(kind, more, tmp_path):
    retriever = fitted(kind).resized(N_ITEMS + more)
    retriever.save(tmp_path)
    loaded = load_retriever(tmp_path)
    assert (type(loaded), loaded.name, loaded.block) == (type(retriever), retriever.name, retriever.block)
    expected = retriever.scores(world(more), EVERYBODY)
    np.testing.assert_array_equal(loaded.scores(world(more), EVERYBODY), expected)


@every_kind
def test_save_writes_json_and_arrays_without_pickle(kind, tmp_path):
    fitted(kind).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".npz"}
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype != object for name in arrays)


def share_of_own_block(scores: np.ndarray) -> float:
    """Return the share of a user's block among the best half a block of items."""
    best = np.argsort(-scores[:N_USERS, :N_WARM], axis=1)[:, : PER_BLOCK // 2] // PER_BLOCK
    return float((best == (np.arange(N_USERS) % N_BLOCKS)[:, None]).mean())


@every_personal_kind
def test_scores_planted_block_comes_first(kind):
    assert share_of_own_block(scores_of(kind)) > 0.95


@every_behaviour_kind
def test_fit_behaviour_same_seed_same_scores(kind):
    again = fit(kind, history())
    np.testing.assert_array_equal(again.scores(world(), EVERYBODY), scores_of(kind))
    assert (again.name, again.block) == (kind, "behaviour")


def shuffled(of: History) -> History:
    order = np.random.default_rng(5).permutation(len(of.users))
    names = ("users", "items", "labels", "times")
    return replace(of, **{name: getattr(of, name)[order] for name in names})


@every_behaviour_kind
def test_fit_behaviour_order_of_the_rows_does_not_matter(kind):
    scores = fit(kind, shuffled(history())).scores(shuffled(world()), EVERYBODY)
    np.testing.assert_array_equal(scores, scores_of(kind))


@every_behaviour_kind
def test_fit_behaviour_codes_of_users_and_items_do_not_matter(kind):
    rng = np.random.default_rng(3)
    user, item = rng.permutation(N_USERS + 3), rng.permutation(N_ITEMS)
    recoded = replace(world(), users=user[world().users], items=item[world().items])
    scores = fit(kind, recoded).scores(recoded, user)[:, item]
    if kind in DRAWN:
        assert share_of_own_block(np.where(np.isnan(scores), -np.inf, scores)) > 0.95
    else:
        expected = fit(kind, world()).scores(world(), EVERYBODY)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)
