from __future__ import annotations

import numpy as np
import pytest

from ensembles import gate
from ensembles.gate import bootstrap_mean, climb, paired_bootstrap, tied


def noise(seed: int, n: int = 200, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 0.3, n)


def test_bootstrap_mean_interval_agrees_with_the_normal_one() -> None:
    values = noise(0, 2000)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    intervals = [bootstrap_mean(noise(seed, 60), n_draws=300, seed=seed, level=0.8) for seed in range(300)]
    covered = np.mean([interval.low <= 0.0 <= interval.high for interval in intervals])
    assert 0.72 < covered < 0.86


def test_bootstrap_mean_higher_level_is_wider() -> None:
    narrow, wide = bootstrap_mean(noise(0), level=0.5), bootstrap_mean(noise(0), level=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_bootstrap_mean_same_seed_same_interval() -> None:
    assert bootstrap_mean(noise(0), seed=3) == bootstrap_mean(noise(0), seed=3)
    assert bootstrap_mean(noise(0), seed=3) != bootstrap_mean(noise(0), seed=4)


def test_bootstrap_mean_small_chunks_give_a_close_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_mean(noise(0))
    monkeypatch.setattr(gate, "_CHUNK", 150)
    parts = bootstrap_mean(noise(0))
    assert parts.mean == whole.mean
    assert parts.low == pytest.approx(whole.low, abs=0.005)


@pytest.mark.parametrize(("values", "n"), [([], 0), ([np.nan, np.nan], 0), ([0.5, np.nan], 1)])
def test_bootstrap_mean_too_few_values_have_no_bounds(values: list[float], n: int) -> None:
    interval = bootstrap_mean(np.array(values))
    assert interval.n == n
    assert np.isnan(interval.low) and np.isnan(interval.high)
    assert np.isnan(interval.mean) == (n == 0)


def test_paired_bootstrap_leaves_out_pairs_with_nan() -> None:
    a = np.array([1.0, np.nan, 3.0, 4.0])
    b = np.array([0.0, 1.0, np.nan, 2.0])
    interval = paired_bootstrap(a, b)
    assert (interval.n, interval.mean) == (2, 1.5)


def test_paired_bootstrap_pairing_finds_what_unpaired_noise_hides() -> None:
    queries = noise(0, 100) * 10
    interval = paired_bootstrap(queries + 0.1 + noise(1, 100) * 0.1, queries)
    assert interval.low > 0.0
    assert bootstrap_mean(queries + 0.1).low < 0.0


def test_paired_bootstrap_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4"):
        paired_bootstrap(np.zeros(3), np.zeros(4))


def test_climb_planted_gain_is_accepted() -> None:
    single = noise(0)
    chosen, steps = climb([("single", single), ("stack", single + 0.05 + noise(1) * 0.2)])
    assert chosen == "stack"
    assert steps[0].accepted and steps[0].against == "single"
    assert steps[0].mean == pytest.approx((single + 0.05 + noise(1) * 0.2).mean())


def test_climb_identical_values_stay_with_the_first() -> None:
    chosen, steps = climb([("single", noise(0)), ("fusion", noise(0)), ("stack", noise(0))])
    assert chosen == "single"
    assert [step.accepted for step in steps] == [False, False]
    assert (steps[0].difference.low, steps[0].difference.high) == (0.0, 0.0)


def test_climb_compares_with_the_chosen_one_not_with_the_last() -> None:
    single = noise(0)
    ladder = [
        ("a", single),
        ("b", single + 0.2),
        ("c", single - 0.2),
        ("d", single + 0.1),
        ("e", single + 0.3),
    ]
    chosen, steps = climb([(name, values + 0.01 * noise(ord(name))) for name, values in ladder])
    assert chosen == "e"
    assert [step.against for step in steps] == ["a", "b", "b", "b"]
    assert [step.accepted for step in steps] == [True, False, False, True]


def test_climb_of_two_that_are_surely_better_than_the_first_the_mean_decides() -> None:
    single, doubt = noise(0), noise(1)
    early, late = single + 0.1, single + 0.11 + 0.3 * doubt
    assert paired_bootstrap(late, early).low < 0 < (late - early).mean()
    chosen, steps = climb([("single", single), ("early", early), ("late", late)])
    assert chosen == "late"
    assert [(step.against, step.accepted) for step in steps] == [("single", True), ("early", True)]
    unsure = single + 0.11 + 8 * doubt
    assert climb([("single", single), ("early", early), ("late", unsure)])[0] == "early"


def test_climb_pure_noise_is_seldom_accepted() -> None:
    accepted = [
        climb([("single", noise(2 * seed, 80)), ("stack", noise(2 * seed + 1, 80))], n_draws=400, seed=seed)[
            0
        ]
        for seed in range(400)
    ].count("stack")
    assert 0 < accepted <= 20


def test_climb_few_queries_accept_nothing() -> None:
    single = noise(0, 19)
    assert climb([("single", single), ("stack", single + 1.0)])[0] == "single"
    assert climb([("single", single), ("stack", single + 1.0)], min_queries=19)[0] == "stack"


def test_climb_queries_without_value_are_left_out() -> None:
    single = np.concatenate([noise(0), np.full(50, np.nan)])
    chosen, steps = climb([("single", single), ("stack", single + 0.1)])
    assert (chosen, steps[0].difference.n) == ("stack", 200)
    assert steps[0].mean == pytest.approx(noise(0).mean() + 0.1)


def test_climb_without_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        climb([])


def test_tied_are_those_above_the_first_that_are_not_surely_below_the_chosen() -> None:
    base = noise(0)
    candidates = [
        ("first", base),
        ("near", base + 0.2 + noise(1, shift=0.0)),
        ("chosen", base + 0.21 + noise(2, shift=0.0)),
        ("surely below it", base + 0.05),
        ("below the first", base - 0.01 + noise(3, shift=-0.05)),
    ]
    assert tied(candidates, "chosen") == ["near", "chosen"]
    lucky = base + noise(4)
    assert 0.0 < (lucky - base).mean() < paired_bootstrap(lucky, base).high
    some = [("first", base), ("luckier", lucky), ("surely below it", base - 0.05)]
    assert tied(some, "first") == ["first", "luckier"]
    assert tied([(name, values[:19]) for name, values in some], "first") == ["first"], "too few queries"
