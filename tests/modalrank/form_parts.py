"""A form of a world, and what its histories, frames and lists hold, as sets of (query, item) codes."""

from __future__ import annotations

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.forms import make_form


def form_of(world, *overrides):
    dataset = load_dataset(load_config(world.config, overrides))
    return make_form(dataset, fit_encoders(dataset, str), str)


def pairs(history) -> set[tuple[int, int]]:
    return set(zip(history.users.tolist(), history.items.tolist(), strict=True))


def liked_pairs(history) -> set[tuple[int, int]]:
    return pairs(history.take(history.is_positive))


def rows_of(frame) -> set[tuple[int, int]]:
    return set(zip(frame.queries.tolist(), frame.items.tolist(), strict=True))


def labelled(frame) -> set[tuple[int, int]]:
    positive = frame.labels > 0
    return set(zip(frame.queries[positive].tolist(), frame.items[positive].tolist(), strict=True))


def only(lists):
    (frame,) = lists.frames()
    return frame


def split_of(form, *splits):
    return form.dataset.history(form.dataset.in_split(*splits))


def pairs_of_candidates(model, users) -> set[tuple[int, int]]:
    (candidates,) = model.generated(users)
    return set(zip(candidates.queries.tolist(), candidates.items.tolist(), strict=True))
